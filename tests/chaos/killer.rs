//! When the server dies: at a random moment, or while it makes the writes of a request, or as soon
//! as it has acknowledged them.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use testkit::{random::Random, server::Server};
use tokio::{sync::Notify, time};

use crate::tally::{Kind, Tally, add};

/// The percentage of aimed kills.
const AIMED: u64 = 75;
/// When the kill comes although no client begins the request that was aimed at.
const PATIENCE: Duration = Duration::from_secs(3);

/// A moment in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The request is about to be sent.
    Begin,
    /// The response has just arrived.
    Answer,
}

/// The state that the clients and the killer share.
#[derive(Debug, Default)]
pub(crate) struct Trigger {
    /// How many requests of a kind must reach a moment before the kill.
    aim: Mutex<Option<(Kind, Moment, u64)>>,
    hit: Notify,
    /// Set before the kill: a connection that breaks while it is not set is a fault.
    pulled: AtomicBool,
}

impl Trigger {
    /// A client reports the moment of a request.
    pub(crate) fn reached(&self, kind: Kind, moment: Moment) {
        let mut aim = self.aim.lock().unwrap();
        if let Some((aimed, at, left)) = aim.as_mut()
            && (*aimed, *at) == (kind, moment)
        {
            *left -= 1;
            if *left == 0 {
                *aim = None;
                self.hit.notify_one();
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
        (tally, living): (&Tally, Duration),
    ) -> Result<(), String> {
        time::sleep(living).await;
        if random.percent(AIMED) {
            let kind = *random.pick(&Kind::AIMED);
            let moment = *random.pick(&[Moment::Begin, Moment::Begin, Moment::Answer]);
            // Few deletions find their object, so the killer aims at the first ones.
            let rare = matches!(
                kind,
                Kind::DeleteBlob | Kind::DeleteManifest | Kind::DeleteRepository | Kind::DeleteTag
            );
            let nth = 1 + random.below(if rare { 2 } else { 6 });
            *self.aim.lock().unwrap() = Some((kind, moment, nth));
            if time::timeout(PATIENCE, self.hit.notified()).await.is_ok() {
                add(&tally.aimed, 1);
            }
            let within = match moment {
                // Anywhere in the request, also shortly after it.
                Moment::Begin => tally.usual(kind).as_micros().max(1000) * 5 / 4,
                // Work that should precede the response would happen soon after it.
                Moment::Answer => 400,
            };
            // The runtime's timer is too coarse for this.
            let delay = random.below(u64::try_from(within).unwrap_or(u64::MAX));
            tokio::task::block_in_place(|| thread::sleep(Duration::from_micros(delay)));
        } else {
            time::sleep(Duration::from_millis(random.below(500))).await;
        }
        self.pulled.store(true, Ordering::SeqCst);
        add(&tally.kills, 1);
        tokio::task::block_in_place(|| server.kill())
    }
}
