//! Tests of the choice of connections. The clock is tokio's, which the tests turn.

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
        let limits = Limits { all, network, connections: None };
        Self { all: Unauthenticated::new(limits), open: Vec::new() }
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
    assert_eq!(server.all.count(), Counts { open: 3, closed: 1, refused: 0 });
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

#[tokio::test(start_paused = true)]
async fn network_with_all_its_connections_authenticated_gets_no_more() {
    let limits = Limits { all: 100, network: 100, connections: Some(2) };
    let mut server = Server { all: Unauthenticated::new(limits), open: Vec::new() };
    server.connect("first", "192.0.2.1").await;
    server.all.authenticated(0);
    server.connect("second", "192.0.2.1").await;
    assert_eq!(server.all.make_room(network("192.0.2.2")), Room::Free);
    assert_eq!(server.all.make_room(network("192.0.2.1")), Room::Made);
    assert_eq!(server.closed(), ["second"]);
    server.connect("third", "192.0.2.1").await;
    server.all.authenticated(2);
    assert_eq!(server.all.make_room(network("192.0.2.1")), Room::Refused);
    // A client that a PROXY header names.
    server.connect("proxied", "198.51.100.1").await;
    server.all.move_to(3, network("192.0.2.1").unwrap());
    assert_eq!(server.closed(), ["second", "proxied"]);
    assert_eq!(server.all.count(), Counts { open: 0, closed: 1, refused: 2 });
    server.all.remove(0);
    assert_eq!(server.all.make_room(network("192.0.2.1")), Room::Free);
    for id in 1..4 {
        server.all.remove(id);
    }
    let state = server.all.state();
    assert!(state.networks.is_empty() && state.authenticated.is_empty());
}
