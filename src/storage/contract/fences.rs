//! What every backend must do to keep processes that take away apart from processes that rely.

use super::*;

/// More than any backend needs that has nothing to wait for.
const A_WHILE: Duration = Duration::from_millis(50);

pub(super) async fn all(storage: &dyn Storage, other: &dyn Storage) {
    let here = Processes { relies: storage, removes: storage };
    let apart = Processes { relies: storage, removes: other };
    for processes in [here, apart] {
        entry_into_an_open_fence_is_valid(processes).await;
        nothing_validates_that_was_closed_meanwhile(processes).await;
        nothing_enters_while_it_is_closed(processes).await;
        fence_is_closed_by_one_process_at_a_time(processes).await;
        sweep_knows_the_bytes_that_are_relied_on(processes).await;
        run_knows_the_bytes_that_were_relied_on_when_it_began(processes).await;
        run_knows_nothing_of_the_run_before(processes).await;
        run_that_ends_leaves_another_run_its_knowledge(processes).await;
        nothing_validates_that_was_swept_meanwhile(processes).await;
    }
}

/// Two processes on one storage, or one process in both parts.
#[derive(Clone, Copy)]
struct Processes<'a> {
    /// Enters fences.
    relies: &'a dyn Storage,
    /// Closes fences, and collects.
    removes: &'a dyn Storage,
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

async fn entry_into_an_open_fence_is_valid(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    let mut first = relies.fences().enter(reliance(1)).await.unwrap();
    let mut second = removes.fences().enter(reliance(1)).await.unwrap();
    drop(removes.fences().close(repository(2)).await.unwrap());
    for entered in [&mut first, &mut second] {
        assert_eq!(entered.validate(Part::Repository).await.unwrap(), Validity::Valid);
        assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    }
    assert!(!first.renew(&key("bytes-1/absent")).await.unwrap());
    put(relies, "bytes-1/data", b"").await;
    assert!(first.renew(&key("bytes-1/data")).await.unwrap());
}

async fn nothing_validates_that_was_closed_meanwhile(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    for part in [Part::All, Part::Repository] {
        let mut entered = relies.fences().enter(reliance(3)).await.unwrap();
        let mut closing = removes.fences().close(repository(3));
        match tokio::time::timeout(A_WHILE, &mut closing).await {
            Ok(closed) => {
                closed.unwrap().open().await.unwrap();
                assert_eq!(entered.validate(part).await.unwrap(), Validity::Stale);
            }
            Err(_) => {
                assert_eq!(entered.validate(part).await.unwrap(), Validity::Valid);
                // Others that enter meanwhile do not keep it waiting.
                let mut late = relies.fences().enter(reliance(3));
                assert!(tokio::time::timeout(A_WHILE, &mut late).await.is_err());
                drop(entered);
                closing.await.unwrap().open().await.unwrap();
                drop(late.await.unwrap());
            }
        }
        let mut again = relies.fences().enter(reliance(3)).await.unwrap();
        assert_eq!(again.validate(part).await.unwrap(), Validity::Valid);
    }
}

