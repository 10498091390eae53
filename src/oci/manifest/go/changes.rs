//! Generates manifests with changed, repeated and removed keys.

use proptest::{collection::vec, prelude::*, sample::select};

use super::model::Json;
use crate::oci::{Algorithm, Digest, MediaType};

fn digest(n: u8) -> String {
    Digest::of(Algorithm::Sha256, &[n]).to_string()
}

fn descriptor(n: u8) -> Json {
    let text = |text: &str| Json::Text(text.to_owned());
    let field = |key: &str, value| (key.to_owned(), value);
    let mut entries = vec![
        field("mediaType", text("a/b")),
        field("digest", Json::Text(digest(n))),
        field("size", Json::Number(i64::from(n))),
    ];
    if n.is_multiple_of(3) {
        entries.push(field("urls", Json::List(vec![text("https://a.example/")])));
        entries.push(field("annotations", Json::Object(vec![field("a", text("b"))])));
    }
    if n.is_multiple_of(2) {
        let platform = vec![field("architecture", text("amd64")), field("os", text("linux"))];
        entries.push(field("platform", Json::Object(platform)));
    }
    Json::Object(entries)
}

/// A manifest that the registry accepts.
fn whole() -> impl Strategy<Value = Json> {
    let descriptors = || vec(0_u8..8, 0..4);
    (0..5_usize, descriptors(), any::<bool>(), any::<bool>()).prop_map(
        |(kind, children, is_typed, is_rich)| {
            let text = |text: &str| Json::Text(text.to_owned());
            let mut entries = Vec::new();
            let mut field = |key: &str, value| entries.push((key.to_owned(), value));
            let children = Json::List(children.into_iter().map(descriptor).collect());
            field("schemaVersion", Json::Number(if kind == 4 { 1 } else { 2 }));
            match kind {
                0 | 1 => {
                    if is_typed || kind == 1 {
                        let media_type =
                            [MediaType::OciManifest, MediaType::DockerManifest][kind].as_str();
                        field("mediaType", text(media_type));
                    }
                    field("config", descriptor(9));
                    field("layers", children);
                }
                2 => {
                    if is_typed {
                        field("mediaType", text(MediaType::OciIndex.as_str()));
                    }
                    field("manifests", children);
                }
                3 => {
                    field("mediaType", text(MediaType::OciArtifact.as_str()));
                    field("blobs", children);
                }
                _ => field(
                    "fsLayers",
                    Json::List(vec![Json::Object(vec![("blobSum".to_owned(), text(&digest(1)))])]),
                ),
            }
            if is_rich {
                field("subject", descriptor(10));
                field("artifactType", text("a/b"));
                let annotations = vec![("a".to_owned(), text("b")), ("A".to_owned(), text("c"))];
                field("annotations", Json::Object(annotations));
            }
            Json::Object(entries)
        },
    )
}

/// A change of an entry of an object.
#[derive(Clone, Debug)]
enum Change {
    /// Writes the key in another case.
    Case(usize),
    /// Repeats the entry, with this value or its own, at the beginning or the end of the object.
    Again { value: Option<Json>, case: usize, is_first: bool },
    /// Replaces the value.
    Value(Json),
    /// Removes the entry.
    Remove,
}

fn value() -> impl Strategy<Value = Json> {
    let digests = || {
        let unknown = vec![format!("sha384:{}", "0".repeat(96)), "sha256:0".into(), String::new()];
        let known = (0..12_u8).map(digest).collect::<Vec<_>>();
        select([known, unknown].concat())
    };
    prop_oneof![
        3 => Just(Json::Null),
        1 => (-1..3_i64).prop_map(Json::Number),
        2 => digests().prop_map(Json::Text),
        1 => select(vec![MediaType::OciIndex, MediaType::OciManifest])
            .prop_map(|kind| Json::Text(kind.as_str().to_owned())),
        1 => Just(Json::Text(String::new())),
        1 => Just(Json::List(Vec::new())),
        3 => vec(0_u8..8, 0..3)
            .prop_map(|list| Json::List(list.into_iter().map(descriptor).collect())),
        2 => (0_u8..8).prop_map(descriptor),
        1 => digests().prop_map(|digest| {
            Json::Object(vec![("Digest".to_owned(), Json::Text(digest))])
        }),
        1 => Just(Json::Object(Vec::new())),
    ]
}

fn change() -> impl Strategy<Value = (usize, Change)> {
    let again = (proptest::option::of(value()), 0..5_usize, any::<bool>())
        .prop_map(|(value, case, is_first)| Change::Again { value, case, is_first });
    let change = prop_oneof![
        1 => (1..5_usize).prop_map(Change::Case),
        3 => again,
        2 => value().prop_map(Change::Value),
        1 => Just(Change::Remove),
    ];
    (any::<usize>(), change)
}

/// The `n`th way to write a key. The first is the key itself.
fn in_case(key: &str, n: usize) -> String {
    match n {
        0 => key.to_owned(),
        1 => key.to_uppercase(),
        2 => key.to_lowercase(),
        3 => key.replacen('s', "\u{17f}", 1),
        _ => key.chars().rev().take(1).chain(key.chars().skip(1)).collect(),
    }
}

/// The number of entries of all objects.
fn count(json: &Json) -> usize {
    match json {
        Json::Object(entries) => entries.iter().map(|(_, value)| 1 + count(value)).sum(),
        Json::List(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// Applies a change to the entry at an index, which counts the entries of all objects. Returns false
/// when it has applied the change.
fn apply(json: &mut Json, index: &mut usize, change: &Change) -> bool {
    match json {
        Json::List(items) => items.iter_mut().all(|item| apply(item, index, change)),
        Json::Object(entries) => {
            for at in 0..entries.len() {
                if *index > 0 {
                    *index -= 1;
                    if !apply(&mut entries[at].1, index, change) {
                        return false;
                    }
                    continue;
                }
                let (key, own) = entries[at].clone();
                match change {
                    Change::Case(case) => entries[at].0 = in_case(&key, *case),
                    Change::Value(value) => entries[at].1 = value.clone(),
                    Change::Remove => drop(entries.remove(at)),
                    Change::Again { value, case, is_first } => {
                        let entry = (in_case(&key, *case), value.clone().unwrap_or(own));
                        entries.insert(if *is_first { 0 } else { entries.len() }, entry);
                    }
                }
                return false;
            }
            true
        }
        _ => true,
    }
}

/// A manifest with up to three changes.
pub(super) fn changed() -> impl Strategy<Value = Json> {
    (whole(), vec(change(), 0..4)).prop_map(|(mut json, changes)| {
        for (index, change) in changes {
            let mut index = index % count(&json).max(1);
            apply(&mut json, &mut index, &change);
        }
        json
    })
}
