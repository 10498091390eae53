//! Whose word about a client is believed (`http.trustedproxies`), and what becomes of the rest.
//!
//! A request may come by way of proxies, each of which writes down whom it got the request from:
//! `proxies/forwarded.rs` reads that. Only what a trusted proxy has written counts, from the peer
//! on outwards. The throttle goes by the address that comes out, so a client must not be able to
//! choose it; a header that a proxy does not write itself passes through it as the client sent it.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::Deserialize;

use super::Peer;

mod forwarded;

pub(super) use forwarded::{Named, differs};

/// Peers of which the log says that their headers are not believed, or contradict each other: more
/// than anybody has proxies, and few lines where clients send such headers from many addresses.
const MAX_SAID: usize = 64;

/// Whose `X-Forwarded-*`, `X-Real-IP` and `Forwarded` are believed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Proxy {
    /// Whoever has an address of this network.
    Network(IpNet),
    /// Whoever comes through a socket that is a file; written `unix`.
    Unix,
}

impl Proxy {
    /// The addresses; `None` for whoever comes through a socket that is a file.
    #[must_use]
    pub const fn network(&self) -> Option<IpNet> {
        match self {
            Self::Network(network) => Some(*network),
            Self::Unix => None,
        }
    }
}

impl FromStr for Proxy {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        text.parse().map(Self::Network).map_err(|_| NotAProxy(text.to_owned()))
    }
}

impl TryFrom<String> for Proxy {
    type Error = NotAProxy;

    fn try_from(text: String) -> Result<Self, NotAProxy> {
        text.parse()
    }
}

/// As an item of the list in YAML.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(IpNet::V4(network)) => network.fmt(f),
            // A colon may end a key.
            Self::Network(IpNet::V6(network)) => write!(f, "'{network}'"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A text that names no proxies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as `10.0.0.0/8`, or `unix`, not {0:?}")]
pub struct NotAProxy(String);

/// The proxies that are trusted, and the peers that the log has named for their headers.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<Proxy>,
    untrusted: Said,
    contradicting: Said,
}

impl Proxies {
    pub(super) fn new(trusted: &[Proxy]) -> Self {
        let (untrusted, contradicting) = (Said::default(), Said::default());
        Self { trusted: trusted.to_vec(), untrusted, contradicting }
    }

    /// Where a request comes from: of the addresses that it was passed on by, the last one that is
    /// not a trusted proxy's; `None` for the other end of a socket that is a file. Where the
    /// headers of a trusted proxy contradict each other, one of them is the client's own, and the
    /// address is the proxy's.
    ///
    /// The first time that a peer sends headers that do not count, the log says so, and what to write.
    pub(super) fn client(&self, headers: &HeaderMap, peer: Peer) -> Option<IpAddr> {
        let peer = peer.ip();
        let Some(header) = forwarded::first(headers) else { return peer };
        if !self.trusts(peer) {
            if self.untrusted.is_new(peer) {
                self.say_untrusted(peer, header);
            }
            return peer;
        }
        forwarded::client(headers, peer, |address| self.trusts(address)).unwrap_or_else(|error| {
            if self.contradicting.is_new(peer) {
                let peer = Shown(peer);
                tracing::warn!(
                    %peer, "{error}: the proxy counts as the client; have it set one of them, and \
                    remove the others from what its clients send"
                );
            }
            peer
        })
    }

    /// What scheme and host the proxies before a peer say that the client has used.
    pub(super) fn named<'a>(&self, headers: &'a HeaderMap, peer: Peer) -> Named<'a> {
        let peer = peer.ip();
        if forwarded::first(headers).is_none() {
            Named::Nothing
        } else if self.trusts(peer) {
            forwarded::named(headers, peer, |address| self.trusts(address))
        } else {
            forwarded::claimed(headers)
        }
    }

    /// Whether a proxy of this address, or one behind a file, is believed.
    fn trusts(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        self.trusted.iter().any(|proxy| match (proxy, &address) {
            (Proxy::Network(network), Some(address)) => network.contains(address),
            (Proxy::Unix, None) => true,
            (Proxy::Network(_), None) | (Proxy::Unix, Some(_)) => false,
        })
    }

    fn say_untrusted(&self, peer: Option<IpAddr>, header: &HeaderName) {
        let own = peer.map_or(Proxy::Unix, |address| Proxy::Network(address.to_canonical().into()));
        let all = self.trusted.iter().chain([&own]).map(Proxy::to_string).collect::<Vec<_>>();
        let write = format!("http: {{trustedproxies: [{}]}}", all.join(", "));
        let peer = Shown(peer);
        tracing::warn!(
            %peer, %header, write, "what a peer says of its clients is not believed, and its clients \
            count as one; if it is a proxy of yours, write into the configuration what `write` says"
        );
    }
}

/// Peers that were named in the log.
#[derive(Debug, Default)]
struct Said(ArcSwap<HashSet<Option<IpAddr>>>);

impl Said {
    /// Whether the peer is to be named now: once, and only so many peers. Of IPv6 a peer is a /64,
    /// of whose addresses a client may have all.
    fn is_new(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        });
        // This is asked at each request of such a peer, and nearly always answered here.
        let said = self.0.load();
        if said.len() >= MAX_SAID || said.contains(&peer) {
            return false;
        }
        drop(said);
        let before = self.0.rcu(|said| {
            let mut said = HashSet::clone(said);
            if said.len() < MAX_SAID {
                said.insert(peer);
            }
            Arc::new(said)
        });
        before.len() < MAX_SAID && !before.contains(&peer)
    }
}

/// A peer as the access log shows it.
struct Shown(Option<IpAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests;
