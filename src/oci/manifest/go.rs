//! Tests that the registry and Go programs parse the same manifest from accepted bytes, and that the
//! registry finds every reference in stored bytes that any program finds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::{
    changes::changed,
    model::{GoDescriptor, GoManifest, Json},
};
use super::*;

mod changes;
mod model;

/// The fields of a descriptor that the registry and Go programs parse.
#[derive(Debug, PartialEq)]
struct Fields {
    media_type: String,
    digest: String,
    size: i64,
    urls: Vec<String>,
    /// The architecture and the operating system.
    platform: Option<[String; 2]>,
}

fn ours(descriptor: &Descriptor) -> Fields {
    let Descriptor { media_type, digest, size, urls, platform, .. } = descriptor.clone();
    Fields {
        media_type,
        digest: digest.to_string(),
        size: i64::try_from(size).unwrap(),
        urls: urls.unwrap_or_default(),
        platform: platform.map(|platform| [platform.architecture, platform.os]),
    }
}

fn theirs(descriptor: &GoDescriptor) -> Fields {
    let GoDescriptor { media_type, digest, size, urls, platform, .. } = descriptor.clone();
    let urls = urls.items().to_vec();
    let platform = platform.map(|platform| [platform.architecture, platform.os]);
    Fields { media_type, digest, size, urls, platform }
}

/// Parses as a program does that matches keys exactly, and uses the first or the last of repeated keys.
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

/// The keys of references, as in the specification.
const EXACT: [&str; 8] =
    ["config", "layers", "manifests", "blobs", "fsLayers", "subject", "digest", "blobSum"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn accepted_manifests_are_parsed_alike_by_go_programs(json in changed()) {
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
        // The stored bytes have the media type and the references of the accepted manifest.
        let stored = Manifest::stored_media_type(text.as_bytes());
        prop_assert_eq!(MediaType::parse(&stored), Some(manifest.media_type()));
        let Some(references) = References::of(text.as_bytes()) else {
            return Err(TestCaseError::fail(format!("an accepted manifest has no references: {text}")));
        };
        let found = [references.blobs, references.manifests, references.subjects].concat();
        let found: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
        let named: BTreeSet<String> = go.digests().into_iter().map(str::to_owned).collect();
        prop_assert_eq!(found, named);
    }

    #[test]
    fn references_of_stored_manifests_include_those_that_any_program_finds(json in changed()) {
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
    let mut accepted = 0;
    let mut read = 0;
    let mut none = 0;
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
fn model_merges_like_go() {
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
    // Go 1.19 and Go 1.26 print this.
    assert_eq!(read.digests(), BTreeSet::from(["b", "c", "d"]));
    assert_eq!(read.config.size, 1);
    assert!(read.manifests.is_nil && !read.layers.is_nil);
}
