//! Objects as files below a root directory.

use std::path::PathBuf;

use serde::Deserialize;

/// `storage.filesystem`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The root of the tree.
    pub rootdirectory: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rootdirectory: PathBuf::from("data"),
        }
    }
}
