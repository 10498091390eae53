//! The composition root: builds every part, starts them in order, takes them down in the reverse.
//!
//! Nobody else constructs a part, and no part knows another that it was not given here.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    config::{self, Config},
    gate::{self, EverythingAllowed, Gate, UserFile, htpasswd, htpasswd::UserName},
    http::{self, Api, DebugOptions, Limits},
    jobs::Jobs,
    notify::{self, Notifier},
    registry::{Registry, SystemClock},
    server::{
        self, BindError, CertificateSource, Connections, Server, TlsOptions,
        authority::{self, Outcome},
        certificates::{self, CertificateError},
        tls,
    },
    storage::{self, Storage, filesystem::Filesystem, memory::Memory},
    telemetry::metrics::{self, Kind, Labels, Metrics},
};

/// Commands know the core through this room only.
pub use crate::registry::verify;

/// Where the built-in authority keeps its files: in the working directory.
pub const CERTIFICATES: &str = "certs";

/// A changed password file is in force within a second: twice this, and the time to read it.
const USERS_EVERY: Duration = Duration::from_millis(400);

/// A changed certificate is in force within a few seconds.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// What a power cut can take of the events that wait.
const EVENTS_SYNCED_EVERY: Duration = Duration::from_secs(1);

/// Where events wait, below the root of the storage.
const EVENTS: &str = "portcullis-notifications";

/// The user that is made when there is no password file.
const FIRST_USER: &str = "admin";

/// A registry that is serving.
#[derive(Debug)]
pub struct App {
    server: Server,
    /// The debug listener, where there is one.
    debug: Option<Server>,
    registry: Registry,
    gate: Arc<Gate>,
    notifier: Notifier,
    jobs: Jobs,
    reloads: Arc<Reloads>,
    drain: Duration,
}

/// What a start made because it was missing; a person needs to know of it.
#[derive(Debug, Default)]
pub struct Provisioned {
    /// The user that was made.
    pub user: Option<FirstUser>,
    /// What was made of the built-in certificates; `None` where others are used.
    pub certificates: Option<Outcome>,
}

/// The user that is made when there is no password file.
#[derive(Debug)]
pub struct FirstUser {
    /// Their name.
    pub name: &'static str,
    /// Their password, which is kept nowhere else.
    pub password: Password,
    /// The file that was made.
    pub file: PathBuf,
}

/// A password that only whoever asks for it in so many words can print.
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password as text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Provisioned {
    /// Whether anything was made.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.user.is_some() || self.certificates.as_ref().is_some_and(|made| made.created_authority)
    }
}

impl App {
    /// Builds everything and starts to serve. When this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// When a part cannot be built; nothing is left running then.
    pub fn start(config: &Config) -> Result<(Self, Provisioned), StartError> {
        Self::start_over(open_storage(&config.storage.backend)?, config)
    }

