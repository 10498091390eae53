//! The certificates in force, and the choice of one for each handshake by the name that the client asks for
//! (SNI, RFC 6066 §3).

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::describe;

/// The certificate in force of one pair of files.
///
/// A running handshake keeps the certificate that it began with. Sessions and tickets outlive a change.
pub struct InForce(ArcSwap<Certificate>);

struct Certificate {
    pair: Arc<CertifiedKey>,
    /// The host names of the certificate.
    names: Vec<String>,
}

impl Certificate {
    fn new(pair: Arc<CertifiedKey>) -> Self {
        // TLS accepts some certificates that the parser does not: these have no names.
        let names = pair.cert.first().and_then(|leaf| describe(leaf).ok()).map(|leaf| leaf.names);
        Self { pair, names: names.unwrap_or_default() }
    }
}

impl InForce {
    /// Begins with this certificate.
    #[must_use]
    pub fn new(pair: Arc<CertifiedKey>) -> Self {
        Self(ArcSwap::from_pointee(Certificate::new(pair)))
    }

    /// Replaces the certificate for all handshakes that begin from now on.
    pub fn replace(&self, pair: Arc<CertifiedKey>) {
        self.0.store(Arc::new(Certificate::new(pair)));
    }

    /// The current certificate.
    #[must_use]
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.load().pair)
    }

    /// When the current certificate expires. `None` where TLS accepts the certificate and the parser of
    /// [`describe`] does not.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        Some(describe(self.current().cert.first()?).ok()?.not_after)
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").finish_non_exhaustive()
    }
}

/// Gives TLS the certificate for the name that a client asks for: one that has the name, or else one that
/// has a wildcard for it. The first certificate is for all other clients.
#[derive(Debug)]
pub struct Resolver(ArcSwap<Certificates>);

/// The certificates in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate for clients that ask for no name, or for one that no certificate has.
    pub first: Arc<InForce>,
    /// Further ones.
    pub more: Vec<Arc<InForce>>,
}

impl Resolver {
    /// Begins with these certificates.
    #[must_use]
    pub fn new(certificates: Certificates) -> Self {
        Self(ArcSwap::from_pointee(certificates))
    }

    /// Replaces all certificates for handshakes that begin from now on.
    pub fn replace(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }

    /// When the certificate expires that does so first.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        let certificates = self.0.load();
        let Certificates { first, more } = &**certificates;
        more.iter().chain([first]).filter_map(|certificate| certificate.not_after()).min()
    }

    /// When each certificate expires, by its first name.
    #[must_use]
    pub fn expiries(&self) -> BTreeMap<String, Timestamp> {
        let certificates = self.0.load();
        let Certificates { first, more } = &**certificates;
        let mut expiries = BTreeMap::new();
        for certificate in [first].into_iter().chain(more) {
            let first = certificate.0.load().names.first().cloned();
            if let (Some(name), Some(at)) = (first, certificate.not_after()) {
                let earliest: &mut Timestamp = expiries.entry(name).or_insert(at);
                *earliest = at.min(*earliest);
            }
        }
        expiries
    }

    /// The certificate for a client that asks for this name.
    fn certificate(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let certificates = self.0.load();
        let Certificates { first, more } = &**certificates;
        let Some(name) = name.filter(|_| !more.is_empty()) else { return first.current() };
        let find = |matches: fn(&str, &str) -> bool| {
            let all = [first].into_iter().chain(more);
            let mut certificates = all.map(|certificate| certificate.0.load());
            let found = certificates
                .find(|certificate| certificate.names.iter().any(|own| matches(own, name)));
            found.map(|certificate| Arc::clone(&certificate.pair))
        };
        find(str::eq_ignore_ascii_case)
            .or_else(|| find(wildcard_matches))
            .unwrap_or_else(|| first.current())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificate(hello.server_name()))
    }
}

/// Whether `wildcard` is a wildcard that stands for `name`: for one label at its beginning (RFC 9525 §6.3).
pub(in crate::server) fn wildcard_matches(wildcard: &str, name: &str) -> bool {
    let parent = wildcard.strip_prefix("*.");
    parent.is_some_and(|parent| {
        name.split_once('.')
            .is_some_and(|(first, rest)| !first.is_empty() && rest.eq_ignore_ascii_case(parent))
    })
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;

    use super::*;

    fn certificate(names: &[&str]) -> Arc<InForce> {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let leaf = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let key = any_supported_type(&key.serialize_der().try_into().unwrap()).unwrap();
        Arc::new(InForce::new(Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key))))
    }

    #[test]
    fn certificate_is_chosen_by_name_then_by_wildcard_then_the_first() {
        let names: [&[&str]; 4] = [
            &["a.example", "*.example"],
            &["*.shop.example", "192.0.2.1"],
            &["b.example"],
            &["www.shop.example"],
        ];
        let certificates = names.map(certificate);
        let [first, more @ ..] = certificates.clone();
        let resolver = Resolver::new(Certificates { first, more: more.to_vec() });
        for (name, expected) in [
            (None, 0),
            (Some("a.example"), 0),
            (Some("c.example"), 0),
            (Some("b.example"), 2),
            (Some("B.Example"), 2),
            (Some("x.shop.example"), 1),
            (Some("X.SHOP.example"), 1),
            (Some("www.shop.example"), 3),
            (Some("x.y.shop.example"), 0),
            (Some("shop.example"), 0),
            (Some(".shop.example"), 0),
            (Some("other.test"), 0),
        ] {
            let found = resolver.certificate(name);
            assert!(Arc::ptr_eq(&found, &certificates[expected].current()), "{name:?}");
        }
    }

    #[test]
    fn each_certificate_has_its_expiry_under_its_first_name() {
        let [first, second, same] =
            [&["a.example"][..], &["b.example", "c.example"], &["a.example"]].map(certificate);
        let resolver = Resolver::new(Certificates { first, more: vec![second, same] });
        let expiries = resolver.expiries();
        assert_eq!(expiries.keys().collect::<Vec<_>>(), ["a.example", "b.example"]);
        assert_eq!(expiries.values().min().copied(), resolver.not_after());
    }

    #[test]
    fn renewed_certificate_has_its_own_names() {
        let [first, second, renewed] =
            [&["a.example"], &["b.example"], &["c.example"]].map(|names| certificate(names));
        let more = vec![Arc::clone(&second)];
        let resolver = Resolver::new(Certificates { first: Arc::clone(&first), more });
        second.replace(renewed.current());
        assert!(Arc::ptr_eq(&resolver.certificate(Some("c.example")), &renewed.current()));
        assert!(Arc::ptr_eq(&resolver.certificate(Some("b.example")), &first.current()));
    }
}
