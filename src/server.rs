//! Sockets: the listener, TLS, certificates and their reload, the drain at the end.
//!
//! This room takes a service and serves it. It knows nothing of registries, users or configuration
//! files; what it can be told is in [`Options`].

use std::{
    convert::Infallible, error::Error, fmt, io, num::NonZeroU32, path::PathBuf, sync::Arc,
    time::Duration,
};

use axum::http::{Request, Response};
use hyper::{body::Body, service::Service};
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    connection::Http,
    listener::{Caller, Socket},
    slots::{Slot, Slots},
    tls::Tls,
};
pub use self::{
    listener::{Address, BindError, InheritError, Listener},
    peer::Peer,
    received::Received,
    slots::Connections,
    tls::CipherSuite,
    workers::Workers,
};

mod ahead;
pub mod authority;
pub mod certificates;
mod connection;
mod control;
mod descriptors;
mod discard;
mod door;
mod impatient;
mod lingering;
mod listener;
mod patience;
mod peer;
mod received;
mod slots;
mod through;
pub mod tls;
mod unauthenticated;
mod unread;
mod workers;

/// How long to wait when no connection can be accepted, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// When none could be accepted for a while, and then for so long none failed, it is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    addr: Address,
    slots: Arc<Slots>,
    /// The listener, every connection, and the streams of those that speak HTTP/2.
    tasks: TaskTracker,
    /// No new connections, no new requests.
    stopping: CancellationToken,
    /// No connections.
    stopped: CancellationToken,
}

impl Server {
    /// Serves those who connect, with these `workers`, which have to outlive it. `tls` secures the
    /// connections; without it they are plain. `service` gives for the other end of a connection the
    /// service that answers what comes from there.
    pub fn start<M, S, B>(
        listener: Listener,
        options: &Options,
        tls: Option<Tls>,
        workers: &Workers,
        service: M,
    ) -> Self
    where
        M: Fn(Peer) -> S + Send + Sync + 'static,
        S: Service<Request<Received>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let Listener { socket, addr, file } = listener;
        let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let http = Http::new(options.idletimeout, tasks.clone(), stopping.clone());
        let http = Arc::new(http);
        let slots = Slots::new(options, stopped.clone());
        let connect = {
            let (tasks, crew) = (tasks.clone(), workers.crew());
            let h2c = options.h2c.enabled;
            move |caller: Caller, slot: Slot| {
                let place = crew.place();
                let runtime = place.runtime.clone();
                let (tls, http) = (tls.clone(), Arc::clone(&http));
                let addr = caller.peer();
                let (peer, activity) = (slot.peer.clone(), Arc::clone(&slot.activity));
                let end = slot.end.clone();
                let service = service(peer.clone());
                let serve = async move {
                    let _held = (slot, place);
                    match door::open(caller, tls.as_ref(), h2c).await {
                        Ok(opened) => http.serve(opened, peer, activity, service).await,
                        Err(error) if tls::is_about_certificate(&error) => {
                            tracing::info!(%error, peer = ?addr, "a client was refused for its certificate");
                        }
                        // Scanners, health checks and impatient clients do this all day.
                        Err(error) => tracing::debug!(%error, peer = ?addr, "no connection"),
                    }
                };
                // Moved as it is, each of these would have room for it once more.
                let serve = Box::pin(serve);
                tasks.spawn_on(end.run_until_cancelled_owned(serve), &runtime);
            }
        };
        let (until, free) = (stopping.clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            until.run_until_cancelled(accept(&socket, &free, connect)).await;
            // From here on nobody can connect.
            drop(socket);
            if let Some(file) = file {
                let _ = tokio::task::spawn_blocking(move || drop(file)).await;
            }
        });
        Self { addr, slots, tasks, stopping, stopped }
    }

    /// Where it listens; with port 0 in the options, with the port that was chosen.
    #[must_use]
    pub const fn addr(&self) -> &Address {
        &self.addr
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

/// Accepts connections for ever. Where there is no slot for one, further clients wait where the system
/// keeps them.
async fn accept(socket: &Socket, slots: &Arc<Slots>, connect: impl Fn(Caller, Slot)) {
    let mut failed: Option<Instant> = None;
    loop {
        match socket.accept().await {
            Ok(caller) => {
                let slot = slots.admit(caller.peer()).await;
                connect(caller, slot);
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if failed.is_none_or(|failed| failed.elapsed() > SAY_AGAIN) {
                    tracing::error!(
                        %error,
                        "cannot accept connections and keeps trying; if descriptors have run out, \
                         raise their limit (ulimit -n, LimitNOFILE=) or lower http.maxconnections"
                    );
                }
                failed = Some(Instant::now());
                slots.make_room();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What the `http` section says about sockets. Keys as in registry:2's `config.yml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Where to listen: `host:port`, where an empty host means every address; or the path of a
    /// socket.
    pub addr: String,
    /// Which of the two.
    pub net: Net,
    /// Where to listen for plain HTTP that is sent to HTTPS: `host:port`. Empty: nowhere.
    pub redirectaddr: String,
    /// How connections are secured.
    pub tls: TlsOptions,
    /// How long requests that run when the server is told to stop may take to finish.
    pub draintimeout: Duration,
    /// How long a client may neither ask for anything nor send what it announced. One that takes
    /// nothing of what it asked for has five times as long. Where no request was let in yet it is ten
    /// seconds at most, for either.
    pub idletimeout: Duration,
    /// How many connections there may be at a time. On three quarters of them, at most, no request
    /// was let in yet; of those one is closed where there is no room for another client, and
    /// without any further clients wait. `None`: half of the descriptors that the process may have,
    /// and at most 10,000.
    pub maxconnections: Option<NonZeroU32>,
    /// How many connections an address may have on which no request was let in yet: an IPv4 address
    /// or a /64 of IPv6, and four times as many a /48. Beyond, one of the same is closed for a new one.
    /// `None`: an eighth of all connections, and at least 8.
    pub maxconnectionsperaddress: Option<NonZeroU32>,
    /// The networks of proxies, whose addresses many clients share: neither the limit for each
    /// address nor the shorter time is for those, nor for whoever comes through a socket that is a
    /// file. It is for the caller to set.
    #[serde(skip)]
    pub proxies: Vec<IpNet>,
    /// HTTP/2.
    pub http2: Http2Options,
    /// HTTP/2 without TLS.
    pub h2c: H2cOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: "0.0.0.0:5000".to_owned(),
            net: Net::default(),
            redirectaddr: String::new(),
            tls: TlsOptions::default(),
            draintimeout: Duration::from_secs(30),
            idletimeout: Duration::from_secs(60),
            maxconnections: None,
            maxconnectionsperaddress: None,
            proxies: Vec::new(),
            http2: Http2Options::default(),
            h2c: H2cOptions::default(),
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

/// `http.h2c`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct H2cOptions {
    /// Speaks HTTP/2 with those who begin with its preface, where there is no TLS (RFC 9113 §3.3).
    pub enabled: bool,
}

/// `http.net`: what is listened on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Net {
    /// An address and a port.
    #[default]
    Tcp,
    /// A socket that is a file.
    Unix,
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
        /// What TLS 1.2 is spoken with (`ciphersuites`); nothing in it stands for all. All suites
        /// of TLS 1.3 are spoken in any case, as by Go.
        suites: Vec<CipherSuite>,
        /// The certificates that clients have to show beside their passwords; `None`: none are
        /// asked for.
        clients: Option<ClientCertificates>,
    },
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self::with(CertificateSource::BuiltIn)
    }
}

impl TlsOptions {
    /// TLS with this certificate, and nothing else that is not the default.
    #[must_use]
    pub const fn with(source: CertificateSource) -> Self {
        Self::On { source, minimum: TlsVersion::Tls12, suites: Vec::new(), clients: None }
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

/// Which certificates of clients are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM files with the certificates of those who issue them (`http.tls.clientcas`).
    pub authorities: Vec<PathBuf>,
    /// What is asked for.
    pub demand: ClientAuth,
}

/// `http.tls.clientauth`: what is asked of clients, in registry:2's words. A certificate that is
/// shown is always one that the client has the key of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A certificate from anybody, or none.
    RequestClientCert,
    /// A certificate from anybody.
    RequireAnyClientCert,
    /// A certificate that an authority has issued, or none.
    VerifyClientCertIfGiven,
    /// A certificate that an authority has issued.
    #[default]
    RequireAndVerifyClientCert,
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TlsVisitor)
    }
}