    /// As [`start`](Self::start), over a storage of the caller's.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_over(
        storage: Arc<dyn Storage>,
        config: &Config,
    ) -> Result<(Self, Provisioned), StartError> {
        let mut provisioned = Provisioned::default();
        let registry = Registry::new(storage, Arc::new(SystemClock), config.uploads.maxopen);
        let (gate, users) = open_gate(&config.auth, &mut provisioned)?;
        let (tls, certificates) = secure(config, &mut provisioned)?;
        let limits = Limits {
            delete: config.storage.delete.clone(),
            catalog: config.catalog.clone(),
            tags: config.tags.clone(),
            silent: config.log.accesslog.disabled,
        };
        let notifier = Notifier::new(place_of_events(config), source(config));
        let core = (registry.clone(), notifier.clone());
        let api = Api::new(core, Arc::clone(&gate), &config.http.api, limits, tls.is_some())?;
        let api = Arc::new(api);
        notifier.set(&config.notifications)?;
        let server = Server::start(&config.http.server, tls, move |peer| api.service(peer))?;

        let mut metrics = metrics(&server, &gate, &registry);
        count_events(&mut metrics, &notifier);
        let debug = open_debug(&config.http, metrics)?;

        let reloads = Arc::new(Reloads { gate: Arc::clone(&gate), users, certificates });
        let jobs = Jobs::default();
        let (for_users, for_certificates) = (Arc::clone(&reloads), Arc::clone(&reloads));
        jobs.every(USERS_EVERY, move || Arc::clone(&for_users).run(|r| r.users(false)));
        jobs.every(CERTIFICATES_EVERY, move || {
            Arc::clone(&for_certificates).run(|r| r.certificates(false))
        });
        let to_sync = notifier.clone();
        jobs.every(EVENTS_SYNCED_EVERY, move || {
            let notifier = to_sync.clone();
            async move { notifier.sync().await }
        });
        let drain = config.http.server.draintimeout;
        Ok((Self { server, debug, registry, gate, notifier, jobs, reloads, drain }, provisioned))
    }

    /// The address that is listened on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The address that metrics are served on, where they are.
    #[must_use]
    pub fn debug_addr(&self) -> Option<SocketAddr> {
        self.debug.as_ref().map(Server::addr)
    }

    /// How many connections there are and may be.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.server.connections()
    }

    /// Who is let in, and how often bcrypt was asked.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Who is told of what happens; their endpoints can be changed while the server runs.
    #[must_use]
    pub const fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Reads the password file and the certificates again, changed or not.
    pub async fn reload(&self) {
        Arc::clone(&self.reloads)
            .run(|reloads| {
                reloads.users(true);
                reloads.certificates(true);
            })
            .await;
    }

    /// Stops listening, lets what runs finish within `http.draintimeout`, and takes everything
    /// down. Work that must not stop half-way is waited for; events that no endpoint has taken yet
    /// wait for the next start.
    pub async fn stop(self) {
        self.server.stop(self.drain).await;
        self.jobs.stop().await;
        self.registry.settle().await;
        self.notifier.stop().await;
        if let Some(debug) = self.debug {
            debug.stop(Duration::ZERO).await;
        }
    }
}

/// Opens the registry that `config` describes, without serving it, for a command that looks at what
/// is stored. Nothing is made, not even the root.
///
/// # Errors
///
/// When there is no storage yet, or none that outlives a process.
pub fn open_registry(config: &Config) -> Result<Registry, StartError> {
    match &config.storage.backend {
        storage::Options::Memory => return Err(StartError::NothingKept),
        storage::Options::Filesystem(options) if !options.rootdirectory.is_dir() => {
            return Err(StartError::NoStorage { root: options.rootdirectory.clone() });
        }
        storage::Options::Filesystem(_) => {}
    }
    let storage = open_storage(&config.storage.backend)?;
    Ok(Registry::new(storage, Arc::new(SystemClock), config.uploads.maxopen))
}

/// What is counted, and where.
fn metrics(server: &Server, gate: &Arc<Gate>, registry: &Registry) -> Metrics {
    let mut metrics = Metrics::default();
    let connections = server.count_connections();
    let (open, limit, accepted, full) =
        (connections.clone(), connections.clone(), connections.clone(), connections);
    metrics.gauge("connections", "Connections that are open", move || open().open as u64);
    let help = "Connections that may be open at a time";
    metrics.gauge("connections_limit", help, move || limit().limit as u64);
    let help = "Connections that were accepted";
    metrics.counter("connections_accepted", help, move || accepted().accepted);
    let help = "Times that clients had to wait for a connection to end";
    metrics.counter("connections_full", help, move || full().full);
    let help = "Passwords that bcrypt was asked about";
    let asked = Arc::clone(gate);
    metrics.counter("auth_bcrypt", help, move || asked.verifications());
    let help = "Passwords that were not looked at, because too many were wrong";
    let refused = Arc::clone(gate);
    metrics.counter("auth_throttled", help, move || refused.throttled());
    let registry = registry.clone();
    let help = "Uploads that were begun and not finished or cancelled";
    metrics.gauge("uploads_open", help, move || registry.open_uploads() as u64);
    metrics
}