async fn nothing_enters_while_it_is_closed(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    for opens in [true, false] {
        let closed = removes.fences().close(repository(4)).await.unwrap();
        let mut entering = relies.fences().enter(reliance(4));
        assert!(tokio::time::timeout(A_WHILE, &mut entering).await.is_err());
        let own = Reliance { repository: None, bytes: Some(bytes(4)) };
        let mut inside = removes.fences().enter(own).await.unwrap();
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

async fn fence_is_closed_by_one_process_at_a_time(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    let closed = removes.fences().close(repository(5)).await.unwrap();
    let mut other = relies.fences().close(repository(5));
    assert!(tokio::time::timeout(A_WHILE, &mut other).await.is_err());
    closed.open().await.unwrap();
    drop(other.await.unwrap());
}

async fn sweep_knows_the_bytes_that_are_relied_on(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    for number in [6, 7] {
        put(relies, bytes(number).key.as_str(), b"old").await;
    }
    // More than the steps in which a file system counts time.
    tokio::time::sleep(A_WHILE).await;
    let run = removes.fences().begin_run().await.unwrap();
    let mut entered = relies.fences().enter(reliance(6)).await.unwrap();
    assert!(entered.renew(&bytes(6).key).await.unwrap());
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    for (number, relied_on) in [(6, true), (7, false)] {
        assert_eq!(keeps(removes, &*run, number).await, relied_on, "{number}");
    }
    run.end().await.unwrap();
}

/// Whether a run keeps bytes that no key led to when it looked.
async fn keeps(storage: &dyn Storage, run: &dyn Run, number: usize) -> bool {
    let Fenced { key, stripe } = bytes(number);
    let sweep = run.sweep(stripe).await.unwrap();
    let is_young = storage.modified(&key).await.unwrap().unwrap() >= run.began();
    let keeps = is_young || sweep.is_relied_on(&key);
    sweep.open().await.unwrap();
    keeps
}

async fn run_knows_the_bytes_that_were_relied_on_when_it_began(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    put(relies, bytes(9).key.as_str(), b"old").await;
    let mut entered = relies.fences().enter(reliance(9)).await.unwrap();
    assert!(entered.renew(&bytes(9).key).await.unwrap());
    // More than the steps in which a file system counts time.
    tokio::time::sleep(A_WHILE).await;
    let mut beginning = removes.fences().begin_run();
    match tokio::time::timeout(A_WHILE, &mut beginning).await {
        Ok(run) => {
            let run = run.unwrap();
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
            drop(entered);
            assert!(keeps(removes, &*run, 9).await);
            run.end().await.unwrap();
        }
        // The run looks at keys only when those that were inside have written theirs.
        Err(_) => {
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
            drop(entered);
            beginning.await.unwrap().end().await.unwrap();
        }
    }
}

async fn run_knows_nothing_of_the_run_before(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    put(relies, bytes(10).key.as_str(), b"old").await;
    let first = removes.fences().begin_run().await.unwrap();
    let mut entered = relies.fences().enter(reliance(10)).await.unwrap();
    assert!(entered.renew(&bytes(10).key).await.unwrap());
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    first.end().await.unwrap();
    // More than the steps in which a file system counts time.
    tokio::time::sleep(A_WHILE).await;
    let second = removes.fences().begin_run().await.unwrap();
    assert!(!keeps(removes, &*second, 10).await);
    second.end().await.unwrap();
}

async fn run_that_ends_leaves_another_run_its_knowledge(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    put(relies, bytes(11).key.as_str(), b"old").await;
    // More than the steps in which a file system counts time.
    tokio::time::sleep(A_WHILE).await;
    let first = relies.fences().begin_run().await.unwrap();
    let mut beginning = removes.fences().begin_run();
    let second = match tokio::time::timeout(A_WHILE, &mut beginning).await {
        Ok(second) => {
            first.end().await.unwrap();
            second.unwrap()
        }
        Err(_) => {
            first.end().await.unwrap();
            beginning.await.unwrap()
        }
    };
    let mut entered = relies.fences().enter(reliance(11)).await.unwrap();
    assert!(entered.renew(&bytes(11).key).await.unwrap());
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    assert!(keeps(removes, &*second, 11).await);
    second.end().await.unwrap();
}

async fn nothing_validates_that_was_swept_meanwhile(processes: Processes<'_>) {
    let Processes { relies, removes } = processes;
    let run = removes.fences().begin_run().await.unwrap();
    let mut entered = relies.fences().enter(reliance(8)).await.unwrap();
    let mut sweeping = run.sweep(bytes(8).stripe);
    let swept = tokio::time::timeout(A_WHILE, &mut sweeping).await;
    match swept {
        Ok(sweep) => {
            let mut entering = relies.fences().enter(reliance(8));
            assert!(tokio::time::timeout(A_WHILE, &mut entering).await.is_err());
            sweep.unwrap().open().await.unwrap();
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Stale);
            entered = entering.await.unwrap();
        }
        Err(_) => {
            assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
            drop(entered);
            (&mut sweeping).await.unwrap().open().await.unwrap();
            entered = relies.fences().enter(reliance(8)).await.unwrap();
        }
    }
    drop(sweeping);
    assert_eq!(entered.validate(Part::All).await.unwrap(), Validity::Valid);
    drop(entered);
    run.end().await.unwrap();
}
