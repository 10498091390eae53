//! Certificates from files: loaded, described, and replaced while the server runs.
//!
//! [`load`] reads a certificate and its key once. A [`Source`] reads them again when the files change,
//! and puts them [`InForce`]; TLS takes the certificate of each handshake from the [`Resolver`].
//! [`describe`] returns the fields of a certificate. [`Authorities`] reads the trust anchors of client
//! certificates, [`ClientIdentity`] the name in one. [`super::authority`] issues certificates.

mod chain;
mod clients;
mod description;
mod fitness;
mod identity;
mod pem;
mod resolver;
mod source;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys, crypto::aws_lc_rs, server::VerifierBuilderError, sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject as _},
};
use zeroize::Zeroizing;

pub use self::{
    clients::Authorities,
    description::{Description, Undescribable, describe},
    identity::{ClientCertificate, ClientIdentity},
    resolver::{Certificates, InForce, Resolver},
    source::Source,
};
pub(super) use self::{identity::Nameless, resolver::wildcard_matches};

/// A certificate and its key cannot be used. Each message is a sentence that names the file;
/// `source()` has the cause.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file of the certificate or of the key does not exist.
    #[error("there is no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A PEM section has no end, or is not base64.
    #[error("{} is damaged", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: PemError,
    },
    /// The file has another format than PEM.
    #[error(
        "{} is {what}, where PEM of a certificate or of a key is needed: `{command}` converts it",
        path.display()
    )]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The format.
        what: &'static str,
        /// The command that converts the file to PEM.
        command: String,
    },
    /// The server's certificate is of X.509 version 1 or 2, to which subject alternative names are
    /// unknown.
    #[error(
        "the certificate in {} is of X.509 version {version}, in which no host names can stand, so \
         that clients refuse it: make one of version 3, as `{command}` does, or have its authority \
         sign one with subjectAltName",
        path.display()
    )]
    OldVersion {
        /// The certificate's file.
        path: PathBuf,
        /// The version.
        version: u32,
        /// The command that makes another certificate for the same key.
        command: String,
    },
    /// The server's key is an RSA key of a length that TLS does not sign with.
    #[error(
        "the certificate in {} is for an RSA key of {bits} bits, and TLS takes 2048 to 8192: make \
         another key and certificate, as `{command}` does, or have its authority sign one",
        path.display()
    )]
    RsaBits {
        /// The certificate's file.
        path: PathBuf,
        /// The length of the key.
        bits: usize,
        /// The command that makes another key and certificate.
        command: String,
    },
    /// The certificate's file has no `BEGIN CERTIFICATE`.
    #[error("there is no certificate in {}: PEM is expected, the server's certificate first", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The first PEM section is not an X.509 certificate.
    #[error("the first certificate in {} is malformed", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// A file of `http.tls.clientcas` has no `BEGIN CERTIFICATE`.
    #[error("there is no certificate in {}: PEM is expected, of the authorities that issue client certificates", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// A PEM section in a file of `http.tls.clientcas` is not an X.509 certificate.
    #[error("a certificate in {} is malformed", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// The authorities give no verifier.
    #[error("client certificates cannot be verified")]
    Authorities(#[from] VerifierBuilderError),
    /// The key's file has no key.
    #[error("there is no private key in {}: PEM is expected, PKCS#8, PKCS#1 or SEC1", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is encrypted with a passphrase, which a server cannot ask for.
    #[error("the private key in {0} is encrypted: decrypt it with `openssl pkey -in {0} -out decrypted.key` and configure the result", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is damaged, or of a kind that TLS does not use.
    #[error("the private key in {} cannot be used", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// The key is not the key of the certificate.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl CertificateError {
    /// The file that cannot be used; for [`Mismatch`](Self::Mismatch), the certificate's.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing { path }
            | Self::Read { path, .. }
            | Self::Pem { path, .. }
            | Self::NotPem { path, .. }
            | Self::OldVersion { path, .. }
            | Self::RsaBits { path, .. }
            | Self::NoCertificate { path }
            | Self::BadCertificate { path, .. }
            | Self::NoAuthority { path }
            | Self::BadAuthority { path, .. }
            | Self::NoKey { path }
            | Self::EncryptedKey { path }
            | Self::BadKey { path, .. }
            | Self::Mismatch { certificate: path, .. } => Some(path),
            Self::Authorities(_) => None,
        }
    }
}

/// A certificate chain and the key of its first certificate.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The chain in the order in which the server sends it, and the key.
    pub certified: Arc<CertifiedKey>,
    /// Whether the file has the certificates in another order, such as the root first.
    pub is_reordered: bool,
}

