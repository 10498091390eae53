//! Client certificates at the gate: a verified certificate that names its client is that user, in place
//! of a password.
//!
//! The certificate is the connection's, and its issuer is verified in the handshake. A request with
//! credentials is judged by these.

use std::{net::IpAddr, sync::Arc};

use super::{Caller, Gate, Identity, Session, outcomes::Outcome};

/// A verified client certificate that names its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The name.
    pub name: Arc<str>,
    /// The SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

impl Certificate {
    /// The parts of what stands for the line of a file in the fingerprint of a session token.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [self.name.as_bytes(), &self.fingerprint]
    }
}

impl Gate {
    /// The caller whom the certificate of the connection names.
    pub(super) fn by_certificate(
        &self,
        address: Option<IpAddr>,
        session: &Session,
    ) -> Option<Caller> {
        let Certificate { name, .. } = session.certificate()?;
        self.outcomes.count(Outcome::Certificate);
        Some(Caller::new(Identity::Certificate(Arc::clone(name)), address))
    }

    /// The caller of an open gate: whom the certificate of the connection names, else an anonymous one.
    pub(super) fn unasked(&self, address: Option<IpAddr>, session: &Session) -> Caller {
        self.by_certificate(address, session).unwrap_or_else(|| self.anonymous(address))
    }
}
