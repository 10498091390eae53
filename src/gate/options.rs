//! `auth`: how callers are authenticated, as the configuration has it.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    IssuerOptions, ThrottleOptions, htpasswd,
    tokens::{SessionOptions, deploy::TokenOptions},
};

/// `auth`: `htpasswd` (the default), `token` or, in words, `none`.
#[derive(Clone, Debug)]
pub enum Options {
    /// No authentication: every caller may do everything. Only the word `none` means this.
    None,
    /// HTTP Basic (RFC 7617) against an htpasswd file.
    Htpasswd(HtpasswdOptions),
    /// Tokens of an external issuer (RFC 6750).
    Token(IssuerOptions),
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
    /// The password file. `serve` creates it, with one user, when it is missing.
    pub path: PathBuf,
    /// Also accepts the other formats that nginx and Apache verify: apr1, SHA-1, SHA-2 crypt.
    pub legacyformats: bool,
    /// How long a verified password is remembered after its last use; zero verifies each request
    /// by bcrypt.
    pub cachettl: Duration,
    /// The limits of wrong passwords.
    pub throttle: ThrottleOptions,
    /// Session tokens.
    pub sessions: SessionOptions,
    /// Deploy tokens.
    pub tokens: TokenOptions,
}

impl HtpasswdOptions {
    /// The token file: the one that the options name, or `tokens` beside the password file.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.tokens.file.clone().unwrap_or_else(|| self.path.with_file_name("tokens"))
    }

    /// Which formats of hashes are accepted.
    #[must_use]
    pub const fn formats(&self) -> htpasswd::Formats {
        if self.legacyformats {
            htpasswd::Formats::WithLegacy
        } else {
            htpasswd::Formats::BcryptOnly
        }
    }
}

impl Default for HtpasswdOptions {
    fn default() -> Self {
        Self {
            realm: "Portcullis".to_owned(),
            path: PathBuf::from("auth/htpasswd"),
            legacyformats: false,
            cachettl: Duration::from_secs(300),
            throttle: ThrottleOptions::default(),
            sessions: SessionOptions::default(),
            tokens: TokenOptions::default(),
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
                htpasswd: Option<Option<Box<HtpasswdOptions>>>,
                none: Option<Option<serde_json::Map<String, serde_json::Value>>>,
                token: Option<serde_json::Value>,
            },
        }
        use serde::de::Error as _;
        match Shape::deserialize(deserializer)? {
            Shape::Word(word) if word == "none" => Ok(Self::None),
            Shape::Word(word) if word == "htpasswd" => Ok(Self::default()),
            Shape::Word(word) => {
                Err(D::Error::custom(format!("expected `htpasswd` or `none`, not `{word}`")))
            }
            Shape::Section { htpasswd: Some(_), none: Some(_), .. } => {
                Err(D::Error::custom("both `htpasswd` and `none` are set: keep one"))
            }
            Shape::Section { htpasswd: Some(_), token: Some(_), .. } => {
                Err(D::Error::custom("both `htpasswd` and `token` are set: keep one"))
            }
            Shape::Section { none: Some(_), token: Some(_), .. } => {
                Err(D::Error::custom("both `none` and `token` are set: keep one"))
            }
            // Not a part of the untagged enum, whose errors would name no key.
            Shape::Section { token: Some(token), .. } => {
                IssuerOptions::deserialize(token).map(Self::Token).map_err(D::Error::custom)
            }
            Shape::Section { none: Some(_), .. } => Ok(Self::None),
            Shape::Section { htpasswd, .. } => {
                Ok(Self::Htpasswd(htpasswd.flatten().map(|options| *options).unwrap_or_default()))
            }
        }
    }
}
