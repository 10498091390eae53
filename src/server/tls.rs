//! How TLS is spoken.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    server::ResolvesServerCert,
    version::{TLS12, TLS13},
};

use super::{Options, TlsVersion};

/// The TLS configuration for a server whose certificate `resolver` knows.
///
/// It lives as long as the server, for it holds the keys of session tickets; a renewed certificate
/// goes into the resolver. 0-RTT stays off: early data can be replayed.
///
/// # Errors
///
/// When the system has no randomness for the keys of session tickets.
pub fn server_config(
    options: &Options,
    minimum: TlsVersion,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match minimum {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.ticketer = Ticketer::new()?;
    config.alpn_protocols = match options.http2.disabled {
        true => vec![b"http/1.1".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}
