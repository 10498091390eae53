//! Certificates of clients: who may issue them, and who has to have one.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        WebPkiSupportedAlgorithms, aws_lc_rs::default_provider, verify_tls12_signature,
        verify_tls13_signature,
    },
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    certificate::{Validity, X509Certificate},
    prelude::FromDer as _,
    time::ASN1Time,
};

use super::{CertificateError, load_chain};
use crate::{
    server::{ClientAuth, ClientCertificates, tls::Tls},
    stamp::Stamp,
};

/// The files that say who issues client certificates, and how they looked when they were last read.
/// Where there are no such files, no client is asked for a certificate.
///
/// Reading blocks; a running server calls this off its async workers.
#[derive(Debug)]
pub struct Authorities {
    options: Option<ClientCertificates>,
    // Of all files. `None` makes the next look a reading one.
    seen: Option<Vec<Stamp>>,
    /// What was read last and could be used.
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Names the files. Nothing is read yet.
    #[must_use]
    pub const fn new(options: Option<ClientCertificates>) -> Self {
        Self { options, seen: None, certificates: Vec::new() }
    }

    /// Whether these are the ones that such a configuration asks for.
    #[must_use]
    pub fn are_those_of(&self, options: Option<&ClientCertificates>) -> bool {
        self.options.as_ref() == options
    }

    /// Reads the files, for the start of the server. Gives what looks at the certificates of
    /// clients.
    ///
    /// # Errors
    ///
    /// When a file is missing, unreadable, damaged, or has no certificate in it.
    pub fn load(&mut self) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
        // Looked at before they are read: a change in between is then noticed next time.
        let (stamps, now) = (self.stamps(), SystemTime::now());
        let read = self.read();
        // What is broken stays so until a file changes, and is told once. A failure to read may pass
        // by itself.
        let lasting = !matches!(read, Err(CertificateError::Read { .. }));
        let settled = stamps.iter().all(|stamp| stamp.is_settled(now));
        self.seen = (lasting && settled).then_some(stamps);
        let (certificates, verifier) = read?;
        self.certificates = certificates;
        Ok(verifier)
    }

    /// Reads the files again, for SIGHUP, and puts in force what they say; true if that is
    /// something else.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load); what was in force then stays in force.
    pub fn reload(&mut self, tls: &Tls) -> Result<bool, CertificateError> {
        let before = self.certificates.clone();
        let verifier = self.load()?;
        let is_other = self.certificates != before;
        if is_other {
            tls.set_client_verifier(verifier);
        }
        Ok(is_other)
    }

    /// As [`reload`](Self::reload), if one of the files has changed since they were last read.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load), once for each state of the files.
    pub fn reload_if_changed(&mut self, tls: &Tls) -> Result<bool, CertificateError> {
        match &self.seen {
            Some(seen) if *seen == self.stamps() => Ok(false),
            _ => self.reload(tls),
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = self.options.iter().flat_map(|options| &options.authorities);
        files.map(|path| Stamp::of(path)).collect()
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, Asked), CertificateError> {
        let (mut certificates, mut issuers) = (Vec::new(), Vec::new());
        let mut hints = RootCertStore::empty();
        let Some(ClientCertificates { authorities, demand }) = &self.options else {
            return Ok((certificates, None));
        };
        for path in authorities {
            let read = load_chain(path).map_err(|error| match error {
                CertificateError::NoCertificate { path } => CertificateError::NoAuthority { path },
                error => error,
            })?;
            for certificate in read {
                hints.add(certificate.clone()).map_err(|source| {
                    CertificateError::BadAuthority { path: path.clone(), source }
                })?;
                issuers.extend(Issuer::new(&certificate)?);
                certificates.push(certificate);
            }
        }
        let verifier = Verifier {
            demand: *demand,
            issuers,
            listed: certificates.clone(),
            hints: hints.subjects(),
            algorithms: default_provider().signature_verification_algorithms,
        };
        Ok((certificates, Some(Arc::new(verifier))))
    }
}

/// Somebody who may issue certificates, for a while.
#[derive(Debug)]
struct Issuer {
    validity: Validity,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Issuer {
    /// `None` for a certificate that is no authority's (RFC 5280 §4.2.1.9 and §4.2.1.3): that
    /// somebody is listed does not let them let in others. webpki looks at neither, nor at the
    /// time, where a certificate is a root.
    fn new(certificate: &CertificateDer<'static>) -> Result<Option<Self>, CertificateError> {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Ok(None);
        };
        let constraints = parsed.basic_constraints();
        let is_authority = constraints.is_ok_and(|found| found.is_some_and(|it| it.value.ca));
        let may_sign = parsed
            .key_usage()
            .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        if !is_authority || !may_sign {
            return Ok(None);
        }
        let mut root = RootCertStore::empty();
        // It went into another store before.
        let _ = root.add(certificate.clone());
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(root), provider);
        Ok(Some(Self { validity: parsed.validity().clone(), verifier: verifier.build()? }))
    }
}

/// A moment as certificates have it.
fn moment(now: UnixTime) -> Option<ASN1Time> {
    ASN1Time::from_timestamp(i64::try_from(now.as_secs()).ok()?).ok()
}

/// What looks at the certificates of clients, if they are asked for any.
type Asked = Option<Arc<dyn ClientCertVerifier>>;

/// Looks at the certificates of clients as Go does for registry:2. All clients are told whose
/// certificates are looked for, and none gets by without a proof that it has the key.
#[derive(Debug)]
struct Verifier {
    demand: ClientAuth,
    issuers: Vec<Issuer>,
    listed: Vec<CertificateDer<'static>>,
    /// Whose certificates clients are asked for.
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Whether the certificate stands in the files itself, and may be used by a client now. A client
    /// that has signed its own is let in so, although most tools make an authority of it, which
    /// could not be a client otherwise.
    fn lists(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let is_valid = moment(now).is_some_and(|now| parsed.validity().is_valid_at(now));
        let is_for_clients = parsed.extended_key_usage().is_ok_and(|usage| {
            usage.is_none_or(|usage| usage.value.client_auth || usage.value.any)
        });
        is_valid && is_for_clients && self.listed.contains(certificate)
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        match self.demand {
            ClientAuth::RequestClientCert | ClientAuth::VerifyClientCertIfGiven => false,
            ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert => true,
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.demand {
            ClientAuth::RequestClientCert | ClientAuth::RequireAnyClientCert => {
                Ok(ClientCertVerified::assertion())
            }
            ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert => {
                if self.lists(certificate, now) {
                    return Ok(ClientCertVerified::assertion());
                }
                let mut why = rustls::CertificateError::UnknownIssuer.into();
                let valid = |issuer: &&Issuer| {
                    moment(now).is_some_and(|now| issuer.validity.is_valid_at(now))
                };
                for issuer in self.issuers.iter().filter(valid) {
                    match issuer.verifier.verify_client_cert(certificate, intermediates, now) {
                        Ok(verified) => return Ok(verified),
                        // What is wrong with the certificate itself says more than that this
                        // one has not issued it.
                        Err(rustls::Error::InvalidCertificate(
                            rustls::CertificateError::UnknownIssuer,
                        )) => {}
                        Err(error) => why = error,
                    }
                }
                Err(why)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
