//! Unauthenticated connections: their limits, and the choice of the connection that the server closes
//! for a new one.
//!
//! Every connection begins unauthenticated, a user's too. So these limits never refuse a new connection;
//! the server closes another for it. Where the client's network has reached its limit, the server
//! closes a connection of the same network, so that no network takes connections from others. Where
//! many clients share an address, it is better to lose an idle connection than to let one client keep
//! the others out.
//!
//! The server closes the connection whose client it has waited for longest: in a handshake, in the head
//! of a request, between requests, or because the client does not take a response. A connection whose
//! request the server works on (it checks a password) is closed only when there is no other, the oldest
//! first.
//!
//! The limit of all connections of a network (`http.limits.connections`) holds for authenticated ones, too. At
//! it an unauthenticated connection of the network makes room, and without such a connection the new one is refused.

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
    /// The limit of all connections of one network, authenticated or not (`http.limits.connections`).
    pub(super) connections: Option<usize>,
}

/// Whether there is room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// A place was free.
    Free,
    /// Another connection has been closed.
    Made,
    /// No place is free, and no connection makes room.
    Refused,
}

/// Counts of unauthenticated connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Open connections.
    pub(super) open: usize,
    /// Connections closed to make room for others.
    pub(super) closed: u64,
    /// Connections refused because all of their network are authenticated.
    pub(super) refused: u64,
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
    /// The networks of authenticated connections.
    authenticated: HashMap<u64, Network>,
    /// The number of connections of each network, the authenticated ones included.
    networks: HashMap<Network, usize>,
    /// The number of connections closed to make room.
    closed: u64,
    /// The number of connections refused.
    refused: u64,
    last_warning: Option<Warning>,
}

/// A warning that the server closes connections.
#[derive(Debug)]
struct Warning {
    time: Instant,
    /// [`State::closed`] and [`State::refused`] at that time, together.
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
        self.count(connection.network);
        self.connections.insert(id, connection);
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.all.remove(&(connection.since, id));
        self.discount(connection.network);
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

    fn count(&mut self, network: Option<Network>) {
        if let Some(network) = network {
            *self.networks.entry(network).or_default() += 1;
        }
    }

    fn discount(&mut self, network: Option<Network>) {
        if let Some(network) = network
            && let Some(open) = self.networks.get_mut(&network)
        {
            *open -= 1;
            if *open == 0 {
                self.networks.remove(&network);
            }
        }
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
        let closed = self.closed + self.refused;
        self.last_warning = Some(Warning { time, closed });
        Some(closed - before)
    }
}

impl Unauthenticated {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Makes room for a new connection of `network`. Where the network has reached its limit, closes
    /// one of its connections; where the server has, any connection. Refuses the connection where all
    /// connections that the network may have are authenticated.
    pub(super) fn make_room(&self, network: Option<Network>) -> Room {
        let mut state = self.state();
        if let Some(limit) = self.full_network(&state, network) {
            return self.close_of_network(&mut state, network, limit);
        }
        let full = self.full_group(&state, network);
        if full.is_none() && state.all.len() < self.limits.all {
            return Room::Free;
        }
        if self.close_for_room(state, full) { Room::Made } else { Room::Free }
    }

    /// Moves a connection to the network of its client, which became known after it was accepted. Where the
    /// network has reached its limit, closes one of its connections, or this one where all others are
    /// authenticated.
    pub(super) fn move_to(&self, id: u64, network: Network) {
        let mut state = self.state();
        let Some(connection) = state.remove(id) else { return };
        if let Some(limit) = self.full_network(&state, Some(network))
            && self.close_of_network(&mut state, Some(network), limit) == Room::Refused
        {
            return connection.end.cancel();
        }
        let full = self.full_group(&state, Some(network));
        if full.is_some() {
            self.close_for_room(state, full);
            state = self.state();
        }
        state.insert(id, Connection { network: Some(network), ..connection });
    }

    /// The limit of all connections of a network, where it has reached it.
    fn full_network(&self, state: &State, network: Option<Network>) -> Option<usize> {
        let limit = self.limits.connections?;
        let open = state.networks.get(&network?).copied().unwrap_or_default();
        (open >= limit).then_some(limit)
    }

    /// Closes the first unauthenticated connection of a network for a new one, and logs so from time to time.
    fn close_of_network(&self, state: &mut State, network: Option<Network>, limit: usize) -> Room {
        let room = match state.close_first(network.map(Group::Network)) {
            true => Room::Made,
            false => Room::Refused,
        };
        if room == Room::Refused {
            state.refused += 1;
        }
        if let (Some(closed), Some(network)) = (state.warning_due(), network) {
            tracing::warn!(
                %network,
                limit,
                closed,
                "a network has reached its limit of connections; the server closes the longest idle \
                 unauthenticated one for a new one, or the new one where all are authenticated \
                 (http.limits.connections)"
            );
        }
        room
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

    /// Removes a connection that has been authenticated; it goes on to count for its network.
    pub(super) fn authenticated(&self, id: u64) {
        let mut state = self.state();
        if let Some(network) = state.remove(id).and_then(|connection| connection.network) {
            state.count(Some(network));
            state.authenticated.insert(id, network);
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&self, id: u64) {
        let mut state = self.state();
        if state.remove(id).is_none() {
            let network = state.authenticated.remove(&id);
            state.discount(network);
        }
    }

    /// The present counts.
    pub(super) fn count(&self) -> Counts {
        let state = self.state();
        Counts { open: state.connections.len(), closed: state.closed, refused: state.refused }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
