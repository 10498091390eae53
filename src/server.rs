//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! This room takes a service and serves it. It knows nothing of registries, users or configuration
//! files; what it can be told is in [`Options`].

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::slots::Connections;
use self::{
    connection::Http,
    slots::{Slot, Slots},
    tls::Tls,
};

pub mod authority;
pub mod certificates;
mod connection;
mod descriptors;
mod door;
mod impatient;
mod lingering;
mod patience;
mod slots;
pub mod tls;

/// How long to wait when no connection can be accepted, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    slots: Arc<Slots>,
    /// The listener, every connection, and the streams of those that speak HTTP/2.
    tasks: TaskTracker,
    /// No new connections, no new requests.
    stopping: CancellationToken,
    /// No connections.
    stopped: CancellationToken,
}

impl Server {
    /// Listens and serves. `tls` secures the connections; without it they are plain. `service` gives
    /// for the address of a client the service that answers what comes from there.
    ///
    /// When this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub fn start<M, S, B>(
        options: &Options,
        tls: Option<Tls>,
        service: M,
    ) -> Result<Self, BindError>
    where
        M: Fn(SocketAddr) -> S + Send + Sync + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let error = |source| BindError { addr: options.addr.clone(), source };
        let listener = listen(&options.addr).map_err(error)?;
        let addr = listener.local_addr().map_err(error)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(error)?;
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let http = Http::new(options.idletimeout, tasks.clone(), stopping.clone());
        let http = Arc::new(http);
        let slots = Slots::new(options.maxconnections.unwrap_or_else(descriptors::for_connections));
        let connect = {
            let (tasks, stopped) = (tasks.clone(), stopped.clone());
            move |(stream, peer), slot| {
                let (tls, http) = (tls.clone(), Arc::clone(&http));
                let service = service(peer);
                let serve = async move {
                    let _slot = slot;
                    match door::open(stream, tls.as_ref()).await {
                        Ok(opened) => http.serve(opened, service).await,
                        // Scanners, health checks and impatient clients do this all day.
                        Err(error) => tracing::debug!(%error, %peer, "no connection"),
                    }
                };
                // Moved as it is, each of these would have room for it once more.
                let serve = Box::pin(serve);
                tasks.spawn(stopped.clone().run_until_cancelled_owned(serve));
            }
        };
        let (until, free) = (stopping.clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            until.run_until_cancelled(accept(&listener, &free, connect)).await;
            // From here on nobody can connect.
            drop(listener);
        });
        Ok(Self { addr, slots, tasks, stopping, stopped })
    }

    /// The address that is listened on; with port 0 in the options, the port that was chosen.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections there are and may be.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.slots.count()
    }

    /// Tells the same whenever it is asked, for as long as anybody asks.
    pub fn count_connections(&self) -> impl Fn() -> Connections + Clone + Send + Sync + use<> {
        let slots = Arc::clone(&self.slots);
        move || slots.count()
    }

    /// Stops listening, lets requests that run finish for at most `drain`, then ends them.
    pub async fn stop(self, drain: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            self.stopped.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Accepts connections for ever, each when there is a slot for it: until then clients wait where
/// the system keeps them.
async fn accept(
    listener: &tokio::net::TcpListener,
    slots: &Arc<Slots>,
    connect: impl Fn((TcpStream, SocketAddr), Slot),
) {
    let mut failing = false;
    loop {
        let slot = slots.take().await;
        match listener.accept().await {
            Ok(client) => {
                failing = false;
                connect(client, slot.accepted());
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failing {
                    tracing::error!(
                        %error,
                        "cannot accept connections and keeps trying; if descriptors have run out, \
                         raise their limit (ulimit -n, LimitNOFILE=) or lower http.maxconnections"
                    );
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Listens on `host:port`. Without a host, on every address of either family, as Go does.
fn listen(addr: &str) -> io::Result<TcpListener> {
    let listener = match addr.strip_prefix(':') {
        Some(port) => TcpListener::bind(format!("[::]:{port}"))
            .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}"))),
        None => TcpListener::bind(addr),
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {}", hint(source))]
pub struct BindError {
    addr: String,
    source: io::Error,
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program does; stop it, or choose another http.addr".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root; choose another http.addr".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "it is not an address of this machine; correct http.addr".to_owned()
        }
        _ => "http.addr is <host>:<port>".to_owned(),
    }
}

/// What the `http` section says about sockets. Keys as in registry:2's `config.yml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Where to listen: `host:port`; an empty host means every address.
    pub addr: String,
    /// How connections are secured.
    pub tls: TlsOptions,
    /// How long requests that run when the server is told to stop may take to finish.
    pub draintimeout: Duration,
    /// How long a client may neither ask for anything nor send what it announced. One that takes
    /// nothing of what it asked for has five times as long.
    pub idletimeout: Duration,
    /// How many connections there may be at a time; further clients wait. `None`: half of the
    /// descriptors that the process may have, and at most 10,000.
    pub maxconnections: Option<NonZeroU32>,
    /// HTTP/2.
    pub http2: Http2Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: "0.0.0.0:5000".to_owned(),
            tls: TlsOptions::default(),
            draintimeout: Duration::from_secs(30),
            idletimeout: Duration::from_secs(60),
            maxconnections: None,
            http2: Http2Options::default(),
        }
    }
}

/// `http.http2`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Http2Options {
    /// Offers HTTP/1.1 only.
    pub disabled: bool,
}

/// `http.tls`: a mapping, or `off` (also `false`) for plain HTTP.
#[derive(Clone, Debug)]
pub enum TlsOptions {
    /// Plain HTTP. Only ever the result of the word `off` or `false` in the configuration.
    Off,
    /// TLS with the given certificate.
    On {
        /// Where certificate and key come from.
        source: CertificateSource,
        /// The oldest protocol version that is accepted (`minimumtls`).
        minimum: TlsVersion,
    },
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::On { source: CertificateSource::BuiltIn, minimum: TlsVersion::Tls12 }
    }
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made by the local authority in `certs/` of the working directory.
    BuiltIn,
    /// PEM files: the chain, leaf first, and the private key.
    Files {
        /// `http.tls.certificate`
        certificate: PathBuf,
        /// `http.tls.key`
        key: PathBuf,
    },
}

/// A TLS protocol version, spelled `tls1.2` and `tls1.3` in the configuration.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    #[default]
    #[serde(rename = "tls1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446)
    #[serde(rename = "tls1.3")]
    Tls13,
}

impl<'de> Deserialize<'de> for TlsOptions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Switch(bool),
            Word(String),
            Section(Section),
        }
        #[derive(Deserialize)]
        struct Section {
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
            #[serde(default)]
            minimumtls: TlsVersion,
        }
        use serde::de::Error as _;
        match Shape::deserialize(deserializer)? {
            Shape::Switch(false) => Ok(Self::Off),
            Shape::Switch(true) => Ok(Self::default()),
            Shape::Word(word) if word == "off" => Ok(Self::Off),
            Shape::Word(word) => {
                Err(D::Error::custom(format!("expected a section, `off` or `false`, not `{word}`")))
            }
            Shape::Section(Section { certificate, key, minimumtls }) => {
                let source = match (certificate, key) {
                    (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
                    (None, None) => CertificateSource::BuiltIn,
                    (Some(_), None) => {
                        return Err(D::Error::custom("certificate is set, key is not"));
                    }
                    (None, Some(_)) => {
                        return Err(D::Error::custom("key is set, certificate is not"));
                    }
                };
                Ok(Self::On { source, minimum: minimumtls })
            }
        }
    }
}
