//! The renewals of a host, with an authority of the tests and a clock that they turn.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{super::authority::Suggestion, *};

const HOST: &str = "registry.example.com";
const DIRECTORY: &str = "https://ca.example/dir";
const START: &str = "2026-01-01T00:00:00Z";

/// The state of the world.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

struct State {
    now: Timestamp,
    /// The challenges of the orders, in order, each with whether it replaces a certificate.
    orders: Vec<(Challenge, bool)>,
    /// The next answers; without one an order succeeds.
    failures: Vec<Failure>,
    suggestion: Result<Option<Suggestion>, Failure>,
    questions: usize,
    /// The lifetime of the certificates.
    lifetime: SignedDuration,
    put_in_force: usize,
    /// The name in the certificates, where it is not the one that is ordered.
    other_name: Option<&'static str>,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, time: SignedDuration) {
        let mut state = self.state();
        state.now = after(state.now, time);
    }

    fn orders(&self) -> usize {
        self.state().orders.len()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn fraction(&self) -> f64 {
        0.5
    }
}

#[async_trait]
impl Authority for World {
    async fn suggestion(&self, _: &CertificateDer<'static>) -> Result<Option<Suggestion>, Failure> {
        let mut state = self.state();
        state.questions += 1;
        state.suggestion.clone()
    }

    async fn order(&self, order: Order<'_>) -> Result<Issued, Failure> {
        let mut state = self.state();
        state.orders.push((order.challenge, order.replaces.is_some()));
        if !state.failures.is_empty() {
            return Err(state.failures.remove(0));
        }
        Ok(issue(state.other_name.unwrap_or(order.host), state.now, state.lifetime))
    }
}

fn issue(host: &str, now: Timestamp, lifetime: SignedDuration) -> Issued {
    let at = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = at(now);
    params.not_after = at(after(now, lifetime));
    let chain = params.self_signed(&key).unwrap().pem();
    Issued { key: Zeroizing::new(key.serialize_pem()), chain }
}

struct Set {
    _dir: TempDir,
    folder: Folder,
    world: World,
    renewals: Renewals,
}

impl Set {
    fn new() -> Self {
        Self::with(&[Challenge::TlsAlpn01, Challenge::Http01])
    }

    fn with(challenges: &[Challenge]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let world = World(Arc::new(Mutex::new(State {
            now: START.parse().unwrap(),
            orders: Vec::new(),
            failures: Vec::new(),
            suggestion: Ok(None),
            questions: 0,
            lifetime: days(90),
            put_in_force: 0,
            other_name: None,
        })));
        let counted = world.clone();
        let renewals = Renewals {
            folder: folder.clone(),
            hosts: vec![HOST.to_owned()],
            challenges: challenges.to_vec(),
            directory: DIRECTORY.to_owned(),
            authority: Box::new(world.clone()),
            clock: Box::new(world.clone()),
            put_in_force: Arc::new(move || counted.state().put_in_force += 1),
            hurry: Notify::new(),
        };
        Self { _dir: dir, folder, world, renewals }
    }

    /// Lets time pass until the next order, whenever that is; the times of both in minutes from the start.
    async fn until_next_order(&self, host: &mut Host) -> i64 {
        let before = self.world.orders();
        for _ in 0..10_000 {
            let next = self.renewals.tend(host).await;
            let mut state = self.world.state();
            if state.orders.len() > before {
                let start: Timestamp = START.parse().unwrap();
                return start.duration_until(state.now).as_mins();
            }
            let at_least = after(state.now, SignedDuration::from_secs(1));
            state.now = next.max(at_least);
        }
        panic!("no order");
    }
}

const fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

fn refusal(kind: &str) -> Failure {
    Failure {
        message: "no".to_owned(),
        cause: format!("urn:ietf:params:acme:error:{kind}"),
        retry_after: None,
    }
}

#[tokio::test]
async fn first_certificate_is_obtained_at_once_and_renewed_at_two_thirds() {
    let set = Set::new();
    let mut host = Host::new(HOST);
    assert_eq!(set.until_next_order(&mut host).await, 0);
    assert_eq!(set.world.state().put_in_force, 1);
    let first = set.folder.read(HOST).unwrap().unwrap();
    assert_eq!(set.until_next_order(&mut host).await, 60 * 24 * 60);
    assert_ne!(set.folder.read(HOST).unwrap().unwrap().certified.cert, first.certified.cert);
    assert_eq!(set.world.state().orders, [(Challenge::TlsAlpn01, false); 2]);
}

