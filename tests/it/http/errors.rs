//! Errors: every code of the specification's table occurs, with its status and its shape.

use std::time::Duration;

use portcullis::oci::ErrorCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, closing, descriptor, empty_index, trifle},
    digest,
};

#[tokio::test]
async fn blob_unknown() {
    let server = TestServer::start().await;
    let target = format!("/v2/app/blobs/{}", digest("unknown"));
    server.push_blob("app", "known").await;
    server.get(&target).await.expect_error(404, ErrorCode::BlobUnknown);
    server.delete(&target).await.expect_error(404, ErrorCode::BlobUnknown);
}

/// Two concurrent requests on one session. The first keeps sending until the second has its
/// response.
#[tokio::test]
async fn blob_upload_invalid() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let path = location.strip_prefix(&server.base).unwrap();
    let head = format!("PATCH {path}\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n");
    let mut first = server.begin(&head).await;
    let mut asked = [0; 25];
    first.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    let mut sent = 0;
    let second = {
        let mut second = std::pin::pin!(server.patch(&location, None, "efgh"));
        loop {
            first.write_all(b"1\r\na\r\n").await.unwrap();
            sent += 1;
            tokio::select! {
                second = &mut second => break second,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    second.expect_error(409, ErrorCode::BlobUploadInvalid);
    first.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    let answer = server.put(&closing(&location, &digest("a".repeat(sent))), "").await;
    answer.expect(201);
}

/// A dead connection that was not closed does not lock its client out.
#[tokio::test]
async fn upload_of_a_silent_client_gives_way() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let path = location.strip_prefix(&server.base).unwrap();
    let head = format!("PATCH {path}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n");
    let mut first = server.begin(&head).await;
    first.read_exact(&mut [0; 25]).await.unwrap();
    server.patch(&location, None, "efgh").await.expect(202);
    server.put(&closing(&location, &digest("efgh")), "").await.expect(201);
}

#[tokio::test]
async fn blob_upload_unknown() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    server.delete(&location).await.expect(204);
    server.get(&location).await.expect_error(404, ErrorCode::BlobUploadUnknown);
}

#[tokio::test]
async fn digest_invalid() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let answer = server.put(&closing(&location, &digest("other")), "something").await;
    answer.expect_error(400, ErrorCode::DigestInvalid);
    let answer = server.push_manifest("app", &digest("other"), OCI_INDEX, empty_index("")).await;
    answer.expect_error(400, ErrorCode::DigestInvalid);
    let answer = server.push_manifest("app", "sha256:abc", OCI_INDEX, empty_index("")).await;
    answer.expect_error(400, ErrorCode::DigestInvalid);
}

#[tokio::test]
async fn manifest_blob_unknown() {
    let server = TestServer::start().await;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", "unknown"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", "unknown too")],
    });
    let answer = server.push_manifest("app", "latest", OCI_MANIFEST, manifest.to_string()).await;
    let answer = answer.expect_error(400, ErrorCode::ManifestBlobUnknown);
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 2);
    for bytes in ["unknown", "unknown too"] {
        assert!(answer.text().contains(&digest(bytes)), "{}", answer.text());
    }
}

#[tokio::test]
async fn manifest_invalid() {
    let server = TestServer::start().await;
    let answer = server.push_manifest("app", "latest", OCI_MANIFEST, "nonsense").await;
    answer.expect_error(400, ErrorCode::ManifestInvalid);
}

#[tokio::test]
async fn manifest_unknown() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    let answer = server.get("/v2/app/manifests/other").await;
    answer.expect_error(404, ErrorCode::ManifestUnknown);
}

#[tokio::test]
async fn name_invalid() {
    let server = TestServer::start().await;
    for name in ["UPPER", "a..b", "a___b", "-a", "a-", "a/-b", "a_/b", "a._b", "a%20b", "%C3%A4"] {
        for target in [
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/manifests/latest"),
            format!("/v2/{name}/blobs/{}", digest("x")),
            format!("/v2/{name}/referrers/{}", digest("x")),
        ] {
            let answer = server.get(&target).await;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
            answer.expect_error(400, ErrorCode::NameInvalid);
        }
        let answer = server.post(&format!("/v2/{name}/blobs/uploads/")).await;
        answer.expect_error(400, ErrorCode::NameInvalid);
    }
}

