use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use serde_json::json;

use super::{target::Linked, *};
use crate::{
    oci::{Algorithm, RepositoryName, Tag},
    registry::{self, Caller, ExistingTags, Put, Registry, SystemClock, tree::TreeKey},
    storage::{Durability, memory::Memory},
};

const BASE: &str = "docker/registry/v2";

/// A registry with one image, whose objects a test damages.
struct Tree {
    memory: Memory,
    registry: Registry,
    name: RepositoryName,
    tag: Tag,
    layer: Digest,
    manifest: Digest,
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

impl Tree {
    async fn new() -> Self {
        let memory = Memory::default();
        let registry = Registry::new(
            Arc::new(memory.clone()),
            Arc::new(SystemClock),
            registry::Options::default(),
        );
        let name: RepositoryName = "team/app".parse().unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let layer = sha256(b"layer");
        let mut tree = Self { memory, registry, name, tag, manifest: layer.clone(), layer };
        tree.blob(b"layer").await;
        tree.blob(b"{}").await;
        let manifest = json!({
            "schemaVersion": 2,
            "config": { "mediaType": "x", "digest": sha256(b"{}"), "size": 2 },
            "layers": [
                { "mediaType": "x", "digest": tree.layer, "size": 5 },
                { "mediaType": "x", "digest": sha256(b"far"), "size": 3, "urls": ["http://a"] },
            ],
            "subject": { "mediaType": "x", "digest": sha256(b"never"), "size": 1 },
        });
        tree.manifest = tree.manifest(&manifest.to_string(), "latest").await;
        tree
    }

    async fn blob(&self, bytes: &'static [u8]) {
        let digest = sha256(bytes);
        self.put(&TreeKey::Data(&digest).key(), bytes).await;
        self.put(&TreeKey::Layer(&self.name, &digest).key(), digest.to_string()).await;
    }

    async fn manifest(&self, text: &str, reference: &str) -> Digest {
        let put = Put {
            reference: reference.parse::<Tag>().map(crate::oci::Reference::Tag).unwrap(),
            tags: Vec::new(),
            content_type: None,
            bytes: Bytes::from(text.to_owned()),
            existing_tags: ExistingTags::Move,
        };
        self.registry.manifests().put(&Caller::default(), &self.name, put).await.unwrap().digest
    }

    async fn put(&self, key: &Key, bytes: impl Into<Vec<u8>>) {
        let bytes = Bytes::from(bytes.into());
        self.memory.put(key, bytes, Durability::Lazy).await.unwrap();
    }

    async fn put_at(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.put(&Key::new(format!("{BASE}/{path}")), bytes).await;
    }

    async fn delete(&self, key: TreeKey<'_>) {
        assert!(self.memory.delete(&key.key()).await.unwrap());
    }

    async fn run(&self, repair: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let options = Options { repair, limit: None };
        let mut report = |finding| {
            findings.push(finding);
            ControlFlow::Continue(())
        };
        self.registry.verification().run(&options, &Progress::default(), &mut report).await;
        findings
    }

    /// The findings: kind and path, with a question mark after the kind of a note.
    async fn found(&self) -> Vec<String> {
        let mut found: Vec<String> = self.run(false).await.iter().map(short).collect();
        found.sort();
        found
    }

    /// The bytes of all objects, and the number of objects with the same bytes.
    async fn bytes(&self) -> BTreeMap<Vec<u8>, usize> {
        let mut folders =
            ["docker", "portcullis-quarantine"].map(|name| Key::new(name.to_owned())).to_vec();
        let mut bytes = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in self.memory.list(&folder, None, usize::MAX).await.unwrap() {
                let key = folder.child(&entry.name);
                if entry.is_prefix {
                    folders.push(key);
                } else {
                    let content = self.memory.read(&key, usize::MAX).await.unwrap().unwrap();
                    *bytes.entry(content.to_vec()).or_default() += 1;
                }
            }
        }
        bytes
    }
}