#[tokio::test]
async fn certificate_that_is_there_is_not_ordered_again() {
    let set = Set::new();
    let Issued { key, chain } = issue(HOST, START.parse().unwrap(), days(6));
    set.folder.write(HOST, &key, &chain).unwrap();
    let mut host = Host::new(HOST);
    // Half of six days.
    assert_eq!(set.until_next_order(&mut host).await, 3 * 24 * 60);
}

#[tokio::test]
async fn renewal_is_at_the_moment_that_the_authority_suggests_and_replaces_the_old_one() {
    let set = Set::new();
    let mut host = Host::new(HOST);
    set.until_next_order(&mut host).await;
    let day = |n| after(START.parse().unwrap(), days(n));
    let suggest = |start, end| {
        let window = Window { start: day(start), end: day(end) };
        let ask_again = SignedDuration::from_hours(6);
        set.world.state().suggestion = Ok(Some(Suggestion { window, ask_again }));
    };
    suggest(40, 42);
    assert!(
        set.renewals.tend(&mut host).await <= after(set.world.now(), SignedDuration::from_hours(6))
    );
    assert_eq!(host.due(DIRECTORY), day(41));
    // Another window: the authority is about to revoke the certificate.
    set.world.pass(SignedDuration::from_hours(6));
    suggest(0, 0);
    assert_eq!(set.until_next_order(&mut host).await, 6 * 60);
    assert_eq!(set.world.state().orders[1], (Challenge::TlsAlpn01, true));
    // A suggestion that would let the certificate expire.
    suggest(400, 401);
    let due = set.until_next_order(&mut host).await;
    assert_eq!(due, 6 * 60 + 81 * 24 * 60);
}

#[tokio::test]
async fn failed_question_for_the_window_leaves_the_lifetime_to_decide() {
    let set = Set::new();
    set.world.state().suggestion = Err(Failure::new("no answer"));
    set.world.state().lifetime = days(6);
    let mut host = Host::new(HOST);
    set.until_next_order(&mut host).await;
    assert_eq!(set.until_next_order(&mut host).await, 3 * 24 * 60);
    // Once an hour, and no more often.
    let questions = set.world.state().questions;
    assert!((70..=74).contains(&questions), "{questions}");
}

#[tokio::test]
async fn failed_orders_are_repeated_less_and_less_often() {
    let set = Set::new();
    set.world.state().failures = vec![Failure::new("no answer"); 6];
    let mut host = Host::new(HOST);
    let mut times = Vec::new();
    for _ in 0..7 {
        times.push(set.until_next_order(&mut host).await);
    }
    assert_eq!(times, [0, 1, 11, 71, 431, 791, 1151]);
    assert!(set.folder.read(HOST).unwrap().is_some());
    // No challenge has failed: all orders are for the same.
    assert!(set.world.state().orders.iter().all(|order| *order == (Challenge::TlsAlpn01, false)));
}

#[tokio::test]
async fn authority_decides_how_long_it_wants_to_be_left_alone() {
    let set = Set::new();
    let retry_after = Some(SignedDuration::from_mins(90));
    set.world.state().failures = vec![Failure { retry_after, ..refusal("rateLimited") }];
    let mut host = Host::new(HOST);
    set.until_next_order(&mut host).await;
    assert_eq!(set.until_next_order(&mut host).await, 90);
}

#[tokio::test]
async fn refused_challenge_is_followed_by_the_other_one() {
    let set = Set::new();
    set.world.state().failures = vec![refusal("connection"), refusal("unauthorized")];
    let mut host = Host::new(HOST);
    for _ in 0..3 {
        set.until_next_order(&mut host).await;
    }
    let challenges: Vec<_> = set.world.state().orders.iter().map(|order| order.0).collect();
    assert_eq!(challenges, [Challenge::TlsAlpn01, Challenge::Http01, Challenge::TlsAlpn01]);

    let set = Set::with(&[Challenge::Http01]);
    set.world.state().failures = vec![refusal("dns")];
    let mut host = Host::new(HOST);
    for _ in 0..2 {
        set.until_next_order(&mut host).await;
    }
    assert_eq!(set.world.state().orders, [(Challenge::Http01, false); 2]);
}

