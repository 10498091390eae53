//! The connections on which no request was let in yet: how many there may be, and which of them makes
//! room for the next.
//!
//! Every connection begins as one of these, a user's as well, so a new one is never refused for their
//! number: another is closed for it. Where the network of its client has as many as it may have, that
//! is one of the same network, so that nobody takes anything from others; behind an address that many
//! share it is better to lose what is idle than to let one of them keep the rest out.
//!
//! The one that goes is the one whose client has been waited for longest: within a handshake, a head,
//! between requests, or because an answer is not taken. One whose request the server is at work on,
//! such as a password that is being checked, goes only when there is no other, the oldest first.

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

/// Whoever is given a /48 of IPv6 may have so many times what a /64 may have.
const NETWORKS_OF_A_SITE: usize = 4;

/// That connections are being closed is said again after so long.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// How many unauthenticated connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    /// Of one network (`http.maxconnectionsperaddress`).
    pub(super) network: usize,
}

impl Limits {
    const fn of(&self, group: Group) -> usize {
        match group {
            Group::Site(_) => self.network.saturating_mul(NETWORKS_OF_A_SITE),
            Group::Network(_) => self.network,
        }
    }
}

/// Connections that have a limit together.
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

/// What the connections of a network are counted among.
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

/// Connections in the order in which they go. A time is one of the past: a client may have done
/// something since, so it is looked up again when its connection is the first.
type Order = BTreeSet<(Instant, u64)>;

#[derive(Debug, Default)]
struct State {
    next: u64,
    connections: HashMap<u64, Connection>,
    all: Order,
    groups: HashMap<Group, Order>,
    /// How many were closed to make room.
    closed: u64,
    /// When that was said last, and how many there were then.
    said: Option<(Instant, u64)>,
}

#[derive(Debug)]
struct Connection {
    /// None where many clients share the address.
    network: Option<Network>,
    /// The time in the orders.
    since: Instant,
    activity: Arc<Activity>,
    end: CancellationToken,
}

impl State {
    fn order(&mut self, group: Option<Group>) -> Option<&mut Order> {
        match group {
            None => Some(&mut self.all),
            Some(group) => self.groups.get_mut(&group),
        }
    }

    fn enter(&mut self, id: u64, connection: Connection) {
        self.all.insert((connection.since, id));
        for group in groups(connection.network) {
            self.groups.entry(group).or_default().insert((connection.since, id));
        }
        self.connections.insert(id, connection);
    }

    fn leave(&mut self, id: u64) -> Option<Connection> {
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

    /// The connection of a group, or of all, that goes first.
    fn first(&mut self, group: Option<Group>) -> Option<u64> {
        let now = Instant::now();
        // Each is looked up once and moves back at most once, but for what happens meanwhile.
        for _ in 0..=self.order(group)?.len() {
            let (since, id) = *self.order(group)?.first()?;
            let activity = &self.connections.get(&id)?.activity;
            // Those that do not wait for their clients come to stand at the end, by age.
            let actual = activity.waits_since().unwrap_or(now);
            if actual <= since {
                return Some(id);
            }
            let mut connection = self.leave(id)?;
            connection.since = actual;
            self.enter(id, connection);
        }
        Some(self.order(group)?.first()?.1)
    }

    fn close_first(&mut self, group: Option<Group>) -> bool {
        let Some(connection) = self.first(group).and_then(|id| self.leave(id)) else {
            return false;
        };
        connection.end.cancel();
        self.closed += 1;
        true
    }

    /// How many were closed since that was said last, where it is time to say it.
    fn say(&mut self) -> Option<u64> {
        let now = Instant::now();
        let before = match self.said {
            Some((said, _)) if now < said + REPEAT_LOG_AFTER => return None,
            Some((_, closed)) => closed,
            None => 0,
        };
        self.said = Some((now, self.closed));
        Some(self.closed - before)
    }
}

impl Unauthenticated {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Makes room for one more of `network`: closes one of the same network, where that has as many
    /// as it may have, else one of all. Whether one was closed.
    pub(super) fn make_room(&self, network: Option<Network>) -> bool {
        let mut state = self.state();
        let is_full = |group: &Group| {
            let open = state.groups.get(group).map_or(0, BTreeSet::len);
            open >= self.limits.of(*group)
        };
        let full = groups(network).find(is_full);
        if full.is_none() && state.all.len() < self.limits.all {
            return false;
        }
        let (is_closed, to_say) = (state.close_first(full), state.say());
        drop(state);
        if let Some(closed) = to_say {
            let limit = full.map_or(self.limits.all, |group| self.limits.of(group));
            match full {
                Some(network) => tracing::warn!(
                    %network,
                    limit,
                    closed,
                    "one network has as many connections as it may have on which nobody has logged \
                     in; the longest idle of them make room for its new ones \
                     (http.maxconnectionsperaddress)"
                ),
                None => tracing::warn!(
                    limit,
                    closed,
                    "three quarters of all connections are such on which nobody has logged in; the \
                     longest idle of them make room for new ones (http.maxconnections)"
                ),
            }
        }
        is_closed
    }

