//! Limits: the size of a manifest, the length of names and tags; the disk space, the folders and
//! the load that pushes and searches cause.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use portcullis::{http, oci::ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, closing, empty_index, trifle},
    digest, files, noise, raw,
    watched::{Call, Verdict, Watch, Watched},
};

const MOST: usize = 4 * 1024 * 1024;

/// A valid manifest of exactly this size.
fn sized(size: usize) -> String {
    let pad = "x".repeat(size - empty_index("").len());
    let manifest = empty_index(&pad);
    assert_eq!(manifest.len(), size);
    manifest
}

fn in_pieces(text: &str) -> reqwest::Body {
    let pieces: Vec<_> = text
        .as_bytes()
        .chunks(65_536)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect();
    reqwest::Body::wrap_stream(stream::iter(pieces))
}

#[tokio::test]
async fn manifest_of_four_mebibytes_is_accepted() {
    let server = TestServer::start().await;
    let body = sized(MOST);
    let answer = server.push_manifest("app", "declared", OCI_INDEX, body.clone()).await;
    answer.expect(201);
    server
        .request("PUT", "/v2/app/manifests/streamed")
        .header("content-type", OCI_INDEX)
        .body(in_pieces(&body))
        .answer()
        .await
        .expect(201);
    for tag in ["declared", "streamed"] {
        let answer = server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
        assert!(answer.body == body.as_bytes());
        assert_eq!(answer.header("docker-content-digest"), digest(&body));
    }
}

#[tokio::test]
async fn manifest_over_four_mebibytes_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let body = sized(MOST + 1);
    let answer = server.push_manifest("app", "declared", OCI_INDEX, body.clone()).await;
    answer.expect(413);
    let answer = server
        .request("PUT", "/v2/app/manifests/streamed")
        .header("content-type", OCI_INDEX)
        .body(in_pieces(&body))
        .answer()
        .await;
    answer.expect(413);
    assert!(files(&server.tree()).is_empty());
}

#[tokio::test]
async fn blob_may_be_larger_than_a_manifest() {
    let server = TestServer::start().await;
    let bytes = noise(60, MOST + 1);
    let digest = server.push_blob("app", bytes.clone()).await;
    let answer = server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    assert!(answer.body == bytes);
}

#[tokio::test]
async fn names_of_the_grammar_are_accepted() {
    let server = TestServer::start().await;
    let long = "x".repeat(200);
    let deep = vec!["d"; 60].join("/");
    for name in [
        "a",
        "0",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a/b/c/d/e/f/g/h",
        "a.b_c__d-e/f",
        &long,
        &deep,
    ] {
        trifle(&server, name, "latest").await;
        server.get(&format!("/v2/{name}/manifests/latest")).await.expect(200);
    }
}

#[tokio::test]
async fn name_over_its_length_is_refused() {
    let server = TestServer::start().await;
    for name in ["x".repeat(256), ["x".repeat(127), "y".repeat(128)].join("/"), "x".repeat(5000)] {
        let target = format!("/v2/{name}/tags/list");
        server.get(&target).await.expect_error(400, ErrorCode::NameInvalid);
    }
}

#[tokio::test]
async fn tags_of_the_grammar_are_accepted() {
    let server = TestServer::start().await;
    for tag in ["a", "A", "_", "0", "__..--", "1.0-rc.1_x", "latest", &"x".repeat(128)] {
        trifle(&server, "app", tag).await;
        server.get(&format!("/v2/app/manifests/{tag}")).await.expect(200);
    }
}

#[tokio::test]
async fn tag_over_its_length_is_refused() {
    let server = TestServer::start().await;
    let tag = "x".repeat(129);
    let answer = server.push_manifest("app", &tag, OCI_INDEX, empty_index("")).await;
    answer.expect_error(400, ErrorCode::TagInvalid);
    assert!(files(&server.tree()).is_empty());
}

