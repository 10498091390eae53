//! Checks that the tree of a dead server is consistent, and that its successor serves the same.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::Value;

use crate::{
    client::{Answer, Client, Outcome, Stop},
    content::{Digest, REPOSITORIES, TAGS, digest},
    model::{Key, Model, Name},
    tally::{Kind, add},
    tree::Tree,
};

/// How many requests of a check run concurrently.
const TOGETHER: usize = 8;

/// Compares a tree with the model, which then takes the tree as the truth.
///
/// # Errors
///
/// When the responses do not allow the tree, or a name in it leads nowhere.
pub(crate) fn tree(tree: &Tree, model: &mut Model) -> Result<(), String> {
    for (key, target) in &tree.links {
        if !tree.blobs.contains_key(target) {
            return Err(format!("{key}: its link is there, its bytes are not"));
        }
        if let Name::Tag(_) = key.name {
            if !tree.links.contains_key(&Key::manifest(&key.repository, target)) {
                return Err(format!("{key}: leads to {target}, which the repository has not"));
            }
            if !tree.index.contains(&(key.clone(), target.clone())) {
                return Err(format!("{key}: leads to {target}, which is not in its index"));
            }
        }
    }
    let mut dangling = BTreeSet::new();
    for (key, bytes) in manifests(tree) {
        for needed in needs(key, &manifest(bytes)?) {
            if tree.links.contains_key(&needed) {
                continue;
            }
            let pair = (key.clone(), needed);
            if !model.is_deleting(&pair.1) && !model.dangling.contains(&pair) {
                let why = "is missing, and no client has deleted it";
                return Err(format!("{key}: is visible, but {} {why}", pair.1));
            }
            dangling.insert(pair);
        }
    }
    model.dangling = dangling;
    model.forget_deletions();
    model.settle(&tree.links)
}

/// The manifests of a tree and their bytes.
fn manifests(tree: &Tree) -> impl Iterator<Item = (&Key, &[u8])> {
    let revisions = tree.links.iter().filter(|(key, _)| matches!(key.name, Name::Manifest(_)));
    revisions.map(|(key, target)| (key, &*tree.blobs[target]))
}

fn manifest(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("a manifest is not JSON: {error}"))
}

/// The digests that a repository must have for a manifest to be complete.
fn needs(key: &Key, manifest: &Value) -> Vec<Key> {
    let list = |field: &str| manifest[field].as_array().cloned().unwrap_or_default();
    let blobs = list("layers").into_iter().chain(manifest.get("config").cloned());
    let digest = |descriptor: Value| Digest::new(descriptor["digest"].as_str().unwrap());
    let blobs = blobs.map(|blob| Key::blob(&key.repository, &digest(blob)));
    let children = list("manifests").into_iter();
    blobs.chain(children.map(|child| Key::manifest(&key.repository, &digest(child)))).collect()
}

impl Client {
    /// Requests these keys and every list; the responses must equal the tree.
    pub(crate) async fn inspect(&self, tree: &Tree, keys: Vec<Key>) -> Outcome<()> {
        let asked = stream::iter(keys.into_iter().map(Ok::<_, Stop>));
        asked.try_for_each_concurrent(TOGETHER, |key| self.inspect_key(tree, key)).await?;
        let mut names = BTreeSet::new();
        for name in REPOSITORIES {
            self.inspect_tags(tree, name).await?;
            if tree.links.keys().any(|key| is_manifest_of(key, name)) {
                names.insert(name.to_owned());
            }
        }
        let answer = self.ask("/v2/_catalog", &[200]).await?;
        same(&answer, &texts(&answer, "repositories"), &names)?;
        self.inspect_referrers(tree).await
    }

    async fn inspect_key(&self, tree: &Tree, key: Key) -> Outcome<()> {
        let name = &key.repository;
        let target = match &key.name {
            Name::Blob(digest) => format!("/v2/{name}/blobs/{digest}"),
            Name::Manifest(digest) => format!("/v2/{name}/manifests/{digest}"),
            Name::Tag(tag) => format!("/v2/{name}/manifests/{tag}"),
        };
        let expected = tree.links.get(&key);
        let answer = self.ask(&target, &[if expected.is_some() { 200 } else { 404 }]).await?;
        let Some(expected) = expected else { return Ok(()) };
        if answer.header("docker-content-digest")? != expected.as_str()
            || digest(&answer.body) != *expected
        {
            return Err(Stop::Wrong(format!("{target}: does not answer with {expected}")));
        }
        Ok(())
    }

    async fn inspect_tags(&self, tree: &Tree, name: &str) -> Outcome<()> {
        let tags: BTreeSet<String> = TAGS
            .iter()
            .filter(|tag| tree.links.contains_key(&Key::tag(name, tag)))
            .map(|tag| (*tag).to_owned())
            .collect();
        // An empty repository need not exist.
        let allowed: &[u16] = if tags.is_empty() { &[200, 404] } else { &[200] };
        let answer = self.ask(&format!("/v2/{name}/tags/list"), allowed).await?;
        same(&answer, &texts(&answer, "tags"), &tags)
    }

    async fn inspect_referrers(&self, tree: &Tree) -> Outcome<()> {
        let mut referrers: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
        for (key, bytes) in manifests(tree) {
            let (name, Name::Manifest(digest)) = (&*key.repository, &key.name) else { continue };
            // Every manifest may be a subject, and most have no referrer.
            referrers.entry((name, digest.to_string())).or_default();
            let manifest = manifest(bytes).map_err(Stop::Wrong)?;
            if let Some(subject) = manifest["subject"]["digest"].as_str() {
                let referrers = referrers.entry((name, subject.to_owned())).or_default();
                referrers.insert(digest.to_string());
            }
        }
        let asked = stream::iter(referrers).map(Ok::<_, Stop>);
        asked
            .try_for_each_concurrent(TOGETHER, async |((name, subject), expected)| {
                let answer = self.ask(&format!("/v2/{name}/referrers/{subject}"), &[200]).await?;
                let listed = answer.json()["manifests"].as_array().cloned().unwrap_or_default();
                let listed = listed.iter().filter_map(|entry| entry["digest"].as_str());
                same(&answer, &listed.map(str::to_owned).collect(), &expected)
            })
            .await
    }

    async fn ask(&self, target: &str, allowed: &[u16]) -> Outcome<Answer> {
        let kind = if target.contains("/manifests/") || target.contains("/blobs/") {
            Kind::Read
        } else {
            Kind::List
        };
        let answer = self.send(kind, self.request(Method::GET, target)).await?;
        add(&self.stage.tally.answers, 1);
        if allowed.contains(&answer.status) { Ok(answer) } else { Err(answer.wrong()) }
    }
}

fn is_manifest_of(key: &Key, name: &str) -> bool {
    key.repository == name && matches!(key.name, Name::Manifest(_))
}

fn texts(answer: &Answer, field: &str) -> BTreeSet<String> {
    let list = answer.json()[field].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn same(answer: &Answer, listed: &BTreeSet<String>, expected: &BTreeSet<String>) -> Outcome<()> {
    if listed == expected {
        return Ok(());
    }
    let Stop::Wrong(what) = answer.wrong() else { return Ok(()) };
    Err(Stop::Wrong(format!("{what}, expected was {expected:?}")))
}
