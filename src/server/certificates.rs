//! Certificates from files: loaded, told about, replaced while the server runs.
//!
//! [`load`] reads a pair once, a [`Source`] notices when the files change and puts the new pair into
//! the [`Resolver`] that TLS asks, and [`describe`] says what stands in a certificate. Whose
//! certificates clients may show is read by [`Authorities`]. Making certificates is the business of
//! [`super::authority`].

mod clients;
mod description;
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
    pem::{self, PemObject as _},
};
use zeroize::Zeroizing;

pub use self::{
    clients::Authorities,
    description::{Description, Undescribable, describe},
    source::{Resolver, Source},
};

/// Why a certificate and its key cannot be used. Each variant is a sentence that names the file;
/// causes from below are in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate or the key is not there.
    #[error("there is no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A PEM section has no end, or is not base64.
    #[error("{} is damaged", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The certificate's file has no `BEGIN CERTIFICATE`.
    #[error("there is no certificate in {}: PEM is expected, the server's certificate first", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is PEM, and within it something else than an X.509 certificate.
    #[error("the first certificate in {} is malformed", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A file that is to say who issues client certificates has no `BEGIN CERTIFICATE`.
    #[error("there is no certificate in {}: PEM is expected, of whoever issues client certificates", path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
    },
    /// One of them is something else than an X.509 certificate.
    #[error("a certificate in {} is malformed", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// They cannot be put together.
    #[error("client certificates cannot be verified")]
    Authorities(#[from] VerifierBuilderError),
    /// The key's file has no key.
    #[error("there is no private key in {}: PEM is expected, PKCS#8, PKCS#1 or SEC1", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is protected by a passphrase, which nobody is there to type.
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
        /// What is wrong.
        source: rustls::Error,
    },
    /// Certificate and key are fine, each by itself.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// Reads a certificate chain, leaf first, and the private key of the leaf.
///
/// Both files are PEM; text around the sections is ignored, and one file may serve as both. Whether
/// the certificate is expired, and for whom it was issued, is not looked at.
///
/// # Errors
///
/// When a file is missing, unreadable or without what is looked for in it, and when the key is not
/// that of the first certificate. This call blocks.
pub fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = load_chain(certificate)?;
    let private_key = load_key(key)?;
    let pair = CertifiedKey::from_der(chain, private_key, &aws_lc_rs::default_provider());
    pair.map(Arc::new).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(_) => {
            CertificateError::BadCertificate { path: certificate.to_owned(), source }
        }
        source => CertificateError::BadKey { path: key.to_owned(), source },
    })
}

/// Reads a certificate chain: at least one certificate, not looked into.
///
/// # Errors
///
/// When the file is missing, unreadable, damaged or has no certificate.
pub fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|source| CertificateError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        let path = path.to_owned();
        return Err(CertificateError::NoCertificate { path });
    }
    Ok(chain)
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read(path)?;
    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    // PKCS#8 has a section of its own for this, the older formats a header inside of the usual one.
    if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        let path = path.to_owned();
        return Err(CertificateError::EncryptedKey { path });
    }
    let path = path.to_owned();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        pem::Error::NoItemsFound => CertificateError::NoKey { path },
        source => CertificateError::Pem { path, source },
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

    struct Pair {
        certificate: String,
        key: rcgen::KeyPair,
    }

    fn pair() -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Pair { certificate, key }
    }

    /// Writes both files and loads them.
    fn loaded(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
        let dir = tempfile::tempdir().unwrap();
        let (crt, pem) = (dir.path().join("a.crt"), dir.path().join("a.key"));
        fs::write(&crt, certificate).unwrap();
        fs::write(&pem, key).unwrap();
        load(&crt, &pem)
    }

    #[test]
    fn a_pair_is_loaded_with_its_chain_and_text_around_it() {
        let Pair { certificate, key } = pair();
        let other = pair().certificate;
        let chain = format!("subject=CN=x\n{certificate}\nissuer=\n{other}");
        assert_eq!(loaded(&chain, &key.serialize_pem()).unwrap().cert.len(), 2);

        let both = certificate + &key.serialize_pem();
        assert_eq!(loaded(&both, &both).unwrap().cert.len(), 1);
    }

    #[test]
    fn each_fault_has_a_sentence_that_names_the_file() {
        let Pair { certificate, key } = pair();
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
            let told = loaded(certificate, key).unwrap_err().to_string();
            assert!(told.contains(expected), "{expected}: {told}");
        }
        let told = load(Path::new("/nowhere.crt"), Path::new("/nowhere.key")).unwrap_err();
        assert_eq!(told.to_string(), "there is no file /nowhere.crt");
    }
}
