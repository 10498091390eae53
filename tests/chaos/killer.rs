//! When the server dies: at a random moment, or shortly after a client has begun a request that is
//! a sequence of writes.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Notify, time};

use crate::{
    random::Random,
    server::Server,
    tally::{Kind, Tally, add},
};

/// How many kills of a hundred are aimed.
const AIMED: u64 = 75;
/// The kill comes at last, when no client begins what was aimed at.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the clients and the killer share.
#[derive(Debug, Default)]
pub(crate) struct Trigger {
    /// How many requests of a kind are to begin before the kill.
    aim: Mutex<Option<(Kind, u64)>>,
    begun: Notify,
    /// Set before the kill: a connection that breaks while it is not set is a fault.
    pulled: AtomicBool,
}

impl Trigger {
    /// A client is about to send a request.
    pub(crate) fn begins(&self, kind: Kind) {
        let mut aim = self.aim.lock().unwrap();
        if let Some((aimed, left)) = aim.as_mut()
            && *aimed == kind
        {
            *left -= 1;
            if *left == 0 {
                *aim = None;
                self.begun.notify_one();
            }
        }
    }

    /// Whether the server is dead or about to die.
    pub(crate) fn pulled(&self) -> bool {
        self.pulled.load(Ordering::SeqCst)
    }

    /// Waits for the moment and kills the server.
    pub(crate) async fn kill(
        &self,
        server: Server,
        random: &mut Random,
        tally: &Tally,
    ) -> Result<(), String> {
        if random.percent(AIMED) {
            let kind = *random.pick(&Kind::AIMED);
            *self.aim.lock().unwrap() = Some((kind, 1 + random.below(6)));
            if time::timeout(PATIENCE, self.begun.notified()).await.is_ok() {
                add(&tally.aimed, 1);
            }
            // Anywhere in the request, a little behind it too. The runtime's timer is too coarse.
            let usual = tally.usual(kind).as_micros().max(1000) * 5 / 4;
            let delay = random.below(u64::try_from(usual).unwrap_or(u64::MAX));
            tokio::task::block_in_place(|| thread::sleep(Duration::from_micros(delay)));
        } else {
            time::sleep(Duration::from_millis(random.below(500))).await;
        }
        self.pulled.store(true, Ordering::SeqCst);
        add(&tally.kills, 1);
        tokio::task::block_in_place(|| server.kill())
    }
}
