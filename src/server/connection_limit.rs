//! The connection limit (`http.maxconnections`), and the permit of each connection under it.
//!
//! The server accepts a client before it has a permit for it, because the client's address decides
//! which connection makes room. Where no permit is free, the server closes an unauthenticated
//! connection. It never closes an authenticated connection to make room: where all are authenticated,
//! the client waits.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Options,
    idle::Activity,
    peer::Peer,
    rlimit,
    unauthenticated::{Limits, Room, Unauthenticated},
};
use crate::network::{Network, Proxy};

/// The default limit of unauthenticated connections of one network: one in this many of all
/// connections.
const NETWORK_SHARE: usize = 8;

/// The lowest such default: docker opens several connections at once, and all begin unauthenticated.
const NETWORK_MINIMUM: usize = 8;

/// Counts of a server's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open connections.
    pub open: usize,
    /// Open connections on which no request was authenticated yet.
    pub unauthenticated: usize,
    /// The connection limit.
    pub limit: usize,
    /// Connections accepted since the start, the open ones included.
    pub accepted: u64,
    /// Unauthenticated connections that the server has closed to make room for others.
    pub closed_for_room: u64,
    /// Connections that were closed at once, because all connections that their network may have
    /// (`http.limits.connections`) were authenticated.
    pub refused: u64,
    /// Clients that arrived at the connection limit: for each, the server has closed an
    /// unauthenticated connection, or the client had to wait. A client whose network, or all
    /// unauthenticated connections, had reached a limit of their own counts in `closed_for_room`
    /// only.
    pub full: u64,
}

/// The connection limit of a server.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
    unauthenticated: Unauthenticated,
    /// Networks of proxies.
    proxies: Vec<IpNet>,
    /// Peers whose connections begin with a PROXY header.
    proxied: Vec<Proxy>,
    idle_timeout: Duration,
    /// Ends all connections.
    stopped: CancellationToken,
    open: AtomicUsize,
    accepted: AtomicU64,
    full: AtomicU64,
    /// Whether the log has the warning that the limit is reached.
    has_warned: AtomicBool,
}

/// The permit of one connection, which holds its place under the limit until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    /// The client of the connection.
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    /// Cancelled when the connection has to end at once.
    pub(super) end: CancellationToken,
    entry: Arc<Entry>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The entry of a connection among the unauthenticated ones.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    connection_limit: Arc<ConnectionLimit>,
    activity: Arc<Activity>,
}

impl Entry {
    /// Records that a request on the connection was authenticated.
    pub(super) fn authenticated(&self) {
        self.connection_limit.unauthenticated.authenticated(self.id);
        self.activity.authenticated();
    }

    /// Counts the connection for the network of this client.
    pub(super) fn set_client(&self, client: SocketAddr) {
        if let Some(network) = self.connection_limit.network(Some(client)) {
            self.connection_limit.unauthenticated.move_to(self.id, network);
        }
    }
}