/// Reads a certificate chain and the private key of one of its certificates. The returned chain begins
/// with that certificate; its issuers follow.
///
/// Both files are PEM, and one file may be both. The parser ignores text around the sections, a byte
/// order mark, and a missing newline between sections. This function checks neither validity nor names
/// of the certificate.
///
/// # Errors
///
/// When a file is missing, unreadable or without certificate or key, when the key belongs to none of
/// the certificates, and when clients or TLS refuse every certificate of this kind. This call blocks.
pub fn load(certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
    let chain = load_chain(certificate)?;
    let private_key = load_key(key)?;
    let provider = aws_lc_rs::default_provider();
    let signing = provider.key_provider.load_private_key(private_key).map_err(|source| {
        // The certificate may show why the key cannot be loaded.
        match fitness::check(&chain[0], certificate, key) {
            Err(unfit) => unfit,
            Ok(()) => CertificateError::BadKey { path: key.to_owned(), source },
        }
    })?;
    let (chain, is_reordered) = match signing.public_key() {
        Some(public) => chain::ordered(chain, &public),
        None => (chain, false),
    };
    fitness::check(&chain[0], certificate, key)?;
    let certified = CertifiedKey::new(chain, signing);
    let matches = match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        matches => matches,
    };
    matches.map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(_) => {
            CertificateError::BadCertificate { path: certificate.to_owned(), source }
        }
        source => CertificateError::BadKey { path: key.to_owned(), source },
    })?;
    Ok(Pair { certified: Arc::new(certified), is_reordered })
}

/// Reads a certificate chain of at least one certificate. Does not parse the certificates.
///
/// # Errors
///
/// When the file is missing, unreadable, damaged or has no certificate.
pub fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(path)?;
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem::normalise(&bytes)) {
        let certificate = certificate
            .map_err(|source| CertificateError::Pem { path: path.to_owned(), source })?;
        chain.push(pem::certificate_alone(&certificate).to_vec().into());
    }
    if chain.is_empty() {
        let other = pem::other_format(&bytes, path, pem::Wanted::Certificate);
        return Err(
            other.unwrap_or_else(|| CertificateError::NoCertificate { path: path.to_owned() })
        );
    }
    Ok(chain)
}

/// Reads a private key: the first of the file.
///
/// # Errors
///
/// When the file is missing, unreadable, damaged, encrypted or has no key.
pub fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let file = read(path)?;
    let bytes = pem::normalise(&file);
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    // PKCS#8 has a section of its own for encrypted keys, the older formats a header in the usual one.
    if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        let path = path.to_owned();
        return Err(CertificateError::EncryptedKey { path });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        PemError::NoItemsFound => pem::other_format(&file, path, pem::Wanted::Key)
            .unwrap_or_else(|| CertificateError::NoKey { path: path.to_owned() }),
        source => CertificateError::Pem { path: path.to_owned(), source },
    })
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let path = path.to_owned();
    match fs::read(&path) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(CertificateError::Missing { path }),
        Err(source) => Err(CertificateError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        certificate: String,
        key: rcgen::KeyPair,
    }

    fn pair() -> Made {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Made { certificate, key }
    }

    /// Writes both files and loads them.
    fn loaded(certificate: &str, key: &str) -> Result<Pair, CertificateError> {
        let dir = tempfile::tempdir().unwrap();
        let certificate_path = dir.path().join("a.crt");
        let key_path = dir.path().join("a.key");
        fs::write(&certificate_path, certificate).unwrap();
        fs::write(&key_path, key).unwrap();
        load(&certificate_path, &key_path)
    }

    #[test]
    fn pair_is_loaded_with_its_chain_and_text_around_it() {
        let Made { certificate, key } = pair();
        let other = pair().certificate;
        let chain = format!("subject=CN=x\n{certificate}\nissuer=\n{other}");
        let pair = loaded(&chain, &key.serialize_pem()).unwrap();
        assert_eq!((pair.certified.cert.len(), pair.is_reordered), (2, false));

        let both = certificate + &key.serialize_pem();
        assert_eq!(loaded(&both, &both).unwrap().certified.cert.len(), 1);
    }

    #[test]
    fn each_fault_has_a_sentence_that_names_the_file() {
        let Made { certificate, key } = pair();
        let key = key.serialize_pem();
        let other = pair().key.serialize_pem();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAA==\n\
                      -----END RSA PRIVATE KEY-----\n";
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bad_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cut = &certificate[..certificate.len() - 40];
        for (certificate, key, expected) in [
            (certificate.as_str(), other.as_str(), "a.key does not belong to the certificate in"),
            (&certificate, &encrypted, "a.key is encrypted: decrypt it"),
            (&certificate, legacy, "a.key is encrypted: decrypt it"),
            (&certificate, "", "there is no private key in"),
            (&certificate, &certificate, "there is no private key in"),
            (&certificate, bad_key, "the private key in"),
            (&key, &key, "there is no certificate in"),
            (junk, &key, "the first certificate in"),
            (cut, &key, "a.crt is damaged"),
        ] {
            let message = loaded(certificate, key).unwrap_err().to_string();
            assert!(message.contains(expected), "{expected}: {message}");
        }
        let error = load(Path::new("/nowhere.crt"), Path::new("/nowhere.key")).unwrap_err();
        assert_eq!(error.to_string(), "there is no file /nowhere.crt");
    }
}
