//! Unauthenticated connections: their limits, and the choice of the connection that the server closes
//! for a new one.
//!
//! Every connection begins unauthenticated, a user's too. So the limits never refuse a new connection;
//! the server closes another for it. Where the client's network has reached its limit, the server
//! closes a connection of the same network, so that no network takes connections from others. Where
//! many clients share an address, it is better to lose an idle connection than to let one client keep
//! the others out.
//!
//! The server closes the connection whose client it has waited for longest: in a handshake, in the head
//! of a request, between requests, or because the client does not take a response. A connection whose
//! request the server works on (it checks a password) is closed only when there is no other, the oldest
//! first.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::idle::Activity;
use crate::network::{Network, Site};

/// The limit of a site (a /48 of IPv6), as a multiple of the limit of a network (a /64).
const NETWORKS_OF_A_SITE: usize = 4;

/// The shortest time between two warnings that the server closes connections.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// The largest numbers of unauthenticated connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The limit of the server.
    pub(super) all: usize,
    /// The limit of one network (`http.maxconnectionsperaddress`).
    pub(super) network: usize,
}

/// Counts of unauthenticated connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Open connections.
    pub(super) open: usize,
    /// Connections closed to make room for others.
    pub(super) closed: u64,
}

impl Limits {
    const fn of(&self, group: Group) -> usize {
        match group {
            Group::Site(_) => self.network.saturating_mul(NETWORKS_OF_A_SITE),
            Group::Network(_) => self.network,
        }
    }
}

/// A group of connections that has one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Network(Network),
    Site(Site),
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Site(site) => site.fmt(f),
        }
    }
}

/// The groups that a connection of this network belongs to.
fn groups(network: Option<Network>) -> impl Iterator<Item = Group> {
    let site = network.filter(|network| network.is_part_of_site()).map(Network::site);
    network.map(Group::Network).into_iter().chain(site.map(Group::Site))
}

/// The unauthenticated connections of a server.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    limits: Limits,
    state: Mutex<State>,
}

/// Connections in the order in which the server closes them: by the time since which it waits for the
/// client. The time may be outdated, so [`State::first`] reads it again before it relies on it.
type Order = BTreeSet<(Instant, u64)>;

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    connections: HashMap<u64, Connection>,
    all: Order,
    groups: HashMap<Group, Order>,
    /// The number of connections closed to make room.
    closed: u64,
    last_warning: Option<Warning>,
}

/// A warning that the server closes connections.
#[derive(Debug)]
struct Warning {
    time: Instant,
    /// [`State::closed`] at that time.
    closed: u64,
}

#[derive(Debug)]
struct Connection {
    /// `None` where many clients share the address.
    network: Option<Network>,
    /// The time under which the orders have the connection.
    since: Instant,
    activity: Arc<Activity>,
    /// Closes the connection.
    end: CancellationToken,
}

impl State {
    fn order(&mut self, group: Option<Group>) -> Option<&mut Order> {
        match group {
            None => Some(&mut self.all),
            Some(group) => self.groups.get_mut(&group),
        }
    }