/// Whatever asks for it: SIGHUP, or a process that starts again and again.
#[tokio::test]
async fn no_more_than_four_orders_an_hour_are_made() {
    let set = Set::new();
    set.world.state().failures = vec![refusal("connection"); 100];
    let mut host = Host::new(HOST);
    for _ in 0..30 {
        host.hurry();
        set.renewals.tend(&mut host).await;
        host = Host::new(HOST);
        set.renewals.tend(&mut host).await;
    }
    assert_eq!(set.world.orders(), 4);
    set.world.pass(SignedDuration::from_hours(1));
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 5);
}

#[tokio::test]
async fn hurry_ends_a_pause_and_orders_nothing_that_is_not_due() {
    let set = Set::new();
    set.world.state().failures = vec![Failure::new("no answer")];
    let mut host = Host::new(HOST);
    set.renewals.tend(&mut host).await;
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 1);
    host.hurry();
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 2);
    host.hurry();
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 2);
}

#[tokio::test]
async fn old_certificate_stays_through_every_failure() {
    let set = Set::new();
    let Issued { key, chain } = issue(HOST, START.parse().unwrap(), days(90));
    set.folder.write(HOST, &key, &chain).unwrap();
    let old = set.folder.read(HOST).unwrap().unwrap().certified.cert.clone();
    let mut host = Host::new(HOST);
    set.world.state().failures = vec![Failure::new("no answer"); 2];
    set.world.state().other_name = Some("other.example");
    set.world.pass(days(100));
    for _ in 0..4 {
        set.until_next_order(&mut host).await;
        assert_eq!(set.folder.read(HOST).unwrap().unwrap().certified.cert, old);
    }
    assert_eq!(set.world.state().put_in_force, 0);
    set.world.state().other_name = None;
    set.until_next_order(&mut host).await;
    assert_ne!(set.folder.read(HOST).unwrap().unwrap().certified.cert, old);
}

#[tokio::test]
async fn message_is_logged_for_a_new_cause_and_daily_near_the_end() {
    let mut host = Host::new(HOST);
    let now: Timestamp = START.parse().unwrap();
    let one = Failure::new("one");
    assert!(host.is_worth_a_message(&one, now));
    host.logged = Some(Logged { cause: "one".to_owned(), at: now });
    assert!(host.is_worth_a_message(&Failure::new("two"), now));
    assert!(!host.is_worth_a_message(&one, after(now, SignedDuration::from_hours(23))));
    assert!(host.is_worth_a_message(&one, after(now, days(1))));
    let not_after = after(now, days(90));
    host.certificate = Some(Known {
        leaf: CertificateDer::from(Vec::new()),
        validity: Validity { not_before: now, not_after },
        directory: None,
    });
    assert!(!host.is_worth_a_message(&one, after(now, days(59))));
    assert!(host.is_worth_a_message(&one, after(now, days(60))));
}

#[tokio::test]
async fn certificate_of_another_process_is_noticed_and_its_order_waited_for() {
    let set = Set::new();
    let mut host = Host::new(HOST);
    let lock = set.folder.try_lock().unwrap();
    assert!(lock.is_some());
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 0);
    let Issued { key, chain } = issue(HOST, START.parse().unwrap(), days(90));
    set.folder.write(HOST, &key, &chain).unwrap();
    drop(lock);
    set.world.pass(LOOK);
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 0);
    assert!(host.certificate.is_some());
}

#[tokio::test]
async fn certificate_of_another_directory_is_replaced() {
    let set = Set::new();
    let mut host = Host::new(HOST);
    set.renewals.tend(&mut host).await;
    set.folder.note_directory(HOST, "https://staging.example/dir").unwrap();
    let mut host = Host::new(HOST);
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 2);
    let mut host = Host::new(HOST);
    set.renewals.tend(&mut host).await;
    assert_eq!(set.world.orders(), 2);
}

#[tokio::test(start_paused = true)]
async fn task_obtains_a_certificate_and_waits() {
    let set = Set::new();
    let ended = timeout(Duration::from_secs(300), set.renewals.run()).await;
    assert!(ended.is_err());
    assert_eq!(set.world.orders(), 1);
}
