//! Trusted proxies (`http.trustedproxies`), and the client that they forward.
//!
//! A request may pass several proxies, each of which records in a header where it got the request
//! from; `proxies/forwarded.rs` parses these headers. Only records of trusted proxies count, from the
//! peer outwards. The throttle counts wrong passwords by the resulting address, so a client must not
//! be able to choose it; and a proxy passes a header that it does not write through as the client
//! sent it.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName};

use super::Peer;
use crate::network::Proxy;

mod forwarded;

pub(super) use forwarded::ForwardedOrigin;

/// The most peers that the log reports because their headers are ignored or contradict each other:
/// more than any site has proxies, and few lines where clients send such headers from many addresses.
const MAX_REPORTED: usize = 64;

/// The trusted proxies, and the peers whose headers the log has reported.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<Proxy>,
    untrusted: ReportedPeers,
    contradicting: ReportedPeers,
}

impl Proxies {
    pub(super) fn new(trusted: &[Proxy]) -> Self {
        Self {
            trusted: trusted.to_vec(),
            untrusted: ReportedPeers::default(),
            contradicting: ReportedPeers::default(),
        }
    }

    /// The address of the client: from the peer outwards, the first that is not a trusted proxy's;
    /// where all are, the outermost. `None` for a client on a Unix socket. Where the headers of a
    /// trusted proxy contradict each other, the client has sent one of them, and the address is the
    /// proxy's.
    ///
    /// The first time that a peer sends headers that do not count, the log reports it with the
    /// configuration that would trust it.
    pub(super) fn client(&self, headers: &HeaderMap, peer: Peer) -> Option<IpAddr> {
        let peer = peer.ip();
        let Some(header) = forwarded::first(headers) else { return peer };
        if !self.trusts(peer) {
            if self.untrusted.insert(peer) {
                self.report_untrusted(peer, header);
            }
            return peer;
        }
        forwarded::client(headers, peer, |address| self.trusts(address)).unwrap_or_else(|error| {
            if self.contradicting.insert(peer) {
                let peer = PeerAddress(peer);
                tracing::warn!(
                    %peer, "{error}: the proxy counts as the client; have it set one of them, and \
                    remove the others from what its clients send"
                );
            }
            peer
        })
    }

    /// The scheme and the host that the client has used, as the proxies before `peer` forward them.
    pub(super) fn origin<'a>(&self, headers: &'a HeaderMap, peer: Peer) -> ForwardedOrigin<'a> {
        let peer = peer.ip();
        if forwarded::first(headers).is_none() {
            ForwardedOrigin::Absent
        } else if self.trusts(peer) {
            forwarded::trusted_origin(headers, peer, |address| self.trusts(address))
        } else {
            forwarded::unverified_origins(headers)
        }
    }

    /// Whether a proxy at this address, or on a Unix socket (`None`), is trusted.
    fn trusts(&self, address: Option<IpAddr>) -> bool {
        self.trusted.iter().any(|proxy| proxy.is_at(address))
    }

    fn report_untrusted(&self, peer: Option<IpAddr>, header: &HeaderName) {
        let own = peer.map_or(Proxy::Unix, |address| Proxy::Network(address.to_canonical().into()));
        let all = self.trusted.iter().chain([&own]).map(Proxy::to_string).collect::<Vec<_>>();
        let write = format!("http: {{trustedproxies: [{}]}}", all.join(", "));
        let peer = PeerAddress(peer);
        tracing::warn!(
            %peer, %header, write, "the forwarding headers of an untrusted peer are not believed, and \
            its clients count as one; if the peer is your proxy, write into the configuration what \
            `write` says"
        );
    }
}

/// The peers that the log has reported for one reason.
#[derive(Debug, Default)]
struct ReportedPeers(ArcSwap<HashSet<Option<IpAddr>>>);

impl ReportedPeers {
    /// Adds a peer, and returns whether to report it now: each peer once, and at most
    /// [`MAX_REPORTED`] peers. An IPv6 peer is its /64, since one client may have all its addresses.
    fn insert(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        });
        // Each request of such a peer comes here, and nearly all end here, without a copy.
        let reported = self.0.load();
        if reported.len() >= MAX_REPORTED || reported.contains(&peer) {
            return false;
        }
        drop(reported);
        let before = self.0.rcu(|reported| {
            let mut reported = HashSet::clone(reported);
            if reported.len() < MAX_REPORTED {
                reported.insert(peer);
            }
            Arc::new(reported)
        });
        before.len() < MAX_REPORTED && !before.contains(&peer)
    }
}

/// The address of a peer in the log; `unix` without one.
struct PeerAddress(Option<IpAddr>);

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests;