    /// Closes the one that goes first. Whether there was one.
    pub(super) fn close_first(&self) -> bool {
        self.state().close_first(None)
    }

    /// Enters a connection, which `end` closes when it has to make room.
    pub(super) fn enter(
        &self,
        network: Option<Network>,
        activity: Arc<Activity>,
        end: CancellationToken,
    ) -> u64 {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.enter(id, Connection { network, since: Instant::now(), activity, end });
        id
    }

    /// Notes that a connection is authenticated, or over.
    pub(super) fn leave(&self, id: u64) {
        self.state().leave(id);
    }

    /// How many there are, and how many were closed to make room.
    pub(super) fn count(&self) -> (usize, u64) {
        let state = self.state();
        (state.connections.len(), state.closed)
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

    /// Connections by the names that a test gives them.
    struct Server {
        all: Unauthenticated,
        open: Vec<(&'static str, Arc<Activity>, CancellationToken)>,
    }

    impl Server {
        fn new(all: usize, network: usize) -> Self {
            Self { all: Unauthenticated::new(Limits { all, network }), open: Vec::new() }
        }

        /// A connection from an address, a second after the one before.
        async fn connect(&mut self, name: &'static str, address: &str) -> Arc<Activity> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let network = network(address);
            self.all.make_room(network);
            let (activity, end) = (Activity::new(TIMEOUT), CancellationToken::new());
            self.all.enter(network, Arc::clone(&activity), end.clone());
            self.open.push((name, Arc::clone(&activity), end));
            activity
        }

        fn closed(&self) -> Vec<&str> {
            let closed = self.open.iter().filter(|(.., end)| end.is_cancelled());
            closed.map(|(name, ..)| *name).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_makes_room() {
        let mut server = Server::new(3, 3);
        let first = server.connect("first", "192.0.2.1").await;
        server.connect("second", "192.0.2.2").await;
        server.connect("third", "192.0.2.3").await;
        assert!(server.closed().is_empty());
        drop(first.begin());
        server.connect("fourth", "192.0.2.4").await;
        assert_eq!(server.closed(), ["second"], "the first has asked for something since");
        assert_eq!(server.all.count(), (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_makes_room_for_itself_and_no_other() {
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
        assert_eq!(server.closed(), ["a", "b", "e", "f"], "a ninth of the /48");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_worked_on_goes_last_and_an_answer_that_is_not_taken_first() {
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
        assert!(server.open[0].2.is_cancelled(), "the oldest of those that are worked on");
        drop((working, untaken, others));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_left_makes_no_room_and_takes_none() {
        let mut server = Server::new(2, 1);
        server.connect("first", "192.0.2.1").await;
        server.connect("second", "192.0.2.2").await;
        server.all.leave(0);
        server.connect("third", "192.0.2.1").await;
        assert!(server.closed().is_empty());
        assert!(server.all.close_first() && server.all.close_first());
        assert!(!server.all.close_first());
        assert_eq!(server.closed(), ["second", "third"]);
        let state = server.all.state();
        assert!(state.all.is_empty() && state.groups.is_empty());
    }
}
