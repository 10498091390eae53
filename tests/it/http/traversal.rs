//! Path traversal by paths and names, and upload sessions of other users.

use std::fs;

use portcullis::oci::ErrorCode;

use crate::support::{
    Answer, Answered as _, TestServer,
    content::{OCI_INDEX, closing, empty_index},
    digest, files, image, raw,
    server::{PASSWORD, USER, contents},
};

/// Malformed names: each as one segment of a path, percent-encoded where HTTP needs it.
fn crooked() -> Vec<String> {
    let mut all: Vec<String> = [
        "..",
        ".",
        "%2e%2e",
        "%2E.",
        "..%2f..%2fetc",
        "a%2f..%2fb",
        "a%2fb%5c..",
        "%2fetc%2fpasswd",
        "..%5c..",
        "%252e%252e",
        "%00",
        "a%00",
        "a%00.link",
        "a%0d%0ax-evil:%201",
        "a%20b",
        "a%7f",
        "%ff%fe",
        "%c0%ae%c0%ae",
        "%e2%80%ae",
        "%ef%bc%8e%ef%bc%8e",
        "%c3%a4",
        "\u{e4}",
        "%",
        "%2",
        "%zz",
        "_uploads",
        "_manifests",
        "a;b",
        "~root",
        "$HOME",
        "-",
        ".tmp",
    ]
    .map(str::to_owned)
    .into();
    all.push("x".repeat(300));
    all.push("x".repeat(5000));
    all.push("%2e%2e%2f".repeat(1000));
    all
}

/// Sends a request with a verbatim target.
async fn ask(server: &TestServer, method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "{method} {target}\r\nconnection: close\r\n\
         content-type: {OCI_INDEX}\r\ncontent-length: {length}\r\n"
    );
    raw::exchange(server.begin(&head).await, body.as_bytes()).await
}

/// A refusal in the form of the specification. A refusal by HTTP itself has no form.
#[track_caller]
fn assert_refused(answer: &str, asked: &str) {
    let status = raw::status(answer).unwrap_or_else(|| panic!("no answer to {asked}: {answer:?}"));
    assert!(matches!(status, 400 | 404 | 405 | 414 | 431), "{asked}: {answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("\nx-evil"), "{asked}: {answer}");
    if head.contains("application/json") {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(json["errors"][0]["code"].is_string(), "{asked}: {answer}");
    } else {
        assert!(!body.contains("<html") && head.contains("content-length: 0"), "{asked}: {answer}");
    }
}

#[tokio::test]
async fn segments_of_a_path_cannot_leave_the_tree() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    let before = contents(server.folder());
    let body = empty_index("crooked");
    let hex = image.layer.strip_prefix("sha256:").unwrap();
    for segment in crooked() {
        for (method, target) in [
            ("GET", format!("/v2/{segment}/tags/list")),
            ("GET", format!("/v2/app/{segment}/manifests/latest")),
            ("PUT", format!("/v2/{segment}/manifests/latest")),
            ("PUT", format!("/v2/app/{segment}/manifests/latest")),
            ("PUT", format!("/v2/app/manifests/sha256:{segment}")),
            ("DELETE", format!("/v2/app/manifests/sha256:{segment}")),
            ("GET", format!("/v2/app/blobs/{segment}")),
            ("GET", format!("/v2/app/blobs/{segment}:{hex}")),
            ("GET", format!("/v2/app/blobs/sha256:{segment}{hex}")),
            ("DELETE", format!("/v2/app/blobs/sha256:{segment}")),
            ("POST", format!("/v2/{segment}/blobs/uploads/")),
            ("PATCH", format!("/v2/app/blobs/uploads/{segment}")),
            ("DELETE", format!("/v2/app/blobs/uploads/{segment}")),
            ("PUT", format!("/v2/app/blobs/uploads/{segment}?digest={}", digest(&body))),
            ("POST", format!("/v2/app/blobs/uploads/?digest=sha256:{segment}")),
            ("GET", format!("/v2/app/referrers/sha256:{segment}")),
        ] {
            // These are valid names, although they look unusual.
            let asked = format!("{method} {target}");
            assert_refused(
                &ask(&server, method, &target, &body).await,
                &asked[..asked.len().min(90)],
            );
        }
    }
    assert_eq!(contents(server.folder()), before);
    assert_eq!(server.get("/v2/app/manifests/latest").await.expect(200).text(), image.manifest);
}

