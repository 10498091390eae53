//! `auth.htpasswd.tokens`, which registry:2 does not have.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// `auth.htpasswd.tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenOptions {
    /// The token file. `None`: `tokens` beside the password file.
    pub file: Option<PathBuf>,
    /// The longest life of a token that `portcullis token` makes. Zero: any.
    pub maxlifetime: Duration,
}
