use std::{cell::RefCell, pin::Pin, rc::Rc};

use futures_util::{FutureExt as _, poll};

use super::*;

/// A waiting caller.
type Waiting = Pin<Box<dyn Future<Output = Result<Waited, Full>>>>;

fn network(address: &str) -> Network {
    Network::of(address.parse().unwrap())
}

fn stranger(address: &str) -> Caller {
    Caller { network: network(address), known: false }
}

fn known(address: &str) -> Caller {
    Caller { network: network(address), known: true }
}

fn tag(number: u32) -> KeyedHash {
    let mut tag = [0; 32];
    tag[..4].copy_from_slice(&number.to_be_bytes());
    tag
}

/// A caller that has begun to wait.
async fn wait(queue: &Arc<Queue>, caller: Caller, credentials: u32) -> Waiting {
    let queue = Arc::clone(queue);
    let mut waiting: Waiting = Box::pin(async move { queue.wait(caller, tag(credentials)).await });
    // A finished future must not be polled again.
    if let std::task::Poll::Ready(done) = poll!(&mut waiting) {
        return Box::pin(std::future::ready(done));
    }
    waiting
}

async fn turn(queue: &Arc<Queue>, caller: Caller, credentials: u32) -> Turn {
    match wait(queue, caller, credentials).await.await {
        Ok(Waited::Turn(turn)) => turn,
        other => panic!("{other:?}"),
    }
}

/// Runs all checks one after the other, and returns their order.
async fn order<const N: usize>(first: Turn, waiting: [Waiting; N]) -> Vec<usize> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let each = waiting.into_iter().enumerate().map(|(number, waiting)| {
        let order = Rc::clone(&order);
        waiting.map(move |waited| {
            order.borrow_mut().push(number);
            if let Ok(Waited::Turn(turn)) = waited {
                turn.decide(false);
            }
        })
    });
    let each: Vec<_> = each.collect();
    first.decide(false);
    futures_util::future::join_all(each).await;
    order.take()
}

#[tokio::test]
async fn networks_take_turns() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("192.0.2.1"), 0).await;
    let waiting = [
        wait(&queue, stranger("192.0.2.1"), 1).await,
        wait(&queue, stranger("192.0.2.1"), 2).await,
        wait(&queue, stranger("192.0.2.1"), 3).await,
        wait(&queue, stranger("192.0.2.2"), 4).await,
        wait(&queue, stranger("192.0.2.3"), 5).await,
        wait(&queue, stranger("192.0.2.3"), 6).await,
    ];
    assert_eq!(order(first, waiting).await, [0, 3, 4, 1, 5, 2]);
    assert_eq!(queue.waiting(), 0);
}

#[tokio::test]
async fn networks_of_a_site_share_its_turns() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("192.0.2.1"), 0).await;
    let waiting = [
        wait(&queue, stranger("2001:db8:1:1::1"), 1).await,
        wait(&queue, stranger("2001:db8:1:1::1"), 2).await,
        wait(&queue, stranger("2001:db8:1:2::1"), 3).await,
        wait(&queue, stranger("2001:db8:2:1::1"), 4).await,
        wait(&queue, stranger("2001:db8:2:1::1"), 5).await,
    ];
    assert_eq!(order(first, waiting).await, [0, 3, 2, 4, 1]);
}

#[tokio::test]
async fn known_callers_go_first_and_do_not_starve_strangers() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("192.0.2.9"), 0).await;
    let waiting = [
        wait(&queue, stranger("192.0.2.1"), 1).await,
        wait(&queue, stranger("192.0.2.1"), 2).await,
        wait(&queue, known("192.0.2.1"), 3).await,
        wait(&queue, known("192.0.2.1"), 4).await,
        wait(&queue, known("192.0.2.2"), 5).await,
        wait(&queue, known("192.0.2.2"), 6).await,
    ];
    assert_eq!(order(first, waiting).await, [2, 4, 3, 0, 5, 1]);
}

#[tokio::test]
async fn equal_credentials_have_one_turn_wherever_they_wait() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("192.0.2.1"), 0).await;
    let running = wait(&queue, stranger("192.0.2.2"), 0).await;
    let one = wait(&queue, stranger("192.0.2.1"), 1).await;
    let same = wait(&queue, known("192.0.2.3"), 1).await;
    assert_eq!(queue.waiting(), 4);
    first.decide(true);
    assert!(matches!(running.await, Ok(Waited::Decided(true))));
    // The known caller goes first.
    let Ok(Waited::Turn(turn)) = same.await else { panic!("no turn") };
    turn.decide(false);
    assert!(matches!(one.await, Ok(Waited::Decided(false))));
    assert_eq!(queue.waiting(), 0);
}

