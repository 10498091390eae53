//! The authority as the renewals see it: a window for a renewal, and a certificate for a host.

use std::fmt;

use async_trait::async_trait;
use jiff::SignedDuration;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{challenges::Challenge, schedule::Window};

/// An authority that issues certificates.
#[async_trait]
pub(super) trait Authority: Send + Sync + 'static {
    /// When the authority suggests to renew a certificate; `None` where it makes no suggestions.
    async fn suggestion(
        &self,
        certificate: &CertificateDer<'static>,
    ) -> Result<Option<Suggestion>, Failure>;

    /// Obtains a certificate.
    async fn order(&self, order: Order<'_>) -> Result<Issued, Failure>;
}

/// A window for the renewal, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    pub(super) window: Window,
    pub(super) ask_again: SignedDuration,
}

/// What is ordered.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) host: &'a str,
    pub(super) challenge: Challenge,
    /// The certificate that the new one replaces, where the authority makes suggestions.
    pub(super) replaces: Option<&'a CertificateDer<'static>>,
}

/// A key and its certificate, PEM both.
pub(super) struct Issued {
    pub(super) key: Zeroizing<String>,
    /// The leaf first.
    pub(super) chain: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The message, in the authority's words where it has some.
    pub(super) message: String,
    /// What stays the same when the failure is repeated: messages contain random names.
    pub(super) cause: String,
    /// What the authority asks for before the next attempt.
    pub(super) retry_after: Option<SignedDuration>,
}

impl Failure {
    /// A failure whose message is its cause.
    pub(super) fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { cause: message.clone(), message, retry_after: None }
    }
}
