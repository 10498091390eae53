//! Health checks: their effect on the server, and the report of a failure.

use std::{fs, time::Duration};

use portcullis::{health, oci::ErrorCode};
use serde_json::Value;

use crate::support::{Answered as _, TestServer};

/// A hang guard: the awaited event takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(60);

const OFTEN: Duration = Duration::from_millis(100);

async fn until(server: &TestServer, status: u16) {
    let becoming = async {
        while server.get("/v2/").await.status != status {
            tokio::time::sleep(OFTEN).await;
        }
    };
    tokio::time::timeout(LIMIT, becoming).await.unwrap();
}

/// The status and the failing checks, from the debug listener.
async fn health(server: &TestServer) -> (u16, Value) {
    let addr = server.app().debug_addr().unwrap();
    let answer = reqwest::get(format!("http://{addr}/debug/health")).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn file_takes_the_server_out_of_service_while_it_exists() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("down");
    let server = TestServer::with(|config| {
        config.http.api.debug.addr = "127.0.0.1:0".to_owned();
        let file = health::FileOptions { file: file.clone(), interval: OFTEN, threshold: 2 };
        config.health.file = vec![file];
    })
    .await;
    server.get("/v2/").await.expect(200);
    assert_eq!(health(&server).await, (200, serde_json::json!({})));
    fs::write(&file, "").unwrap();
    until(&server, 503).await;
    for path in ["/", "/v2/", "/v2/_catalog", "/nothing"] {
        let answer = server.anonymous("GET", path).answer().await;
        let answer = answer.expect_error(503, ErrorCode::Unavailable);
        assert!(answer.text().contains("/debug/health"), "{}", answer.text());
    }
    let name = file.to_str().unwrap();
    assert_eq!(health(&server).await, (503, serde_json::json!({ name: "file exists" })));
    fs::remove_file(&file).unwrap();
    until(&server, 200).await;
}

#[tokio::test]
async fn missing_storage_takes_the_server_out_of_service_until_it_is_back() {
    let server = TestServer::with(|config| {
        config.http.api.debug.addr = "127.0.0.1:0".to_owned();
        let enabled = health::StorageOptions { enabled: true, interval: OFTEN, threshold: 0 };
        config.health.storagedriver = enabled;
    })
    .await;
    let (root, away) = (server.folder().join("data"), server.folder().join("away"));
    fs::rename(&root, &away).unwrap();
    until(&server, 503).await;
    let (status, failures) = health(&server).await;
    assert_eq!(status, 503);
    assert!(failures["storagedriver_filesystem"].is_string(), "{failures}");
    fs::rename(&away, &root).unwrap();
    until(&server, 200).await;
}
