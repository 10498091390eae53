//! Properties of our readings of a manifest, held against a model of Go's `encoding/json` and of
//! the types that registry:2 and its clients read a manifest into.
//!
//! The model: a key matches a field in any case; of several, the later are read into what the
//! earlier have left. So a text is replaced, an object is merged, a list is cut to its new length
//! and keeps what lay behind its end for the next one, and `null` empties lists, maps and pointers
//! and changes nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{keys::folds_to, *};
use crate::oci::Algorithm;

/// JSON whose objects may have a key several times.
#[derive(Clone, Debug, PartialEq)]
enum Json {
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

    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// A type of Go: its value may be read into again. `None` is an error.
trait Go: Clone + Default {
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
struct Slice<T> {
    array: Vec<T>,
    length: usize,
    is_nil: bool,
}

impl<T> Slice<T> {
    fn items(&self) -> &[T] {
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

/// Reads an object into a struct.
macro_rules! go_struct {
    ($name:ident { $($field:ident $key:literal: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default)]
        struct $name { $($field: $type),* }

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
    fn of(json: &Json) -> Option<Self> {
        let mut manifest = Self::default();
        manifest.read(json)?;
        Some(manifest)
    }

    /// Every digest that Go reads from it.
    fn digests(&self) -> BTreeSet<&str> {
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

/// A manifest that is accepted.
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

/// What somebody changes in an object, anywhere in a manifest.
#[derive(Clone, Debug)]
enum Change {
    /// The key is written in another case.
    Case(usize),
    /// The entry stands there once more, with this value or its own, at one of the ends.
    Again {
        value: Option<Json>,
        case: usize,
        is_first: bool,
    },
    Value(Json),
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

/// The `n`th way to write a key, the first of which is its own.
fn in_case(key: &str, n: usize) -> String {
    match n {
        0 => key.to_owned(),
        1 => key.to_uppercase(),
        2 => key.to_lowercase(),
        3 => key.replacen('s', "\u{17f}", 1),
        _ => key.chars().rev().take(1).chain(key.chars().skip(1)).collect(),
    }
}

/// How many entries all objects have.
fn count(json: &Json) -> usize {
    match json {
        Json::Object(entries) => entries.iter().map(|(_, value)| 1 + count(value)).sum(),
        Json::List(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// Applies a change to the entry at a place; whether that is still to come.
fn apply(json: &mut Json, place: &mut usize, change: &Change) -> bool {
    match json {
        Json::List(items) => items.iter_mut().all(|item| apply(item, place, change)),
        Json::Object(entries) => {
            for at in 0..entries.len() {
                if *place > 0 {
                    *place -= 1;
                    if !apply(&mut entries[at].1, place, change) {
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

fn changed() -> impl Strategy<Value = Json> {
    (whole(), vec(change(), 0..4)).prop_map(|(mut json, changes)| {
        for (place, change) in changes {
            let mut place = place % count(&json).max(1);
            apply(&mut json, &mut place, &change);
        }
        json
    })
}

/// A descriptor as both read it: its type, digest, length, addresses and platform.
type Read = (String, String, i64, Vec<String>, Option<(String, String)>);

fn ours(descriptor: &Descriptor) -> Read {
    let Descriptor { media_type, digest, size, urls, platform, .. } = descriptor.clone();
    let size = i64::try_from(size).unwrap();
    let platform = platform.map(|platform| (platform.architecture, platform.os));
    (media_type, digest.to_string(), size, urls.unwrap_or_default(), platform)
}

fn theirs(descriptor: &GoDescriptor) -> Read {
    let GoDescriptor { media_type, digest, size, urls, platform, .. } = descriptor.clone();
    let platform = platform.map(|platform| (platform.architecture, platform.os));
    (media_type, digest, size, urls.items().to_vec(), platform)
}

/// What a reader finds that takes keys as they are written, and one of several for each.
fn exact(json: &Json, is_last: bool) -> Option<GoManifest> {
    fn pick(json: &Json, is_last: bool) -> Json {
        match json {
            Json::List(items) => Json::List(items.iter().map(|item| pick(item, is_last)).collect()),
            Json::Object(entries) => {
                let mut found: Vec<(String, Json)> = Vec::new();
                for (key, value) in entries {
                    let is_known = EXACT.contains(&key.as_str());
                    let before = found.iter().position(|(other, _)| other == key);
                    match before {
                        _ if !is_known => {}
                        Some(before) if is_last => found[before].1 = pick(value, is_last),
                        Some(_) => {}
                        None => found.push((key.clone(), pick(value, is_last))),
                    }
                }
                Json::Object(found)
            }
            other => other.clone(),
        }
    }
    GoManifest::of(&pick(json, is_last))
}

/// The keys that name something, as the specification writes them.
const EXACT: [&str; 8] =
    ["config", "layers", "manifests", "blobs", "fsLayers", "subject", "digest", "blobSum"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_is_accepted_go_programs_read_alike(json in changed()) {
        let text = json.text();
        let Ok(manifest) = Manifest::parse(text.as_bytes(), None) else { return Ok(()) };
        let Some(go) = GoManifest::of(&json) else {
            return Err(TestCaseError::fail(format!("Go cannot read {text}")));
        };
        let lists = [&go.layers, &go.manifests, &go.blobs]
            .map(|list| list.items().iter().map(theirs).collect::<Vec<_>>());
        let [layers, manifests, blobs] = lists;
        match manifest.kind() {
            ManifestKind::Image { config, layers: found } => {
                prop_assert_eq!(ours(config), theirs(&go.config));
                prop_assert_eq!(found.iter().map(ours).collect::<Vec<_>>(), layers);
                prop_assert!(manifests.is_empty());
            }
            ManifestKind::Index { manifests: found } => {
                prop_assert_eq!(found.iter().map(ours).collect::<Vec<_>>(), manifests);
                prop_assert!(layers.is_empty() && go.config.digest.is_empty());
            }
            ManifestKind::Artifact { blobs: found } => {
                prop_assert_eq!(found.iter().map(ours).collect::<Vec<_>>(), blobs);
            }
        }
        prop_assert_eq!(manifest.subject().map(ours), go.subject.as_deref().map(theirs));
        let own = manifest.artifact_type.clone().unwrap_or_default();
        prop_assert_eq!(&own, &go.artifact_type);
        let annotations = manifest.annotations().cloned().unwrap_or_default();
        prop_assert_eq!(&annotations, &go.annotations);
        if go.media_type.is_empty() {
            prop_assert!(manifest.media_type() != MediaType::DockerManifest);
        } else {
            prop_assert_eq!(Some(manifest.media_type()), MediaType::parse(&go.media_type));
        }
        // What is stored is served, and kept, as what was accepted.
        let stored = Manifest::stored_media_type(text.as_bytes());
        prop_assert_eq!(MediaType::parse(&stored), Some(manifest.media_type()));
        let Some(references) = References::of(text.as_bytes()) else {
            return Err(TestCaseError::fail(format!("what is accepted can be read: {text}")));
        };
        let found = [references.blobs, references.manifests, references.subjects].concat();
        let found: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        let named: BTreeSet<String> = go.digests().into_iter().map(str::to_owned).collect();
        prop_assert_eq!(found, named);
    }

    #[test]
    fn of_what_is_stored_all_that_any_program_reads_is_needed(json in changed()) {
        let text = json.text();
        let Some(references) = References::of(text.as_bytes()) else { return Ok(()) };
        let found = [references.blobs, references.manifests, references.subjects].concat();
        let found: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        for read in [GoManifest::of(&json), exact(&json, false), exact(&json, true)] {
            for digest in read.iter().flat_map(GoManifest::digests) {
                prop_assert!(found.contains(digest), "{} in {}", digest, text);
            }
        }
    }
}

#[test]
fn properties_are_tested_on_enough_accepted_and_readable_manifests() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut read, mut none) = (0, 0, 0);
    for _ in 0..1000 {
        let text = changed().new_tree(&mut runner).unwrap().current().text();
        accepted += usize::from(Manifest::parse(text.as_bytes(), None).is_ok());
        match References::of(text.as_bytes()) {
            Some(_) => read += 1,
            None => none += 1,
        }
    }
    assert!(accepted > 200 && read > accepted + 100 && none > 100, "{accepted} {read} {none}");
}

#[test]
fn model_merges_as_go_does() {
    let object = |entries: &[(&str, Json)]| {
        Json::Object(
            entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        )
    };
    let digest = |text: &str| object(&[("digest", Json::Text(text.to_owned()))]);
    let json = object(&[
        ("layers", Json::List(vec![digest("a"), digest("b")])),
        ("Layers", Json::List(vec![digest("c")])),
        ("LAYERS", Json::List(vec![Json::Null, object(&[])])),
        ("config", digest("d")),
        ("Config", object(&[("Size", Json::Number(1))])),
        ("config", Json::Null),
        ("subject", digest("e")),
        ("Subject", Json::Null),
        ("manifests", Json::List(vec![digest("f")])),
        ("manifests", Json::Null),
    ]);
    let read = GoManifest::of(&json).unwrap();
    // What Go 1.19 and Go 1.26 print for it.
    assert_eq!(read.digests(), BTreeSet::from(["b", "c", "d"]));
    assert_eq!(read.config.size, 1);
    assert!(read.manifests.is_nil && !read.layers.is_nil);
}
