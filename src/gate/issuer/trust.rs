//! The keys and authorities that an issuer's tokens are verified with, from their files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use serde::Deserialize;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    IssuerOptions,
    key::{Jwk, Key, KeyError},
    token::{Invalid, Token},
};

/// The most certificates of the bundle, and the most keys of the set.
const MAX_KEYS: usize = 64;

/// How many keys are tried for a token that names none.
const MAX_TRIED: usize = 8;

/// The longest file.
const MAX_FILE: u64 = 1024 * 1024;

/// The keys in force.
#[derive(Debug, Default)]
pub struct Trust {
    keys: Vec<Key>,
    authorities: Vec<Authority>,
}

/// A certificate of the bundle.
#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
}

/// Why the files cannot be used. Each message is a sentence that names the file.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than 1 MiB.
    #[error("{} has more than 1 MiB: is it the right file?", .0.display())]
    Long(PathBuf),
    /// The bundle has no certificate, or a broken one.
    #[error(
        "{} has no certificate that can be used{why}: put the PEM certificates of the token server into \
         it",
        path.display()
    )]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong, with a separator before it.
        why: String,
    },
    /// The key set is not one.
    #[error("{} is no JSON Web Key Set: {source}", path.display())]
    Jwks {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A key of the set cannot be used.
    #[error("key {number} of {} cannot be used: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Which key, from 1.
        number: usize,
        /// Why.
        why: KeyError,
    },
    /// The key set has no key for signatures.
    #[error("{} has no key that verifies tokens (kty RSA, EC, OKP or oct)", .0.display())]
    NoKeys(PathBuf),
    /// A file has too many keys.
    #[error("{} has more than {MAX_KEYS} keys or certificates", .0.display())]
    TooMany(PathBuf),
}

/// A JSON Web Key Set (RFC 7517 §5).
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// Go verifies certificates of token servers for any purpose.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

impl Trust {
    /// Reads the files. This call blocks.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or has no key, or one that cannot be used.
    pub fn read(options: &IssuerOptions) -> Result<Self, TrustError> {
        let mut trust = Self::default();
        if let Some(path) = &options.rootcertbundle {
            trust.read_bundle(path)?;
        }
        if let Some(path) = &options.jwks {
            trust.read_jwks(path)?;
        }
        Ok(trust)
    }

    /// How many keys verify tokens.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn read_bundle(&mut self, path: &Path) -> Result<(), TrustError> {
        let text = read(path)?;
        let unusable = |why: &dyn std::fmt::Display| TrustError::Bundle {
            path: path.to_owned(),
            why: format!(" ({why})"),
        };
        for found in CertificateDer::pem_slice_iter(&text) {
            let certificate = found.map_err(|error| unusable(&error))?;
            let (_, parsed) =
                X509Certificate::from_der(&certificate).map_err(|error| unusable(&error))?;
            match Key::of_certificate(&parsed) {
                Ok(key) => self.keys.push(key),
                // It may be an authority all the same.
                Err(KeyError::Unsupported) => {}
                Err(error) => return Err(unusable(&error)),
            }
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| unusable(&error))?
                .to_owned();
            self.authorities.push(Authority { certificate, anchor });
            if self.authorities.len() > MAX_KEYS {
                return Err(TrustError::TooMany(path.to_owned()));
            }
        }
        if self.authorities.is_empty() {
            return Err(TrustError::Bundle { path: path.to_owned(), why: String::new() });
        }
        Ok(())
    }

    fn read_jwks(&mut self, path: &Path) -> Result<(), TrustError> {
        let text = read(path)?;
        let set: KeySet = serde_json::from_slice(&text)
            .map_err(|source| TrustError::Jwks { path: path.to_owned(), source })?;
        if set.keys.len() > MAX_KEYS {
            return Err(TrustError::TooMany(path.to_owned()));
        }
        let before = self.keys.len();
        for (index, jwk) in set.keys.iter().enumerate() {
            match Key::of_jwk(jwk) {
                Ok(key) => self.keys.push(key),
                // RFC 7517 §5.
                Err(KeyError::Unsupported) => {}
                Err(why) => {
                    return Err(TrustError::Key { path: path.to_owned(), number: index + 1, why });
                }
            }
        }
        if self.keys.len() == before {
            return Err(TrustError::NoKeys(path.to_owned()));
        }
        Ok(())
    }

    /// Whether a trusted key has made a signature: the key of the certificate in the header, the one that
    /// the header names, or, where it names none, one of the keys of the algorithm's kind.
    pub(super) fn verify(&self, token: &Token<'_>, now: SystemTime) -> Result<(), Invalid> {
        let Token { signed, header, signature, .. } = token;
        let algorithm = header.algorithm;
        let verifies = |key: &Key| key.verifies(algorithm, signed.as_bytes(), signature);
        let is_signed = if let Some(chain) = header.x5c.as_deref().filter(|x5c| !x5c.is_empty()) {
            verifies(&self.key_of_chain(chain, now)?)
        } else if let Some(jwk) = &header.jwk {
            // The key of the header is compared and not used (CVE-2025-24976).
            let claimed = Key::of_jwk(jwk).map_err(|_| Invalid::Key)?;
            let trusted = self.keys.iter().find(|key| key.thumbprint == claimed.thumbprint);
            verifies(trusted.ok_or(Invalid::Key)?)
        } else if let Some(kid) = header.kid.as_deref().filter(|kid| !kid.is_empty()) {
            let called = self.keys.iter().filter(|key| key.is_called(kid));
            let mut called = called.take(MAX_TRIED).peekable();
            called.peek().ok_or(Invalid::Key)?;
            called.any(verifies)
        } else {
            let fitting = self.keys.iter().filter(|key| key.fits(algorithm));
            fitting.take(MAX_TRIED).any(verifies)
        };
        is_signed.then_some(()).ok_or(Invalid::Signature)
    }

    /// The key of the first certificate, which is itself in the bundle or has been issued by an authority of
    /// the bundle.
    fn key_of_chain(
        &self,
        chain: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<Key, Invalid> {
        let (leaf, intermediates) = chain.split_first().ok_or(Invalid::Chain)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Invalid::Chain)?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let is_listed = self.authorities.iter().any(|authority| authority.certificate == *leaf);
        if is_listed {
            let seconds = i64::try_from(since.as_secs()).map_err(|_| Invalid::Chain)?;
            let (from, to) = (parsed.validity().not_before, parsed.validity().not_after);
            if !(from.timestamp()..=to.timestamp()).contains(&seconds) {
                return Err(Invalid::Chain);
            }
        } else {
            let anchors: Vec<_> = self.authorities.iter().map(|one| one.anchor.clone()).collect();
            let time = UnixTime::since_unix_epoch(since);
            let end = EndEntityCert::try_from(leaf).map_err(|_| Invalid::Chain)?;
            end.verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchors,
                intermediates,
                time,
                AnyPurpose,
                None,
                None,
            )
            .map_err(|_| Invalid::Chain)?;
        }
        Key::of_certificate(&parsed).map_err(|_| Invalid::Chain)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(TrustError::Long(path.to_owned()));
    }
    fs::read(path).map_err(failed)
}
