//! The local certificate authority, for servers whose configuration names no certificate.
//!
//! One directory holds four files. `ca.crt` and `ca.key` are the authority: created once and never
//! overwritten, because clients trust that certificate. `server.crt` and `server.key` are the server
//! certificate, which the authority issues and renews. [`ensure`] creates missing files and renews the
//! server certificate when necessary; [`renew`] issues a new one in any case. `ca.key` may be kept
//! elsewhere: the server serves a valid certificate without it.

mod constraints;
mod error;
pub(super) mod files;
mod names;
mod renewal;

use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use self::{constraints::Constraints, files::Access, names::Name};
pub use self::{
    error::AuthorityError,
    renewal::{Hosts, Outcome, Reason, Renew, ServerCertificate, ensure, examine, renew},
};

/// The file of the authority's certificate, which clients trust.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The file of the authority's private key.
pub const CA_KEY: &str = "ca.key";
/// The file of the server's certificate.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The file of the server's private key.
pub const SERVER_KEY: &str = "server.key";

/// The default validity of a server certificate in days: the longest that Apple's systems accept from
/// a private authority.
pub const DEFAULT_DAYS: u16 = 825;

/// The validity of an authority in days: ten years, because every client must be configured to trust
/// its successor.
const CA_DAYS: i64 = 3652;

/// How far in the past a certificate begins to be valid, for clients whose clocks are slow.
const BACKDATED: Duration = Duration::minutes(5);

/// The longest common name in characters (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// A certificate authority: its certificate and its private key.
pub struct Authority {
    root: Root,
    issuer: Issuer<'static, KeyPair>,
}

/// The certificate of an authority. The key may be kept elsewhere.
struct Root {
    /// The file of the certificate.
    path: PathBuf,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    constraints: Constraints,
}

/// A certificate and its private key, both PEM.
pub struct Issued {
    /// The leaf alone: clients that trust the authority have its certificate already.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
}

impl Authority {
    /// Loads the authority of a directory, or creates one for `hosts` if neither of its files exists.
    /// Returns true if it has created one.
    ///
    /// A new authority is an ECDSA P-256 key (mode 0600) with a certificate for ten years. It may sign
    /// server certificates and revocation lists, and no other authorities. Its name constraints permit
    /// `hosts`, their parent domains, this machine and local addresses. The key is durable before the
    /// certificate appears. Another tool may have created an existing authority.
    ///
    /// This function takes no lock: of two concurrent callers, one may find only one of the other's
    /// files. [`ensure`] and [`renew`] hold a lock.
    ///
    /// # Errors
    ///
    /// When a name is malformed, when only one of the files exists, when the key is not the key of the
    /// certificate, and when a file is malformed or cannot be read or written.
    pub fn load_or_create(
        directory: &Path,
        hosts: &[String],
    ) -> Result<(Self, bool), AuthorityError> {
        let names: Vec<_> = hosts.iter().map(|host| Name::parse(host)).collect::<Result<_, _>>()?;
        Self::load_or_create_at(directory, &names, OffsetDateTime::now_utc())
    }

    fn load_or_create_at(
        directory: &Path,
        names: &[Name],
        now: OffsetDateTime,
    ) -> Result<(Self, bool), AuthorityError> {
        if let Some(authority) = Self::load(directory)? {
            return Ok((authority, false));
        }
        let certificate_path = directory.join(CA_CERTIFICATE);
        let key_path = directory.join(CA_KEY);
        let key = new_key()?;
        let params = ca_params(now, &Constraints::around(names))?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
        let pem = Zeroizing::new(key.serialize_pem());
        files::write(&key_path, pem.as_bytes(), Access::Private)?;
        files::write(&certificate_path, certificate.pem().as_bytes(), Access::Public)?;
        let root = Root::new(certificate.into(), certificate_path)?;
        Ok((Self::new(root, key, &key_path)?, true))
    }

    /// Loads the authority of a directory; `None` if neither of its files exists.
    fn load(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let key = directory.join(CA_KEY);
        match (Root::load(directory)?, files::read(&key)?) {
            (Some(root), Some(pem)) => Self::new(root, read_key(&pem, &key)?, &key).map(Some),
            (None, None) => Ok(None),
            (Some(root), None) => {
                Err(AuthorityError::Incomplete { present: root.path, missing: key })
            }
            (None, Some(_)) => {
                let missing = directory.join(CA_CERTIFICATE);
                Err(AuthorityError::Incomplete { present: key, missing })
            }
        }
    }

    fn new(root: Root, key: KeyPair, path: &Path) -> Result<Self, AuthorityError> {
        if root.public_key()? != key.subject_public_key_info() {
            let key = path.to_owned();
            return Err(AuthorityError::Mismatch { certificate: root.path, key });
        }
        let issuer = Issuer::from_ca_cert_der(&root.certificate, key)
            .map_err(|_| AuthorityError::NotAnAuthority { path: root.path.clone() })?;
        Ok(Self { root, issuer })
    }

