//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! This room takes a router and serves it. It knows nothing of registries, users or configuration
//! files; what it can be told is in [`Options`].

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use self::acceptor::Acceptor;

mod acceptor;
pub mod authority;
pub mod certificates;
mod impatient;
pub mod tls;

/// A keep-alive connection may be idle this long, and a request's head may take this long: hyper
/// has one timer for both.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How often an HTTP/2 connection on which nothing happens is asked whether it is still there, and
/// how long it may take to answer.
const PING: Duration = Duration::from_secs(30);

/// What waits for a slow HTTP/1 client, besides one piece of a blob; and how long a request's head
/// may be.
const BUFFER: usize = 128 * 1024;

/// What a client may send on one HTTP/2 stream, and on all of a connection, before it has to wait:
/// enough for uploads at full rate, and all the memory that a connection can be made to take.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_STREAMS: u32 = 200;

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    handle: Handle<SocketAddr>,
    tasks: TaskTracker,
}

impl Server {
    /// Listens and serves. `tls` secures the connections; without it they are plain.
    ///
    /// When this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub fn start(
        options: &Options,
        tls: Option<Arc<ServerConfig>>,
        router: axum::Router,
    ) -> Result<Self, BindError> {
        let error = |source| BindError { addr: options.addr.clone(), source };
        let listener = listen(&options.addr).map_err(error)?;
        let addr = listener.local_addr().map_err(error)?;
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(listener)
            .map_err(error)?
            .handle(handle.clone())
            .acceptor(Acceptor::new(tls));
        if options.http2.disabled {
            server = server.http1_only();
        }
        let builder = server.http_builder();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_STREAMS);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            if let Err(error) = server.serve(service).await {
                tracing::error!(%error, "the listener failed");
            }
        });
        Ok(Self { addr, handle, tasks })
    }

    /// The address that is listened on; with port 0 in the options, the port that was chosen.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening, lets requests that run finish for at most `drain`, then ends them.
    pub async fn stop(self, drain: Duration) {
        self.handle.graceful_shutdown(Some(drain));
        self.tasks.close();
        self.tasks.wait().await;
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
    /// HTTP/2.
    pub http2: Http2Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: "0.0.0.0:5000".to_owned(),
            tls: TlsOptions::default(),
            draintimeout: Duration::from_secs(30),
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
