//! The local certificate authority, for servers that nobody has given a certificate.
//!
//! One directory holds four files: `ca.crt` and `ca.key`, the authority, made once and never
//! overwritten, because clients are told to trust it; and `server.crt` and `server.key`, which the
//! authority issues and renews. [`ensure`] makes and renews what needs it, [`renew`] makes a new
//! server certificate in any case.

mod error;
mod files;
mod names;
mod upkeep;

use std::path::Path;

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

pub use self::{
    error::AuthorityError,
    upkeep::{Outcome, Reason, ServerCertificate, ensure, examine, renew},
};
use self::{files::Access, names::Name};

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
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, both PEM.
pub struct Issued {
    /// The leaf alone: clients have the authority's certificate already, or do not trust it.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
}

impl Authority {
    /// Loads the authority in a directory, or makes one if neither of its files is there; true if
    /// it was made.
    ///
    /// A new authority is an ECDSA P-256 key (mode 0600) with a certificate for ten years that may
    /// sign server certificates and revocation lists and no further authorities. The key is durable
    /// before the certificate appears. An existing one may also be made by other tools.
    ///
    /// Of two processes that do this at the same time one may find the other's work half-done;
    /// [`ensure`] and [`renew`] hold a lock against that.
    ///
    /// # Errors
    ///
    /// When only one of the files is there, when they do not belong together or cannot be used, and
    /// when they cannot be read or written.
    pub fn load_or_create(directory: &Path) -> Result<(Self, bool), AuthorityError> {
        Self::load_or_create_at(directory, OffsetDateTime::now_utc())
    }

    fn load_or_create_at(
        directory: &Path,
        now: OffsetDateTime,
    ) -> Result<(Self, bool), AuthorityError> {
        if let Some(authority) = Self::load(directory)? {
            return Ok((authority, false));
        }
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        let signing = new_key()?;
        let own = ca_params(now)?.self_signed(&signing).map_err(AuthorityError::Make)?;
        let pem = Zeroizing::new(signing.serialize_pem());
        files::write(&key, pem.as_bytes(), Access::Private)?;
        files::write(&certificate, own.pem().as_bytes(), Access::Public)?;
        let authority = Self::new(own.into(), signing)
            .map_err(|_| AuthorityError::NotAnAuthority { path: certificate })?;
        Ok((authority, true))
    }

    /// The authority in a directory; `None` if neither of its files is there.
    fn load(directory: &Path) -> Result<Option<Self>, AuthorityError> {
        let (certificate, key) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        match (files::read(&certificate)?, files::read(&key)?) {
            (Some(crt), Some(pem)) => {
                let not_an_authority =
                    || AuthorityError::NotAnAuthority { path: certificate.clone() };
                let der = CertificateDer::from_pem_slice(&crt).map_err(|_| not_an_authority())?;
                let signing = read_key(&pem, &key)?;
                match Self::new(der, signing) {
                    Ok(authority) => Ok(Some(authority)),
                    Err(Unfit::NotAnAuthority) => Err(not_an_authority()),
                    Err(Unfit::Mismatch) => Err(AuthorityError::Mismatch { certificate, key }),
                }
            }
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(AuthorityError::Incomplete { present: certificate, missing: key })
            }
            (None, Some(_)) => {
                Err(AuthorityError::Incomplete { present: key, missing: certificate })
            }
        }
    }

    fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, Unfit> {
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| Unfit::NotAnAuthority)?;
        if !parsed.is_ca() {
            return Err(Unfit::NotAnAuthority);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Unfit::Mismatch);
        }
        let not_after = parsed.validity().not_after.to_datetime();
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| Unfit::NotAnAuthority)?;
        Ok(Self { certificate, not_after, issuer })
    }

    /// Makes a key and a server certificate for the names (host names and IP addresses, as people
    /// write them), valid for so many days (the first five minutes of them past), at most as long as
    /// the authority is.
    ///
    /// # Errors
    ///
    /// When a name is neither, or the authority has expired.
    pub fn issue(&self, names: &[String], days: u16) -> Result<Issued, AuthorityError> {
        let names: Vec<_> = names.iter().map(|name| Name::parse(name)).collect::<Result<_, _>>()?;
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
        if self.not_after <= now {
            return Err(AuthorityError::Expired);
        }
        let mut params = CertificateParams::default();
        params.not_before = now - BACKDATED;
        // Counted from the beginning: Apple's limit of 825 days is exact. And no client accepts a
        // certificate that outlives its authority.
        let end = params.not_before + Duration::days(days.into());
        params.not_after = end.min(self.not_after);
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
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain).finish_non_exhaustive()
    }
}

enum Unfit {
    NotAnAuthority,
    Mismatch,
}

fn webpki_algorithms() -> &'static [&'static dyn rustls_pki_types::SignatureVerificationAlgorithm] {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}

fn ca_params(now: OffsetDateTime) -> Result<CertificateParams, AuthorityError> {
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
