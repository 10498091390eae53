//! The rate of bytes of a caller (`http.limits.download`, `upload`). What is shown of the time is that a
//! transfer takes no less than its rate says.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use portcullis::{config::Config, http::LimitsOptions};

use crate::support::{
    Answered as _, TestServer,
    access::{by, guarded_with},
    digest, noise,
    server::{PASSWORD, USER, client},
};

/// The time that a caller's bytes may be ahead of the rate, and what a clock may be off.
const AHEAD: Duration = Duration::from_millis(110);

fn rates(download: Option<&str>, upload: Option<&str>) -> LimitsOptions {
    let rate = |rate: &str| rate.to_owned().try_into().unwrap();
    LimitsOptions {
        download: download.map(rate),
        upload: upload.map(rate),
        ..LimitsOptions::default()
    }
}

/// A connection may be idle for two seconds, and a response untaken for ten.
fn impatient(limits: LimitsOptions) -> impl FnOnce(&mut Config) {
    move |config| {
        let idle = Duration::from_secs(2);
        (config.http.server.idletimeout, config.http.api.idletimeout) = (idle, idle);
        config.http.api.limits = limits;
    }
}

/// One step takes longer than a response may be untaken.
#[tokio::test]
async fn throttled_pull_is_not_idle() {
    let server = TestServer::with(impatient(rates(Some("3KiB/s"), None))).await;
    let content = noise(1, 36 * 1024);
    let digest = server.push_blob("app", content.clone()).await;
    let began = Instant::now();
    let pulled = server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    assert!(pulled.body == content);
    let took = began.elapsed();
    assert!(took + AHEAD >= Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn throttled_push_is_not_idle() {
    let server = TestServer::with(impatient(rates(None, Some("3KiB/s")))).await;
    let content = noise(2, 24 * 1024);
    let digest = digest(&content);
    let began = Instant::now();
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    server.request("POST", &target).body(content.clone()).answer().await.expect(201);
    let took = began.elapsed();
    assert!(took + AHEAD >= Duration::from_secs(8), "{took:?}");
    let pulled = server.get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
    assert!(pulled.body == content);
}

/// The clients have a connection each, of either version of HTTP.
#[tokio::test]
async fn bytes_of_all_connections_of_a_caller_are_counted_together() {
    let server = TestServer::with(|config| {
        config.http.api.limits = rates(Some("256KiB/s"), Some("512KiB/s"));
    })
    .await;
    let began = Instant::now();
    let contents = [noise(3, 256 * 1024), noise(4, 256 * 1024), noise(5, 256 * 1024)];
    let digests = join_all(contents.clone().map(|content| server.push_blob("app", content))).await;
    let pushed = began.elapsed();
    assert!(pushed + AHEAD >= Duration::from_millis(1500), "{pushed:?}");
    let began = Instant::now();
    let pulls = digests.iter().zip(&contents).map(|(digest, content)| {
        let client = client();
        let url = format!("{}/v2/app/blobs/{digest}", server.base);
        async move {
            let pulled = client.get(url).basic_auth(USER, Some(PASSWORD)).answer().await;
            assert!(pulled.expect(200).body == content);
        }
    });
    join_all(pulls).await;
    let took = began.elapsed();
    assert!(took + AHEAD >= Duration::from_secs(3), "{took:?}");
}

/// A caller that has no share of the rate is held back by no one else's bytes: it gets its response while
/// those of the other are still held back for an hour.
#[tokio::test]
async fn bytes_of_one_caller_do_not_hold_back_another() {
    let rules = serde_json::json!([{ "who": "users", "may": "all" }]);
    let server = guarded_with(&rules, |config| {
        config.http.api.limits = rates(Some("1KiB/s"), None);
    })
    .await;
    let digest = server.push_blob("app", noise(6, 4 << 20)).await;
    let small = server.push_blob("app", "small").await;
    let pull = by(&server, "ann", "GET", &format!("/v2/app/blobs/{digest}")).send().await.unwrap();
    assert_eq!(pull.status(), 200);
    let other = by(&server, "bob", "GET", &format!("/v2/app/blobs/{small}")).answer().await;
    assert_eq!(other.expect(200).text(), "small");
    drop(pull);
}