    fn insert(&mut self, id: u64, connection: Connection) {
        self.all.insert((connection.since, id));
        for group in groups(connection.network) {
            self.groups.entry(group).or_default().insert((connection.since, id));
        }
        self.connections.insert(id, connection);
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.all.remove(&(connection.since, id));
        for group in groups(connection.network) {
            if let Some(order) = self.groups.get_mut(&group) {
                order.remove(&(connection.since, id));
                if order.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        Some(connection)
    }

    /// The connection of a group, or of the server, that is to be closed first.
    fn first(&mut self, group: Option<Group>) -> Option<u64> {
        let now = Instant::now();
        // Without activity meanwhile, each connection moves back at most once.
        for _ in 0..=self.order(group)?.len() {
            let (since, id) = *self.order(group)?.first()?;
            let activity = &self.connections.get(&id)?.activity;
            // Connections whose request the server works on move to the end, in order of age.
            let actual = activity.waiting_since().unwrap_or(now);
            if actual <= since {
                return Some(id);
            }
            let mut connection = self.remove(id)?;
            connection.since = actual;
            self.insert(id, connection);
        }
        Some(self.order(group)?.first()?.1)
    }

    /// Closes the first connection of a group, or of the server. Returns whether there was one.
    fn close_first(&mut self, group: Option<Group>) -> bool {
        let Some(connection) = self.first(group).and_then(|id| self.remove(id)) else {
            return false;
        };
        connection.end.cancel();
        self.closed += 1;
        true
    }

    /// The number of connections closed since the last warning, if another warning is due.
    fn warning_due(&mut self) -> Option<u64> {
        let time = Instant::now();
        let before = match &self.last_warning {
            Some(last) if time < last.time + REPEAT_LOG_AFTER => return None,
            Some(last) => last.closed,
            None => 0,
        };
        self.last_warning = Some(Warning { time, closed: self.closed });
        Some(self.closed - before)
    }
}

impl Unauthenticated {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Makes room for a new connection of `network`. Where the network has reached its limit, closes
    /// one of its connections; where the server has, any connection. Returns whether it closed one.
    pub(super) fn make_room(&self, network: Option<Network>) -> bool {
        let state = self.state();
        let full = self.full_group(&state, network);
        if full.is_none() && state.all.len() < self.limits.all {
            return false;
        }
        self.close_for_room(state, full)
    }

    /// Moves a connection to the network of its client, which became known after it was accepted. Where the
    /// network has reached its limit, closes one of its connections.
    pub(super) fn move_to(&self, id: u64, network: Network) {
        let mut state = self.state();
        let Some(connection) = state.remove(id) else { return };
        let full = self.full_group(&state, Some(network));
        if full.is_some() {
            self.close_for_room(state, full);
            state = self.state();
        }
        state.insert(id, Connection { network: Some(network), ..connection });
    }

    /// The group of a network that has reached its limit, if one has.
    fn full_group(&self, state: &State, network: Option<Network>) -> Option<Group> {
        groups(network).find(|group| {
            let open = state.groups.get(group).map_or(0, BTreeSet::len);
            open >= self.limits.of(*group)
        })
    }

    /// Closes the first connection of a group, or of the server, and logs so from time to time. Returns
    /// whether there was one.
    fn close_for_room(&self, mut state: MutexGuard<'_, State>, full: Option<Group>) -> bool {
        let is_closed = state.close_first(full);
        let warning = state.warning_due();
        drop(state);
        if let Some(closed) = warning {
            let limit = full.map_or(self.limits.all, |group| self.limits.of(group));
            match full {
                Some(network) => tracing::warn!(
                    %network,
                    limit,
                    closed,
                    "a network has reached its limit of unauthenticated connections; the server \
                     closes the longest idle of them for new ones (http.maxconnectionsperaddress)"
                ),
                None => tracing::warn!(
                    limit,
                    closed,
                    "unauthenticated connections have reached three quarters of the connection \
                     limit; the server closes the longest idle of them for new ones \
                     (http.maxconnections)"
                ),
            }
        }
        is_closed
    }

    /// Closes the connection whose client the server has waited for longest. Returns whether there
    /// was one.
    pub(super) fn close_first(&self) -> bool {
        self.state().close_first(None)
    }

    /// Adds a connection, which `end` closes when it has to make room. Returns its id.
    pub(super) fn insert(
        &self,
        network: Option<Network>,
        activity: Arc<Activity>,
        end: CancellationToken,
    ) -> u64 {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.insert(id, Connection { network, since: Instant::now(), activity, end });
        id
    }

    /// Removes a connection that has been authenticated or has ended.
    pub(super) fn remove(&self, id: u64) {
        self.state().remove(id);
    }

    /// The present counts.
    pub(super) fn count(&self) -> Counts {
        let state = self.state();
        Counts { open: state.connections.len(), closed: state.closed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn network(address: &str) -> Option<Network> {
        Some(Network::of(address.parse::<IpAddr>().unwrap()))
    }

    /// A server whose connections have the names that a test gives them.
    struct Server {
        all: Unauthenticated,
        open: Vec<(&'static str, Arc<Activity>, CancellationToken)>,
    }

    impl Server {
        fn new(all: usize, network: usize) -> Self {
            Self { all: Unauthenticated::new(Limits { all, network }), open: Vec::new() }
        }

        /// Opens a connection from an address, a second after the previous one.
        async fn connect(&mut self, name: &'static str, address: &str) -> Arc<Activity> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let network = network(address);
            self.all.make_room(network);
            let activity = Activity::new(TIMEOUT);
            let end = CancellationToken::new();
            self.all.insert(network, Arc::clone(&activity), end.clone());
            self.open.push((name, Arc::clone(&activity), end));
            activity
        }

        fn closed(&self) -> Vec<&str> {
            let closed = self.open.iter().filter(|(.., end)| end.is_cancelled());
            closed.map(|(name, ..)| *name).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_is_idle_longest_makes_room() {
        let mut server = Server::new(3, 3);
        let first = server.connect("first", "192.0.2.1").await;
        server.connect("second", "192.0.2.2").await;
        server.connect("third", "192.0.2.3").await;
        assert!(server.closed().is_empty());
        drop(first.begin());
        server.connect("fourth", "192.0.2.4").await;
        assert_eq!(server.closed(), ["second"], "the first client has sent a request since");
        assert_eq!(server.all.count(), Counts { open: 3, closed: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn network_at_its_limit_loses_its_own_connections_only() {
        let mut server = Server::new(100, 2);
        server.connect("other", "198.51.100.1").await;
        for name in ["a", "b", "c", "d"] {
            server.connect(name, "192.0.2.1").await;
        }
        assert_eq!(server.closed(), ["a", "b"]);
        // All addresses of a /64 are one network, and a /48 has a share of its own.
        for (name, address) in [("e", "2001:db8::1"), ("f", "2001:db8::2"), ("g", "2001:db8::3")] {
            server.connect(name, address).await;
        }
        assert_eq!(server.closed(), ["a", "b", "e"]);
        for (nth, name) in ["h", "i", "j", "k", "l", "m", "n"].into_iter().enumerate() {
            server.connect(name, &format!("2001:db8:0:{}::1", nth + 1)).await;
        }
        assert_eq!(server.closed(), ["a", "b", "e", "f"], "the ninth connection of the /48");
    }

    #[tokio::test(start_paused = true)]
    async fn untaken_response_makes_room_first_and_a_running_request_last() {
        let mut server = Server::new(3, 3);
        let working = server.connect("working", "192.0.2.1").await.begin();
        let untaken = server.connect("untaken", "192.0.2.2").await;
        let body = axum::http::Response::new(http_body_util::Full::new(bytes::Bytes::from("x")));
        let untaken = untaken.begin().watch(body);
        server.connect("idle", "192.0.2.3").await;
        server.connect("new", "192.0.2.4").await;
        assert_eq!(server.closed(), ["untaken"]);
        server.connect("newer", "192.0.2.5").await;
        assert_eq!(server.closed(), ["untaken", "idle"]);
        let others: Vec<_> = server.open[3..].iter().map(|(_, other, _)| other.begin()).collect();
        server.connect("newest", "192.0.2.6").await;
        assert!(server.open[0].2.is_cancelled(), "the oldest of those with a running request");
        drop((working, untaken, others));
    }

    #[tokio::test(start_paused = true)]
    async fn removed_connection_is_neither_counted_nor_closed() {
        let mut server = Server::new(2, 1);
        server.connect("first", "192.0.2.1").await;
        server.connect("second", "192.0.2.2").await;
        server.all.remove(0);
        server.connect("third", "192.0.2.1").await;
        assert!(server.closed().is_empty());
        assert!(server.all.close_first() && server.all.close_first());
        assert!(!server.all.close_first());
        assert_eq!(server.closed(), ["second", "third"]);
        let state = server.all.state();
        assert!(state.all.is_empty() && state.groups.is_empty());
    }
}
