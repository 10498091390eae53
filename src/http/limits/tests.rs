//! Tests of accounts and of paced bodies. The clock is tokio's, which the tests turn.

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

fn limits(options: Value) -> Arc<RateLimits> {
    Arc::new(RateLimits::new(&serde_json::from_value(options).unwrap()))
}

fn ann() -> Identity {
    Identity::User("ann".into())
}

fn admit(limits: &Arc<RateLimits>, who: &Identity, address: &str) -> Admission {
    limits.account(who, Some(address.parse().unwrap())).unwrap().request(who)
}

/// How many requests in a row pass at once.
fn at_once(limits: &Arc<RateLimits>, who: &Identity, address: &str) -> usize {
    (0..100).take_while(|_| matches!(admit(limits, who, address), Admission::Now)).count()
}

#[tokio::test(start_paused = true)]
async fn name_has_one_account_from_everywhere_and_addresses_have_their_own() {
    let limits =
        limits(json!({ "requests": "1/s", "burst": 4, "delay": { "secs": 0, "nanos": 0 } }));
    assert_eq!(at_once(&limits, &ann(), "192.0.2.1"), 4);
    assert_eq!(at_once(&limits, &ann(), "192.0.2.2"), 0);
    assert_eq!(at_once(&limits, &Identity::Token("ann".into()), "192.0.2.1"), 4);
    let nobody = Identity::Anonymous;
    assert_eq!(at_once(&limits, &nobody, "192.0.2.1"), 4);
    assert_eq!(at_once(&limits, &nobody, "2001:db8::1"), 4);
    assert_eq!(at_once(&limits, &nobody, "2001:db8::ffff"), 0, "a /64 is one client");
    assert_eq!(at_once(&limits, &nobody, "2001:db8:0:1::1"), 4);
    let Admission::Refused(limited) = admit(&limits, &ann(), "192.0.2.1") else { panic!() };
    assert_eq!(limited.to_string(), "ann may send 1 request a second");
    assert_eq!(limited.retry_after, Duration::from_secs(1));
    let Admission::Refused(limited) = admit(&limits, &nobody, "192.0.2.1") else { panic!() };
    assert_eq!(limited.to_string(), "this address may send 1 request a second");
}

#[tokio::test(start_paused = true)]
async fn request_over_the_rate_waits_for_its_turn_and_frees_its_place() {
    let limits =
        limits(json!({ "requests": "2/s", "burst": 1, "delay": { "secs": 2, "nanos": 0 } }));
    let began = Instant::now();
    assert_eq!(at_once(&limits, &ann(), "192.0.2.1"), 1);
    let mut holds = Vec::new();
    while let Admission::After(hold) = admit(&limits, &ann(), "192.0.2.1") {
        holds.push(hold);
    }
    // One more was taken by `at_once`.
    assert_eq!(holds.len(), 3, "those that pass within the delay");
    assert_eq!(limits.counts().waiting, 3);
    drop(holds.pop());
    assert_eq!(limits.counts().waiting, 2, "a client that hangs up leaves its place");
    for hold in holds {
        hold.wait().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1500));
    let LimitCounts { waiting, delayed, refused, .. } = limits.counts();
    assert_eq!((waiting, delayed, refused), (0, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_bounded() {
    let limits =
        limits(json!({ "requests": "1/s", "burst": 1, "delay": { "secs": 99999, "nanos": 0 } }));
    assert!(matches!(admit(&limits, &ann(), "192.0.2.1"), Admission::Now));
    let mut holds = Vec::new();
    while let Admission::After(hold) = admit(&limits, &ann(), "192.0.2.1") {
        holds.push(hold);
    }
    assert_eq!(holds.len(), MAX_WAITING);
    holds.clear();
    assert!(matches!(admit(&limits, &ann(), "192.0.2.1"), Admission::After(_)));
}

#[tokio::test(start_paused = true)]
async fn crowd_of_networks_pushes_out_no_name() {
    let limits =
        limits(json!({ "requests": "1/h", "burst": 1, "delay": { "secs": 0, "nanos": 0 } }));
    assert_eq!(at_once(&limits, &ann(), "192.0.2.1"), 1);
    for number in 0..3 * MAX_ACCOUNTS {
        let address = format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff);
        let account = limits.account(&Identity::Anonymous, Some(address.parse().unwrap()));
        drop(account.unwrap().request(&Identity::Anonymous));
    }
    limits.networks.run_pending_tasks();
    assert!(limits.networks.entry_count() <= MAX_ACCOUNTS);
    assert_eq!(at_once(&limits, &ann(), "192.0.2.1"), 0);
}

#[test]
fn there_is_no_account_without_a_limit() {
    let limits = limits(json!({ "burst": 7 }));
    assert!(limits.account(&ann(), None).is_none());
    limits.set(&serde_json::from_value(json!({ "download": "1MiB/s" })).unwrap());
    assert!(limits.account(&ann(), None).is_some());
}

/// Bodies of one account share its rate, and none gets all of it: their steps alternate.
#[tokio::test(start_paused = true)]
async fn bodies_of_one_account_share_its_rate() {
    let limits = limits(json!({ "download": "1MiB/s" }));
    let began = Instant::now();
    let account = limits.account(&ann(), None).unwrap();
    let body = |account: Account| {
        let content = Bytes::from(vec![7; 1 << 20]);
        let mut body = Paced::body(Body::from(content), account);
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(1 << 20));
        async move {
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= 32 * 1024);
                length += piece.len();
            }
            length
        }
    };
    let other = limits.account(&Identity::Token("ci".into()), None).unwrap();
    let (one, two, three) = tokio::join!(
        body(account.clone()).map(|length| (length, began.elapsed())),
        body(account).map(|length| (length, began.elapsed())),
        body(other).map(|length| (length, began.elapsed())),
    );
    assert_eq!((one.0, two.0, three.0), (1 << 20, 1 << 20, 1 << 20));
    // The clock stands still while nothing waits, so both bounds are exact but for its granularity.
    // The clock stands still while nothing waits. What passed at once, 100 ms at the rate, may be of one.
    let took =
        |time: Duration, expected: std::ops::Range<u128>| expected.contains(&time.as_millis());
    assert!(took(one.1, 1700..1910) && took(two.1, 1700..1910), "{one:?} {two:?}");
    assert!(one.1.max(two.1).as_millis() >= 1899, "{one:?} {two:?}");
    assert!(took(three.1, 899..910), "{three:?}");
    assert!(limits.counts().held_back > 0);
}

#[tokio::test(start_paused = true)]
async fn changed_rate_is_in_force_for_running_transfers() {
    let limits = limits(json!({ "upload": "1KiB/s" }));
    let account = limits.account(&ann(), None).unwrap();
    let upload = Upload::of(&account).unwrap();
    let began = Instant::now();
    upload.hold_back(10 * 1024).await;
    assert!(began.elapsed() >= Duration::from_secs(9));
    limits.set(&LimitsOptions::default());
    let began = Instant::now();
    upload.hold_back(1 << 30).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(Upload::of(&account).is_none());
}
