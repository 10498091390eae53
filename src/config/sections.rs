//! Deserialises the options of each part from the JSON of a checked tree, and collects all errors.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::Segment;

use super::{checked::Checked, error::Error};

/// How many errors of one section are reported. Each costs another deserialisation.
const MOST: usize = 100;

/// Deserialises sections, and collects their errors.
pub(super) struct Sections<'a> {
    pub(super) checked: &'a Checked,
    pub(super) errors: &'a mut Vec<Error>,
}

/// A step towards a value.
#[derive(Clone, PartialEq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Sections<'_> {
    /// Deserialises the options of a section; a missing section has the defaults. An invalid value is
    /// removed, and the rest read again, so that all errors are found; `None` when the error is in no
    /// value that can be removed.
    pub(super) fn options<T: DeserializeOwned + Default>(&mut self, section: &str) -> Option<T> {
        let pointer = format!("/{}", section.replace('.', "/"));
        let Some(mut json) = self.checked.json.pointer(&pointer).cloned() else {
            return Some(T::default());
        };
        // The items removed from lists, behind which others have moved up.
        let mut removed: Vec<Vec<Step>> = Vec::new();
        for _ in 0..MOST {
            let error = match serde_path_to_error::deserialize(json.clone()) {
                Ok(options) => return Some(options),
                Err(error) => error,
            };
            let steps = error.path().iter().filter_map(|segment| match segment {
                Segment::Seq { index } => Some(Step::Item(*index)),
                Segment::Map { key } => Some(Step::Key(key.clone())),
                Segment::Enum { .. } | Segment::Unknown => None,
            });
            let steps: Vec<_> = steps.collect();
            let written = as_written(&steps, &removed);
            self.report(section, &written, error.inner().to_string());
            if !remove(&mut json, &steps) {
                return None;
            }
            if matches!(written.last(), Some(Step::Item(_))) {
                removed.push(written);
            }
        }
        None
    }

    fn report(&mut self, section: &str, steps: &[Step], message: String) {
        let below = steps.iter().map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Item(index) => format!("[{index}]"),
        });
        let path: Vec<String> = section.split('.').map(str::to_owned).chain(below).collect();
        let (key, at) = self.checked.nearest(&path);
        // A missing key may be one that was removed for an error, which is reported already.
        let is_consequence = self.errors.iter().filter_map(Error::key).any(|wrong| {
            wrong
                .strip_prefix(&*key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if !is_consequence {
            self.errors.push(Error::Value { at, key, message });
        }
    }
}

/// The steps to the value in the list as it was written, before items were removed.
fn as_written(steps: &[Step], removed: &[Vec<Step>]) -> Vec<Step> {
    let mut written: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let Step::Item(index) = step else {
            written.push(step.clone());
            continue;
        };
        let mut gone: Vec<usize> = removed
            .iter()
            .filter_map(|steps| match steps.split_last() {
                Some((Step::Item(index), list)) if *list == *written => Some(*index),
                _ => None,
            })
            .collect();
        gone.sort_unstable();
        let index = gone.into_iter().fold(*index, |index, gone| index + usize::from(gone <= index));
        written.push(Step::Item(index));
    }
    written
}

/// Removes a value; false if there is no such value.
fn remove(json: &mut Json, steps: &[Step]) -> bool {
    let Some((last, steps)) = steps.split_last() else { return false };
    let place = steps.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get_mut(key),
        Step::Item(index) => json.get_mut(index),
    });
    match (place, last) {
        (Some(Json::Object(section)), Step::Key(key)) => section.remove(key).is_some(),
        (Some(Json::Array(list)), Step::Item(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}
