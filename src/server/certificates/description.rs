//! The fields of a certificate, as text for people.

use std::{fmt::Write as _, net::IpAddr};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// The fields of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The subject's distinguished name, like `CN=localhost`.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The subject alternative names: host names, IP addresses in their usual notation, and other names
    /// with their kind in front.
    pub names: Vec<String>,
    /// When the certificate begins to be valid.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// The SHA-256 of the certificate: upper-case hexadecimal, bytes separated by colons, as
    /// `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
}

/// The bytes are not an X.509 certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is malformed")]
pub struct Undescribable;

/// Returns the fields of a certificate. Verifies nothing.
///
/// # Errors
///
/// When the bytes are not an X.509 certificate.
pub fn describe(certificate: &CertificateDer<'_>) -> Result<Description, Undescribable> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Undescribable)?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().map(name).collect(),
        Ok(None) => Vec::new(),
        Err(_) => return Err(Undescribable),
    };
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp());
    Ok(Description {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names,
        not_before: at(parsed.validity().not_before).map_err(|_| Undescribable)?,
        not_after: at(parsed.validity().not_after).map_err(|_| Undescribable)?,
        fingerprint: fingerprint(certificate),
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                IpAddr::from(v4).to_string()
            } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                IpAddr::from(v6).to_string()
            } else {
                "malformed IP address".to_owned()
            }
        }
        other => other.to_string(),
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::with_capacity(95);
    for byte in Sha256::digest(certificate) {
        if !text.is_empty() {
            text.push(':');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_has_names_validity_and_fingerprint() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["registry.example.com", "192.0.2.1", "::1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2053, 1, 2);
        let certificate = params.self_signed(&key).unwrap();

        let description = describe(certificate.der()).unwrap();
        assert_eq!(description.names, names);
        assert_eq!(description.subject, "CN=rcgen self signed cert");
        assert_eq!(description.issuer, description.subject);
        assert_eq!(description.not_before.to_string(), "2026-01-02T00:00:00Z");
        assert_eq!(description.not_after.to_string(), "2053-01-02T00:00:00Z");
        assert_eq!(description.fingerprint.len(), 95);
        assert_eq!(describe(&CertificateDer::from(vec![0; 9])), Err(Undescribable));
    }
}
