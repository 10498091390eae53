//! The name in a client certificate by which `http.tls.clientidentity` lets the client in.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// The longest name, in bytes: that of a SPIFFE ID.
const MAX_NAME: usize = 2048;

/// `http.tls.clientidentity`: the field of a verified client certificate that names the client.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientIdentity {
    /// The common name of the subject (RFC 5280 §4.1.2.6).
    Cn,
    /// A DNS name among the subject alternative names (RFC 5280 §4.2.1.6).
    Dns,
    /// An email address among them.
    Email,
    /// A URI among them.
    Uri,
}

/// A verified client certificate that names its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The only name of the configured kind, as it stands in the certificate.
    pub name: Arc<str>,
    /// The SHA-256 of the certificate's DER.
    pub fingerprint: [u8; 32],
}

/// A verified client certificate does not have exactly one name of the configured kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {}, and http.tls.clientidentity: {} takes the name of a certificate with exactly one", self.found(), self.identity.word())]
pub(in crate::server) struct Nameless {
    identity: ClientIdentity,
    count: usize,
}

impl ClientIdentity {
    /// The value of `http.tls.clientidentity`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::Dns => "dns",
            Self::Email => "email",
            Self::Uri => "uri",
        }
    }

    /// The certificate with its name.
    ///
    /// # Errors
    ///
    /// When the certificate has no name of this kind or several, or one that is empty, longer than
    /// 2048 bytes, not text, or has a control character.
    pub(in crate::server) fn of(
        self,
        certificate: &CertificateDer<'_>,
    ) -> Result<ClientCertificate, Nameless> {
        let nameless = |count| Nameless { identity: self, count };
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| nameless(0))?;
        let names = self.names(&parsed);
        let [Some(name)] = names[..] else { return Err(nameless(names.len())) };
        let is_name =
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        let fingerprint = digest(&SHA256, certificate);
        match fingerprint.as_ref().try_into() {
            Ok(fingerprint) if is_name => Ok(ClientCertificate { name: name.into(), fingerprint }),
            _ => Err(nameless(0)),
        }
    }

    /// The names of this kind; `None` for one that is not text.
    fn names<'a>(self, certificate: &'a X509Certificate<'_>) -> Vec<Option<&'a str>> {
        if self == Self::Cn {
            let names = certificate.subject().iter_common_name();
            return names.map(|name| name.as_str().ok()).collect();
        }
        let Ok(Some(alternative)) = certificate.subject_alternative_name() else {
            return Vec::new();
        };
        let names = alternative.value.general_names.iter().filter_map(|name| match (self, name) {
            (Self::Dns, GeneralName::DNSName(name))
            | (Self::Email, GeneralName::RFC822Name(name))
            | (Self::Uri, GeneralName::URI(name)) => Some(Some(*name)),
            _ => None,
        });
        names.collect()
    }
}

impl Nameless {
    fn found(self) -> String {
        match (self.count, self.identity) {
            (0 | 1, kind) => format!("no usable {kind}"),
            (count, kind @ ClientIdentity::Email) => format!("{count} {kind}es"),
            (count, kind) => format!("{count} {kind}s"),
        }
    }
}

impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cn => "common name",
            Self::Dns => "DNS name",
            Self::Email => "email address",
            Self::Uri => "URI",
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::{ClientIdentity::*, *};

    fn certificate(names: &[DnValue<'_>]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            let text = |text: &str| text.to_owned().try_into().unwrap();
            match name {
                DnValue::Cn(name) => params.distinguished_name.push(DnType::CommonName, *name),
                DnValue::Dns(name) => params.subject_alt_names.push(SanType::DnsName(text(name))),
                DnValue::Email(name) => {
                    params.subject_alt_names.push(SanType::Rfc822Name(text(name)));
                }
                DnValue::Uri(name) => params.subject_alt_names.push(SanType::URI(text(name))),
            }
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    enum DnValue<'a> {
        Cn(&'a str),
        Dns(&'a str),
        Email(&'a str),
        Uri(&'a str),
    }

    #[test]
    fn certificate_has_a_name_of_each_kind() {
        let certificate = certificate(&[
            DnValue::Cn("Änn Smith"),
            DnValue::Dns("node1.example.com"),
            DnValue::Email("ann@example.com"),
            DnValue::Uri("spiffe://example.com/node1"),
        ]);
        for (identity, name) in [
            (Cn, "Änn Smith"),
            (Dns, "node1.example.com"),
            (Email, "ann@example.com"),
            (Uri, "spiffe://example.com/node1"),
        ] {
            let found = identity.of(&certificate).unwrap();
            assert_eq!(&*found.name, name);
            assert_eq!(found.fingerprint[..], *digest(&SHA256, &certificate).as_ref());
        }
    }

    #[test]
    fn certificate_without_exactly_one_name_of_the_kind_has_none() {
        let several = certificate(&[DnValue::Dns("a.example"), DnValue::Dns("b.example")]);
        let message = Dns.of(&several).unwrap_err().to_string();
        assert_eq!(
            message,
            "it has 2 DNS names, and http.tls.clientidentity: dns takes the name of a certificate \
             with exactly one"
        );
        for identity in [Cn, Email, Uri] {
            let message = identity.of(&several).unwrap_err().to_string();
            assert!(message.starts_with("it has no usable "), "{message}");
        }
        for odd in ["", "a\nb", "a\0b", &"a".repeat(MAX_NAME + 1)] {
            assert!(Cn.of(&certificate(&[DnValue::Cn(odd)])).is_err(), "{odd:?}");
        }
        assert!(Cn.of(&CertificateDer::from(vec![0; 9])).is_err());
    }
}