/// What became of events. The names are registry:3's, but for what it does not count.
fn count_events(metrics: &mut Metrics, notifier: &Notifier) {
    fn of(name: &str) -> (&'static str, String) {
        ("endpoint", name.to_owned())
    }
    let each = |values: fn(notify::Counts) -> Vec<(Labels, u64)>| {
        let notifier = notifier.clone();
        move || notifier.counts().into_iter().flat_map(values).collect()
    };
    metrics.family(
        ("registry_notifications_events", "Events by what became of them"),
        Kind::Counter,
        each(|counts| {
            let numbers = [
                ("Events", counts.events),
                ("Successes", counts.successes),
                ("Failures", counts.failures),
                ("Errors", counts.errors),
            ];
            let labelled = |(kind, number): (&str, u64)| {
                (vec![("type", kind.to_owned()), of(&counts.name)], number)
            };
            numbers.map(labelled).to_vec()
        }),
    );
    metrics.family(
        ("registry_notifications_pending_total", "Events that wait for an endpoint"),
        Kind::Gauge,
        each(|counts| vec![(vec![of(&counts.name)], counts.pending)]),
    );
    metrics.family(
        ("registry_notifications_status", "Answers of endpoints by their status"),
        Kind::Counter,
        each(|counts| {
            let labelled = |(code, number)| (vec![("code", code), of(&counts.name)], number);
            counts.statuses.into_iter().map(labelled).collect()
        }),
    );
    metrics.family(
        ("portcullis_notifications_dropped", "Events that found no place in a queue"),
        Kind::Counter,
        each(|counts| vec![(vec![of(&counts.name)], counts.dropped)]),
    );
}

/// Where events wait: beside the images, where those outlive the process.
fn place_of_events(config: &Config) -> notify::Place {
    match &config.storage.backend {
        storage::Options::Memory => notify::Place::Memory,
        storage::Options::Filesystem(options) => {
            notify::Place::Folder(options.rootdirectory.join(EVENTS))
        }
    }
}

/// What events say about where they come from: this machine, the port that is configured, and
/// which of its runs this is.
fn source(config: &Config) -> notify::Source {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let addr = match config.http.server.addr.rsplit_once(':') {
        Some((_, port)) => format!("{host}:{port}"),
        None => host.into_owned(),
    };
    notify::Source { addr, instance: Uuid::new_v4().to_string() }
}

/// Opens the debug listener, where there is an address for it.
fn open_debug(options: &config::Http, metrics: Metrics) -> Result<Option<Server>, StartError> {
    let DebugOptions { addr, prometheus } = &options.api.debug;
    if addr.is_empty() {
        return Ok(None);
    }
    let text = move || metrics.text();
    let debug = Arc::new(http::Debug::new(prometheus, metrics::CONTENT_TYPE, text));
    let options =
        server::Options { addr: addr.clone(), tls: TlsOptions::Off, ..options.server.clone() };
    let server = Server::start(&options, None, move |_| debug.service())?;
    tracing::info!(addr = %server.addr(), "listening for metrics");
    Ok(Some(server))
}

fn open_storage(options: &storage::Options) -> Result<Arc<dyn Storage>, StartError> {
    Ok(match options {
        storage::Options::Memory => Arc::new(Memory::default()),
        storage::Options::Filesystem(options) => {
            let opened = Filesystem::open(options).map_err(|source| StartError::Storage {
                root: options.rootdirectory.clone(),
                source,
            })?;
            Arc::new(opened)
        }
    })
}

/// Builds the gate, and makes the password file when it is missing.
fn open_gate(
    options: &gate::Options,
    provisioned: &mut Provisioned,
) -> Result<(Arc<Gate>, Option<Mutex<UserFile>>), StartError> {
    let gate::Options::Htpasswd(options) = options else {
        return Ok((Arc::new(Gate::open(EverythingAllowed)), None));
    };
    let failed = |source| StartError::Users { path: options.path.clone(), source };
    if !options.path.exists() {
        let user: UserName = FIRST_USER.parse().map_err(|error| failed(io::Error::other(error)))?;
        let password = htpasswd::file::provision(&options.path, &user).map_err(failed)?;
        let file = options.path.clone();
        provisioned.user = Some(FirstUser { name: FIRST_USER, password: Password(password), file });
    }
    let (source, users) = UserFile::open(&options.path).map_err(failed)?;
    report(&options.path, &users);
    let gate = Gate::htpasswd(options, &users, EverythingAllowed)?;
    Ok((Arc::new(gate), Some(Mutex::new(source))))
}

