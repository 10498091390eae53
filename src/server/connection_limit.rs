//! How many connections there may be, and who gets one.
//!
//! A client is accepted before there is a slot for it, because which connection makes room depends on
//! whose it is. When there is no slot left, an unauthenticated connection is closed for it; an
//! authenticated one never is, so that where all are authenticated the client waits.

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
    unauthenticated::{Limits, Unauthenticated},
};
use crate::network::Network;

/// Without a limit in words a network may have this part of all connections, and at least so many:
/// docker opens several at once, and all begin unauthenticated.
const PART_OF_A_NETWORK: usize = 8;
const LEAST_OF_A_NETWORK: usize = 8;

/// How many connections a server has and had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// How many there are.
    pub open: usize,
    /// On how many of them no request was let in yet.
    pub unauthenticated: usize,
    /// How many there may be.
    pub limit: usize,
    /// How many there were since the start, with those that there are.
    pub accepted: u64,
    /// How many unauthenticated ones were closed to make room for others.
    pub closed_for_room: u64,
    /// How many times the limit was reached and somebody else came.
    pub full: u64,
}

/// The slots of a server, one for each connection.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
    unauthenticated: Unauthenticated,
    /// Networks of proxies.
    proxies: Vec<IpNet>,
    /// How long a client may be silent.
    idle_timeout: Duration,
    /// Ends all connections.
    stopped: CancellationToken,
    open: AtomicUsize,
    accepted: AtomicU64,
    full: AtomicU64,
    /// Whether it was said that there is no slot left.
    said: AtomicBool,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    /// Who has it.
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    /// Tells that the connection has to end.
    pub(super) end: CancellationToken,
    entry: Arc<Entry>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A connection among the unauthenticated ones.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    connection_limit: Arc<ConnectionLimit>,
    activity: Arc<Activity>,
}

impl Entry {
    /// Notes that a request on the connection was let in.
    pub(super) fn authenticated(&self) {
        self.connection_limit.unauthenticated.leave(self.id);
        self.activity.authenticated();
    }
}

impl ConnectionLimit {
    /// `stopped` ends all connections.
    pub(super) fn new(options: &Options, stopped: CancellationToken) -> Arc<Self> {
        let as_count = |limit: NonZeroU32| usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let limit = as_count(options.maxconnections.unwrap_or_else(rlimit::for_connections));
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let network = options
            .maxconnectionsperaddress
            .map_or_else(|| (limit / PART_OF_A_NETWORK).max(LEAST_OF_A_NETWORK), as_count);
        // A quarter is for those who have logged in.
        let limits = Limits { all: limit - limit / 4, network };
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limit)),
            limit,
            unauthenticated: Unauthenticated::new(limits),
            proxies: options.proxies.clone(),
            idle_timeout: options.idletimeout,
            stopped,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            full: AtomicU64::new(0),
            said: AtomicBool::new(false),
        })
    }

    /// A slot for a client that was accepted from `addr`, which is none where it came through a
    /// file. Closes an unauthenticated connection for it where there are too many, and waits where all
    /// are authenticated. Who comes by a proxy, or through a file, shares the address with others: only
    /// the limits of all are for those.
    pub(super) async fn admit(self: &Arc<Self>, addr: Option<SocketAddr>) -> ConnectionPermit {
        let own = addr.map(|addr| addr.ip().to_canonical());
        let own = own.filter(|ip| !self.proxies.iter().any(|proxies| proxies.contains(ip)));
        let network = own.map(Network::of);
        let has_room = self.unauthenticated.make_room(network);
        let permit = self.permit(has_room).await;
        // A proxy keeps connections for whoever comes next.
        let activity = match network {
            Some(_) => Activity::unauthenticated(self.idle_timeout),
            None => Activity::new(self.idle_timeout),
        };
        let end = self.stopped.child_token();
        let id = self.unauthenticated.enter(network, Arc::clone(&activity), end.clone());
        let entry = Arc::new(Entry {
            id,
            connection_limit: Arc::clone(self),
            activity: Arc::clone(&activity),
        });
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::of(addr, Arc::clone(&entry));
        ConnectionPermit { peer, activity, end, entry, _permit: permit }
    }

    /// Waits for a slot; `has_room` says that one is about to be free.
    async fn permit(&self, has_room: bool) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(permit);
        }
        if !has_room {
            self.full.fetch_add(1, Ordering::Relaxed);
            let is_closed = self.unauthenticated.close_first();
            if !self.said.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    limit = self.limit,
                    "as many connections as there may be; those on which nobody has logged in make \
                     room for new ones, the longest idle first, and without any further clients \
                     wait (http.maxconnections)"
                );
            }
            if !is_closed {
                tracing::debug!("all connections are authenticated; a client waits");
            }
        }
        // Nobody closes it.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Closes an unauthenticated connection, where there is one, because something else has run out
    /// that each connection takes.
    pub(super) fn make_room(&self) {
        self.unauthenticated.close_first();
    }

    pub(super) fn count(&self) -> Connections {
        let (unauthenticated, closed_for_room) = self.unauthenticated.count();
        Connections {
            open: self.open.load(Ordering::Relaxed),
            unauthenticated,
            limit: self.limit,
            accepted: self.accepted.load(Ordering::Relaxed),
            closed_for_room,
            full: self.full.load(Ordering::Relaxed),
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let Entry { id, connection_limit: limit, .. } = &*self.entry;
        limit.unauthenticated.leave(*id);
        limit.open.fetch_sub(1, Ordering::Relaxed);
        // Not for each client that comes and goes at the limit.
        let has_room = limit.free.available_permits() >= limit.limit / 10;
        if has_room && limit.said.swap(false, Ordering::Relaxed) {
            tracing::info!(limit = limit.limit, "there is room for connections again");
        }
    }
}
