//! TLS passthrough: connections whose client asks for the name of another site (SNI) are handed to that site's
//! server as they are. The site keeps its certificate, its versions of TLS and of HTTP.
//!
//! Such a connection counts under `http.maxconnections`, and as an unauthenticated one: it may be closed to
//! make room.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::proxy_header::{ProxiedAddress, ProxyHeader};
use rustls::server::Accepted;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    certificates::wildcard_matches, client_hello, idle::Activity, options::Passthrough, peer::Peer,
    transport::SocketStream,
};

/// How long connecting to the server of a site may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long neither side may send, as with nginx (`proxy_timeout`).
const IDLE: Duration = Duration::from_secs(600);

/// The same while this server stops.
const IDLE_WHILE_STOPPING: Duration = Duration::from_secs(1);

/// The most bytes that are on their way in one direction.
const PIECE: usize = 32 * 1024;

/// The time between two messages about one site whose server cannot be reached.
const REPEAT_LOG_AFTER: Duration = Duration::from_secs(60);

/// The sites of `http.tls.passthrough`. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sites(Arc<[Arc<Site>]>);

/// A site that another server serves.
#[derive(Debug)]
struct Site {
    options: Passthrough,
    /// When the log last had a message that the server cannot be reached.
    reported: Mutex<Option<Instant>>,
}

/// A connection for the server of a site.
#[derive(Debug)]
pub(super) struct PassedThrough {
    client: SocketStream,
    /// What the client has sent so far.
    begin: Vec<u8>,
    site: Arc<Site>,
    peer: Peer,
}

impl Sites {
    /// The sites of these options.
    #[must_use]
    pub fn new(sites: &[Passthrough]) -> Self {
        let site = |options: &Passthrough| {
            let options = options.clone();
            Arc::new(Site { options, reported: Mutex::default() })
        };
        Self(sites.iter().map(site).collect())
    }

    /// Whether no site is configured.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host name is one of a site.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        self.site(host).is_some()
    }

    /// The site of a name: the one that has it, or else the one that has a wildcard for it.
    fn site(&self, name: &str) -> Option<&Arc<Site>> {
        let find = |is_name: &dyn Fn(&str) -> bool| {
            self.0.iter().find(|site| site.options.names.iter().any(|own| is_name(own)))
        };
        find(&|own| own.eq_ignore_ascii_case(name))
            .or_else(|| find(&|own| wildcard_matches(own, name)))
    }

    /// Reads the `ClientHello` of a connection, and returns it, or the connection of another site.
    ///
    /// # Errors
    ///
    /// Those of the socket, and when the bytes are no `ClientHello`.
    pub(super) async fn route(&self, mut socket: SocketStream, peer: &Peer) -> io::Result<Route> {
        let (accepted, begin) = client_hello::read(&mut socket).await?;
        let site = accepted.client_hello().server_name().and_then(|name| self.site(name));
        Ok(match site {
            Some(site) => Route::Site(PassedThrough {
                client: socket,
                begin,
                site: Arc::clone(site),
                peer: peer.clone(),
            }),
            None => Route::Registry(Box::new(accepted), socket),
        })
    }
}

/// Where a connection belongs.
pub(super) enum Route {
    /// To this server. The `ClientHello` has been read.
    Registry(Box<Accepted>, SocketStream),
    /// To another site.
    Site(PassedThrough),
}

impl PassedThrough {
    /// Connects to the server of the site, and copies between it and the client until both have ended, neither
    /// sends for ten minutes, or this server stops and neither sends for a second.
    pub(super) async fn run(self, activity: &Activity, stopping: &CancellationToken) {
        let Self { client, begin, site, peer } = self;
        let mut server = match site.connect().await {
            Ok(server) => server,
            Err(error) => return site.report(&error),
        };
        let mut first = Vec::new();
        if site.options.proxyprotocol {
            first = header(peer.addr(), client.local_addr());
        }
        first.extend_from_slice(&begin);
        let copying = async {
            server.write_all(&first).await?;
            copy_both(client, server, activity).await
        };
        let idle = async {
            tokio::select! {
                () = activity.wait_idle_for(IDLE) => {}
                () = stopping.cancelled() => activity.wait_idle_for(IDLE_WHILE_STOPPING).await,
            }
        };
        tokio::select! {
            copied = copying => {
                if let Err(error) = copied {
                    tracing::debug!(%error, addr = site.options.addr, "a passed-through connection broke");
                }
            }
            () = idle => {}
        }
    }
}

