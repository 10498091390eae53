//! Tokens of an external issuer (`auth.token`): JSON Web Tokens by the distribution project's "Docker
//! Registry v2 authentication via central service", as registry:2 and registry:3 verify them.
//!
//! A token says whom it is for and what it covers. Access rules bound it further: both must allow what a
//! request asks for. The algorithm of a token is bound to the kind of its key, so that no public key is
//! taken for the secret of an HMAC.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;

use self::token::Token;
use super::Identity;

mod algorithm;
mod covered;
mod der;
mod files;
mod key;
mod options;
#[cfg(test)]
mod tests;
mod token;
mod trust;

pub use algorithm::Algorithm;
pub use covered::{Covered, scope};
pub use files::TrustFiles;
pub use key::KeyError;
pub use options::IssuerOptions;
pub use token::Invalid;
pub use trust::{Trust, TrustError};

/// The seconds between two messages about tokens that are not valid.
const PERIOD: u64 = 60;

/// Verifies the tokens of an issuer.
#[derive(Debug)]
pub struct Issuer {
    options: IssuerOptions,
    trust: ArcSwap<Trust>,
    /// When the log last had a message about a token, in seconds since 1970.
    told: AtomicU64,
}

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The user that the issuer names; anonymous where it names none.
    pub identity: Identity,
    /// What the token covers.
    pub covered: Covered,
}

impl Issuer {
    /// Verifies tokens by these options with the keys of `trust`.
    #[must_use]
    pub fn new(options: IssuerOptions, trust: Trust) -> Self {
        Self { options, trust: ArcSwap::from_pointee(trust), told: AtomicU64::new(0) }
    }

    /// The options.
    #[must_use]
    pub const fn options(&self) -> &IssuerOptions {
        &self.options
    }

    /// Puts other keys in force: from now on a token of a key that has gone is refused.
    pub fn set_trust(&self, trust: Trust) {
        self.trust.store(Arc::new(trust));
    }

    /// Verifies a token: its signature first, then its claims.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Presented, Invalid> {
        let token = Token::parse(token)?;
        if !self.options.accepts(token.header.algorithm) {
            return Err(Invalid::Algorithm);
        }
        self.trust.load().verify(&token, now)?;
        let claims = token.claims()?;
        claims.check(&self.options, now)?;
        let identity = match claims.sub.as_deref() {
            None | Some("") => Identity::Anonymous,
            Some(name) => Identity::User(name.into()),
        };
        let covered = Covered::by(claims.access.as_deref().unwrap_or_default());
        Ok(Presented { identity, covered })
    }

    /// Logs that a token is not valid, once a minute at `warn`.
    pub(super) fn tell(&self, error: Invalid, address: Option<IpAddr>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let told = self.told.load(Ordering::Relaxed);
        let is_due = now >= told.saturating_add(PERIOD)
            && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            tracing::warn!(
                address = address.map(tracing::field::display),
                "a token of the token server is not valid: {error} (told once a minute)"
            );
        } else {
            tracing::debug!(?address, "a token of the token server is not valid: {error}");
        }
    }
}