fn short(finding: &Finding) -> String {
    let note = if finding.severity == Severity::Note { "?" } else { "" };
    let path = finding.key.as_str().strip_prefix(&format!("{BASE}/")).unwrap();
    format!("{}{note} {path}", finding.kind.as_str())
}

#[tokio::test(start_paused = true)]
async fn intact_tree_has_no_findings() {
    let tree = Tree::new().await;
    assert_eq!(tree.found().await, [""; 0]);
    let progress = Progress::default();
    let mut report = |_| ControlFlow::Continue(());
    tree.registry.verification().run(&Options::default(), &progress, &mut report).await;
    let Checked { blobs, links, manifests, .. } = progress.checked();
    // Blobs: two and the manifest. Links: one of each, and two of the tag.
    assert_eq!((blobs, links, manifests), (3, 5, 1));
}

#[tokio::test(start_paused = true)]
async fn corrupt_blob_is_found_with_the_images_that_reference_it() {
    let tree = Tree::new().await;
    let data = TreeKey::Data(&tree.layer).key();
    tree.put(&data, "bad").await;
    let findings = tree.run(false).await;
    assert_eq!(findings[0].kind, Kind::BlobCorrupt);
    assert_eq!(findings[0].digest, Some(tree.layer.clone()));
    assert_eq!(findings[1].kind, Kind::ManifestIncomplete);
    assert_eq!(findings[1].repository, Some(tree.name.clone()));
    assert_eq!(findings[1].digest, Some(tree.manifest.clone()));
    assert_eq!(findings[1].missing, std::slice::from_ref(&tree.layer));
    assert_eq!(findings[1].tags, std::slice::from_ref(&tree.tag));
    assert_eq!(findings.len(), 2);

    let before = tree.bytes().await;
    let layer = TreeKey::Layer(&tree.name, &tree.layer).key();
    let repaired = tree.run(true).await;
    let moved: Vec<_> = repaired.iter().map(|f| (f.kind, &f.key, f.moved_to.is_some())).collect();
    let incomplete = &findings[1].key;
    assert_eq!(
        moved,
        [
            (Kind::BlobCorrupt, &data, true),
            (Kind::BlobMissing, &layer, true),
            (Kind::ManifestIncomplete, incomplete, false),
        ]
    );
    let to = repaired[0].moved_to.as_ref().unwrap();
    assert!(to.as_str().starts_with("portcullis-quarantine/"), "{to}");
    assert!(to.as_str().ends_with(data.as_str()), "{to}");
    assert_eq!(tree.bytes().await, before);
    assert_eq!(tree.run(true).await.len(), 1, "only a push restores the blob");

    tree.blob(b"layer").await;
    assert_eq!(tree.found().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn corrupt_manifest_is_quarantined_with_its_revision_and_its_tag() {
    let tree = Tree::new().await;
    tree.put(&TreeKey::Data(&tree.manifest).key(), "").await;
    assert_eq!(tree.run(false).await.len(), 1);
    let kinds: Vec<Kind> = tree.run(true).await.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [Kind::BlobCorrupt, Kind::BlobMissing, Kind::RevisionMissing]);
    let rest = "tag_unfinished? repositories/team/app/_manifests/tags/latest";
    assert_eq!(tree.found().await, [rest]);
}

#[tokio::test(start_paused = true)]
async fn links_are_checked_against_their_key_and_their_target() {
    let tree = Tree::new().await;
    let other = sha256(b"{}");
    let at =
        |key: TreeKey<'_>| key.key().as_str().strip_prefix(&format!("{BASE}/")).unwrap().to_owned();
    let layer = TreeKey::Layer(&tree.name, &tree.layer);
    let revision = TreeKey::Revision(&tree.name, &tree.manifest);
    let current = TreeKey::TagCurrent(&tree.name, &tree.tag);
    let index = TreeKey::TagIndex(&tree.name, &tree.tag, &tree.manifest);
    let with_newline = format!("{}\n", tree.layer);
    for (place, content, found) in [
        (layer, with_newline.as_str(), None),
        (layer, "", Some("link_invalid")),
        (layer, "sha256:abc", Some("link_invalid")),
        (layer, &"x".repeat(1000), Some("link_invalid")),
        (layer, &other.to_string(), Some("link_elsewhere")),
        (revision, "rubbish", Some("link_invalid")),
        (revision, &other.to_string(), Some("link_elsewhere")),
        (current, "\u{0}", Some("link_invalid")),
        (current, &other.to_string(), Some("revision_missing")),
        (index, "", Some("link_invalid?")),
        (index, &other.to_string(), Some("link_elsewhere?")),
    ] {
        let key = place.key();
        let whole = tree.memory.read(&key, 1000).await.unwrap().unwrap();
        tree.put(&key, content).await;
        let expected: Vec<String> =
            found.iter().map(|kind| format!("{kind} {}", at(place))).collect();
        let mut all = tree.found().await;
        // Findings about the image, which lacks the layer of the bad link or cannot be checked.
        all.retain(|found| {
            !found.starts_with("manifest_incomplete") && !found.starts_with("unreadable")
        });
        assert_eq!(all, expected, "{content:?}");

        let before = tree.bytes().await;
        tree.run(true).await;
        assert_eq!(tree.bytes().await, before, "{content:?}");
        let left = tree.run(false).await;
        let repaired = left.iter().all(|finding| {
            matches!(
                finding.kind,
                Kind::ManifestIncomplete | Kind::TagIndexMissing | Kind::TagUnfinished
            )
        });
        assert!(repaired, "{content:?}: {left:?}");
        tree.put(&key, whole).await;
        let tag = tree.tag.clone();
        tree.registry.manifests().set_tag(&tree.name, &tag, &tree.manifest).await.unwrap();
    }
    tree.delete(index).await;
    assert_eq!(tree.found().await, [format!("tag_index_missing? {}", at(current))]);
    tree.delete(revision).await;
    assert_eq!(tree.found().await, [format!("revision_missing {}", at(current))]);
}

#[tokio::test(start_paused = true)]
async fn sha512_link_to_sha256_content_is_checked_against_the_bytes() {
    let tree = Tree::new().await;
    for (bytes, found) in [(&b"layer"[..], 0), (b"another", 1)] {
        let name = Digest::of(Algorithm::Sha512, bytes);
        let key = TreeKey::Layer(&tree.name, &name).key();
        tree.put(&key, tree.layer.to_string()).await;
        let kinds: Vec<Kind> = tree.run(false).await.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, vec![Kind::LinkElsewhere; found]);
    }
}