impl ConnectionLimit {
    /// The limits of these options. `stopped` ends all connections.
    pub(super) fn new(options: &Options, stopped: CancellationToken) -> Arc<Self> {
        let as_count = |limit: NonZeroU32| usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let limit = as_count(options.maxconnections.unwrap_or_else(rlimit::for_connections));
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let network = options
            .maxconnectionsperaddress
            .map_or_else(|| (limit / NETWORK_SHARE).max(NETWORK_MINIMUM), as_count);
        // A quarter is reserved for authenticated connections.
        let connections = options.connectionsperaddress.map(as_count);
        let limits = Limits { all: limit - limit / 4, network, connections };
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
            unauthenticated: Unauthenticated::new(limits),
            proxies: options.proxies.clone(),
            proxied: options.proxyprotocol.clone(),
            idle_timeout: options.idletimeout,
            stopped,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            full: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Waits for a permit for a client accepted from `addr`; `None` stands for a Unix socket. Where a
    /// limit is reached, closes an unauthenticated connection; waits where all are authenticated.
    /// Clients behind a proxy share its address, as all clients on a Unix socket do, so the limit of
    /// one network does not apply to them. `None` where the network has all the connections that it may
    /// have, and all are authenticated.
    pub(super) async fn admit(
        self: &Arc<Self>,
        addr: Option<SocketAddr>,
    ) -> Option<ConnectionPermit> {
        let is_proxied = self.is_proxied(addr);
        // The PROXY header will tell the network.
        let network = self.network(addr).filter(|_| !is_proxied);
        let room = self.unauthenticated.make_room(network);
        if room == Room::Refused {
            return None;
        }
        let permit = self.permit(room == Room::Made).await;
        // A proxy keeps idle connections for the requests of its next clients.
        let activity = match network {
            _ if is_proxied => Activity::unauthenticated(self.idle_timeout),
            Some(_) => Activity::unauthenticated(self.idle_timeout),
            None => Activity::new(self.idle_timeout),
        };
        let end = self.stopped.child_token();
        let id = self.unauthenticated.insert(network, Arc::clone(&activity), end.clone());
        let entry = Arc::new(Entry {
            id,
            connection_limit: Arc::clone(self),
            activity: Arc::clone(&activity),
        });
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::of(addr, Arc::clone(&entry));
        Some(ConnectionPermit { peer, activity, end, entry, _permit: permit })
    }

    /// Whether a connection from `addr` begins with a PROXY header.
    pub(super) fn is_proxied(&self, addr: Option<SocketAddr>) -> bool {
        self.proxied.iter().any(|proxy| proxy.is_at(addr.map(|addr| addr.ip())))
    }

    /// The network whose limit applies to a connection from this address; `None` where many clients share the
    /// address.
    fn network(&self, addr: Option<SocketAddr>) -> Option<Network> {
        let own = addr.map(|addr| addr.ip().to_canonical());
        let own = own.filter(|ip| !self.proxies.iter().any(|proxies| proxies.contains(ip)));
        own.map(Network::of)
    }

    /// Waits for a permit of the semaphore. With `has_room` one is about to be released, by a
    /// connection that was closed for this client.
    async fn permit(&self, has_room: bool) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(permit);
        }
        if !has_room {
            self.full.fetch_add(1, Ordering::Relaxed);
            let is_closed = self.unauthenticated.close_first();
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    limit = self.limit,
                    "the connection limit is reached; the server closes unauthenticated connections \
                     for new ones, the longest idle first, and where all are authenticated new \
                     clients wait (http.maxconnections)"
                );
            }
            if !is_closed {
                tracing::debug!("all connections are authenticated; a client waits");
            }
        }
        // An error is impossible: the semaphore is never closed.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Closes an unauthenticated connection, if there is one, to release its descriptors.
    pub(super) fn make_room(&self) {
        self.unauthenticated.close_first();
    }

    /// The present counts.
    pub(super) fn count(&self) -> Connections {
        let unauthenticated = self.unauthenticated.count();
        Connections {
            open: self.open.load(Ordering::Relaxed),
            unauthenticated: unauthenticated.open,
            limit: self.limit,
            accepted: self.accepted.load(Ordering::Relaxed),
            closed_for_room: unauthenticated.closed,
            refused: unauthenticated.refused,
            full: self.full.load(Ordering::Relaxed),
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Entry { id, connection_limit: limit, .. } = &*self.entry;
        limit.unauthenticated.remove(*id);
        limit.open.fetch_sub(1, Ordering::Relaxed);
        // A tenth of the permits is free: the log does not repeat both lines for each client that
        // comes and goes at the limit.
        let has_room = limit.free.available_permits() >= limit.limit / 10;
        if has_room && limit.has_warned.swap(false, Ordering::Relaxed) {
            tracing::info!(limit = limit.limit, "the server has free connections again");
        }
    }
}
