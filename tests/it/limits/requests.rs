//! The rate of requests of a caller (`http.limits.requests`), and what happens over it.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use portcullis::{app::Change, config::Config, http::LimitsOptions, oci::ErrorCode};
use serde_json::json;

use crate::support::{
    Answered as _, TestServer,
    access::{NOBODY, by, guarded_with},
    exposition::{expose, number, scraped},
    raw::GUARD,
};

/// Requests in a time, with a burst. Over them a request waits for so long.
fn limits(rate: &str, burst: u32, delay: Duration) -> LimitsOptions {
    let requests = Some(rate.to_owned().try_into().unwrap());
    LimitsOptions { requests, burst: NonZeroU32::new(burst), delay, ..LimitsOptions::default() }
}

/// A server with these limits, whose users may do everything.
async fn limited(limits: LimitsOptions, change: impl FnOnce(&mut Config)) -> TestServer {
    guarded_with(&json!([{ "who": "users", "may": "all" }]), |config| {
        config.http.api.limits = limits;
        change(config);
    })
    .await
}

#[tokio::test]
async fn request_over_the_rate_is_refused_and_those_of_others_are_not() {
    let server = limited(limits("1/m", 5, Duration::ZERO), |_| {}).await;
    for _ in 0..5 {
        by(&server, "ann", "GET", "/v2/").answer().await.expect(200);
    }
    for (method, path) in [("GET", "/v2/"), ("POST", "/v2/app/blobs/uploads/"), ("GET", "/v2/x")] {
        let refused = by(&server, "ann", method, path).answer().await;
        let refused = refused.expect_error(429, ErrorCode::TooManyRequests);
        let message = &refused.json()["errors"][0]["message"];
        assert_eq!(message, "ann may send 1 request a minute");
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    by(&server, "bob", "GET", "/v2/").answer().await.expect(200);
    by(&server, NOBODY, "GET", "/v2/").answer().await.expect(401);
}

#[tokio::test]
async fn delay_lets_a_burst_through_at_the_rate() {
    let server = limited(limits("20/s", 1, 10 * GUARD), |_| {}).await;
    let began = Instant::now();
    let requests = (0..21).map(|_| by(&server, "ann", "GET", "/v2/").answer());
    for answer in join_all(requests).await {
        answer.expect(200);
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(990), "{took:?}");
}

#[tokio::test]
async fn callers_without_a_name_are_limited_by_address() {
    let server = limited(limits("1/m", 3, Duration::ZERO), |_| {}).await;
    let ask = |path: &'static str, from: &'static str| {
        by(&server, NOBODY, "GET", path).header("x-forwarded-for", from).answer()
    };
    for (path, status) in [("/", 200), ("/v2/", 401), ("/v2/app/tags/list", 401)] {
        ask(path, "192.0.2.1").await.expect(status);
    }
    for path in ["/", "/v2", "/v1/_ping", "/auth/token", "/v2/", "/v2/app/tags/list", "/other"] {
        let refused = ask(path, "192.0.2.1").await.expect_error(429, ErrorCode::TooManyRequests);
        assert_eq!(
            refused.json()["errors"][0]["message"],
            "this address may send 1 request a minute"
        );
    }
    ask("/v2/", "192.0.2.2").await.expect(401);
    // A name has an account of its own.
    let named = by(&server, "ann", "GET", "/v2/").header("x-forwarded-for", "192.0.2.1");
    named.answer().await.expect(200);
}

#[tokio::test]
async fn wrong_passwords_count_for_the_address_and_not_for_the_name() {
    let server = limited(limits("1/m", 2, Duration::ZERO), |_| {}).await;
    let guess = || {
        let request = server.anonymous("GET", "/v2/").basic_auth("ann", Some("wrong"));
        request.header("x-forwarded-for", "2001:db8::1").answer()
    };
    for _ in 0..2 {
        guess().await.expect(401);
    }
    guess().await.expect_error(429, ErrorCode::TooManyRequests);
    // The same /64.
    let other = by(&server, NOBODY, "GET", "/").header("x-forwarded-for", "2001:db8::2");
    other.answer().await.expect(429);
    for _ in 0..2 {
        by(&server, "ann", "GET", "/v2/").answer().await.expect(200);
    }
}

/// Waits until the server says so in its metrics.
async fn waiting_comes_to(server: &TestServer, expected: f64) {
    let coming = async {
        while number(&scraped(server).await, "portcullis_limited_waiting") != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, coming).await.unwrap();
}

#[tokio::test]
async fn request_that_waits_ends_with_its_client_and_with_the_server() {
    let server = limited(limits("1/h", 1, Duration::from_secs(9 * 3600)), |config| {
        expose(config);
        config.http.server.draintimeout = Duration::from_secs(1);
    })
    .await;
    server.get("/v2/").await.expect(200);
    let first = server.begin("GET /v2/\r\n").await;
    let second = server.begin("GET /v2/\r\n").await;
    waiting_comes_to(&server, 2.0).await;
    drop(first);
    waiting_comes_to(&server, 1.0).await;
    let text = scraped(&server).await;
    let outcome = |outcome| format!("portcullis_limited_requests_total{{outcome=\"{outcome}\"}}");
    assert_eq!(number(&text, &outcome("delayed")), 2.0);
    assert_eq!(number(&text, &outcome("refused")), 0.0);
    tokio::time::timeout(GUARD, server.stop()).await.expect("it waits for no request");
    drop(second);
}

#[tokio::test]
async fn changed_limits_are_in_force_after_a_reload() {
    let server = limited(LimitsOptions::default(), |_| {}).await;
    let mut config = server.config().clone();
    server.get("/v2/").await.expect(200);
    config.http.api.limits = limits("1/m", 1, Duration::ZERO);
    let reloaded = server.app().apply(&config).await;
    assert_eq!(reloaded.change("http.limits.requests"), Change::Applied);
    assert_eq!(reloaded.change("http.limits.connections"), Change::NeedsRestart);
    server.get("/v2/").await.expect(200);
    server.get("/v2/").await.expect(429);
    config.http.api.limits = LimitsOptions::default();
    server.app().apply(&config).await;
    server.get("/v2/").await.expect(200);
}
