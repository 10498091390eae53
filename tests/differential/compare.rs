//! The differences between two responses to one request.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use crate::{
    normal::{Body, Normal},
    step::Step,
};

/// The length to which a value is shown.
const SHOWN: usize = 400;

/// Headers that do not depend on the outcome of a request, unlike the others.
const OF_EVERY_ANSWER: &[&str] =
    &["docker-distribution-api-version", "x-content-type-options", "x-of-the-file"];

/// One difference between two responses.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) step: String,
    request: String,
    /// `outcome` (the status, and the codes of errors), `message`, `detail`, `body`, or `order` (of
    /// the lists in a body); or the name of a header in lower case.
    pub(crate) field: String,
    pub(crate) theirs: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, request, field, theirs, ours } = self;
        writeln!(f, "  {step} ({request}): {field}")?;
        writeln!(f, "      registry:2: {}", clipped(theirs))?;
        writeln!(f, "      Portcullis: {}", clipped(ours))
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// All differences between the responses of registry:2 and of Portcullis to a step. If the outcomes
/// differ, the parts that depend on the outcome are not compared.
pub(crate) fn differences(step: &Step, theirs: &Normal, ours: &Normal) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field: &str, theirs: String, ours: String| {
        let differs = theirs != ours;
        if differs {
            let request = clipped(&format!("{} {}", step.method, step.target));
            let (step, field) = (step.name.clone(), field.to_owned());
            found.push(Difference { step, request, field, theirs, ours });
        }
        differs
    };
    let other_outcome = compare("outcome", outcome(theirs), outcome(ours));
    let names: BTreeSet<&String> = theirs.headers.keys().chain(ours.headers.keys()).collect();
    for name in names {
        let compared = match name.as_str() {
            name if OF_EVERY_ANSWER.contains(&name) => true,
            _ if other_outcome => false,
            "content-length" => lengths_count(step, theirs, ours),
            _ => true,
        };
        if compared {
            let value =
                |side: &Normal| side.headers.get(name).map_or("–", String::as_str).to_owned();
            compare(name, value(theirs), value(ours));
        }
    }
    match (Errors::of(&theirs.body), Errors::of(&ours.body)) {
        _ if other_outcome => {}
        (Some(theirs), Some(ours)) => {
            compare("message", theirs.messages, ours.messages);
            compare("detail", theirs.details, ours.details);
        }
        _ if in_order(&theirs.body).is_some_and(|it| Some(it) == in_order(&ours.body)) => {
            compare("order", text(&theirs.body), text(&ours.body));
        }
        _ => {
            compare("body", text(&theirs.body), text(&ours.body));
        }
    }
    found
}

/// The outcome of a request: `404 NAME_UNKNOWN`.
fn outcome(answer: &Normal) -> String {
    match Errors::of(&answer.body) {
        Some(errors) => format!("{} {}", answer.status, errors.codes),
        None => answer.status.to_string(),
    }
}

/// Whether the lengths of the responses must be equal: JSON has several forms, and differing bodies
/// have been compared themselves.
fn lengths_count(step: &Step, theirs: &Normal, ours: &Normal) -> bool {
    let is_json = |side: &Normal| {
        let kind = side.headers.get("content-type");
        kind.is_some_and(|kind| kind.split(';').next() == Some("application/json"))
    };
    let bodies_tell = step.method != "HEAD" && theirs.body != ours.body;
    !is_json(theirs) && !is_json(ours) && !bodies_tell
}

/// The body of an error (distribution-spec, "Error Codes"), each field for all errors in it.
struct Errors {
    codes: String,
    messages: String,
    details: String,
}

impl Errors {
    fn of(body: &Body) -> Option<Self> {
        let Body::Json(json) = body else { return None };
        let errors = json.get("errors")?.as_array()?;
        let field = |name: &str| {
            let values: Vec<String> = errors
                .iter()
                .map(|error| match error.get(name) {
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                    None => "–".to_owned(),
                })
                .collect();
            values.join(", ")
        };
        Some(Self { codes: field("code"), messages: field("message"), details: field("detail") })
    }
}

/// The items of the lists in a body, in the order of the response. Objects have no order.
fn in_order(body: &Body) -> Option<Value> {
    let Body::Json(Value::Object(fields)) = body else { return None };
    let mut fields = fields.clone();
    for list in fields.values_mut().filter_map(Value::as_array_mut) {
        list.sort_by_key(Value::to_string);
    }
    Some(Value::Object(fields))
}

fn text(body: &Body) -> String {
    match body {
        Body::Json(json) => json.to_string(),
        Body::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
