//! What every backend must do to keep processes that take away apart from processes that rely.

use super::*;

/// More than any backend needs that has nothing to wait for.
const A_WHILE: Duration = Duration::from_millis(50);

pub(super) async fn all(storage: &dyn Storage) {
    what_is_not_closed_is_valid(storage).await;
    nothing_validates_that_was_closed_meanwhile(storage).await;
    nothing_enters_while_it_is_closed(storage).await;
    one_closes_at_a_time(storage).await;
    a_sweep_knows_what_is_relied_on(storage).await;
    nothing_validates_that_was_swept_meanwhile(storage).await;
}

fn repository(number: usize) -> Fenced {
    Fenced { key: key(&format!("repository-{number}")), stripe: Stripe::of(number) }
}

fn bytes(number: usize) -> Fenced {
    Fenced { key: key(&format!("bytes-{number}/data")), stripe: Stripe::of(number) }
}

fn reliance(at: usize) -> Reliance {
    Reliance { repository: Some(repository(at)), bytes: Some(bytes(at)) }
}

async fn what_is_not_closed_is_valid(storage: &dyn Storage) {
    let fences = storage.fences();
    let mut first = fences.enter(reliance(1)).await.unwrap();
    let mut second = fences.enter(reliance(1)).await.unwrap();
    drop(fences.close(repository(2)).await.unwrap());
    for entered in [&mut first, &mut second] {
        assert_eq!(entered.validate(Part::Repository).await.unwrap(), Validity::Valid);
        assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    }
    assert!(!first.renew(&key("bytes-1/data")).await.unwrap());
    put(storage, "bytes-1/data", b"").await;
    assert!(first.renew(&key("bytes-1/data")).await.unwrap());
}

async fn nothing_validates_that_was_closed_meanwhile(storage: &dyn Storage) {
    let fences = storage.fences();
    for part in [Part::All, Part::Repository] {
        let mut entered = fences.enter(reliance(3)).await.unwrap();
        let mut closing = fences.close(repository(3));
        match tokio::time::timeout(A_WHILE, &mut closing).await {
            Ok(closed) => {
                closed.unwrap().open().await.unwrap();
                assert_eq!(entered.validate(part).await.unwrap(), Validity::Stale);
            }
            Err(_) => {
                assert_eq!(entered.validate(part).await.unwrap(), Validity::Valid);
                drop(entered);
                closing.await.unwrap().open().await.unwrap();
            }
        }
        let mut again = fences.enter(reliance(3)).await.unwrap();
        assert_eq!(again.validate(part).await.unwrap(), Validity::Valid);
    }
}

async fn nothing_enters_while_it_is_closed(storage: &dyn Storage) {
    let fences = storage.fences();
    for opens in [true, false] {
        let closed = fences.close(repository(4)).await.unwrap();
        let mut entering = fences.enter(reliance(4));
        assert!(tokio::time::timeout(A_WHILE, &mut entering).await.is_err());
        let own = Reliance { repository: None, bytes: Some(bytes(4)) };
        let mut inside = fences.enter(own).await.unwrap();
        assert_eq!(inside.validate(Part::All).await.unwrap(), Validity::Valid, "its own");
        drop(inside);
        match opens {
            true => closed.open().await.unwrap(),
            false => drop(closed),
        }
        let mut entered = entering.await.unwrap();
        assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    }
}

async fn one_closes_at_a_time(storage: &dyn Storage) {
    let fences = storage.fences();
    let closed = fences.close(repository(5)).await.unwrap();
    let mut other = fences.close(repository(5));
    assert!(tokio::time::timeout(A_WHILE, &mut other).await.is_err());
    closed.open().await.unwrap();
    drop(other.await.unwrap());
}

async fn a_sweep_knows_what_is_relied_on(storage: &dyn Storage) {
    let fences = storage.fences();
    for number in [6, 7] {
        put(storage, bytes(number).key.as_str(), b"old").await;
    }
    // More than the steps in which a file system counts time.
    tokio::time::sleep(A_WHILE).await;
    let run = fences.begin_run().await.unwrap();
    let mut entered = fences.enter(reliance(6)).await.unwrap();
    assert!(entered.renew(&bytes(6).key).await.unwrap());
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    for (number, relied_on) in [(6, true), (7, false)] {
        let Fenced { key, stripe } = bytes(number);
        let sweep = run.sweep(stripe).await.unwrap();
        let is_young = storage.modified(&key).await.unwrap().unwrap() >= run.began();
        assert_eq!(is_young || sweep.is_relied_on(&key), relied_on, "{number}");
        sweep.open().await.unwrap();
    }
    run.end().await.unwrap();
}

async fn nothing_validates_that_was_swept_meanwhile(storage: &dyn Storage) {
    let fences = storage.fences();
    let run = fences.begin_run().await.unwrap();
    let mut entered = fences.enter(reliance(8)).await.unwrap();
    let mut sweeping = run.sweep(bytes(8).stripe);
    let swept = tokio::time::timeout(A_WHILE, &mut sweeping).await;
    match swept {
        Ok(sweep) => {
            let mut entering = fences.enter(reliance(8));
            assert!(tokio::time::timeout(A_WHILE, &mut entering).await.is_err());
            sweep.unwrap().open().await.unwrap();
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Stale);
            entered = entering.await.unwrap();
        }
        Err(_) => {
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
            drop(entered);
            (&mut sweeping).await.unwrap().open().await.unwrap();
            entered = fences.enter(reliance(8)).await.unwrap();
        }
    }
    drop(sweeping);
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    run.end().await.unwrap();
}
