//! Refuses well-formed certificates that clients or TLS refuse, with the command that makes another.

use std::{net::IpAddr, path::Path};

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer as _, public_key::PublicKey, x509::X509Version,
};

use super::CertificateError;

/// The lengths of RSA keys that the TLS library signs with, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Refuses a server's certificate of an old version, or for an RSA key of another length. Accepts
/// malformed certificates, which [`load`](super::load) refuses.
///
/// # Errors
///
/// [`CertificateError::OldVersion`] and [`CertificateError::RsaBits`].
pub(super) fn check(
    leaf: &CertificateDer<'_>,
    path: &Path,
    key: &Path,
) -> Result<(), CertificateError> {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Ok(()) };
    let certificate = path.to_owned();
    if parsed.version() != X509Version::V3 {
        let version = parsed.version().0 + 1;
        let command =
            format!("openssl req -x509 -new -key {}{}", key.display(), rest(&parsed, path));
        return Err(CertificateError::OldVersion { path: certificate, version, command });
    }
    let bits = match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size(),
        _ => return Ok(()),
    };
    if RSA_BITS.contains(&bits) {
        return Ok(());
    }
    let command = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout {}{}",
        key.display(),
        rest(&parsed, path)
    );
    Err(CertificateError::RsaBits { path: certificate, bits, command })
}

/// The end of the command that makes a certificate for the same name.
fn rest(certificate: &X509Certificate<'_>, path: &Path) -> String {
    let named = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let is_host = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_*".contains(&b))
    };
    let host = named.filter(is_host).unwrap_or("HOST");
    let kind = if host.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(
        " -days 825 -subj /CN={host} -addext subjectAltName={kind}:{host} -out {}",
        path.display()
    )
}