/// The disk space of a folder, in bytes.
fn taken(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => taken(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Waits for an event that must happen, however slow the machine is.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(raw::GUARD, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// An announced length must not take disk space from other clients, and a blob in one request
/// counts as an open upload until the request ends.
#[tokio::test]
async fn upload_with_one_byte_of_ten_gibibytes_takes_no_room_and_stays_open() {
    let server = TestServer::with(|config| {
        config.uploads = http::UploadsOptions { maxopen: 6, ..http::UploadsOptions::default() };
    })
    .await;
    let head = format!(
        "POST /v2/app/blobs/uploads/?digest={}\r\ncontent-length: {}\r\n",
        digest("never"),
        10_u64 << 30
    );
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = server.begin(&head).await;
        stream.write_all(b"x").await.unwrap();
        open.push(stream);
    }
    let begun = || files(&server.tree()).iter().filter(|file| file.ends_with("startedat")).count();
    until("six are open", async || begun() == 6).await;
    assert!(taken(&server.tree()) < 8 << 20, "{}", taken(&server.tree()));
    // One more, in each way to begin it.
    let answer = server.post("/v2/app/blobs/uploads/").await;
    answer.expect_error(429, ErrorCode::TooManyRequests);
    let mut seventh = server.begin(&head).await;
    seventh.write_all(b"x").await.unwrap();
    let mut status = [0; 12];
    seventh.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 429");
    drop((open, seventh));
    let whole = format!("/v2/app/blobs/uploads/?digest={}", digest("after all"));
    let push = async || server.request("POST", &whole).body("after all").answer().await.status;
    until("none is open", async || push().await == 201).await;
    until("nothing is left of them", async || begun() == 0).await;
    assert!(taken(&server.tree()) < 1 << 20);
}

/// Twelve uploads of 64 MiB have sent 3 MiB each: they reserve space for the next bytes, and not
/// for the announced length.
#[tokio::test]
async fn preallocation_follows_the_bytes_that_have_arrived() {
    let server = TestServer::start().await;
    let bytes = noise(71, 3 << 20);
    let mut open = Vec::new();
    for _ in 0..12 {
        let location = server.open_upload("app").await;
        let path = location.replacen(&server.base, "", 1);
        let head = format!("PATCH {path}\r\ncontent-length: {}\r\n", 64 << 20);
        let mut stream = server.begin(&head).await;
        stream.write_all(&bytes).await.unwrap();
        open.push(stream);
    }
    until("they arrive", async || taken(&server.tree()) >= 12 * (2 << 20)).await;
    assert!(taken(&server.tree()) <= 12 * (12 << 20), "{}", taken(&server.tree()));
}

/// Every folder below another, itself not among them.
fn folders(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| 1 + folders(&entry.path())).sum()
}

#[tokio::test]
async fn uploads_that_are_begun_and_cancelled_leave_no_folder() {
    let server = TestServer::start().await;
    trifle(&server, "team/app", "latest").await;
    let repositories = server.tree().join("repositories");
    let before = folders(&repositories);
    let name = |n: usize| {
        let parts: Vec<String> = (0..20).map(|part| format!("c{n}-{part}")).collect();
        parts.join("/")
    };
    // Some names are prefixes of others.
    let cancelled = stream::iter(0..500).for_each_concurrent(16, |n| {
        let name = if n % 2 == 0 { name(n) } else { format!("team/app/{}", name(n % 10)) };
        let server = &server;
        async move {
            let location = server.open_upload(&name).await;
            if n % 3 == 0 {
                server.patch(&location, None, "some").await.expect(202);
            }
            server.delete(&location).await.expect(204);
        }
    });
    cancelled.await;
    assert_eq!(folders(&repositories), before);
    // Refused uploads do as well.
    let wrong = digest("other");
    let whole = format!("/v2/a/b/c/blobs/uploads/?digest={wrong}");
    server.request("POST", &whole).body("x").answer().await.expect(400);
    let location = server.open_upload("d/e/f").await;
    server.put(&closing(&location, &wrong), "x").await.expect(400);
    assert_eq!(folders(&repositories), before);
    server.get("/v2/team/app/manifests/latest").await.expect(200);
}

/// A push into a folder that other requests remove at the same time finds it, or creates it again.
#[tokio::test]
async fn push_succeeds_beside_cancelled_uploads_in_its_folders() {
    let server = TestServer::start().await;
    let digest = digest("content");
    for round in 0..20 {
        let cancelling = join_all((0..6).map(|n| {
            let server = &server;
            async move {
                let location = server.open_upload(&format!("team/part/c{n}")).await;
                server.delete(&location).await.expect(204);
            }
        }));
        let pushing = async {
            let target = format!("/v2/team/part/app/blobs/uploads/?digest={digest}");
            server.request("POST", &target).body("content").answer().await.expect(201);
            server.get(&format!("/v2/team/part/app/blobs/{digest}")).await.expect(200);
            server.delete("/v2/team/part/app/").await.expect(202);
        };
        tokio::join!(cancelling, pushing);
        assert!(!server.tree().join("repositories/team").exists(), "{round}");
    }
}

#[tokio::test]
async fn unfinished_uploads_of_a_user_are_limited_within_an_hour() {
    let server = TestServer::with(|config| {
        config.uploads = http::UploadsOptions { maxperhour: 3, ..http::UploadsOptions::default() };
    })
    .await;
    // Finished uploads do not count.
    for n in 0..5 {
        server.push_blob("app", format!("blob {n}")).await;
        let location = server.open_upload("app").await;
        let content = format!("other {n}");
        server.put(&closing(&location, &digest(&content)), content).await.expect(201);
    }
    for _ in 0..3 {
        let location = server.open_upload("app").await;
        server.delete(&location).await.expect(204);
    }
    let whole = format!("/v2/app/blobs/uploads/?digest={}", digest("whole"));
    for target in ["/v2/other/blobs/uploads/", &whole] {
        let answer = server.request("POST", target).body("whole").answer().await;
        let answer = answer.expect_error(429, ErrorCode::TooManyRequests);
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=1200).contains(&seconds), "{seconds}");
        assert!(answer.text().contains("within an hour"), "{}", answer.text());
    }
    assert!(!server.tree().join("repositories/other").exists());
}