#[tokio::test]
async fn caller_that_gives_up_leaves_nothing_behind() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("192.0.2.1"), 0).await;
    let joined = wait(&queue, stranger("192.0.2.1"), 0).await;
    let given_up = wait(&queue, stranger("192.0.2.1"), 1).await;
    let next = wait(&queue, stranger("192.0.2.1"), 2).await;
    let woken = wait(&queue, stranger("192.0.2.1"), 3).await;
    drop(given_up);
    drop(first);
    assert!(matches!(joined.await, Ok(Waited::Abandoned)), "it came to no result");
    let Ok(Waited::Turn(turn)) = next.await else { panic!("no turn") };
    turn.decide(true);
    // It has a turn and does not know it yet.
    drop(woken);
    let last = self::turn(&queue, stranger("192.0.2.1"), 4).await;
    drop(last);
    assert_eq!(queue.waiting(), 0);
    let state = queue.state();
    assert_eq!(state.free, 1);
    assert!(state.checks.is_empty());
    for class in [&state.known, &state.strangers] {
        assert!(class.lines.is_empty());
        assert!(class.places.networks.is_empty() && class.places.sites.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn wait_ends_before_clients_give_up() {
    let queue = Queue::new(1);
    let _running = turn(&queue, stranger("192.0.2.1"), 0).await;
    let begun = tokio::time::Instant::now();
    let waiting =
        [wait(&queue, stranger("192.0.2.1"), 0).await, wait(&queue, known("192.0.2.1"), 1).await];
    for waiting in waiting {
        assert!(matches!(waiting.await, Err(Full)));
    }
    assert_eq!(begun.elapsed(), MAX_WAIT);
    assert_eq!(queue.waiting(), 1, "the one that runs");
}

#[tokio::test]
async fn callers_have_a_bound_by_network_by_site_and_in_all() {
    let queue = Queue::new(1);
    let _running = turn(&queue, stranger("203.0.113.1"), 0).await;
    let mut waiting = Vec::new();
    let mut fill = async |address: String| {
        let before = queue.waiting();
        for _ in 0..1000 {
            waiting.push(wait(&queue, stranger(&address), 1).await);
        }
        queue.waiting() - before
    };
    assert_eq!(fill("192.0.2.1".to_owned()).await, 64);
    let site = [1, 2, 3, 4, 5].map(|network| format!("2001:db8:1:{network}::1"));
    let mut sum = 0;
    for address in site {
        sum += fill(address).await;
    }
    assert_eq!(sum, 256);
    for address in 2..10 {
        fill(format!("192.0.2.{address}")).await;
    }
    assert_eq!(queue.waiting(), 512);
    // Known callers have places of their own.
    let known = wait(&queue, known("192.0.2.1"), 2).await;
    assert_eq!(queue.waiting(), 513);
    drop((waiting, known));
    assert_eq!(queue.waiting(), 1);
}

#[tokio::test]
async fn network_that_wants_all_checks_pushes_out_only_its_own() {
    let queue = Queue::new(1);
    let first = turn(&queue, stranger("203.0.113.1"), 0).await;
    let mut greedy = Vec::new();
    for number in 1..=64 {
        greedy.push(wait(&queue, stranger("192.0.2.1"), number).await);
    }
    let mut others = Vec::new();
    for number in 0..40 {
        let caller = stranger(&format!("198.51.100.{number}"));
        others.push(wait(&queue, caller, 1000 + number).await);
    }
    let mut refused = 0;
    greedy.retain_mut(|waiting| {
        let pushed_out = matches!(waiting.now_or_never(), Some(Err(Full)));
        refused += usize::from(pushed_out);
        !pushed_out
    });
    assert_eq!(refused, 40, "each newcomer has the place of one");
    let more = wait(&queue, stranger("192.0.2.1"), 2000).await;
    assert!(matches!(more.now_or_never(), Some(Err(Full))), "it has most, so it gives way");
    // All others have a turn before the greedy one has two.
    first.decide(false);
    let mut turns = 0;
    for waiting in others {
        greedy.retain_mut(|waiting| match waiting.now_or_never() {
            Some(turn) => {
                turns += usize::from(turn.is_ok());
                false
            }
            None => true,
        });
        let Ok(Waited::Turn(turn)) = waiting.await else { panic!("no turn") };
        turn.decide(true);
    }
    assert!(turns <= 1, "{turns}");
}

/// Many callers come and go at the same time: never more checks run than there are slots, and all
/// places and slots are given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_slots_are_free_after_many_callers_have_come_and_gone() {
    let queue = Queue::new(2);
    let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut crowd = tokio::task::JoinSet::new();
    for number in 0..400_u32 {
        let queue = Arc::clone(&queue);
        let running = Arc::clone(&running);
        crowd.spawn(async move {
            let address = format!("192.0.2.{}", number % 7);
            let caller = Caller { network: network(&address), known: number % 3 == 0 };
            for round in 0..20 {
                let waiting = queue.wait(caller, tag((number + round) % 50));
                if number % 5 == 0 {
                    let _ = tokio::time::timeout(Duration::from_micros(50), waiting).await;
                } else if let Ok(Waited::Turn(turn)) = waiting.await {
                    let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert!(now < 2, "{now} run already");
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    if number % 2 == 0 {
                        turn.decide(true);
                    }
                }
            }
        });
    }
    crowd.join_all().await;
    assert_eq!(queue.waiting(), 0);
    let state = queue.state();
    assert_eq!(state.free, 2);
    assert!(state.checks.is_empty());
    assert!(state.known.lines.is_empty() && state.strangers.lines.is_empty());
}