#[tokio::test(start_paused = true)]
async fn manifests_are_checked_as_far_as_their_references_are_readable() {
    let tree = Tree::new().await;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": "x", "digest": tree.manifest, "size": 1 }],
    });
    let index = tree.manifest(&index.to_string(), "index").await;
    assert_eq!(tree.found().await, [""; 0]);
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[],"signatures":[]}"#;
    let named = json!({ "digest": tree.layer }).to_string();
    let cased = |layers: &str| {
        format!(r#"{{"schemaVersion":2,"SCHEMAVERSION":2,"config":{named},"{layers}":[{named}]}}"#)
    };
    for (bytes, found) in [
        (schema1, None),
        (r#"{"schemaVersion":2,"mediaType":"odd/type","layers":[]}"#, Some("manifest_invalid?")),
        (r#"{"SchemaVersion":2,"Manifests":[]}"#, Some("manifest_invalid?")),
        (&cased("Layers"), Some("manifest_invalid?")),
        (&cased("layers").replace("layers", "layerx"), Some("manifest_invalid?")),
        (&cased("LAYERS").replace(tree.layer.hex(), &"0".repeat(64)), Some("manifest_incomplete")),
        (&cased("layers").replace("sha256:", "sha384:"), Some("manifest_invalid")),
        (r#"{"schemaVersion":2,"mediaType":"odd/type"}"#, Some("manifest_invalid")),
        (r#"{"schemaVersion":1,"signatures":[]}"#, Some("manifest_invalid")),
        ("{}", Some("manifest_invalid")),
        ("not JSON", Some("manifest_invalid")),
        // A list that is null or missing is empty, and a blob may be the child of an index.
        (r#"{"schemaVersion":2,"manifests":null}"#, None),
        (&format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#), None),
    ] {
        let digest = sha256(bytes.as_bytes());
        let revision = TreeKey::Revision(&tree.name, &digest);
        tree.put(&TreeKey::Data(&digest).key(), bytes).await;
        tree.put(&revision.key(), digest.to_string()).await;
        let key = revision.key();
        let path = key.as_str().strip_prefix(&format!("{BASE}/")).unwrap();
        let expected: Vec<String> = found.iter().map(|kind| format!("{kind} {path}")).collect();
        assert_eq!(tree.found().await, expected);
        tree.delete(revision).await;
    }
    tree.registry.manifests().delete_tag(&Caller::default(), &tree.name, &tree.tag).await.unwrap();
    tree.delete(TreeKey::Revision(&tree.name, &tree.manifest)).await;
    let findings = tree.run(false).await;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].kind, Kind::ManifestIncomplete);
    assert_eq!(findings[0].digest, Some(index));
}

#[tokio::test(start_paused = true)]
async fn missing_blob_without_a_reference_is_a_note_since_registry_2_keeps_its_link() {
    let tree = Tree::new().await;
    tree.blob(b"no longer needed").await;
    let collected = sha256(b"no longer needed");
    tree.delete(TreeKey::Data(&collected)).await;
    let layers = "repositories/team/app/_layers/sha256";
    let note = format!("blob_missing? {layers}/{}/link", collected.hex());
    assert_eq!(tree.found().await, [note.as_str()]);
    tree.delete(TreeKey::Data(&tree.layer)).await;
    let found = tree.found().await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.contains(&format!("blob_missing? {layers}/{}/link", tree.layer.hex())));
    assert!(found.iter().any(|found| found.starts_with("manifest_incomplete ")), "{found:?}");
    assert!(tree.run(true).await.iter().filter(|finding| finding.moved_to.is_some()).count() == 2);
}

#[tokio::test(start_paused = true)]
async fn folder_in_place_of_a_file_is_a_stray_and_tag_without_a_link_is_unfinished() {
    let tree = Tree::new().await;
    let app = "repositories/team/app";
    let absent = sha256(b"absent");
    for path in [
        format!("blobs/sha256/{}/{}/data/inner", &absent.hex()[..2], absent.hex()),
        format!("{app}/_layers/sha256/{}/link/inner", absent.hex()),
        format!("{app}/_manifests/tags/dir/current/link/inner"),
        format!("{app}/_manifests/tags/cut/index/sha256/{}/link", tree.manifest.hex()),
    ] {
        tree.put_at(&path, tree.manifest.to_string()).await;
    }
    let mut expected = [
        format!("stray? blobs/sha256/{}/{}/data", &absent.hex()[..2], absent.hex()),
        format!("stray? {app}/_layers/sha256/{}/link", absent.hex()),
        format!("stray? {app}/_manifests/tags/dir/current/link"),
        format!("tag_unfinished? {app}/_manifests/tags/cut"),
    ];
    expected.sort();
    assert_eq!(tree.found().await, expected);
}

#[tokio::test(start_paused = true)]
async fn leftovers_of_a_crash_and_unknown_files_are_notes() {
    let tree = Tree::new().await;
    let hex = tree.layer.hex();
    let app = "repositories/team/app";
    for path in [
        "blobs/README".to_owned(),
        "blobs/sha384/00/00/data".to_owned(),
        format!("blobs/sha256/{}/{hex}/data.0f.tmp", &hex[..2]),
        format!("blobs/sha256/00/{hex}/data"),
        "repositories/lost".to_owned(),
        "repositories/UPPER/_layers/sha256/x".to_owned(),
        format!("{app}/_odd/file"),
        format!("{app}/_layers/sha256/short/link"),
        format!("{app}/_layers/sha256/{hex}/link.0f.tmp"),
        format!("{app}/_manifests/file"),
        format!("{app}/_manifests/tags/-bad/current/link"),
        format!("{app}/_manifests/tags/latest/current/link.0f.tmp"),
        format!("{app}/_uploads/0f/data"),
        format!("{app}/_referrers/odd"),
    ] {
        tree.put_at(&path, "left").await;
    }
    let expected = [
        "name_invalid? blobs/sha384".to_owned(),
        format!("name_invalid? blobs/sha256/00/{hex}"),
        "name_invalid? repositories/UPPER/_layers".to_owned(),
        format!("name_invalid? {app}/_layers/sha256/short"),
        format!("name_invalid? {app}/_manifests/tags/-bad"),
        format!("name_invalid? {app}/_odd"),
        "stray? blobs/README".to_owned(),
        format!("stray? blobs/sha256/{}/{hex}/data.0f.tmp", &hex[..2]),
        "stray? repositories/lost".to_owned(),
        format!("stray? {app}/_layers/sha256/{hex}/link.0f.tmp"),
        format!("stray? {app}/_manifests/file"),
        format!("stray? {app}/_manifests/tags/latest/current/link.0f.tmp"),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(tree.found().await, expected);
    let before = tree.bytes().await;
    let repaired = tree.run(true).await;
    assert!(repaired.iter().all(|finding| finding.moved_to.is_none()), "{repaired:?}");
    assert_eq!(tree.bytes().await, before);
}

#[tokio::test(start_paused = true)]
async fn damage_that_a_push_repairs_meanwhile_is_not_reported() {
    let tree = Tree::new().await;
    let data = TreeKey::Data(&tree.layer).key();
    assert!(tree.memory.delete(&data).await.unwrap());
    let push = async {
        tokio::time::sleep(MOMENT / 2).await;
        tree.put(&data, "layer").await;
    };
    let (found, ()) = future::join(tree.found(), push).await;
    assert_eq!(found, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn verification_ends_when_the_report_breaks() {
    let tree = Tree::new().await;
    for n in 0..300 {
        tree.put_at(&format!("blobs/{n}"), "").await;
    }
    let mut count = 0;
    let mut report = |_| {
        count += 1;
        ControlFlow::Break(())
    };
    tree.registry.verification().run(&Options::default(), &Progress::default(), &mut report).await;
    assert_eq!(count, 1);
}

/// A push may repair an object just before verification moves it into quarantine.
#[tokio::test(start_paused = true)]
async fn intact_object_is_moved_back_out_of_quarantine() {
    let tree = Tree::new().await;
    let progress = Progress::default();
    let verifier = Verifier::new(
        tree.registry.verification(),
        &Options { repair: true, limit: None },
        &progress,
    );
    let before = tree.bytes().await;
    for (target, kind) in [
        (Target::Blob(tree.layer.clone()), Kind::BlobCorrupt),
        (Target::Link(Linked::Layer(tree.name.clone(), tree.layer.clone())), Kind::BlobMissing),
        (
            Target::Link(Linked::Revision(tree.name.clone(), tree.manifest.clone())),
            Kind::BlobMissing,
        ),
        (Target::Link(Linked::Current(tree.name.clone(), tree.tag.clone())), Kind::RevisionMissing),
    ] {
        let finding = Finding::new(kind, target.key(), "it was damaged a moment ago");
        assert!(verifier.quarantine(&target, finding).await.is_none(), "{target:?}");
        assert_eq!(tree.found().await, [""; 0]);
    }
    assert_eq!(tree.bytes().await, before);
}
