//! Addresses, as the configuration names them: `from` of a rule, `http.clients`.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;

/// Addresses of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Source {
    /// The addresses of this network.
    Network(IpNet),
    /// Unix sockets; written `unix`.
    Unix,
}

impl Source {
    /// Whether a request from this address is from here; `None` is a Unix socket.
    #[must_use]
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::Unix, None) => true,
            (Self::Network(_), None) | (Self::Unix, Some(_)) => false,
        }
    }

    /// Whether every address of `other` is one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(wide), Self::Network(narrow)) => wide.contains(narrow),
            _ => self == other,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = InvalidSource;

    /// A network, or a single address.
    fn try_from(written: String) -> Result<Self, InvalidSource> {
        if written == "unix" {
            return Ok(Self::Unix);
        }
        let network = written.parse::<IpNet>().or_else(|_| {
            written.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()))
        });
        network.map(Self::Network).map_err(|_| InvalidSource(written))
    }
}

/// A text that is neither a network nor `unix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as `10.0.0.0/8`, an address, or `unix`, not {0:?}")]
pub struct InvalidSource(String);
