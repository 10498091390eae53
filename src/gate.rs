//! The gate: who is calling, and what they may do.
//!
//! Nothing here names HTTP. A caller's `Authorization` value goes in as bytes; an identity or a
//! refusal comes out, and later a permit.

pub mod htpasswd;

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

/// `auth`: `htpasswd` (the default) or, in words, `none`.
#[derive(Clone, Debug)]
pub enum Options {
    /// Everybody may do everything. Only ever the result of the word `none`.
    None,
    /// HTTP Basic (RFC 7617) against a bcrypt htpasswd file.
    Htpasswd(HtpasswdOptions),
}

impl Default for Options {
    fn default() -> Self {
        Self::Htpasswd(HtpasswdOptions::default())
    }
}

/// `auth.htpasswd`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct HtpasswdOptions {
    /// The realm of the challenge, shown by some clients.
    pub realm: String,
    /// The password file. It is made, with one user, when it is missing.
    pub path: PathBuf,
    /// How long a verified password is remembered; zero verifies each request by bcrypt.
    pub cachettl: Duration,
}

impl Default for HtpasswdOptions {
    fn default() -> Self {
        Self {
            realm: "Portcullis".to_owned(),
            path: PathBuf::from("auth/htpasswd"),
            cachettl: Duration::from_secs(300),
        }
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Word(String),
            Section {
                htpasswd: Option<Option<HtpasswdOptions>>,
                none: Option<Option<serde_json::Map<String, serde_json::Value>>>,
            },
        }
        use serde::de::Error as _;
        match Shape::deserialize(deserializer)? {
            Shape::Word(word) if word == "none" => Ok(Self::None),
            Shape::Word(word) if word == "htpasswd" => Ok(Self::default()),
            Shape::Word(word) => Err(D::Error::custom(format!(
                "expected `htpasswd` or `none`, not `{word}`"
            ))),
            Shape::Section {
                htpasswd: Some(_),
                none: Some(_),
            } => Err(D::Error::custom(
                "both `htpasswd` and `none` are set: keep one",
            )),
            Shape::Section { none: Some(_), .. } => Ok(Self::None),
            Shape::Section { htpasswd, .. } => {
                Ok(Self::Htpasswd(htpasswd.flatten().unwrap_or_default()))
            }
        }
    }
}
