//! Client certificates: their trust anchors, and the verifier of the handshake.

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
    server::{
        ClientAuth, ClientCertificates,
        tls::{Clients, Tls},
    },
    stamp::Stamp,
};

/// The files of `http.tls.clientcas`, and their stamps when they were last read. Without such files the
/// server requests no client certificates.
///
/// Reading blocks; a running server calls this off its async workers.
#[derive(Debug)]
pub struct Authorities {
    options: Option<ClientCertificates>,
    // The stamps of all files. `None` makes the next check read the files.
    seen: Option<Vec<Stamp>>,
    /// The certificates in force.
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Names the files. Nothing is read yet.
    #[must_use]
    pub const fn new(options: Option<ClientCertificates>) -> Self {
        Self { options, seen: None, certificates: Vec::new() }
    }

    /// Whether the value was created with these options.
    #[must_use]
    pub fn has_options(&self, options: Option<&ClientCertificates>) -> bool {
        self.options.as_ref() == options
    }

    /// Reads the files at the start of the server. Returns how the server requests client
    /// certificates; `None` without files.
    ///
    /// # Errors
    ///
    /// When a file is missing, unreadable or damaged, or has no certificate.
    pub fn load(&mut self) -> Result<Option<Clients>, CertificateError> {
        // The stamps are taken before the files are read, so the next check sees a change in between.
        let stamps = self.stamps();
        let now = SystemTime::now();
        let read = self.read();
        // A damaged file is reported once for each change. A file that cannot be read is tried again,
        // since the cause may be temporary.
        let lasting = !matches!(read, Err(CertificateError::Read { .. }));
        let settled = stamps.iter().all(|stamp| stamp.is_settled(now));
        self.seen = (lasting && settled).then_some(stamps);
        let TrustAnchors { certificates, clients } = read?;
        self.certificates = certificates;
        Ok(clients)
    }

    /// Reads the files again, for SIGHUP, and puts their certificates in force. Returns true if the
    /// certificates have changed.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load); the old certificates then stay in force.
    pub fn reload(&mut self, tls: &Tls) -> Result<bool, CertificateError> {
        let before = self.certificates.clone();
        let clients = self.load()?;
        let is_other = self.certificates != before;
        if is_other {
            tls.set_clients(clients);
        }
        Ok(is_other)
    }

    /// As [`reload`](Self::reload), if a file has changed since the files were last read.
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

    fn read(&self) -> Result<TrustAnchors, CertificateError> {
        let Some(options) = &self.options else {
            return Ok(TrustAnchors { certificates: Vec::new(), clients: None });
        };
        let mut certificates = Vec::new();
        let mut issuers = Vec::new();
        let mut hints = RootCertStore::empty();
        for path in &options.authorities {
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
            demand: options.demand,
            issuers,
            listed: certificates.clone(),
            hints: hints.subjects(),
            algorithms: default_provider().signature_verification_algorithms,
        };
        let identity = options.identity_of_verified();
        let clients = Clients { verifier: Arc::new(verifier), identity };
        Ok(TrustAnchors { certificates, clients: Some(clients) })
    }
}

/// The certificates of the files, and the way to request certificates of their issuers.
struct TrustAnchors {
    certificates: Vec<CertificateDer<'static>>,
    /// `None`: the server requests no client certificates.
    clients: Option<Clients>,
}

/// An authority that may issue client certificates while its own certificate is valid.
#[derive(Debug)]
struct Issuer {
    validity: Validity,
    /// Trusts this authority only.
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Issuer {
    /// Returns `None` for a certificate that is not an authority's (RFC 5280 §4.2.1.9 and §4.2.1.3): a
    /// listed client must not issue certificates for other clients. webpki checks neither these
    /// extensions nor the validity of a trust anchor.
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
        // Adding it to `hints` has succeeded, so it is well-formed.
        let _ = root.add(certificate.clone());
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(root), provider);
        Ok(Some(Self { validity: parsed.validity().clone(), verifier: verifier.build()? }))
    }
}

/// Converts rustls' time to that of x509-parser.
fn asn1_time(now: UnixTime) -> Option<ASN1Time> {
    ASN1Time::from_timestamp(i64::try_from(now.as_secs()).ok()?).ok()
}

/// Verifies client certificates as Go does for registry:2. The server sends every client the names of
/// the accepted authorities, and every client must prove that it has the key of its certificate.
#[derive(Debug)]
struct Verifier {
    demand: ClientAuth,
    issuers: Vec<Issuer>,
    /// The certificates of the files.
    listed: Vec<CertificateDer<'static>>,
    /// The names of the accepted authorities (RFC 8446 §4.2.4).
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Whether the files list the certificate itself, and a client may use it now. This accepts a
    /// self-signed client certificate, which most tools mark as an authority's and which webpki refuses
    /// as a client's for that reason.
    fn is_listed(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let is_valid = asn1_time(now).is_some_and(|now| parsed.validity().is_valid_at(now));
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
                if self.is_listed(certificate, now) {
                    return Ok(ClientCertVerified::assertion());
                }
                let mut refusal = rustls::CertificateError::UnknownIssuer.into();
                let valid = |issuer: &&Issuer| {
                    asn1_time(now).is_some_and(|now| issuer.validity.is_valid_at(now))
                };
                for issuer in self.issuers.iter().filter(valid) {
                    match issuer.verifier.verify_client_cert(certificate, intermediates, now) {
                        Ok(verified) => return Ok(verified),
                        // Any other error says more about the certificate than that this
                        // authority has not issued it.
                        Err(rustls::Error::InvalidCertificate(
                            rustls::CertificateError::UnknownIssuer,
                        )) => {}
                        Err(error) => refusal = error,
                    }
                }
                Err(refusal)
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
