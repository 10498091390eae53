use futures_util::future::join_all;

use super::*;
use crate::gate::htpasswd::Formats;

const HERE: [u8; 4] = [192, 0, 2, 1];
const ELSEWHERE: [u8; 4] = [198, 51, 100, 1];

fn users(text: &str) -> Htpasswd {
    Htpasswd::parse(text.as_bytes(), Formats::WithLegacy)
}

/// The only user, with a salt of its own at each call.
fn ann(password: &str) -> Htpasswd {
    users(&format!("ann:{}\n", bcrypt::hash(password, 4).unwrap()))
}

fn verifier() -> Arc<Verifier> {
    Arc::new(Verifier::new(&ann("right"), &HtpasswdOptions::default()).unwrap())
}

/// Credentials from `user:password`.
fn credentials(text: &str) -> Credentials {
    Credentials::new(Zeroizing::new(text.as_bytes().to_owned())).unwrap()
}

/// Verifies credentials on a new connection.
async fn verify(verifier: &Arc<Verifier>, from: [u8; 4], text: &str) -> Result<Outcome, Refusal> {
    verifier.verify(&credentials(text), from.into(), &Session::default()).await
}

/// Takes all turns, so that every other caller waits.
async fn all_turns(verifier: &Verifier) -> Vec<Turn> {
    let caller = Caller { network: Network::of([203, 0, 113, 1].into()), known: false };
    let mut turns = Vec::new();
    for number in 0..Verifier::slots() {
        match verifier.queue.wait(caller, [u8::try_from(number).unwrap(); 32]).await {
            Ok(Waited::Turn(turn)) => turns.push(turn),
            other => panic!("{other:?}"),
        }
    }
    turns
}

/// The result for ann's password when the file changes while bcrypt runs.
async fn verified_while_it_becomes(after: &Htpasswd) -> Result<Outcome, Refusal> {
    let verifier = verifier();
    let turns = all_turns(&verifier).await;
    let before = verifier.waiting();
    let (verified, ()) = tokio::join!(biased; verify(&verifier, HERE, "ann:right"), async {
        assert_eq!(verifier.waiting(), before + 1, "the old line is being checked");
        verifier.set_users(after);
        drop(turns);
    });
    verified
}

#[tokio::test]
async fn line_changed_during_a_check_decides() {
    assert_eq!(verified_while_it_becomes(&ann("right")).await, Ok(Outcome::Bcrypt));
    let refused = Err(Refusal::Unauthenticated);
    assert_eq!(verified_while_it_becomes(&ann("another")).await, refused);
    assert_eq!(verified_while_it_becomes(&users("")).await, refused);
}

#[tokio::test]
async fn check_that_ten_thousand_join_keeps_few_waiting_and_refuses_the_others_as_busy() {
    let verifier = verifier();
    let turns = all_turns(&verifier).await;
    let before = verifier.waiting();
    let sessions: Vec<_> = (0..50).map(|_| Session::default()).collect();
    let wrong = credentials("ann:wrong");
    let joining = (0..10_000)
        .map(|nth| verifier.verify(&wrong, HERE.into(), &sessions[nth % sessions.len()]));
    let (joined, ()) = tokio::join!(biased; join_all(joining), async {
        let waiting = verifier.waiting() - before;
        assert!((1..=64).contains(&waiting), "{waiting}");
        // Other networks have places of their own.
        drop(turns);
        assert_eq!(verify(&verifier, ELSEWHERE, "ann:right").await, Ok(Outcome::Bcrypt));
    });
    let busy = joined.iter().filter(|outcome| **outcome == Err(BUSY)).count();
    let wrong = joined.iter().filter(|outcome| **outcome == Err(Refusal::Unauthenticated)).count();
    assert_eq!(busy + wrong, 10_000);
    assert!((1..=64).contains(&wrong), "{wrong}");
    assert_eq!(verifier.runs(), 2, "one for all that joined");
    assert_eq!(verifier.waiting(), 0);
}

#[tokio::test]
async fn connection_that_is_not_authenticated_has_sixteen_waiting_requests() {
    let verifier = verifier();
    let turns = all_turns(&verifier).await;
    let right = credentials("ann:right");
    let session = Session::default();
    let asking = (0..20).map(|_| verifier.verify(&right, HERE.into(), &session));
    let (answers, ()) = tokio::join!(biased; join_all(asking), async { drop(turns) });
    let busy = answers.iter().filter(|answer| **answer == Err(BUSY)).count();
    assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), busy), (16, 4));
    // Now it is authenticated.
    verifier.verified.invalidate_all();
    let turns = all_turns(&verifier).await;
    let asking = (0..20).map(|_| verifier.verify(&right, HERE.into(), &session));
    let (answers, ()) = tokio::join!(biased; join_all(asking), async { drop(turns) });
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let attempts =
        verifier.throttle.check(&Claim::new(HERE.into(), verifier.keyed_hash(&[b"ann"])));
    assert_eq!(attempts, Ok(()), "unchecked passwords do not count");
}

