//! The composition root: builds every part, starts them in order, takes them down in the reverse.
//!
//! Nobody else constructs a part, and no part knows another that it was not given here.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    config::Config,
    gate::{self, EverythingAllowed, Gate, UserFile, htpasswd},
    health::Health,
    http::{self, Api, ApiParts, Limits, Proxy, Redirect},
    jobs::Jobs,
    notify::{self, Notifier},
    registry::{self, SystemClock},
    server::{self, Address, Connections, Listener, Server, Workers, authority::Outcome},
    storage::{self, Storage, filesystem::Filesystem, memory::Memory},
};

mod background;
mod collecting;
mod error;
mod events;
mod expiry;
mod inspect;
mod listeners;
mod metrics;
mod permissions;
mod provision;
mod reload;

use background::{checks, start_jobs};
pub use error::StartError;
use events::ToEndpoints;
pub use inspect::{Findings, inspect};
use listeners::{Listeners, serve_debug, serve_redirect};
use metrics::Counted;
use reload::{RELOADED, Reloads, secure};

/// Whoever starts a server says what becomes of a first password.
pub use crate::gate::htpasswd::file::FirstPassword;
/// Commands know the core through this module only.
pub use crate::registry::{
    Action, Ago, Caller, Collect, Collected, Decision, Event, EventSink, Events, GcEvent,
    GcObserver, Occurrence, OldUpload, Purged, Registry, Retained, verify,
};

/// Where the built-in authority keeps its files: in the working directory.
pub const CERTIFICATES: &str = "certs";
/// Where events wait, below the root of the storage.
const EVENTS: &str = "portcullis-notifications";

/// A registry that is serving.
#[derive(Debug)]
pub struct App {
    server: Server,
    /// What sends plain HTTP to HTTPS, where there is such.
    redirect: Option<Server>,
    /// The debug listener, where there is one.
    debug: Option<Server>,
    registry: Registry,
    gate: Arc<Gate>,
    notifier: Notifier,
    jobs: Jobs,
    reloads: Arc<Reloads>,
    workers: Workers,
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
    /// Their password, which is nowhere else but where it is kept.
    pub password: Password,
    /// The file that was made.
    pub file: PathBuf,
    /// The file that the password is kept in, where it is.
    pub kept: Option<PathBuf>,
}

