//! Authorities that issue client certificates, and clients that present them.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, client::ResolvesClientCert,
    crypto::aws_lc_rs::default_provider, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::server::certificates;

/// An authority that issues client certificates.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The certificate of a client, with its key.
    pub fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        certified(certificate.der(), &key)
    }

    /// The certificate of a client with these DNS names.
    pub fn client_named(&self, names: &[&str]) -> Arc<CertifiedKey> {
        let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        self.client(|params| params.subject_alt_names = names.collect())
    }

    /// The configuration of a client that presents the authority's own certificate.
    pub fn itself(&self) -> Arc<CertifiedKey> {
        certified(self.0.der(), self.0.key())
    }
}

/// A certificate with a key, which may be a wrong one.
pub fn certified(certificate: &CertificateDer<'_>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = default_provider().key_provider.load_private_key(key).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate.clone().into_owned()], key))
}

/// Presents one certificate, whichever issuer the server names, or none.
#[derive(Debug)]
pub struct Shows(pub Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A client that trusts the servers of this process and presents a certificate, or none.
pub fn client_with(shows: Option<Arc<CertifiedKey>>) -> reqwest::Client {
    client_of(&certificates().join("ca.crt"), shows)
}

/// A client that trusts the authority in a file and presents a certificate, or none.
pub fn client_of(authority: &Path, shows: Option<Arc<CertifiedKey>>) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shows(shows)));
    let redirects = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
    client.redirect(redirects).build().unwrap()
}