#[tokio::test]
async fn tags_cannot_leave_the_tree() {
    let server = TestServer::start().await;
    image(&server, "app", "latest").await;
    let before = contents(server.folder());
    let body = empty_index("crooked");
    let digest = digest(&body);
    // Longer than a tag, or of other characters; these few are valid tags.
    let tags =
        crooked().into_iter().filter(|tag| !matches!(tag.as_str(), "_uploads" | "_manifests"));
    for tag in tags {
        for (method, target) in [
            ("GET", format!("/v2/app/manifests/{tag}")),
            ("PUT", format!("/v2/app/manifests/{tag}")),
            ("DELETE", format!("/v2/app/manifests/{tag}")),
            ("PUT", format!("/v2/app/manifests/{digest}?tag={tag}")),
            ("PUT", format!("/v2/app/manifests/{digest}?tag=good&tag={tag}")),
        ] {
            let asked = format!("{method} {target}");
            assert_refused(
                &ask(&server, method, &target, &body).await,
                &asked[..asked.len().min(90)],
            );
        }
    }
    assert_eq!(contents(server.folder()), before);
}

/// Valid names that equal names of files in the storage.
#[tokio::test]
async fn names_that_look_like_files_of_the_storage_are_names() {
    let server = TestServer::start().await;
    for name in ["a.tmp", "link", "data", "current", "index", "blobs", "repositories/link"] {
        for tag in ["x.tmp", "link", "current", "index", "_uploads", "startedat"] {
            let body = empty_index(tag);
            server.push_manifest(name, tag, OCI_INDEX, body.clone()).await.expect(201);
            assert_eq!(
                server.get(&format!("/v2/{name}/manifests/{tag}")).await.expect(200).text(),
                body
            );
        }
        let tags = server.get(&format!("/v2/{name}/tags/list")).await.expect(200).json();
        assert_eq!(tags["tags"].as_array().unwrap().len(), 6, "{tags}");
        assert!(server.get("/v2/_catalog").await.expect(200).text().contains(name));
    }
}

/// A mount of an unknown blob becomes an upload (end-11); it must not find a file elsewhere.
#[tokio::test]
async fn sources_of_a_mount_cannot_leave_the_tree() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    for from in crooked() {
        let target = format!("/v2/to/blobs/uploads/?mount={}&from={from}", image.layer);
        let answer = ask(&server, "POST", &target, "").await;
        assert!(raw::status(&answer).is_none_or(|status| status != 201), "{from}: {answer}");
        let up = format!("/v2/to/blobs/uploads/?mount={}&from=to/../app", image.layer);
        let answer = ask(&server, "POST", &up, "").await;
        assert_eq!(raw::status(&answer), Some(202), "{answer}");
    }
    server.get(&format!("/v2/to/blobs/{}", image.layer)).await.expect(404);
    let made = files(&server.tree()).into_iter().filter(|file| file.contains("/to/"));
    let made: Vec<_> = made.filter(|file| !file.contains("repositories/to/_uploads/")).collect();
    assert!(made.is_empty(), "{made:?}");
}

#[tokio::test]
async fn repository_cannot_reach_into_another_by_its_own_folders() {
    let server = TestServer::start().await;
    let image = image(&server, "app", "latest").await;
    for name in
        ["app/_manifests", "app/_layers/sha256", "app/_uploads", "_catalog", "app/_referrers"]
    {
        for target in [
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/manifests/latest"),
            format!("/v2/{name}/blobs/{}", image.layer),
        ] {
            server.get(&target).await.expect_error(400, ErrorCode::NameInvalid);
        }
    }
}

/// Two users, of whom the second is `bob`.
async fn with_bob() -> TestServer {
    let server = TestServer::start().await;
    let users = server.folder().join("htpasswd");
    let alice = fs::read_to_string(&users).unwrap();
    crate::support::server::write_user(&users, "bob", "secret");
    let bob = fs::read_to_string(&users).unwrap();
    fs::write(&users, alice + &bob).unwrap();
    server.app().reload().await;
    server
}

