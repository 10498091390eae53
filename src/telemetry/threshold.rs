//! The least severe level that is written (`log.level`), which can change.
//!
//! tracing caches at each callsite whether its events are written, so that an event below the level
//! costs next to nothing. A change of the level rebuilds that cache.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer};

use super::Level;

/// The level. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Threshold(Arc<AtomicU8>);

const LEVELS: [(Level, LevelFilter); 4] = [
    (Level::Error, LevelFilter::ERROR),
    (Level::Warn, LevelFilter::WARN),
    (Level::Info, LevelFilter::INFO),
    (Level::Debug, LevelFilter::DEBUG),
];

impl Threshold {
    pub(super) fn new(level: Level) -> Self {
        Self(Arc::new(AtomicU8::new(level as u8)))
    }

    pub(super) fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    fn filter(&self) -> LevelFilter {
        let level = self.0.load(Ordering::Relaxed);
        LEVELS
            .into_iter()
            .find_map(|(known, filter)| (known as u8 == level).then_some(filter))
            .unwrap_or(LevelFilter::INFO)
    }
}

impl<S: Subscriber> Layer<S> for Threshold {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.filter() >= *metadata.level() {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.filter() >= *metadata.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter())
    }
}
