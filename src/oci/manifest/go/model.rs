//! A model of Go's `encoding/json`, and of the types into which registry:2 and its clients parse a
//! manifest.
//!
//! A key matches a field in any case. The value of a repeated key is read into the result of the earlier
//! ones: a string is replaced, an object is merged, and a list gets its new length and keeps the
//! elements behind its end for the next value. `null` clears lists, maps and pointers, and changes
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::oci::manifest::keys::folds_to;

/// JSON whose objects may have repeated keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Text(text) => out.push_str(&serde_json::to_string(text).unwrap()),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::to_string(key).unwrap());
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// A type of Go, whose values can be read into repeatedly. `None` is an error.
pub(super) trait Go: Clone + Default {
    fn read(&mut self, json: &Json) -> Option<()>;
}

impl Go for String {
    fn read(&mut self, json: &Json) -> Option<()> {
        match json {
            Json::Null => {}
            Json::Text(text) => self.clone_from(text),
            _ => return None,
        }
        Some(())
    }
}

impl Go for i64 {
    fn read(&mut self, json: &Json) -> Option<()> {
        match json {
            Json::Null => {}
            Json::Number(number) => *self = *number,
            _ => return None,
        }
        Some(())
    }
}

/// A slice, and the array behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Slice<T> {
    array: Vec<T>,
    length: usize,
    pub(super) is_nil: bool,
}

impl<T> Slice<T> {
    pub(super) fn items(&self) -> &[T] {
        &self.array[..self.length]
    }
}

impl<T: Go> Go for Slice<T> {
    fn read(&mut self, json: &Json) -> Option<()> {
        match json {
            Json::Null => *self = Self { is_nil: true, ..Self::default() },
            Json::List(items) if items.is_empty() => *self = Self::default(),
            Json::List(items) => {
                self.is_nil = false;
                for (at, item) in items.iter().enumerate() {
                    if at == self.array.len() {
                        self.array.push(T::default());
                    }
                    self.array[at].read(item)?;
                }
                self.length = items.len();
            }
            _ => return None,
        }
        Some(())
    }
}

impl Go for BTreeMap<String, String> {
    fn read(&mut self, json: &Json) -> Option<()> {
        match json {
            Json::Null => self.clear(),
            Json::Object(entries) => {
                for (key, value) in entries {
                    let mut text = String::new();
                    text.read(value)?;
                    self.insert(key.clone(), text);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// A pointer to a struct.
impl<T: Go> Go for Option<Box<T>> {
    fn read(&mut self, json: &Json) -> Option<()> {
        match json {
            Json::Null => *self = None,
            _ => self.get_or_insert_default().read(json)?,
        }
        Some(())
    }
}

/// Defines a struct of Go.
macro_rules! go_struct {
    ($name:ident { $($field:ident $key:literal: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name { $(pub(super) $field: $type),* }

        impl Go for $name {
            fn read(&mut self, json: &Json) -> Option<()> {
                let entries = match json {
                    Json::Null => return Some(()),
                    Json::Object(entries) => entries,
                    _ => return None,
                };
                for (key, value) in entries {
                    $(if folds_to(key, $key) {
                        self.$field.read(value)?;
                    })*
                }
                Some(())
            }
        }
    };
}

go_struct!(GoPlatform { architecture "architecture": String, os "os": String });
go_struct!(GoDescriptor {
    media_type "mediaType": String,
    digest "digest": String,
    size "size": i64,
    urls "urls": Slice<String>,
    platform "platform": Option<Box<GoPlatform>>,
    annotations "annotations": BTreeMap<String, String>,
});
go_struct!(GoLayer { blob_sum "blobSum": String });
go_struct!(GoManifest {
    schema_version "schemaVersion": i64,
    media_type "mediaType": String,
    config "config": GoDescriptor,
    layers "layers": Slice<GoDescriptor>,
    manifests "manifests": Slice<GoDescriptor>,
    blobs "blobs": Slice<GoDescriptor>,
    fs_layers "fsLayers": Slice<GoLayer>,
    subject "subject": Option<Box<GoDescriptor>>,
    artifact_type "artifactType": String,
    annotations "annotations": BTreeMap<String, String>,
});

impl GoManifest {
    pub(super) fn of(json: &Json) -> Option<Self> {
        let mut manifest = Self::default();
        manifest.read(json)?;
        Some(manifest)
    }

    /// Every digest in the manifest.
    pub(super) fn digests(&self) -> BTreeSet<&str> {
        let lists = [&self.layers, &self.manifests, &self.blobs];
        lists
            .into_iter()
            .flat_map(Slice::items)
            .chain([&self.config])
            .chain(self.subject.as_deref())
            .map(|descriptor| descriptor.digest.as_str())
            .chain(self.fs_layers.items().iter().map(|layer| layer.blob_sum.as_str()))
            .filter(|digest| !digest.is_empty())
            .collect()
    }
}
