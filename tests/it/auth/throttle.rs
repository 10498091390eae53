//! Password guessing: the limits, their effect on other clients, and the timing of responses.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    time::{Duration, Instant},
};

use portcullis::{
    config::Config,
    gate::{
        self, Gate, HtpasswdOptions, Policy, Recalled, Refusal, Session, ThrottleOptions, htpasswd,
        tokens::deploy::{DeployTokens, Secret},
    },
    http,
    oci::ErrorCode,
};

use crate::support::{
    Answer, Answered as _, TestServer,
    raw::basic,
    server::{self, PASSWORD, USER, trusting_this_machine, write_user},
    timing::assert_indistinguishable,
};

const HERE: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.7";

/// Allows three wrong passwords of a user, and eight of all users, from one address.
fn strict(config: &mut Config) {
    let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
    options.throttle = ThrottleOptions {
        window: Duration::from_secs(3600),
        failures: 3,
        addressfailures: 8,
        userfailures: 100,
    };
}

/// Sends a request as a user from an address, through a trusted proxy.
async fn ask(server: &TestServer, from: &str, user: &str, password: &str) -> Answer {
    let request = server.anonymous("GET", "/v2/").header("x-forwarded-for", from);
    request.basic_auth(user, Some(password)).answer().await
}

fn assert_throttled(answer: Answer) {
    let answer = answer.expect_error(429, ErrorCode::TooManyRequests);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert!(answer.headers.get("www-authenticate").is_none());
}

#[tokio::test]
async fn throttled_address_has_no_password_checked_and_right_ones_work_from_elsewhere() {
    let server = TestServer::with(strict).await;
    // She was let in from this address before; that does not help a client that guesses here.
    ask(&server, HERE, USER, PASSWORD).await.expect(200);
    for guess in 0..3 {
        ask(&server, HERE, USER, &format!("wrong {guess}")).await.expect(401);
    }
    let runs = server.app().gate().verifications();
    for password in ["wrong 0", "another", PASSWORD] {
        assert_throttled(ask(&server, HERE, USER, password).await);
    }
    assert_eq!(server.app().gate().verifications(), runs, "bcrypt ran");
    ask(&server, ELSEWHERE, USER, PASSWORD).await.expect(200);
    ask(&server, ELSEWHERE, USER, "wrong").await.expect(401);
    // Another user of this address is still let in.
    ask(&server, HERE, "nobody", "wrong").await.expect(401);
}

/// A machine with an old password that tries it all day; containerd tries each five times.
#[tokio::test]
async fn repeated_old_password_counts_once() {
    let server = TestServer::with(strict).await;
    for _ in 0..20 {
        ask(&server, HERE, USER, "old").await.expect(401);
        ask(&server, HERE, "gone", "old").await.expect(401);
    }
    assert_eq!(server.app().gate().verifications(), 2);
    ask(&server, HERE, USER, PASSWORD).await.expect(200);
    // When it becomes the right one, it is accepted.
    write_user(&server.folder().join("htpasswd"), USER, "old");
    server.app().reload().await;
    ask(&server, HERE, USER, "old").await.expect(200);
}

/// A user behind a NAT who works while another client there guesses.
#[tokio::test]
async fn authenticated_connection_is_served_while_its_address_is_throttled() {
    let server = TestServer::with(strict).await;
    let here = |client: reqwest::Client, password: String| {
        let request = client.get(format!("{}/v2/", server.base));
        async move { request.basic_auth(USER, Some(password)).answer().await }
    };
    let client = server::client();
    here(client.clone(), PASSWORD.to_owned()).await.expect(200);
    for guess in 0..3 {
        here(server::client(), format!("wrong {guess}")).await.expect(401);
    }
    assert_throttled(here(server::client(), PASSWORD.to_owned()).await);
    here(client.clone(), PASSWORD.to_owned()).await.expect(200);
    // It depends on the password file like any other connection.
    write_user(&server.folder().join("htpasswd"), USER, "new");
    server.app().reload().await;
    assert_throttled(here(client, PASSWORD.to_owned()).await);
}

#[tokio::test]
async fn ipv6_addresses_that_stand_for_an_ipv4_address_count_as_that_address() {
    for from in ["64:ff9b::192.0.2.1", "::ffff:192.0.2.1", "2002:c000:201::5"] {
        let server = TestServer::with(strict).await;
        for guess in 0..3 {
            ask(&server, from, USER, &format!("wrong {guess}")).await.expect(401);
        }
        assert_throttled(ask(&server, "192.0.2.1", USER, PASSWORD).await);
        ask(&server, "64:ff9b::192.0.2.2", USER, PASSWORD).await.expect(200);
    }
}

#[tokio::test]
async fn unknown_user_is_refused_like_a_known_one() {
    let server = TestServer::with(strict).await;
    for user in [USER, "nobody"] {
        let mut statuses = Vec::new();
        for guess in 0..5 {
            let password = format!("wrong {guess}");
            statuses.push(ask(&server, HERE, user, &password).await.status.as_u16());
        }
        assert_eq!(statuses, [401, 401, 401, 429, 429], "{user}");
    }
}

