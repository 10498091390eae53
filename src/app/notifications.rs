//! Notifications: where events wait, the source that they name, and reload of the endpoints.

use uuid::Uuid;

use super::reload::{Kept, Reload};
use crate::{
    chain::Chain,
    config::Config,
    notify::{Notifier, Place, Source},
    storage,
};

/// The folder of the queues of events, below the root of the storage.
const EVENTS: &str = "portcullis-notifications";

/// The notifier of a server, without endpoints yet.
pub(super) fn notifier(config: &Config) -> Notifier {
    Notifier::new(place(&config.storage.backend), source(&config.http.server.addr))
}

/// The place of the queues: beside the images, where those outlive the process.
fn place(storage: &storage::Options) -> Place {
    match storage {
        storage::Options::Memory => Place::Memory,
        storage::Options::Filesystem(options) => Place::Folder(options.rootdirectory.join(EVENTS)),
    }
}

/// The source in events: the host, the port of `addr`, and a UUID of this run.
fn source(addr: &str) -> Source {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let addr = match addr.rsplit_once(':') {
        Some((_, port)) => format!("{host}:{port}"),
        None => host.into_owned(),
    };
    Source { addr, instance: Uuid::new_v4().to_string() }
}

/// `notifications`.
#[derive(Debug)]
pub(super) struct Endpoints(pub(super) Notifier);

impl Reload for Endpoints {
    fn keys(&self) -> &'static [&'static str] {
        &["notifications"]
    }

    fn apply(&self, config: &Config) -> Result<(), Kept> {
        self.0.set(&config.notifications).map_err(|error| {
            tracing::error!(
                error = %Chain(&error),
                "cannot use the new notification endpoints; the old ones stay in force"
            );
            Kept::Unusable
        })
    }
}
