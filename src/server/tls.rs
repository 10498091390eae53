//! The TLS configuration: versions, cipher suites and their order, ALPN, session tickets.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ConfigBuilder, ServerConfig, SupportedCipherSuite, WantsVerifier,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, cipher_suite, default_provider},
    },
    server::{
        ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
        danger::ClientCertVerifier,
    },
    version::{TLS12, TLS13},
};
use serde::{Deserialize, Deserializer, de};

use super::{TlsVersion, certificates::ClientIdentity};

/// The supported cipher suites, the fastest first.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The cipher suites that are fast without hardware for AES.
const CHACHA20: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// An item of `http.tls.ciphersuites`: a supported cipher suite, by its name in Go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CipherSuite(SupportedCipherSuite);

impl CipherSuite {
    /// The protocol version of the suite.
    #[must_use]
    pub const fn version(self) -> TlsVersion {
        match self.0 {
            SupportedCipherSuite::Tls12(_) => TlsVersion::Tls12,
            SupportedCipherSuite::Tls13(_) => TlsVersion::Tls13,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        CIPHER_SUITES.into_iter().map(Self)
    }

    /// The name in Go and in the RFCs. rustls has the version in the names of TLS 1.3.
    fn name(self) -> String {
        format!("{:?}", self.0.suite()).replacen("TLS13_", "TLS_", 1)
    }
}

impl<'de> Deserialize<'de> for CipherSuite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if let Some(suite) = Self::all().find(|suite| suite.name().eq_ignore_ascii_case(&name)) {
            return Ok(suite);
        }
        let names: Vec<_> = Self::all().map(Self::name).collect();
        let names = names.join(", ");
        Err(de::Error::custom(match weakness(&name) {
            Some(weakness) => format!(
                "{name} is not supported, because {weakness}; remove it from the list; supported \
                 are {names}"
            ),
            None => format!("there is no cipher suite `{name}`, only {names}"),
        }))
    }
}

/// The weakness of a suite that Go supports and this server does not.
fn weakness(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let has = |part| name.starts_with("TLS_") && name.contains(part);
    if has("_RC4_") {
        Some("RC4 gives away what it encrypts (RFC 7465)")
    } else if has("_3DES_") {
        Some("the blocks of 3DES are too short for what a registry sends (Sweet32)")
    } else if has("_CBC_") {
        Some("the timing of CBC in TLS lets an attacker decrypt it (Lucky 13)")
    } else if has("TLS_RSA_") {
        Some("an attacker who gets the server's key later can decrypt recorded connections")
    } else {
        None
    }
}

/// Whether a handshake failed because the client sent no certificate, or one that the server refuses.
pub(super) fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(
        cause,
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_))
    )
}

/// The protocols that a server accepts in a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Protocols<'a> {
    /// The oldest version of TLS.
    pub minimum: TlsVersion,
    /// The cipher suites of TLS 1.2; empty: all supported ones. Those of TLS 1.3 are enabled in any
    /// case.
    pub cipher_suites: &'a [CipherSuite],
    /// Whether ALPN offers HTTP/2 beside HTTP/1.1.
    pub http2: bool,
}

/// The TLS configuration of a server. Clones share it.
///
/// It lives as long as the server, since it holds the keys of session tickets. A renewed certificate
/// replaces the one in the resolver.
#[derive(Clone, Debug)]
pub struct Tls {
    basis: Arc<Basis>,
    configs: Arc<ArcSwap<Configs>>,
}

/// The part of the configuration that does not depend on client certificates.
#[derive(Debug)]
struct Basis {
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
    ticketer: Arc<dyn ProducesTickets>,
    protocols: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Configs {
    in_our_order: Arc<ServerConfig>,
    in_client_order: Arc<ServerConfig>,
    identity: Option<ClientIdentity>,
}

/// How the server requests client certificates.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Judges them in the handshake.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// The name in a certificate that lets its client in; `None` where the verifier does not verify the
    /// issuer.
    pub identity: Option<ClientIdentity>,
}

/// The configuration of one handshake.
pub(super) struct Handshake {
    pub(super) config: Arc<ServerConfig>,
    /// The name in the client's certificate that lets it in: of the same moment as `config`.
    pub(super) identity: Option<ClientIdentity>,
}

impl Tls {
    /// The configuration of a server that presents the certificate of `resolver`, accepts `protocols`,
    /// and requests client certificates as `clients` says. 0-RTT stays off, since early data can be
    /// replayed.
    ///
    /// A client that offers AES-128-GCM gets it, as from Go's servers, since it moves layers fastest.
    /// A client whose first choice is ChaCha20-Poly1305 gets that: it has no hardware for AES.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers for the keys of session tickets.
    pub fn new(
        protocols: Protocols<'_>,
        resolver: Arc<dyn ResolvesServerCert>,
        clients: Option<Clients>,
    ) -> Result<Self, rustls::Error> {
        let Protocols { minimum, cipher_suites, http2 } = protocols;
        let versions: &[_] = match minimum {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let is_enabled = |suite: &CipherSuite| {
            cipher_suites.is_empty()
                || suite.version() == TlsVersion::Tls13
                || cipher_suites.contains(suite)
        };
        let cipher_suites = CipherSuite::all().filter(is_enabled).map(|suite| suite.0).collect();
        let provider = Arc::new(CryptoProvider { cipher_suites, ..default_provider() });
        let protocols = match http2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        let basis = Basis {
            builder: ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)?,
            resolver,
            ticketer: Ticketer::new()?,
            protocols,
        };
        let configs = basis.configs(clients);
        Ok(Self { basis: Arc::new(basis), configs: Arc::new(ArcSwap::from_pointee(configs)) })
    }

    /// Requests client certificates in another way in new handshakes; with `None` the server requests
    /// none. Existing connections stay.
    pub fn set_clients(&self, clients: Option<Clients>) {
        self.configs.store(Arc::new(self.basis.configs(clients)));
    }

    /// The configuration for a client with this `ClientHello`. Both configurations share the keys of
    /// session tickets.
    pub(super) fn handshake(&self, hello: &ClientHello<'_>) -> Handshake {
        let configs = self.configs.load();
        let supported = &configs.in_our_order.crypto_provider().cipher_suites;
        let mut offered = hello.cipher_suites().iter();
        let first = offered.find_map(|suite| supported.iter().find(|s| s.suite() == *suite));
        let config = match first.is_some_and(|first| CHACHA20.contains(first)) {
            true => &configs.in_client_order,
            false => &configs.in_our_order,
        };
        Handshake { config: Arc::clone(config), identity: configs.identity }
    }
}

impl Basis {
    fn configs(&self, clients: Option<Clients>) -> Configs {
        let has_client_auth = clients.is_some();
        let identity = clients.as_ref().and_then(|clients| clients.identity);
        let builder = self.builder.clone();
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.resolver));
        if has_client_auth {
            // A client that resumes a session sends no certificate, so a certificate that has expired
            // since, or whose authority has been removed, would stay valid. Without tickets every
            // handshake verifies it.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = Arc::clone(&self.ticketer);
        }
        config.alpn_protocols.clone_from(&self.protocols);
        let in_client_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Configs { in_our_order: Arc::new(config), in_client_order, identity }
    }
}