#[tokio::test]
async fn address_that_tries_many_users_is_refused_for_all() {
    let server = TestServer::with(strict).await;
    let from = |host| format!("2001:db8::{host}");
    for guess in 0..8 {
        ask(&server, &from(guess), &format!("user{guess}"), "wrong").await.expect(401);
    }
    assert_throttled(ask(&server, &from(99), USER, PASSWORD).await);
    ask(&server, "2001:db8:0:1::1", USER, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn thousand_guesses_at_once_cost_no_more_than_the_limit() {
    let server = TestServer::with(strict).await;
    let guesses = (0..1000).map(|guess| {
        let password = format!("guess {guess}");
        let server = &server;
        async move { ask(server, HERE, USER, &password).await.status.as_u16() }
    });
    let statuses = futures_util::future::join_all(guesses).await;
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(server.app().gate().verifications() <= 3);
}

/// A client of the user's that has an address of its own on this machine.
fn client_at(address: [u8; 4]) -> reqwest::Client {
    server::client_builder().local_address(IpAddr::from(address)).build().unwrap()
}

/// A new client does not wait for all the requests of one address.
#[tokio::test]
async fn guessing_at_full_rate_does_not_keep_other_addresses_from_logging_in() {
    let server = TestServer::with(|config| {
        let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
        // Turns off the limit that would stop it sooner, and the cache that would know the others.
        options.throttle.addressfailures = u32::MAX;
        options.cachettl = Duration::ZERO;
    })
    .await;
    // A cost at which guesses wait for each other.
    let hash = htpasswd::BcryptHash::new(PASSWORD, 8).unwrap();
    fs::write(server.folder().join("htpasswd"), format!("{USER}:{}\n", hash.as_str())).unwrap();
    server.app().reload().await;
    let base = &server.base;
    let ask = &async |client: &reqwest::Client, user: String, password: &str| {
        let request = client.get(format!("{base}/v2/"));
        request.basic_auth(user, Some(password)).answer().await
    };
    let waiting = || server.app().gate().waiting();
    let clients: Vec<_> = (0..12).map(|_| client_at([127, 0, 0, 2])).collect();
    let guessing = clients.iter().enumerate().flat_map(|(nth, client)| {
        (0..14).map(move |stream| async move {
            for guess in 0_u64.. {
                let user = format!("user {nth} {stream} {guess}");
                let answer = ask(client, user, "guess").await;
                assert!(matches!(answer.status.as_u16(), 401 | 429), "{answer:?}");
                // A client that gets 429 or 503 retries soon.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    let guessing = futures_util::future::join_all(guessing);
    let logins = async {
        while waiting() < 64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for nth in 1..=25 {
            let client = client_at([127, 0, 1, nth]);
            ask(&client, USER.to_owned(), PASSWORD).await.expect(200);
        }
    };
    tokio::select! {
        _ = guessing => unreachable!("it goes on for ever"),
        () = logins => {}
    }
    let outcomes: HashMap<_, _> = server.app().gate().outcomes().collect();
    assert!(outcomes["busy"] > 0, "the guesses had room for all of them: {outcomes:?}");
    assert_eq!(outcomes["bcrypt"], 25);
}

#[tokio::test]
async fn address_of_a_client_cannot_be_forged() {
    let untrusting = TestServer::with(|config| {
        strict(config);
        config.http.api.trustedproxies.clear();
    })
    .await;
    let statuses = async |server: &TestServer, from: fn(u8) -> String| {
        let mut statuses = Vec::new();
        for guess in 0..5 {
            let password = format!("wrong {guess}");
            statuses.push(ask(server, &from(guess), USER, &password).await.status.as_u16());
        }
        statuses
    };
    let throttled = [401, 401, 401, 429, 429];
    assert_eq!(statuses(&untrusting, |guess| format!("192.0.2.{guess}")).await, throttled);
    // The proxy appends the peer's address to the received header.
    for from in [
        |guess| format!("192.0.2.{guess}, 203.0.113.1"),
        |guess| format!("192.0.2.{guess}, 203.0.113.2, 127.0.0.1"),
        |guess| format!("192.0.2.{guess}, no address"),
        |guess| format!("192.0.2.{guess}, unknown"),
        |guess| format!("192.0.2.{guess}, 203.0.113.1:{}", 1000 + u16::from(guess)),
    ] {
        let server = TestServer::with(strict).await;
        assert_eq!(statuses(&server, from).await, throttled);
    }
    let trusting = TestServer::with(strict).await;
    assert_eq!(statuses(&trusting, |guess| format!("192.0.2.{guess}")).await, [401; 5]);
    assert_eq!(statuses(&trusting, |guess| format!("198.51.100.{guess}:4321")).await, [401; 5]);
}

/// By default; and through a trusted proxy that sets only one of the headers.
#[tokio::test]
async fn address_of_a_client_cannot_be_forged_by_headers_of_proxies() {
    let written = ("x-real-ip", "198.51.100.5");
    for (trusted, written, count) in [
        (http::Options::default().trustedproxies, None, 3),
        (trusting_this_machine(), Some(written), 3),
        (trusting_this_machine(), Some(("forwarded", "for=\"198.51.100.5:80\"")), 3),
    ] {
        for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            if written.is_some_and(|(own, _)| own == name) {
                continue;
            }
            let server = TestServer::with(|config| {
                strict(config);
                config.http.api.trustedproxies = trusted.clone();
            })
            .await;
            let mut wrong = 0;
            for guess in 0..5 {
                // The same password again would count once.
                let password = format!("wrong {guess}");
                let request = server.anonymous("GET", "/v2/").basic_auth(USER, Some(password));
                let chosen = format!("192.0.2.{guess}");
                let chosen = if name == "forwarded" { format!("for={chosen}") } else { chosen };
                let request = request.header(name, chosen);
                let request = match written {
                    Some((name, value)) => request.header(name, value),
                    None => request,
                };
                wrong += usize::from(request.answer().await.status == 401);
            }
            assert_eq!(wrong, count, "{written:?} {name}");
        }
    }
}

#[tokio::test]
async fn right_passwords_never_count_as_failures() {
    let server = TestServer::with(|config| {
        strict(config);
        let gate::Options::Htpasswd(options) = &mut config.auth else { unreachable!() };
        options.cachettl = Duration::ZERO;
    })
    .await;
    for _ in 0..20 {
        ask(&server, HERE, USER, PASSWORD).await.expect(200);
    }
    let at_once = (0..20).map(|_| ask(&server, HERE, USER, PASSWORD));
    for answer in futures_util::future::join_all(at_once).await {
        answer.expect(200);
    }
}

/// The duration of a refusal.
async fn refusal(gate: &Gate, user: &str, wrong: &str) -> Duration {
    let address: IpAddr = HERE.parse().unwrap();
    let value = basic(user, wrong);
    let begun = Instant::now();
    let session = Session::default();
    let credentials = http::basic::credentials(value.as_bytes());
    let recalled = gate.recall(credentials, Some(address), &session);
    let Recalled::Undecided(credentials) = recalled else { panic!("{user} is known") };
    let refused = gate.authenticate(&credentials, Some(address), &session).await;
    let took = begun.elapsed();
    assert_eq!(refused, Err(Refusal::Unauthenticated));
    took
}

async fn nothing_tells_apart(users: &[&str], file: &str, legacyformats: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    fs::write(&path, file).unwrap();
    let throttle = ThrottleOptions { window: Duration::ZERO, ..ThrottleOptions::default() };
    let options = HtpasswdOptions { path, throttle, legacyformats, ..HtpasswdOptions::default() };
    let (_, parsed) = gate::UserFile::open(&options).unwrap();
    assert_eq!(parsed.problems().len(), 1);
    let gate = Gate::htpasswd(&options, &parsed, Policy::everything()).unwrap();
    nothing_tells_apart_at(&gate, users, |round| format!("wrong {round}")).await;
}

/// As above, at a gate, for these wrong passwords.
async fn nothing_tells_apart_at(gate: &Gate, users: &[&str], wrong: fn(usize) -> String) {
    let measure = async |user: &&str, round| refusal(gate, user, &wrong(round)).await;
    assert_indistinguishable(users, measure).await;
}

/// A line with a hash that takes some milliseconds.
fn known() -> String {
    format!("known:{}\n", htpasswd::BcryptHash::new("right", 6).unwrap().as_str())
}

#[tokio::test]
async fn timing_does_not_tell_a_wrong_password_from_an_unknown_user() {
    let file = known() + "malformed:$2y$06$short\n";
    nothing_tells_apart(&["known", "unknown", "malformed"], &file, false).await;
}

#[tokio::test]
async fn timing_does_not_tell_a_quick_hash_from_any_other() {
    let file = known() + "quick:{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=\nmalformed:{SHA}short\n";
    nothing_tells_apart(&["known", "quick", "unknown", "malformed"], &file, true).await;
}

#[tokio::test]
async fn timing_does_not_tell_whether_a_token_exists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    fs::write(&path, known()).unwrap();
    let throttle = ThrottleOptions { window: Duration::ZERO, ..ThrottleOptions::default() };
    let options = HtpasswdOptions { path, throttle, ..HtpasswdOptions::default() };
    let (_, parsed) = gate::UserFile::open(&options).unwrap();
    let gate = Gate::htpasswd(&options, &parsed, Policy::everything()).unwrap();
    let line = |name: &str, expires: &str| {
        let digest = Secret::generate().unwrap().digest();
        format!("{name} sha256={digest} may=pull repositories=** expires={expires}\n")
    };
    let tokens = line("token", "never") + &line("expired", "2026-01-01") + "broken\n";
    gate.set_tokens(&DeployTokens::parse(tokens.as_bytes()));
    let users = ["known", "unknown", "token", "expired", "broken"];
    // Secrets of the right form, and passwords of another.
    let secret = |_| Secret::generate().unwrap().reveal().to_owned();
    nothing_tells_apart_at(&gate, &users, secret).await;
    nothing_tells_apart_at(&gate, &users, |round| format!("wrong {round}")).await;
}