#[tokio::test]
async fn name_unknown() {
    let server = TestServer::start().await;
    let answer = server.get("/v2/nowhere/tags/list").await;
    answer.expect_error(404, ErrorCode::NameUnknown);
}

#[tokio::test]
async fn size_invalid() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let answer = server.patch(&location, Some("0-9"), "abc").await;
    answer.expect_error(400, ErrorCode::SizeInvalid);
}

#[tokio::test]
async fn range_invalid() {
    let server = TestServer::start().await;
    let location = server.open_upload("app").await;
    let answer = server.patch(&location, Some("5-7"), "abc").await;
    answer.expect_error(416, ErrorCode::RangeInvalid);
}

#[tokio::test]
async fn tag_invalid() {
    let server = TestServer::start().await;
    for tag in ["-bad", ".bad", "b%20d", "b%2Bd", &"x".repeat(129)] {
        let answer = server.push_manifest("app", tag, OCI_INDEX, empty_index("")).await;
        assert_eq!(answer.status, 400, "{tag}: {answer:?}");
        answer.expect_error(400, ErrorCode::TagInvalid);
    }
}

#[tokio::test]
async fn unauthorized() {
    let server = TestServer::start().await;
    for target in
        ["/v2/", "/v2/app/tags/list", "/v2/UPPER/tags/list", "/v2/nonsense", "/v2/_catalog"]
    {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
            let answer = server.anonymous(method, target).answer().await;
            assert_eq!(answer.status, 401, "{method} {target}");
            let answer = answer.expect_error(401, ErrorCode::Unauthorized);
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
        }
    }
}

#[tokio::test]
async fn unsupported() {
    let server = TestServer::with(|config| config.storage.delete.enabled = false).await;
    let digest = trifle(&server, "app", "latest").await;
    let target = format!("/v2/app/manifests/{digest}");
    server.delete(&target).await.expect_error(405, ErrorCode::Unsupported);
    for (method, target) in [
        ("POST", "/v2/"),
        ("DELETE", "/v2/_catalog"),
        ("PUT", "/v2/app/tags/list"),
        ("DELETE", "/v2/app/blobs/uploads/"),
    ] {
        let answer = server.request(method, target).answer().await;
        assert_eq!(answer.status, 405, "{method} {target}");
        let answer = answer.expect_error(405, ErrorCode::Unsupported);
        // RFC 9110 §15.5.6: an Allow header must list the supported methods.
        assert!(answer.headers.contains_key("allow"), "{method} {target}");
    }
}

#[tokio::test]
async fn options_of_an_endpoint_are_its_methods() {
    let server = TestServer::start().await;
    for (target, methods) in [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog", "GET, HEAD"),
        ("/v2/app/manifests/latest", "GET, HEAD, PUT, DELETE"),
        ("/v2/app/blobs/uploads/", "POST"),
    ] {
        let answer = server.request("OPTIONS", target).answer().await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.header("allow"), methods, "{target}");
    }
    let answer = server.request("OPTIONS", "/v2/app/nonsense").answer().await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn pagination_number_invalid() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for target in ["/v2/_catalog?n=-1", "/v2/app/tags/list?n=-1"] {
        let answer = server.get(target).await;
        answer.expect_error(400, ErrorCode::PaginationNumberInvalid);
    }
}

#[tokio::test]
async fn path_without_an_endpoint_gets_404() {
    let server = TestServer::start().await;
    trifle(&server, "app", "latest").await;
    for target in [
        "/v2/app",
        "/v2/app/",
        "/v2/app/nonsense/x",
        "/v2/manifests/latest",
        "/v3/",
        "/v2/app/blobs/",
    ] {
        let answer = server.get(target).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{target}: {answer:?}");
    }
}
