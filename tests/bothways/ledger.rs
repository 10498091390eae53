//! The content that a tree must have, whichever program serves it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use crate::api::{Answer, Api};

/// A repository, and a digest or a tag in it.
type Name = (String, String);

/// The pushed content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    blobs: BTreeMap<Name, Bytes>,
    manifests: BTreeMap<Name, Manifest>,
    tags: BTreeMap<Name, String>,
    /// Deleted blobs and manifests, by digest and by tag.
    lost_blobs: BTreeSet<Name>,
    lost_manifests: BTreeSet<Name>,
}

#[derive(Clone, Debug)]
struct Manifest {
    kind: &'static str,
    text: String,
}

fn name(repository: &str, reference: &str) -> Name {
    (repository.to_owned(), reference.to_owned())
}

impl Ledger {
    pub(crate) fn blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        self.lost_blobs.remove(&name(repository, digest));
        self.blobs.insert(name(repository, digest), bytes);
    }

    pub(crate) fn manifest(
        &mut self,
        repository: &str,
        digest: &str,
        kind: &'static str,
        text: String,
    ) {
        self.lost_manifests.remove(&name(repository, digest));
        self.manifests.insert(name(repository, digest), Manifest { kind, text });
    }

    pub(crate) fn tag(&mut self, repository: &str, tag: &str, digest: &str) {
        self.lost_manifests.remove(&name(repository, tag));
        self.tags.insert(name(repository, tag), digest.to_owned());
    }

    /// Notes that a tag was copied to another repository with its whole image.
    pub(crate) fn copy(&mut self, (from, to): (&str, &str), tag: &str) {
        let digest = self.tags[&name(from, tag)].clone();
        self.tag(to, tag, &digest);
        let mut digests = vec![digest];
        while let Some(digest) = digests.pop() {
            if let Some(blob) = self.blobs.get(&name(from, &digest)).cloned() {
                self.blob(to, &digest, blob);
            }
            let Some(manifest) = self.manifests.get(&name(from, &digest)).cloned() else {
                continue;
            };
            let json: Value = serde_json::from_str(&manifest.text).unwrap();
            let lists = ["layers", "manifests"].map(|key| json[key].as_array().cloned());
            let parts = lists.into_iter().flatten().flatten().chain([json["config"].clone()]);
            digests.extend(parts.filter_map(|part| Some(part["digest"].as_str()?.to_owned())));
            self.manifest(to, &digest, manifest.kind, manifest.text);
        }
    }

    /// Notes that a manifest was deleted with its tags.
    pub(crate) fn lose_manifest(&mut self, repository: &str, digest: &str) {
        assert!(self.manifests.remove(&name(repository, digest)).is_some());
        self.lost_manifests.insert(name(repository, digest));
        let tags = self.tags.extract_if(.., |(of, _), target| of == repository && target == digest);
        self.lost_manifests.extend(tags.map(|(tag, _)| tag));
    }

    /// The manifests without a tag, with their types and texts.
    pub(crate) fn untagged(&self) -> Vec<(Name, &'static str, String)> {
        self.manifests
            .iter()
            .filter(|((repository, digest), _)| {
                !self.tags.iter().any(|((of, _), target)| of == repository && target == digest)
            })
            .map(|(name, manifest)| (name.clone(), manifest.kind, manifest.text.clone()))
            .collect()
    }

    /// Notes that a collector has removed the blobs that no manifest of any repository references.
    pub(crate) fn collect(&mut self) -> usize {
        let texts: Vec<&str> = self.manifests.values().map(|found| found.text.as_str()).collect();
        let manifests = &self.manifests;
        let is_needed = |digest: &str| {
            texts.iter().any(|text| text.contains(digest))
                || manifests.keys().any(|(_, manifest)| manifest == digest)
        };
        let lost = self.blobs.extract_if(.., |(_, digest), _| !is_needed(digest));
        let before = self.lost_blobs.len();
        self.lost_blobs.extend(lost.map(|(blob, _)| blob));
        self.lost_blobs.len() - before
    }

    /// The repositories that have a manifest.
    pub(crate) fn repositories(&self) -> BTreeSet<String> {
        self.manifests.keys().map(|(repository, _)| repository.clone()).collect()
    }

    /// The tags of a repository.
    pub(crate) fn tags_of(&self, repository: &str) -> BTreeSet<String> {
        self.tags.keys().filter(|(of, _)| of == repository).map(|(_, tag)| tag.clone()).collect()
    }

    /// Pulls everything, and requests the lost content.
    pub(crate) async fn check(&self, api: &Api) {
        assert!(self.blobs.len() + self.manifests.len() + self.tags.len() > 1);
        for ((repository, digest), manifest) in &self.manifests {
            self.check_manifest(api, (repository, digest), digest, manifest).await;
        }
        for ((repository, tag), digest) in &self.tags {
            let manifest = &self.manifests[&name(repository, digest)];
            self.check_manifest(api, (repository, tag), digest, manifest).await;
        }
        for ((repository, digest), bytes) in &self.blobs {
            let target = format!("/v2/{repository}/blobs/{digest}");
            for method in [Method::GET, Method::HEAD] {
                let answer = api.read(method.clone(), &target).await.expect(200);
                check(&answer, &method, digest, bytes);
            }
        }
        for (repository, reference) in &self.lost_manifests {
            let target = format!("/v2/{repository}/manifests/{reference}");
            api.get(&target).await.expect_error(404, "MANIFEST_UNKNOWN");
        }
        for (repository, digest) in &self.lost_blobs {
            let target = format!("/v2/{repository}/blobs/{digest}");
            api.get(&target).await.expect_error(404, "BLOB_UNKNOWN");
            api.read(Method::HEAD, &target).await.expect(404);
        }
        for repository in self.repositories() {
            assert_eq!(api.tags(&repository).await, self.tags_of(&repository), "{repository}");
        }
    }

    async fn check_manifest(
        &self,
        api: &Api,
        (repository, reference): (&str, &str),
        digest: &str,
        manifest: &Manifest,
    ) {
        let target = format!("/v2/{repository}/manifests/{reference}");
        for method in [Method::GET, Method::HEAD] {
            let answer = api.read(method.clone(), &target).await.expect(200);
            assert_eq!(answer.header("content-type"), manifest.kind, "{target}");
            check(&answer, &method, digest, manifest.text.as_bytes());
        }
    }

    /// A part of it: some of the repositories.
    pub(crate) fn of(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let mut part = self.clone();
        part.blobs.retain(|(repository, _), _| wanted(repository));
        part.manifests.retain(|(repository, _), _| wanted(repository));
        part.tags.retain(|(repository, _), _| wanted(repository));
        part.lost_blobs.retain(|(repository, _)| wanted(repository));
        part.lost_manifests.retain(|(repository, _)| wanted(repository));
        part
    }

    /// The digest that a tag names, and those of the configuration and the first layer of that
    /// image.
    pub(crate) fn parts_of(&self, repository: &str, tag: &str) -> [String; 3] {
        let digest = &self.tags[&name(repository, tag)];
        let text = &self.manifests[&name(repository, digest)].text;
        let manifest: Value = serde_json::from_str(text).unwrap();
        let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
        [digest.clone(), text(&manifest["config"]), text(&manifest["layers"][0])]
    }
}

#[track_caller]
fn check(answer: &Answer, method: &Method, digest: &str, bytes: &[u8]) {
    assert_eq!(answer.header("docker-content-digest"), digest);
    assert_eq!(answer.header("content-length"), bytes.len().to_string(), "{digest}");
    assert!(method == Method::HEAD || answer.body == bytes, "{digest} has other bytes");
}
