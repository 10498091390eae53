//! Says once an hour for each client that it does not trust the server's certificate: the most frequent
//! fault of a first push from another machine.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::AlertDescription;

use crate::network::Network;

/// The time between two messages about one network.
const PERIOD: Duration = Duration::from_secs(3600);

/// The most networks whose last message is remembered. Beyond them, the messages are at `debug`.
const MAX_NETWORKS: usize = 1024;

/// The networks whose clients do not trust the certificate, with the time of the message about each.
#[derive(Debug, Default)]
pub(super) struct Distrust(Mutex<HashMap<Network, Instant>>);

impl Distrust {
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

/// The alert of a client that refuses the server's certificate, if the handshake failed with one.
pub(super) fn alert(error: &io::Error) -> Option<&'static str> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = cause else { return None };
    match alert {
        AlertDescription::UnknownCA => Some("unknown authority"),
        AlertDescription::BadCertificate => Some("bad certificate"),
        AlertDescription::CertificateUnknown => Some("certificate unknown"),
        AlertDescription::CertificateExpired => Some("certificate expired"),
        AlertDescription::UnsupportedCertificate => Some("unsupported certificate"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_one_message_an_hour_and_the_memory_is_bounded() {
        let distrust = Distrust::default();
        let start = Instant::now();
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(distrust.is_due(client(1), start));
        assert!(!distrust.is_due(client(1), start + PERIOD / 2));
        assert!(distrust.is_due(client(1), start + PERIOD));

        let due = (2..3000).filter(|n| distrust.is_due(client(*n), start + PERIOD)).count();
        assert_eq!(due, MAX_NETWORKS - 1);
        assert!(distrust.is_due(client(5000), start + 2 * PERIOD));
    }
}