async fn as_user(
    server: &TestServer,
    user: &str,
    method: &str,
    target: &str,
    body: &str,
) -> Answer {
    let password = if user == USER { PASSWORD } else { "secret" };
    let request = server.anonymous(method, target).basic_auth(user, Some(password));
    request.body(body.to_owned()).answer().await
}

/// Every request to a session gets the response for an unknown one, and the session is unchanged.
async fn assert_unknown_to(server: &TestServer, user: &str, session: &str, repository: &str) {
    let foreign = session.replacen("/v2/app/", &format!("/v2/{repository}/"), 1);
    let close = closing(&foreign, &digest("abcd"));
    for (method, target, body) in [
        ("GET", &foreign, ""),
        ("HEAD", &foreign, ""),
        ("PATCH", &foreign, "evil"),
        ("PUT", &close, ""),
        ("PUT", &close, "evil"),
        ("DELETE", &foreign, ""),
    ] {
        let answer = as_user(server, user, method, target, body).await;
        let asked = format!("{user} {method} {target}");
        assert_eq!(answer.status, 404, "{asked}: {answer:?}");
        if method != "HEAD" {
            answer.expect_error(404, ErrorCode::BlobUploadUnknown);
        }
    }
    let status = as_user(server, USER, "GET", session, "").await.expect(204);
    assert_eq!(status.header("range"), "0-3");
}

async fn session(server: &TestServer) -> String {
    let location = server.open_upload("app").await;
    server.patch(&location, None, "abcd").await.expect(202);
    location.strip_prefix(&server.base).unwrap().to_owned()
}

#[tokio::test]
async fn session_of_another_repository_is_unknown_before_and_after_a_restart() {
    let mut server = with_bob().await;
    server.push_blob("other", "x").await;
    let session = session(&server).await;
    for restarted in [false, true] {
        for user in [USER, "bob"] {
            for repository in ["other", "app/sub", "nowhere"] {
                assert_unknown_to(&server, user, &session, repository).await;
            }
        }
        if !restarted {
            server = server.restart().await;
        }
    }
    server.put(&closing(&session, &digest("abcd")), "").await.expect(201);
}

/// A session belongs to the user who opened it: to others it must be unknown.
#[tokio::test]
async fn session_of_another_user_is_unknown() {
    let server = with_bob().await;
    let session = session(&server).await;
    assert_unknown_to(&server, "bob", &session, "app").await;
    server.put(&closing(&session, &digest("abcd")), "").await.expect(201);
}

/// The owner of a session must be known after a restart as well.
#[tokio::test]
async fn session_of_another_user_is_unknown_after_a_restart() {
    let server = with_bob().await;
    let session = session(&server).await;
    let server = server.restart().await;
    assert_unknown_to(&server, "bob", &session, "app").await;
    server.put(&closing(&session, &digest("abcd")), "").await.expect(201);
}

/// A request for a session in another repository must not disturb its writer.
#[tokio::test]
async fn upload_in_progress_is_not_interrupted_from_another_repository() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for method in ["GET", "PATCH", "DELETE"] {
        let server = TestServer::start().await;
        let location = server.open_upload("app").await;
        let path = location.strip_prefix(&server.base).unwrap();
        let head = format!("PATCH {path}\r\ncontent-length: 8\r\nexpect: 100-continue\r\n");
        let mut writer = server.begin(&head).await;
        writer.read_exact(&mut [0; 25]).await.unwrap();
        writer.write_all(b"abcd").await.unwrap();
        let foreign = path.replacen("/v2/app/", "/v2/other/", 1);
        let answer = server.request(method, &foreign).body("x").answer().await;
        answer.expect_error(404, ErrorCode::BlobUploadUnknown);
        let _ = writer.write_all(b"efgh").await;
        let mut answer = [0; 12];
        let _ = writer.read_exact(&mut answer).await;
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 202", "{method}");
        server.put(&closing(&location, &digest("abcdefgh")), "").await.expect(201);
    }
}
