//! How TLS is spoken.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, cipher_suite, default_provider},
    },
    server::{ClientHello, ResolvesServerCert},
    version::{TLS12, TLS13},
};

use super::{Options, TlsVersion};

/// What is spoken, the quickest first.
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

/// Those of them that are quick without hardware for AES.
const CHACHA20: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The TLS configuration of a server.
///
/// It lives as long as the server, for it holds the keys of session tickets; a renewed certificate
/// goes into the resolver.
#[derive(Clone, Debug)]
pub struct Tls {
    in_our_order: Arc<ServerConfig>,
    in_client_order: Arc<ServerConfig>,
}

impl Tls {
    /// The configuration for a server whose certificate `resolver` knows. 0-RTT stays off: early
    /// data can be replayed.
    ///
    /// AES-128-GCM is what a client gets that offers it, as from Go's servers: layers pass faster.
    /// One whose first choice is ChaCha20-Poly1305 gets that; it has no hardware for AES.
    ///
    /// # Errors
    ///
    /// When the system has no randomness for the keys of session tickets.
    pub fn new(
        options: &Options,
        minimum: TlsVersion,
        resolver: Arc<dyn ResolvesServerCert>,
    ) -> Result<Self, rustls::Error> {
        let versions: &[_] = match minimum {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let provider =
            CryptoProvider { cipher_suites: CIPHER_SUITES.to_vec(), ..default_provider() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.ticketer = Ticketer::new()?;
        config.alpn_protocols = match options.http2.disabled {
            true => vec![b"http/1.1".to_vec()],
            false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let in_client_order = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self { in_our_order: Arc::new(config), in_client_order })
    }

    /// The configuration for the client that says this. Tickets of one are good for all.
    pub(super) fn config(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let mut offered = hello.cipher_suites().iter();
        let first = offered.find_map(|suite| CIPHER_SUITES.iter().find(|s| s.suite() == *suite));
        let config = match first.is_some_and(|first| CHACHA20.contains(first)) {
            true => &self.in_client_order,
            false => &self.in_our_order,
        };
        Arc::clone(config)
    }
}
