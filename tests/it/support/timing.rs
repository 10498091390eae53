//! Whether durations tell things apart: statistics in place of a time limit, since a busy machine affects
//! all measurements alike.

use std::time::Duration;

const WARM_UP: usize = 5;
const ROUNDS: usize = 40;
/// A difference by chance does not occur in each of these.
const ATTEMPTS: usize = 5;

/// The probability that one of `a` took longer than one of `b`: a half when they are
/// indistinguishable (Mann and Whitney's U, as a share).
fn longer(a: &[Duration], b: &[Duration]) -> f64 {
    let wins: f64 = a
        .iter()
        .flat_map(|a| {
            b.iter().map(move |b| if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 })
        })
        .sum();
    wins / (a.len() * b.len()) as f64
}

/// Measures each thing in turn, and fails when the durations tell two of them apart.
pub async fn assert_indistinguishable<T>(
    things: &[T],
    mut measure: impl AsyncFnMut(&T, usize) -> Duration,
) {
    let mut timed = async |rounds| {
        let mut times = vec![Vec::new(); things.len()];
        for round in 0..rounds {
            for (times, thing) in times.iter_mut().zip(things) {
                times.push(measure(thing, round).await);
            }
        }
        times
    };
    timed(WARM_UP).await;
    let mut attempts = Vec::new();
    for _ in 0..ATTEMPTS {
        let times = timed(ROUNDS).await;
        let pairs = (0..things.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let shares: Vec<_> = pairs.map(|(a, b)| longer(&times[a], &times[b])).collect();
        if shares.iter().all(|share| (0.3..=0.7).contains(share)) {
            return;
        }
        attempts.push(shares);
    }
    panic!("the times tell them apart: {attempts:?}");
}