/// A password that only an explicit call can print.
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
        Self::start_on(None, config, FirstPassword::Shown)
    }

    /// As [`start`](Self::start), on a listener of the caller's, where there is one; `http.net` and
    /// `http.addr` count for nothing then. The caller says what becomes of the password of a first
    /// user.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_on(
        listener: Option<Listener>,
        config: &Config,
        password: FirstPassword,
    ) -> Result<(Self, Provisioned), StartError> {
        let storage = open_storage(&config.storage.backend)?;
        Self::assemble(storage, listener, config, password)
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
        Self::assemble(storage, None, config, FirstPassword::Shown)
    }

    fn assemble(
        storage: Arc<dyn Storage>,
        listener: Option<Listener>,
        config: &Config,
        password: FirstPassword,
    ) -> Result<(Self, Provisioned), StartError> {
        let mut provisioned = Provisioned::default();
        let notifier = Notifier::new(place_of_events(config), source(config));
        let events = Events::to(Arc::new(ToEndpoints(notifier.clone())));
        let registry = core(Arc::clone(&storage), config, events);
        let (gate, users) = open_gate(config, password, &mut provisioned)?;
        let (tls, certificates) = secure(config, &mut provisioned)?;
        let limits = limits(config);
        let silent = limits.silent;
        let checks = checks(&config.health, &registry)?;
        let health = Arc::new(Health::default());
        let parts = parts_of_api(&registry, &gate, &health);
        let api = Api::new(parts, &config.http.api, limits, tls.is_some())?;
        let api = Arc::new(api);
        let listeners = Listeners::open(listener, &config.http)?;
        notifier.set(&config.notifications)?;
        let redirect = Redirect::new(&config.http.api, listeners.registry.addr().tcp(), silent)?;

        let workers = Workers::start().map_err(StartError::Workers)?;
        let serving = Arc::clone(&api);
        let service = move |peer: server::Peer| {
            let addr = peer.addr();
            serving.service(http::Connection::new(addr, move || peer.authenticated()))
        };
        let options = &of_sockets(config);
        let server = Server::start(listeners.registry, options, tls, &workers, service);
        let redirect = listeners.redirect.map(|listener| {
            serve_redirect(listener, redirect, &workers, options, server.connections())
        });
        let requests = api.requests();
        let (for_gate, for_events) = (Arc::clone(&gate), notifier.clone());
        let reloads = Reloads { gate: for_gate, api, notifier: for_events, users, certificates };
        let reloads = Arc::new(reloads);
        let debug = listeners.debug.map(|listener| {
            let counted = Counted {
                server: &server,
                gate: &gate,
                registry: &registry,
                notifier: &notifier,
                storage: &*storage,
                requests: &requests,
                certificate: reloads.resolver(),
            };
            serve_debug(listener, &config.http, &workers, Arc::clone(&health), counted.metrics())
        });
        let jobs = start_jobs(&config.storage, &registry, &reloads, (checks, &health));
        let drain = config.http.server.draintimeout;
        Ok((
            Self {
                server,
                redirect,
                debug,
                registry,
                gate,
                notifier,
                jobs,
                reloads,
                workers,
                drain,
            },
            provisioned,
        ))
    }

    /// Where clients connect.
    #[must_use]
    pub const fn addr(&self) -> &Address {
        self.server.addr()
    }

    /// The address where plain HTTP is sent to HTTPS, if anywhere.
    #[must_use]
    pub fn redirect_addr(&self) -> Option<SocketAddr> {
        self.redirect.as_ref()?.addr().tcp()
    }

    /// The address that metrics are served on, where they are.
    #[must_use]
    pub fn debug_addr(&self) -> Option<SocketAddr> {
        self.debug.as_ref()?.addr().tcp()
    }

    /// How many connections there are and may be.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.server.connections()
    }

    /// How many tasks are alive on the threads that serve connections: none stays behind for a
    /// client that is gone.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.workers.tasks()
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

    /// Puts in force what another configuration says of the keys that need no restart, and reads
    /// again what [`reload`](Self::reload) does. The level of the log is whoever's who began it.
    ///
    /// Gives the keys, or the sections, of which that could not be done.
    pub async fn apply(&self, config: &Config) -> Vec<&'static str> {
        let (config, kept) = (config.clone(), Arc::new(Mutex::new(Vec::new())));
        let told = Arc::clone(&kept);
        Arc::clone(&self.reloads)
            .run(move |reloads| {
                let kept = reloads.apply(&config);
                *told.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                reloads.users(true);
                reloads.certificates(true);
            })
            .await;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *kept)
    }

    /// Whether a key takes effect without a restart.
    #[must_use]
    pub fn reloads(key: &str) -> bool {
        Self::is_below(key, RELOADED)
    }

    /// Whether a key is one of these, or stands in one of these sections.
    #[must_use]
    pub fn is_below(key: &str, sections: &[&str]) -> bool {
        sections.iter().any(|section| {
            key.strip_prefix(section)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Stops listening, lets what runs finish within `http.draintimeout`, and takes everything
    /// down. Work that must not stop half-way is waited for; events that no endpoint has taken yet
    /// wait for the next start.
    pub async fn stop(self) {
        let redirect = async {
            if let Some(redirect) = self.redirect {
                redirect.stop(self.drain).await;
            }
        };
        tokio::join!(self.server.stop(self.drain), redirect);
        self.jobs.stop().await;
        self.registry.settle().await;
        self.notifier.stop().await;
        if let Some(debug) = self.debug {
            debug.stop(Duration::ZERO).await;
        }
        // Some of what was waited for above ran on them.
        self.workers.stop().await;
    }
}

/// Opens the registry that `config` describes, without serving it, for a command that looks at what
/// is stored or takes from it. Nothing is made, not even the root.
///
/// # Errors
///
/// When there is no storage yet, or none that outlives a process.
pub fn open_registry(config: &Config) -> Result<Registry, StartError> {
    open_registry_with(config, Events::default())
}

/// As [`open_registry`], with a receiver of events.
///
/// # Errors
///
/// As for [`open_registry`].
pub fn open_registry_with(config: &Config, events: Events) -> Result<Registry, StartError> {
    match &config.storage.backend {
        storage::Options::Memory => return Err(StartError::NothingKept),
        storage::Options::Filesystem(options) if !options.rootdirectory.is_dir() => {
            return Err(StartError::NoStorage { root: options.rootdirectory.clone() });
        }
        storage::Options::Filesystem(_) => {}
    }
    let storage = open_storage(&config.storage.backend)?;
    Ok(core(storage, config, events))
}

fn core(storage: Arc<dyn Storage>, config: &Config, events: Events) -> Registry {
    let options = registry::Options {
        uploads: registry::UploadLimits {
            open: config.uploads.maxopen,
            per_hour: config.uploads.maxperhour,
        },
        validation: config.validation.clone(),
        policy: config.policy.clone(),
        grace: config.storage.maintenance.garbagecollection.grace,
        tags: config.storage.tags.clone(),
        events,
    };
    Registry::new(storage, Arc::new(SystemClock), options)
}

/// What the server is told, with what it needs to know of the part about requests.
fn of_sockets(config: &Config) -> server::Options {
    let proxies = config.http.api.trustedproxies.iter().filter_map(Proxy::network).collect();
    server::Options { proxies, ..config.http.server.clone() }
}

fn limits(config: &Config) -> Limits {
    Limits {
        delete: config.storage.delete.clone(),
        catalog: config.catalog.clone(),
        tags: config.tags.clone(),
        readonly: config.storage.maintenance.readonly.clone(),
        silent: config.log.accesslog.disabled,
    }
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

/// The parts that the HTTP interface shares with the server.
fn parts_of_api(registry: &Registry, gate: &Arc<Gate>, health: &Arc<Health>) -> ApiParts {
    ApiParts { registry: registry.clone(), gate: Arc::clone(gate), health: Arc::clone(health) }
}

/// Builds the gate, and makes the password file when it is missing.
fn open_gate(
    config: &Config,
    password: FirstPassword,
    provisioned: &mut Provisioned,
) -> Result<(Arc<Gate>, Option<Mutex<UserFile>>), StartError> {
    let gate::Options::Htpasswd(options) = &config.auth else {
        return Ok((Arc::new(Gate::open(EverythingAllowed)), None));
    };
    if !options.path.exists() {
        let is_named = provision::is_named(config);
        provisioned.user = Some(provision::first_user(&options.path, is_named, password)?);
    }
    let failed = |source| StartError::Users { path: options.path.clone(), source };
    let (source, users) = UserFile::open(options).map_err(failed)?;
    report(&options.path, &users);
    let gate = Gate::htpasswd(options, &users, EverythingAllowed)?;
    Ok((Arc::new(gate), Some(Mutex::new(source))))
}

/// Says in the log which lines of a password file let nobody in, and which should not for long; and
/// who else may touch it.
fn report(path: &Path, users: &htpasswd::Htpasswd) {
    permissions::warn(path, permissions::What::Passwords);
    report_to(path, users, |line, what| tracing::warn!(file = %path.display(), line, "{what}"));
}

/// Says which lines of a password file let nobody in, and which should not for long; with the
/// number of the line.
fn report_to(path: &Path, users: &htpasswd::Htpasswd, mut tell: impl FnMut(Option<usize>, &str)) {
    for outdated in users.outdated() {
        tell(Some(outdated.line), &outdated.to_string());
    }
    for problem in users.problems() {
        tell(Some(problem.line), &problem.to_string());
    }
    if users.entries().is_empty() {
        let path = path.display();
        tell(None, &format!("no user can log in; `portcullis htpasswd {path} USER` adds one"));
    }
}
