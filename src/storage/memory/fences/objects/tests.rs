//! Validations with a sweep before each of their steps.

use super::*;
use crate::storage::memory::{Mode, in_the_middle};

fn bytes() -> Fenced {
    Fenced { key: Key::new("bytes/data".to_owned()), stripe: Stripe::of(1) }
}

/// Enters before anything is swept, and validates.
async fn is_valid(memory: Memory, entered: &Memory) -> Validity {
    let on = Reliance { repository: None, bytes: Some(bytes()) };
    let Noted { repository, bytes, sweeps, .. } = *entered.note(on).await;
    Noted { memory, repository, bytes, sweeps }.validate(Part::All).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn validation_with_a_sweep_before_any_of_its_steps_is_stale_or_known_to_the_sweep() {
    for at in 0.. {
        let memory = Memory::new(Mode::Objects);
        let run = memory.begin_marked().await.unwrap();
        let validity = Mutex::new(None);
        let knows = std::sync::Arc::new(Mutex::new(false));
        let told = std::sync::Arc::clone(&knows);
        let validate = async |interrupted: Memory| {
            *locked(&validity) = Some(is_valid(interrupted, &memory).await);
        };
        let sweep = |_: Memory| async move {
            let sweep = run.sweep(bytes().stripe).await.unwrap();
            *locked(&told) = sweep.is_relied_on(&bytes().key);
            sweep.open().await.unwrap();
        };
        if !in_the_middle(&memory, at, validate, sweep).await {
            assert!(at > 2, "that was all?");
            break;
        }
        let validity = locked(&validity).take().unwrap();
        assert!(validity == Validity::Stale || *locked(&knows), "at {at}");
    }
}
