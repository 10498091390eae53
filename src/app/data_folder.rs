//! The folder of the stored images, for the message of a start.

use std::{path::PathBuf, time::Duration};

use tokio::time::timeout;

use super::{App, provision};
use crate::{
    config::Config,
    registry::{self, CatalogQuery, Shown},
    storage,
};

/// How long a start counts repositories, and up to how many.
const COUNTING: Duration = Duration::from_secs(1);
const MAX_COUNTED: usize = 1000;

/// The folder of the stored images, as it was before the start.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    is_new: bool,
}

impl DataFolder {
    /// The folder that `config` names; `None` for storage in memory. Called before the start, which creates it.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let storage::Options::Filesystem(options) = &config.storage.backend else { return None };
        let root = &options.rootdirectory;
        let root = provision::absolute(root);
        Some(Self { is_new: !root.join("docker").exists(), root })
    }

    /// The path of the folder, from the root.
    #[must_use]
    pub fn into_path(self) -> PathBuf {
        self.root
    }

    /// Logs whether the folder is new, else how many repositories it has, counted up to a thousand and
    /// for a second, so that a large tree on a slow disk is not walked.
    pub async fn report(self, app: &App) {
        let folder = self.root.display();
        if self.is_new {
            tracing::info!(%folder, "data folder is new");
            return;
        }
        match timeout(COUNTING, count(app)).await {
            Ok(Ok(count)) if count < MAX_COUNTED => {
                tracing::info!(repositories = count, %folder, "data folder");
            }
            Ok(Ok(_)) => {
                tracing::info!(%folder, "data folder has {MAX_COUNTED} repositories or more");
            }
            Ok(Err(_)) | Err(_) => tracing::info!(%folder, "data folder was there"),
        }
    }
}

async fn count(app: &App) -> Result<usize, registry::Error> {
    let query = CatalogQuery { after: "", term: "", limit: MAX_COUNTED };
    Ok(app.registry.lists().repositories(query, Shown::All).await?.items.len())
}