/// Not an untagged enum: that would forget which key of the section is wrong.
struct TlsVisitor;

impl<'de> Visitor<'de> for TlsVisitor {
    type Value = TlsOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section, `off` or `false`")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<TlsOptions, E> {
        Ok(if on { TlsOptions::default() } else { TlsOptions::Off })
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<TlsOptions, E> {
        match word {
            "off" => Ok(TlsOptions::Off),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, section: A) -> Result<TlsOptions, A::Error> {
        #[derive(Deserialize)]
        struct Section {
            certificate: Option<PathBuf>,
            key: Option<PathBuf>,
            #[serde(default)]
            minimumtls: TlsVersion,
            #[serde(default)]
            ciphersuites: Vec<CipherSuite>,
            #[serde(default)]
            clientcas: Vec<PathBuf>,
            #[serde(default)]
            clientauth: ClientAuth,
        }
        use de::Error as _;
        let section = Section::deserialize(MapAccessDeserializer::new(section))?;
        let source = match (section.certificate, section.key) {
            (Some(certificate), Some(key)) => CertificateSource::Files { certificate, key },
            (None, None) => CertificateSource::BuiltIn,
            (Some(_), None) => {
                return Err(A::Error::custom("certificate is set, key is not"));
            }
            (None, Some(_)) => {
                return Err(A::Error::custom("key is set, certificate is not"));
            }
        };
        let (authorities, demand) = (section.clientcas, section.clientauth);
        let clients =
            (!authorities.is_empty()).then_some(ClientCertificates { authorities, demand });
        Ok(TlsOptions::On {
            source,
            minimum: section.minimumtls,
            suites: section.ciphersuites,
            clients,
        })
    }
}