/// Counts how often a folder is read.
#[derive(Clone, Debug, Default)]
struct Walks(Arc<AtomicUsize>);

impl Watch for Walks {
    fn before(&self, call: Call<'_>) -> Verdict {
        if matches!(call, Call::ReadDir) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Go
    }
}

/// Concurrent equal requests share one walk, and find content that was pushed meanwhile.
#[tokio::test]
async fn concurrent_searches_share_a_walk_and_miss_no_push() {
    let walks = Walks::default();
    let watch = walks.clone();
    let server = TestServer::over(move |root| Arc::new(Watched::new(root, watch)));
    for n in 0..30 {
        trifle(&server, &format!("deep{n}/er/app"), "latest").await;
    }
    for target in ["/v1/search?q=app", "/v2/_catalog"] {
        let count = || walks.0.load(Ordering::Relaxed);
        // A push invalidates the cache, so that this is a walk.
        trifle(&server, "pushed", "latest").await;
        let before = count();
        server.get(target).await.expect(200);
        let one = count() - before;
        assert!(one > 30, "{one}");
        trifle(&server, "pushed", "latest").await;
        let before = count();
        let began = Instant::now();
        let all = join_all((0..64).map(|_| server.get(target))).await;
        assert!(all.iter().all(|answer| answer.status == 200));
        let many = count() - before;
        // Each walk's answer is cached for a second: no more than one walk begins in each.
        let seconds = began.elapsed().as_secs() as usize + 2;
        assert!(many <= seconds * one, "{target}: {many} in {seconds} s, {one} for one");
    }
    for n in 0..5 {
        let name = format!("new{n}/app");
        server.get("/v2/_catalog?n=1000").await.expect(200);
        trifle(&server, &name, "latest").await;
        for target in ["/v2/_catalog?n=1000", "/v1/search?q=app&n=100"] {
            assert!(server.get(target).await.expect(200).text().contains(&name), "{target}");
        }
        server.delete(&format!("/v2/{name}/")).await.expect(202);
        for target in ["/v2/_catalog?n=1000", "/v1/search?q=app&n=100"] {
            assert!(!server.get(target).await.expect(200).text().contains(&name), "{target}");
        }
    }
}
