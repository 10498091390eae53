//! Messages about clients, once an hour for each network.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::network::Network;

/// The time between two messages about one network.
const PERIOD: Duration = Duration::from_secs(3600);

/// The most networks whose last message is remembered. Beyond them, the messages are at `debug`.
const MAX_NETWORKS: usize = 1024;

/// The networks about whose clients the log has a message, with the time of each.
#[derive(Debug, Default)]
pub(super) struct Hourly(Mutex<HashMap<Network, Instant>>);

impl Hourly {
    /// Whether a message about the client at this address is due now.
    pub(super) fn is_due(&self, address: IpAddr, now: Instant) -> bool {
        let network = Network::of(address);
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PERIOD;
        if said.get(&network).is_some_and(is_recent) {
            return false;
        }
        if said.len() >= MAX_NETWORKS {
            said.retain(|_, at| is_recent(at));
            if said.len() >= MAX_NETWORKS {
                return false;
            }
        }
        said.insert(network, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_one_message_an_hour_and_the_memory_is_bounded() {
        let hourly = Hourly::default();
        let start = Instant::now();
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(hourly.is_due(client(1), start));
        assert!(!hourly.is_due(client(1), start + PERIOD / 2));
        assert!(hourly.is_due(client(1), start + PERIOD));

        let due = (2..3000).filter(|n| hourly.is_due(client(*n), start + PERIOD)).count();
        assert_eq!(due, MAX_NETWORKS - 1);
        assert!(hourly.is_due(client(5000), start + 2 * PERIOD));
    }
}
