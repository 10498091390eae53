//! The three sides as processes.

use std::path::PathBuf;

use crate::{load, process::Daemon};

pub(crate) mod limit;
pub(crate) mod pair;
pub(crate) mod portcullis;

/// A side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Portcullis,
    /// nginx with TLS and passwords in front of registry:2.
    Pair,
    /// The limit of the machine, as the line defines it.
    Bound,
}

impl Side {
    /// In the order of their turns, which is that of the columns.
    pub(crate) const ALL: [Self; 3] = [Self::Portcullis, Self::Pair, Self::Bound];
}

/// A side that answers.
#[derive(Debug)]
pub(crate) struct Served {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// The folder of its blobs: registry:2's tree, or static files.
    pub(crate) root: PathBuf,
    daemons: Vec<Daemon>,
}

impl Served {
    /// Its processes, as they are now.
    pub(crate) fn processes(&self) -> Vec<u32> {
        load::with_children(&self.daemons.iter().map(Daemon::id).collect::<Vec<_>>())
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}
