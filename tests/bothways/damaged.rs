//! Trees that a full disk, a power cut or a person has damaged: damaged content counts as absent,
//! and all other content is served.

use std::fs;

use reqwest::Method;

use crate::{
    api::Api,
    content::{Author, DOCKER, OCI, digest, layer},
    ledger::Ledger,
    place::Place,
};

/// A repository with one image at the tag `t`, which a test has damaged.
struct Victim {
    name: String,
    manifest: String,
    layer: String,
    /// The damaged path in the tree.
    at: String,
    /// The finding of `portcullis verify`, with its path.
    found: String,
    /// The content that cannot be pulled any more.
    lost: Lost,
    /// Whether the log names it when a request meets it.
    logged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Tag,
    TagAndManifest,
    Layer,
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap()
}

fn data(digest: &str) -> String {
    let hex = hex(digest);
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// The damage done to a file.
enum Harm<'a> {
    Write(&'a str),
    Remove,
    /// A folder takes its place.
    Folder,
}

/// A file of an image.
#[derive(Clone, Copy)]
enum File {
    Tag,
    TagFolder,
    Revision,
    Manifest,
    Layer,
    Bytes,
}

/// Damages each image in another way; `other` is the digest of other content.
fn harm(place: &Place, ledger: &Ledger, other: &str) -> Vec<Victim> {
    use File::{Bytes, Layer, Manifest, Revision, Tag, TagFolder};
    use Harm::{Folder, Remove, Write};
    let (long, huge) = ("x".repeat(1000), "x".repeat(9 << 20));
    let tag = |name, harm, kind| (name, Tag, harm, Lost::Tag, kind, Tag, true);
    let revision =
        |name, harm, kind| (name, Revision, harm, Lost::TagAndManifest, kind, Revision, true);
    let layer = |name, harm, kind| (name, Layer, harm, Lost::Layer, kind, Layer, true);
    // Missing content is logged at the link that leads to it, if at all.
    let silent = |name, file, harm, lost, kind, at| (name, file, harm, lost, kind, at, false);
    let all = Lost::TagAndManifest;
    [
        tag("empty-tag", Write(""), "problem link_invalid"),
        tag("rubbish-tag", Write("\u{0}\u{0}"), "problem link_invalid"),
        tag("hex-tag", Write(hex(other)), "problem link_invalid"),
        tag("long-tag", Write(&long), "problem link_invalid"),
        tag("stray-tag", Write(other), "problem revision_missing"),
        silent("folder-tag", Tag, Folder, Lost::Tag, "note stray", Tag),
        silent("no-tag", Tag, Remove, Lost::Tag, "note tag_unfinished", TagFolder),
        revision("empty-revision", Write(""), "problem link_invalid"),
        revision("long-revision", Write(&long), "problem link_invalid"),
        revision("other-revision", Write(other), "problem link_elsewhere"),
        silent("no-revision", Revision, Remove, all, "problem revision_missing", Tag),
        silent("no-manifest", Manifest, Remove, all, "problem blob_missing", Revision),
        silent("huge-manifest", Manifest, Write(&huge), all, "problem blob_corrupt", Manifest),
        layer("empty-layer", Write(""), "problem link_invalid"),
        layer("other-layer", Write(other), "problem link_elsewhere"),
        silent("no-bytes", Bytes, Remove, Lost::Layer, "problem manifest_incomplete", Revision),
        silent("folder-bytes", Bytes, Folder, Lost::Layer, "note stray", Bytes),
    ]
    .into_iter()
    .map(|(name, file, harm, lost, kind, found, logged)| {
        let name = format!("harm/{name}");
        let [manifest, _, layer] = ledger.parts_of(&name, "t");
        let manifests = format!("repositories/{name}/_manifests");
        let at = |file| match file {
            Tag => format!("{manifests}/tags/t/current/link"),
            TagFolder => format!("{manifests}/tags/t"),
            Revision => format!("{manifests}/revisions/sha256/{}/link", hex(&manifest)),
            Manifest => data(&manifest),
            Layer => format!("repositories/{name}/_layers/sha256/{}/link", hex(&layer)),
            Bytes => data(&layer),
        };
        let (at, found) = (at(file), at(found));
        match harm {
            Write(content) => place.write(&at, content),
            Remove => fs::remove_file(place.at(&at)).unwrap(),
            Folder => {
                fs::remove_file(place.at(&at)).unwrap();
                place.write(&format!("{at}/inner"), "");
            }
        }
        let found = format!("{kind} \"docker/registry/v2/{found}\"");
        Victim { name, manifest, layer, at, found, lost, logged }
    })
    .collect()
}

/// Requests the lost content, and the rest.
async fn ask(api: &Api, victim: &Victim) {
    let Victim { name, manifest, layer, lost, .. } = victim;
    let target = |reference: &str| format!("/v2/{name}/manifests/{reference}");
    let tag = if *lost == Lost::Layer { 200 } else { 404 };
    let by_digest = if *lost == Lost::TagAndManifest { 404 } else { 200 };
    let blob = if *lost == Lost::Layer { 404 } else { 200 };
    for (target, status, code) in [
        (target("t"), tag, "MANIFEST_UNKNOWN"),
        (target(manifest), by_digest, "MANIFEST_UNKNOWN"),
        (format!("/v2/{name}/blobs/{layer}"), blob, "BLOB_UNKNOWN"),
    ] {
        api.read(Method::HEAD, &target).await.expect(status);
        let answer = api.get(&target).await.expect(status);
        if status == 404 {
            answer.expect_error(404, code);
        }
    }
    api.get(&format!("/v2/{name}/tags/list")).await.expect(200);
    api.get(&format!("/v2/{name}/referrers/{manifest}")).await.expect(200);
}

/// Puts unknown files and folders at every level, and gives the findings of `portcullis verify`
/// about them.
fn litter(place: &Place, ledger: &Ledger) -> Vec<String> {
    let [manifest, config, _] = ledger.parts_of("whole", "t");
    let (app, id) = ("repositories/whole", "0f8fad5b-d9cb-469f-a165-70867728950e");
    let (layers, manifests) = (format!("{app}/_layers"), format!("{app}/_manifests"));
    let (layer, revision) = (hex(&config), hex(&manifest));
    let mut told = Vec::new();
    for stray in [
        "blobs/README".to_owned(),
        "blobs/sha256/lost+found/file".to_owned(),
        "blobs/sha256/00/file".to_owned(),
        format!("{}.{id}.tmp", data(&config)),
        "repositories/.DS_Store".to_owned(),
        format!("{app}/file"),
        format!("{layers}/file"),
        format!("{layers}/sha256/file"),
        format!("{layers}/sha256/{layer}/link.{id}.tmp"),
        format!("{manifests}/file"),
        format!("{manifests}/revisions/file"),
        format!("{manifests}/revisions/sha256/{revision}/link.{id}.tmp"),
        format!("{manifests}/tags/file"),
        format!("{manifests}/tags/t/current/link.{id}.tmp"),
    ] {
        place.write(&stray, "");
        told.push(format!("note stray \"docker/registry/v2/{stray}\""));
    }
    // An unknown folder is reported by its name only.
    for (folder, file) in [
        ("blobs/md5".to_owned(), "00/00/data"),
        ("repositories/UPPER/_layers".to_owned(), "file"),
        (format!("{app}/_odd"), "file"),
        (format!("{layers}/sha256/short"), "link"),
        (format!("{manifests}/tags/.tag"), "current/link"),
    ] {
        place.write(&format!("{folder}/{file}"), "");
        told.push(format!("note name_invalid \"docker/registry/v2/{folder}\""));
    }
    // Unfinished files, which no program reports.
    place.write("README", "");
    place.write(&format!("{app}/_uploads/file"), "");
    place.write(&format!("{app}/_uploads/{id}/odd"), "");
    place.write(&format!("repositories/uploads/only/_uploads/{id}/data"), "x");
    fs::create_dir_all(place.at("repositories/empty/_manifests/tags/none/current")).unwrap();
    told
}

#[tokio::test]
async fn damaged_content_is_absent_and_all_else_is_served() {
    let place = Place::new("damaged");
    let mut ledger = Ledger::default();
    let (server, api) = place.portcullis();
    let mut author = Author { api: &api, ledger: &mut ledger };
    author.image("whole", &["t"], OCI, "whole").await;
    author.list("whole", &["multi"], DOCKER, "list").await;
    for name in NAMES {
        author.image(&format!("harm/{name}"), &["t"], OCI, name).await;
        author.image(&format!("harm/{name}"), &["u"], DOCKER, &format!("{name}-other")).await;
    }
    let repositories = api.repositories().await;
    drop(server);

    let other = digest(layer("whole"));
    let victims = harm(&place, &ledger, &other);
    assert_eq!(victims.len(), NAMES.len());
    let strays = litter(&place, &ledger);
    let (server, api) = place.portcullis();
    for _ in 0..3 {
        ledger.of(|name| name == "whole").check(&api).await;
        assert_eq!(api.repositories().await, repositories);
        for victim in &victims {
            ask(&api, victim).await;
        }
        api.get("/v2/uploads/only/tags/list").await.expect_error(404, "NAME_UNKNOWN");
    }
    let log = place.log();
    let logged = |path: &str| {
        log.lines().filter(|line| line.contains("skipping") && line.contains(path)).count()
    };
    for Victim { at, logged: times, .. } in &victims {
        assert_eq!(logged(at), usize::from(*times), "{at}: {log}");
    }
    for path in ["repositories/.DS_Store", "repositories/UPPER", "_manifests/tags/.tag"] {
        assert_eq!(logged(path), 1, "{path}: {log}");
    }
    assert_eq!(log.matches("files among the tags of a repository").count(), 1, "{log}");
    assert!(!log.contains("a request failed"), "{log}");
    let skipped = place.metric("portcullis_storage_skipped_total").await;
    assert!(skipped >= 3 * victims.iter().filter(|victim| victim.logged).count() as u64);

    let verdict = place.verify(&[]);
    assert_eq!(verdict.code, Some(1));
    for Victim { found, .. } in &victims {
        assert!(verdict.findings.contains(found.as_str()), "{found}: {}", verdict.findings);
    }
    for stray in &strays {
        assert!(verdict.findings.contains(stray.as_str()), "{stray}: {}", verdict.findings);
    }

    // A new push restores the content, except where a folder is in the way.
    let mut again = Ledger::default();
    let mut author = Author { api: &api, ledger: &mut again };
    for name in NAMES.iter().filter(|name| !name.starts_with("folder-")) {
        author.image(&format!("harm/{name}"), &["t"], OCI, name).await;
        author.image(&format!("harm/{name}"), &["u"], DOCKER, &format!("{name}-other")).await;
    }
    again.check(&api).await;
    drop(server);
}

/// The damaged repositories.
const NAMES: [&str; 17] = [
    "empty-tag",
    "rubbish-tag",
    "hex-tag",
    "long-tag",
    "stray-tag",
    "folder-tag",
    "no-tag",
    "empty-revision",
    "long-revision",
    "other-revision",
    "no-revision",
    "no-manifest",
    "huge-manifest",
    "empty-layer",
    "other-layer",
    "no-bytes",
    "folder-bytes",
];