    /// Creates a key and a server certificate for `names`: host names and IP addresses, also within
    /// URLs. The certificate is valid for `days`, of which the first five minutes have passed, and at
    /// most until the authority expires.
    ///
    /// # Errors
    ///
    /// When a name is malformed, when the name constraints of the authority do not permit it, and when
    /// the authority has expired.
    pub fn issue(&self, names: &[String], days: u16) -> Result<Issued, AuthorityError> {
        let names: Vec<_> = names.iter().map(|name| Name::parse(name)).collect::<Result<_, _>>()?;
        self.root.must_permit(&names)?;
        let key = new_key()?;
        let chain = self.certify(&key, &names, days, OffsetDateTime::now_utc())?;
        Ok(Issued { chain, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// Issues a certificate for a key, and returns it as PEM.
    fn certify(
        &self,
        key: &KeyPair,
        names: &[Name],
        days: u16,
        now: OffsetDateTime,
    ) -> Result<String, AuthorityError> {
        if self.root.not_after <= now {
            return Err(AuthorityError::Expired);
        }
        let mut params = CertificateParams::default();
        params.not_before = now - BACKDATED;
        // The days count from `not_before`, because Apple's limit of 825 days is exact. No client
        // accepts a certificate after its authority has expired.
        let end = params.not_before + Duration::days(days.into());
        params.not_after = end.min(self.root.not_after);
        params.serial_number = Some(serial()?);
        params.subject_alt_names = names
            .iter()
            .map(Name::to_san)
            .collect::<Result<_, _>>()
            .map_err(AuthorityError::Make)?;
        // Clients compare the subject alternative names; people read the common name.
        let common = names.first().map(Name::to_string).unwrap_or_default();
        params.distinguished_name = common_name(if common.len() > MAX_COMMON_NAME {
            "Portcullis".to_owned()
        } else {
            common
        });
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer);
        Ok(leaf.map_err(AuthorityError::Make)?.pem())
    }
}

impl Root {
    /// Loads the authority's certificate of a directory; `None` if its file does not exist.
    fn load(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let path = directory.join(CA_CERTIFICATE);
        let Some(pem) = files::read(&path)? else { return Ok(None) };
        match CertificateDer::from_pem_slice(&pem) {
            Ok(certificate) => Self::new(certificate, path).map(Some),
            Err(_) => Err(AuthorityError::NotAnAuthority { path }),
        }
    }

    fn new(certificate: CertificateDer<'static>, path: PathBuf) -> Result<Self, AuthorityError> {
        let read = match X509Certificate::from_der(&certificate) {
            Ok((_, parsed)) if parsed.is_ca() => {
                Some((parsed.validity().not_after.to_datetime(), Constraints::of(&parsed)))
            }
            _ => None,
        };
        match read {
            Some((not_after, constraints)) => {
                Ok(Self { path, certificate, not_after, constraints })
            }
            None => Err(AuthorityError::NotAnAuthority { path }),
        }
    }

    fn public_key(&self) -> Result<Vec<u8>, AuthorityError> {
        match X509Certificate::from_der(&self.certificate) {
            Ok((_, parsed)) => Ok(parsed.public_key().raw.to_vec()),
            Err(_) => Err(AuthorityError::NotAnAuthority { path: self.path.clone() }),
        }
    }

    /// Refuses names that the name constraints do not permit.
    fn must_permit(&self, names: &[Name]) -> Result<(), AuthorityError> {
        match names.iter().find(|name| !self.constraints.permit(name)) {
            None => Ok(()),
            Some(name) => Err(AuthorityError::NotPermitted {
                name: name.to_string(),
                directory: self.path.parent().unwrap_or_else(|| Path::new(".")).to_owned(),
            }),
        }
    }

    /// Whether this authority's key has signed the certificate, which may have expired.
    fn has_issued(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok(anchor) = webpki::anchor_from_trusted_cert(&self.certificate) else {
            return false;
        };
        let Ok(certificate) = webpki::EndEntityCert::try_from(leaf) else {
            return false;
        };
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
            return false;
        };
        let begin = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
        let anchors = [anchor];
        let verified = certificate.verify_for_usage(
            webpki_algorithms(),
            &anchors,
            &[],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(begin)),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        );
        verified.is_ok()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.root.not_after).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain).finish_non_exhaustive()
    }
}

fn webpki_algorithms() -> &'static [&'static dyn rustls_pki_types::SignatureVerificationAlgorithm] {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}

fn ca_params(
    now: OffsetDateTime,
    constraints: &Constraints,
) -> Result<CertificateParams, AuthorityError> {
    let host = names::of_this_machine().map_or_else(|| "localhost".to_owned(), |n| n.to_string());
    let full = format!("Portcullis local CA ({host})");
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(CA_DAYS);
    params.serial_number = Some(serial()?);
    params.distinguished_name = common_name(if full.len() > MAX_COMMON_NAME {
        "Portcullis local CA".to_owned()
    } else {
        full
    });
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A client that trusts the authority does not trust it for e-mail or code signing.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(constraints.to_rcgen());
    Ok(params)
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// 127 random bits, positive and not zero (RFC 5280 §4.1.2.2).
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| AuthorityError::NoRandomNumbers)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Make)
}

fn read_key(pem: &[u8], path: &Path) -> Result<KeyPair, AuthorityError> {
    let text = str::from_utf8(pem).map_err(|_| rcgen::Error::CouldNotParseKeyPair);
    text.and_then(KeyPair::from_pem)
        .map_err(|source| AuthorityError::Key { path: path.to_owned(), source })
}