/// Says which lines of a password file let nobody in.
fn report(path: &Path, users: &htpasswd::Htpasswd) {
    for problem in users.problems() {
        tracing::warn!(file = %path.display(), line = problem.line, "{problem}");
    }
    if users.entries().is_empty() {
        tracing::warn!(
            file = %path.display(),
            "no user can log in; add one with `portcullis htpasswd`"
        );
    }
}

type Secured = (Option<tls::Tls>, Option<Mutex<Certificates>>);

/// Builds the TLS configuration, and makes the built-in certificates when they are missing.
fn secure(config: &Config, provisioned: &mut Provisioned) -> Result<Secured, StartError> {
    let options = &config.http.server;
    let TlsOptions::On { source, minimum } = &options.tls else {
        return Ok((None, None));
    };
    let source = match source {
        CertificateSource::Files { certificate, key } => {
            certificates::Source::new(certificate.clone(), key.clone())
        }
        CertificateSource::BuiltIn => {
            let folder = Path::new(CERTIFICATES);
            let hosts: Vec<String> = config.http.api.host.iter().cloned().collect();
            provisioned.certificates = Some(authority::ensure(folder, &hosts)?);
            certificates::Source::new(folder.join("server.crt"), folder.join("server.key"))
        }
    };
    let mut source = source;
    let resolver = Arc::new(certificates::Resolver::new(source.load()?));
    let tls = tls::Tls::new(options, *minimum, Arc::clone(&resolver) as Arc<_>)?;
    let certificates = Certificates { source, resolver };
    Ok((Some(tls), Some(Mutex::new(certificates))))
}

#[derive(Debug)]
struct Certificates {
    source: certificates::Source,
    resolver: Arc<certificates::Resolver>,
}

/// What is read again while the server runs.
#[derive(Debug)]
struct Reloads {
    gate: Arc<Gate>,
    users: Option<Mutex<UserFile>>,
    certificates: Option<Mutex<Certificates>>,
}

impl Reloads {
    /// Does file work where it may block.
    async fn run(self: Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        if let Err(error) = tokio::task::spawn_blocking(move || work(&self)).await {
            tracing::error!(%error, "a reload panicked");
        }
    }

    fn users(&self, unchanged_too: bool) {
        let Some(source) = &self.users else { return };
        let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
        match source.reload(unchanged_too) {
            Ok(None) => {}
            Ok(Some(users)) => {
                tracing::info!(users = users.entries().len(), "the password file is in force");
                report(source.path(), &users);
                self.gate.set_users(&users);
            }
            Err(error) => tracing::error!(
                file = %source.path().display(),
                %error,
                "the password file cannot be read; the last good one stays in force"
            ),
        }
    }

    fn certificates(&self, unchanged_too: bool) {
        let Some(certificates) = &self.certificates else {
            return;
        };
        let mut certificates = certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let Certificates { source, resolver } = &mut *certificates;
        let reloaded = match unchanged_too {
            true => source.reload(resolver).map(|()| true),
            false => source.reload_if_changed(resolver),
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate is in force"),
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one stays");
            }
        }
    }
}

/// Why the server does not start. The text is for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The built-in authority cannot work.
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An option of the interface cannot be used.
    #[error(transparent)]
    Http(#[from] http::InvalidOptions),
    /// No random numbers.
    #[error(transparent)]
    NoRandomness(#[from] gate::NoRandomness),
    /// There is no storage where the configuration says.
    #[error(
        "there is no directory {}; name the configuration that the registry is served with, or set \
         storage.filesystem.rootdirectory",
        .root.display()
    )]
    NoStorage {
        /// The root.
        root: PathBuf,
    },
    /// Events cannot be sent to an endpoint.
    #[error(transparent)]
    Notifications(#[from] notify::SetError),
    /// The storage is some process's memory.
    #[error("storage.inmemory keeps nothing that another process could look at")]
    NothingKept,
    /// The root of the storage cannot be used.
    #[error(
        "cannot use {} for storage; make it writable for this user, or choose another \
         storage.filesystem.rootdirectory",
        .root.display()
    )]
    Storage {
        /// The root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The password file can be neither read nor made.
    #[error(
        "cannot use the password file {}; make it readable for this user, or choose \
         another auth.htpasswd.path",
        .path.display()
    )]
    Users {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
