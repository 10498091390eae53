//! Proxies, as the configuration names them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::Deserialize;

/// A peer that the configuration names as a proxy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Proxy {
    /// A peer with an address of this network.
    Network(IpNet),
    /// A peer on a Unix socket; written `unix`.
    Unix,
}

impl Proxy {
    /// Whether a peer at this address, or on a Unix socket (`None`), is one of these.
    #[must_use]
    pub fn is_at(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::Unix, None) => true,
            (Self::Network(_), None) | (Self::Unix, Some(_)) => false,
        }
    }

    /// The network; `None` for peers on Unix sockets.
    #[must_use]
    pub const fn network(&self) -> Option<IpNet> {
        match self {
            Self::Network(network) => Some(*network),
            Self::Unix => None,
        }
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        text.parse().map(Self::Network).map_err(|_| InvalidProxy(text.to_owned()))
    }
}

impl TryFrom<String> for Proxy {
    type Error = InvalidProxy;

    fn try_from(text: String) -> Result<Self, InvalidProxy> {
        text.parse()
    }
}

/// As an item of a list in YAML.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(IpNet::V4(network)) => network.fmt(f),
            // Without quotes, YAML may read a colon as the end of a key.
            Self::Network(IpNet::V6(network)) => write!(f, "'{network}'"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A text that is neither a network nor `unix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as `10.0.0.0/8`, or `unix`, not {0:?}")]
pub struct InvalidProxy(String);
