//! The composition root: builds every part, starts them in order, stops them in the reverse order.
//!
//! No other module constructs a part, and a part knows only the parts that it is given here.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use crate::{
    config::Config,
    gate::Gate,
    jobs::Jobs,
    notify::Notifier,
    server::{Address, Connections, Listener, Server, Workers, authority::Outcome},
    storage::Storage,
};

mod access;
mod background;
mod data_folder;
mod denied;
mod error;
mod events;
mod inspect;
mod interface;
mod issuer;
mod listeners;
mod maintenance;
mod metrics;
mod notifications;
mod parts;
mod permissions;
mod provision;
mod quotas;
mod reload;
mod storage;
mod tls;
mod tokens;
mod users;
mod version_1;

pub use access::policy;
pub use data_folder::DataFolder;
pub use denied::{Denied, Need};
pub use error::StartError;
pub use inspect::{Findings, Scope, inspect};
pub use reload::{Change, Reloaded};
pub use storage::{open_registry, open_registry_with};

use parts::{Given, Parts};
use reload::Reloads;
use tokens::Tokens;

/// The caller that starts a server decides what becomes of a first password.
pub use crate::gate::htpasswd::file::FirstPassword;
/// Commands reach the core through this module only.
pub use crate::registry::{
    Action, Caller, CatalogQuery, Collect, Collected, Decision, Event, EventSink, Events, GcEvent,
    GcObserver, Graced, Holdings, Inventory, KeptUntagged, Occurrence, OldUpload, Purged, Quota,
    Registry, Retained, Shown, TagContent, Untagged, UsageObserver, Used, verify,
};

/// Where the built-in authority keeps its files: in the working directory.
pub const CERTIFICATES: &str = "certs";

/// The path of [`CERTIFICATES`] from the root.
fn certificates_folder() -> PathBuf {
    std::path::absolute(CERTIFICATES).unwrap_or_else(|_| CERTIFICATES.into())
}

/// A registry that is serving.
#[derive(Debug)]
pub struct App {
    server: Server,
    /// The listener that redirects plain HTTP to HTTPS, where the configuration asks for it.
    redirect: Option<Server>,
    /// The debug listener, where the configuration asks for it.
    debug: Option<Server>,
    registry: Registry,
    gate: Arc<Gate>,
    tokens: Arc<Tokens>,
    notifier: Notifier,
    jobs: Jobs,
    reloads: Reloads,
    workers: Workers,
    drain: Duration,
}

/// The files that a start has created because they were missing, for the message to the operator.
#[derive(Debug, Default)]
pub struct Provisioned {
    /// The user that was created.
    pub user: Option<FirstUser>,
    /// The result for the built-in certificates; `None` if the configuration names others.
    pub certificates: Option<Outcome>,
}

/// The user that is created when there is no password file.
#[derive(Debug)]
pub struct FirstUser {
    /// The user's name.
    pub name: &'static str,
    /// The user's password. Only a file that keeps it has it, too.
    pub password: Password,
    /// The password file that was created.
    pub file: PathBuf,
    /// The file that keeps the password, if one does.
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
    /// Whether anything was created.
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

    /// As [`start`](Self::start), on the caller's listener, if it has one, in place of `http.net` and
    /// `http.addr`. The caller decides what becomes of the password of a first user.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_on(
        listener: Option<Listener>,
        config: &Config,
        password: FirstPassword,
    ) -> Result<(Self, Provisioned), StartError> {
        version_1::warn_of_its_folder(&config.storage.backend);
        let storage = match config.storage.maintenance.readonly.enabled {
            true => storage::open(&config.storage.backend)?,
            false => storage::open_to_write(&config.storage.backend)?,
        };
        Self::build(config, Given { storage, listener, password })
    }

    /// As [`start`](Self::start), over the caller's storage.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn start_over(
        storage: Arc<dyn Storage>,
        config: &Config,
    ) -> Result<(Self, Provisioned), StartError> {
        let password = FirstPassword::Shown;
        Self::build(config, Given { storage, listener: None, password })
    }

    fn build(config: &Config, given: Given) -> Result<(Self, Provisioned), StartError> {
        let (parts, provisioned) = Parts::build(config, given)?;
        let workers = Workers::start().map_err(|error| {
            provisioned.user.iter().for_each(provision::withdraw);
            StartError::Workers(error)
        })?;
        Ok((parts.start(config, workers), provisioned))
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

    /// How many tasks are alive on the threads that serve connections. A client that has gone leaves
    /// no task behind.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.workers.tasks()
    }

    /// The gate, with its counts of logins and of runs of bcrypt.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The notifier, whose endpoints can be changed while the server runs.
    #[must_use]
    pub const fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Reads the password file, the token file and the certificates again, changed or not.
    pub async fn reload(&self) {
        self.reloads.read_files().await;
    }

    /// Applies another configuration, as far as its keys need no restart, and reads again the files
    /// that [`reload`](Self::reload) does. Returns what became of each key. The log is the caller's,
    /// so `log.level` counts among the keys that need a restart.
    pub async fn apply(&self, config: &Config) -> Reloaded {
        self.reloads.apply(config).await
    }

    /// Stops listening, lets requests finish within `http.draintimeout`, and stops every part. Waits
    /// for work that must not stop half-way. Events that no endpoint has accepted yet wait for the
    /// next start.
    pub async fn stop(self) {
        let redirect = async {
            if let Some(redirect) = self.redirect {
                redirect.stop(self.drain).await;
            }
        };
        tokio::join!(self.server.stop(self.drain), redirect);
        self.jobs.stop().await;
        self.registry.settle().await;
        background::end_pulls(&self.registry).await;
        background::end_tokens(self.tokens).await;
        self.notifier.stop().await;
        if let Some(debug) = self.debug {
            debug.stop(Duration::ZERO).await;
        }
        // Last: some of the work that was waited for above ran on these threads.
        self.workers.stop().await;
    }
}
