//! The challenges that an authority is about to look at: the tokens of http-01, which the redirect listener
//! answers, and the certificates of tls-alpn-01, which the TLS listener presents.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{self, sign::any_supported_type},
    server::ClientHello,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::PrivatePkcs8KeyDer;

/// The protocol of tls-alpn-01 (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The path below which http-01 asks for tokens (RFC 8555 §8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";

/// A challenge that proves control of a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8555 §8.3
    Http01,
    /// RFC 8737
    TlsAlpn01,
}

impl Challenge {
    /// The name in the RFCs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The port that the authority connects to.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The pending challenges. Clones share them.
#[derive(Clone, Default)]
pub struct Challenges(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    /// The key authorizations of http-01, by their tokens.
    http: HashMap<String, String>,
    /// The configurations of tls-alpn-01, by the host names.
    tls: HashMap<String, Arc<ServerConfig>>,
}

impl Challenges {
    /// The key authorization for a path that http-01 asks for; `None` for other paths and unknown tokens.
    #[must_use]
    pub fn http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PATH)?;
        self.answers().http.get(token).cloned()
    }

    /// The configuration for a handshake of tls-alpn-01, whose only protocol is `acme-tls/1`.
    pub(in crate::server) fn tls(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        if protocols.next()? != ACME_TLS || protocols.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.answers().tls.get(&name).cloned()
    }

    /// Answers http-01 until the returned value is dropped.
    pub(super) fn offer_http(&self, token: &str, authorization: &str) -> Offer {
        self.answers().http.insert(token.to_owned(), authorization.to_owned());
        Offer { challenges: self.clone(), challenge: Challenge::Http01, key: token.to_owned() }
    }

    /// Answers tls-alpn-01 for a host until the returned value is dropped. `digest` is the SHA-256 of the key
    /// authorization.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be made.
    pub(super) fn offer_tls(&self, host: &str, digest: &[u8; 32]) -> Result<Offer, Unmade> {
        let config = Arc::new(config(host, digest)?);
        self.answers().tls.insert(host.to_owned(), config);
        Ok(Offer {
            challenges: self.clone(),
            challenge: Challenge::TlsAlpn01,
            key: host.to_owned(),
        })
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").finish_non_exhaustive()
    }
}

/// A challenge that is answered until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Offer {
    challenges: Challenges,
    challenge: Challenge,
    key: String,
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut answers = self.challenges.answers();
        match self.challenge {
            Challenge::Http01 => drop(answers.http.remove(&self.key)),
            Challenge::TlsAlpn01 => drop(answers.tls.remove(&self.key)),
        }
    }
}

/// The certificate of tls-alpn-01 cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate of tls-alpn-01")]
pub(super) struct Unmade(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The configuration of one challenge: a certificate with `acmeIdentifier` (RFC 8737 §3), no client
/// certificates, no other protocol.
fn config(host: &str, digest: &[u8; 32]) -> Result<ServerConfig, Unmade> {
    let key = KeyPair::generate().map_err(|error| Unmade(error.into()))?;
    let mut params =
        CertificateParams::new([host.to_owned()]).map_err(|error| Unmade(error.into()))?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let certificate = params.self_signed(&key).map_err(|error| Unmade(error.into()))?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = any_supported_type(&key.into()).map_err(|error| Unmade(error.into()))?;
    // Not checked by rustls, which refuses certificates with critical extensions that it does not know.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Unmade(error.into()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_answered_while_its_challenge_is_pending() {
        let challenges = Challenges::default();
        let path = format!("{PATH}abc");
        let offer = challenges.offer_http("abc", "abc.thumbprint");
        assert_eq!(challenges.http(&path).as_deref(), Some("abc.thumbprint"));
        for other in
            [PATH, "/abc", "/.well-known/acme-challenge/ab", "//.well-known/acme-challenge/abc"]
        {
            assert_eq!(challenges.http(other), None, "{other}");
        }
        drop(offer);
        assert_eq!(challenges.http(&path), None);
    }

    #[test]
    fn certificate_of_a_challenge_is_presented_while_it_is_pending() {
        let challenges = Challenges::default();
        let offer = challenges.offer_tls("a.example", &[7; 32]).unwrap();
        assert!(challenges.answers().tls.contains_key("a.example"));
        drop(offer);
        assert!(challenges.answers().tls.is_empty());
    }
}
