//! `auth.token`, with the keys of registry:2 and registry:3.

use std::path::PathBuf;

use serde::Deserialize;

use super::Algorithm;

/// `auth.token`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct IssuerOptions {
    /// The address of the token server, for challenges.
    pub realm: String,
    /// The name of this registry: the audience of tokens.
    pub service: String,
    /// The issuer of tokens.
    pub issuer: String,
    /// PEM certificates: authorities of the certificates in tokens, and certificates of keys that sign
    /// tokens.
    pub rootcertbundle: Option<PathBuf>,
    /// A JSON Web Key Set (RFC 7517 §5) of keys that sign tokens.
    pub jwks: Option<PathBuf>,
    /// Whether challenges name the registry's own host, at `autoredirectpath`, in place of `realm`.
    pub autoredirect: bool,
    /// The path of the token server on the registry's host.
    pub autoredirectpath: String,
    /// The algorithms that are accepted; empty: all.
    pub signingalgorithms: Vec<Algorithm>,
}

impl Default for IssuerOptions {
    fn default() -> Self {
        Self {
            realm: String::new(),
            service: String::new(),
            issuer: String::new(),
            rootcertbundle: None,
            jwks: None,
            autoredirect: false,
            autoredirectpath: "/auth/token".to_owned(),
            signingalgorithms: Vec::new(),
        }
    }
}

impl IssuerOptions {
    /// Whether tokens of this algorithm are accepted.
    #[must_use]
    pub fn accepts(&self, algorithm: Algorithm) -> bool {
        self.signingalgorithms.is_empty() || self.signingalgorithms.contains(&algorithm)
    }
}