#[tokio::test]
async fn equal_wrong_credentials_count_once_and_cost_one_bcrypt_until_the_line_changes() {
    let verifier = verifier();
    let refused = Err(Refusal::Unauthenticated);
    for _ in 0..50 {
        assert_eq!(verify(&verifier, HERE, "ann:old").await, refused);
        assert_eq!(verify(&verifier, HERE, "nobody:old").await, refused);
    }
    assert_eq!(verifier.runs(), 2);
    // From elsewhere nothing shows that it was tried before.
    assert_eq!(verify(&verifier, ELSEWHERE, "ann:old").await, refused);
    assert_eq!(verifier.runs(), 3);
    for guess in 0..9 {
        assert_eq!(verify(&verifier, HERE, &format!("ann:{guess}")).await, refused);
    }
    let throttled = verify(&verifier, HERE, "ann:right").await;
    assert!(matches!(throttled, Err(Refusal::Throttled { .. })), "{throttled:?}");

    let verifier = self::verifier();
    assert_eq!(verify(&verifier, HERE, "ann:new").await, refused);
    verifier.set_users(&ann("new"));
    assert_eq!(verify(&verifier, HERE, "ann:new").await, Ok(Outcome::Bcrypt));
}

#[tokio::test]
async fn authenticated_connection_is_served_while_its_address_is_throttled() {
    let verifier = verifier();
    let right = credentials("ann:right");
    let session = Session::default();
    let again = || verifier.verify(&right, HERE.into(), &session);
    assert_eq!(again().await, Ok(Outcome::Bcrypt));
    for guess in 0..10 {
        let _ = verify(&verifier, HERE, &format!("ann:{guess}")).await;
    }
    let throttled = |answer: Result<Outcome, Refusal>| {
        assert!(matches!(answer, Err(Refusal::Throttled { .. })), "{answer:?}");
    };
    throttled(verify(&verifier, HERE, "ann:right").await);
    assert_eq!(again().await, Ok(Outcome::Memory));
    verifier.verified.invalidate_all();
    assert_eq!(again().await, Ok(Outcome::Bcrypt), "it does not depend on the memory");
    // A guess over the same connection, as through a proxy, ends that.
    let guess = credentials("ann:guess");
    throttled(verifier.verify(&guess, HERE.into(), &session).await);
    throttled(again().await);

    // A proven connection is refused, too, once the file has no such password.
    let verifier = self::verifier();
    let session = Session::default();
    assert_eq!(verifier.verify(&right, HERE.into(), &session).await, Ok(Outcome::Bcrypt));
    for after in [ann("another"), users("")] {
        verifier.set_users(&after);
        let answer = verifier.verify(&right, HERE.into(), &session).await;
        assert_eq!(answer, Err(Refusal::Unauthenticated));
    }
}

#[tokio::test]
async fn check_whose_client_has_disconnected_is_counted() {
    let verifier = verifier();
    for guess in 0..10 {
        let text = format!("ann:{guess}");
        let mut asking = Box::pin(verify(&verifier, HERE, &text));
        while verifier.runs() <= guess {
            let _ = futures_util::poll!(&mut asking);
            tokio::task::yield_now().await;
        }
        drop(asking);
    }
    let answer = verify(&verifier, HERE, "ann:right").await;
    assert!(matches!(answer, Err(Refusal::Throttled { .. })), "{answer:?}");
}

#[tokio::test]
async fn passwords_that_are_not_text_are_compared_as_bytes() {
    let hash = bcrypt::hash(b"gr\xfc\xdfe", 4).unwrap();
    let file = users(&format!("ann:{hash}\n\u{fffd}:{hash}\n"));
    let verifier = Arc::new(Verifier::new(&file, &HtpasswdOptions::default()).unwrap());
    let ask = async |pair: &[u8]| {
        let credentials = Credentials::new(Zeroizing::new(pair.to_owned())).unwrap();
        verifier.verify(&credentials, HERE.into(), &Session::default()).await
    };
    assert_eq!(ask(b"ann:gr\xfc\xdfe").await, Ok(Outcome::Bcrypt));
    let refused = Err(Refusal::Unauthenticated);
    assert_eq!(ask("ann:grüße".as_bytes()).await, refused);
    // A name that is not UTF-8 is unknown, and costs as much as a user's.
    let runs = verifier.runs();
    assert_eq!(ask(b"\xff:gr\xfc\xdfe").await, refused);
    assert_eq!(verifier.runs(), runs + 1);
}
