//! The local certificate authority, for servers that nobody has given a certificate.
//!
//! One directory holds four files: `ca.crt` and `ca.key`, the authority, made once and never
//! overwritten, because clients are told to trust it; and `server.crt` and `server.key`, which the
//! authority issues and renews. [`ensure`] makes and renews what needs it, [`renew`] makes a new
//! server certificate in any case. `ca.key` may be kept elsewhere: a server certificate that is valid
//! is served without it.

mod constraints;
mod error;
mod files;
mod names;
mod upkeep;

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
    upkeep::{Outcome, Reason, Renew, ServerCertificate, ensure, examine, renew},
};

/// The authority's certificate, which clients are told to trust.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// The authority's private key.
pub const CA_KEY: &str = "ca.key";
/// The server's certificate.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The server's private key.
pub const SERVER_KEY: &str = "server.key";

/// How many days a server certificate is valid where nothing else is asked for: the most that
/// Apple's systems accept under an authority of one's own.
pub const DEFAULT_DAYS: u16 = 825;

/// Ten years. Every client has to be told of a successor.
const CA_DAYS: i64 = 3652;

/// Certificates begin this much in the past, for clients whose clocks are late.
const BACKDATED: Duration = Duration::minutes(5);

/// What rcgen and X.509 count as the longest common name (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// A certificate authority: a certificate and its key.
pub struct Authority {
    root: Root,
    issuer: Issuer<'static, KeyPair>,
}

/// The certificate of an authority, whose key may be kept elsewhere.
struct Root {
    /// The file that it is from.
    path: PathBuf,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    constraints: Constraints,
}

/// A certificate and its private key, both PEM.
pub struct Issued {
    /// The leaf alone: clients have the authority's certificate already, or do not trust it.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
}

impl Authority {
    /// Loads the authority in a directory, or makes one for `hosts` if neither of its files is there;
    /// true if it was made.
    ///
    /// A new authority is an ECDSA P-256 key (mode 0600) with a certificate for ten years that may
    /// sign certificates of servers, and revocation lists, and no further authorities; for the names
    /// given, their parent domains, this machine and local addresses, and for no others. The key is
    /// durable before the certificate appears. An existing one may also be made by other tools.
    ///
    /// Of two processes that do this at the same time one may find the other's work half-done;
    /// [`ensure`] and [`renew`] hold a lock against that.
    ///
    /// # Errors
    ///
    /// When a name is malformed, when only one of the files is there, when they do not belong together or
    /// cannot be used, and when they cannot be read or written.
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
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        let signing = new_key()?;
        let params = ca_params(now, &Constraints::around(names))?;
        let own = params.self_signed(&signing).map_err(AuthorityError::Make)?;
        let pem = Zeroizing::new(signing.serialize_pem());
        files::write(&key, pem.as_bytes(), Access::Private)?;
        files::write(&certificate, own.pem().as_bytes(), Access::Public)?;
        let root = Root::new(own.into(), certificate)?;
        Ok((Self::new(root, signing, &key)?, true))
    }

    /// The authority in a directory; `None` if neither of its files is there.
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
            let (certificate, key) = (root.path, path.to_owned());
            return Err(AuthorityError::Mismatch { certificate, key });
        }
        let issuer = Issuer::from_ca_cert_der(&root.certificate, key)
            .map_err(|_| AuthorityError::NotAnAuthority { path: root.path.clone() })?;
        Ok(Self { root, issuer })
    }

    /// Makes a key and a server certificate for the names (host names and IP addresses, as people
    /// write them), valid for so many days (the first five minutes of them past), at most as long as
    /// the authority is.
    ///
    /// # Errors
    ///
    /// When a name is neither, or outside of the authority's constraints, or the authority has expired.
    pub fn issue(&self, names: &[String], days: u16) -> Result<Issued, AuthorityError> {
        let names: Vec<_> = names.iter().map(|name| Name::parse(name)).collect::<Result<_, _>>()?;
        self.root.must_permit(&names)?;
        let key = new_key()?;
        let chain = self.certify(&key, &names, days, OffsetDateTime::now_utc())?;
        Ok(Issued { chain, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// The certificate, as PEM, of a key that exists.
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
        // Counted from the beginning: Apple's limit of 825 days is exact. And no client accepts a
        // certificate that outlives its authority.
        let end = params.not_before + Duration::days(days.into());
        params.not_after = end.min(self.root.not_after);
        params.serial_number = Some(serial()?);
        params.subject_alt_names = names
            .iter()
            .map(Name::to_san)
            .collect::<Result<_, _>>()
            .map_err(AuthorityError::Make)?;
        // For people; clients look at the alternative names.
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
    /// The certificate in a directory; `None` if its file is not there.
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

    /// Refuses names that the authority may not vouch for.
    fn must_permit(&self, names: &[Name]) -> Result<(), AuthorityError> {
        match names.iter().find(|name| !self.constraints.permit(name)) {
            None => Ok(()),
            Some(name) => Err(AuthorityError::Outside {
                name: name.to_string(),
                directory: self.path.parent().unwrap_or_else(|| Path::new(".")).to_owned(),
            }),
        }
    }

    /// Whether this authority's key has signed the certificate, be it expired or not.
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
    // Whoever trusts it does not trust it for mail, or for code.
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