impl Site {
    async fn connect(&self) -> io::Result<TcpStream> {
        let connecting = TcpStream::connect(&self.options.addr);
        let stream = timeout(CONNECT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Logs once a minute that the server cannot be reached.
    fn report(&self, error: &io::Error) {
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_some_and(|at| now.duration_since(at) < REPEAT_LOG_AFTER) {
            return;
        }
        *reported = Some(now);
        drop(reported);
        let Passthrough { names, addr, .. } = &self.options;
        tracing::error!(
            %error,
            addr,
            names = names.join(" "),
            "cannot reach the server of http.tls.passthrough; its clients are disconnected"
        );
    }
}

/// A PROXY header of version 2 for a client of this server. A client without an address is this server itself
/// (`LOCAL`).
fn header(client: Option<SocketAddr>, own: Option<SocketAddr>) -> Vec<u8> {
    let header = match (client, own) {
        (Some(client), Some(own)) if client.is_ipv4() == own.is_ipv4() => {
            ProxyHeader::with_address(ProxiedAddress::stream(client, own))
        }
        (Some(client), Some(own)) => {
            ProxyHeader::with_address(ProxiedAddress::stream(as_v6(client), as_v6(own)))
        }
        (Some(client), None) => {
            let unknown = match client {
                SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            ProxyHeader::with_address(ProxiedAddress::stream(client, unknown))
        }
        (None, _) => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::new();
    // Fails for addresses of two families and for more than 64 KiB of fields.
    let _ = header.encode_v2(&mut bytes);
    bytes
}

fn as_v6(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// Copies in both directions until both have ended. The end of one is passed on.
async fn copy_both(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    activity: &Activity,
) -> io::Result<()> {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let up = copy(from_client, to_server, activity);
    let down = copy(from_server, to_client, activity);
    tokio::try_join!(up, down).map(|_| ())
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        activity.restart_idle_timeout();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        activity.restart_idle_timeout();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn sites(sites: &[&[&str]]) -> Sites {
        let site = |(index, names): (usize, &&[&str])| Passthrough {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addr: format!("127.0.0.1:{index}"),
            proxyprotocol: false,
        };
        Sites::new(&sites.iter().enumerate().map(site).collect::<Vec<_>>())
    }

    #[test]
    fn exact_name_wins_over_a_wildcard() {
        let sites = sites(&[&["*.shop.example"], &["www.example", "a.shop.example"]]);
        for (name, expected) in [
            ("www.example", Some("127.0.0.1:1")),
            ("WWW.example", Some("127.0.0.1:1")),
            ("a.shop.example", Some("127.0.0.1:1")),
            ("b.shop.example", Some("127.0.0.1:0")),
            ("x.b.shop.example", None),
            ("shop.example", None),
            ("registry.example", None),
        ] {
            assert_eq!(sites.site(name).map(|site| &*site.options.addr), expected, "{name}");
        }
    }

    #[test]
    fn header_has_the_client_in_one_family() {
        let client = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        for (from, own, expected) in [
            (client("192.0.2.7:8080"), client("10.0.0.1:443"), Some("192.0.2.7:8080")),
            (client("192.0.2.7:8080"), client("[::1]:443"), Some("[::ffff:192.0.2.7]:8080")),
            (client("[2001:db8::1]:1"), None, Some("[2001:db8::1]:1")),
            (None, None, None),
        ] {
            let found = super::super::proxy_header::parse(&header(from, own)).unwrap();
            assert_eq!(found.map(|client| client.to_string()).as_deref(), expected);
        }
    }

    /// The paused clock advances to the next timer when all tasks are idle.
    #[tokio::test(start_paused = true)]
    async fn end_of_one_direction_is_passed_on_and_silence_ends_both() {
        let activity = Activity::unauthenticated(Duration::from_secs(60));
        let (mut client, near) = duplex(100);
        let (far, mut server) = duplex(100);
        let asking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            server.write_all(&[b'x'; 70_000]).await.unwrap();
            server.shutdown().await.unwrap();
            question
        };
        let copying = copy_both(near, far, &activity);
        let (copied, answer, question) = tokio::join!(copying, asking, answering);
        copied.unwrap();
        assert_eq!((answer.len(), &*question), (70_000, "question"));
        let silent = tokio::time::Instant::now();
        activity.wait_idle_for(IDLE).await;
        assert!(silent.elapsed() >= IDLE);
    }
}
