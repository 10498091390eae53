//! The order of a chain: the server's certificate, then each issuer.

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _,
};

type Chain = Vec<CertificateDer<'static>>;

/// Puts the certificate of the key first, and after it each issuer that the file has (RFC 5246
/// §7.4.2). Other certificates follow. Returns true if the order has changed.
///
/// A chain that begins with the certificate of the key, and in which each certificate precedes its
/// issuer, stays as it is: clients accept it (RFC 8446 §4.4.2). So does a chain without a certificate
/// of the key.
pub(super) fn ordered(chain: Chain, key: &[u8]) -> (Chain, bool) {
    let parsed: Vec<_> = chain.iter().map(|der| X509Certificate::from_der(der).ok()).collect();
    let is_of_key = |certificate: &Option<(_, X509Certificate<'_>)>| {
        certificate.as_ref().is_some_and(|(_, parsed)| parsed.public_key().raw == key)
    };
    let Some(leaf) = parsed.iter().position(is_of_key) else {
        return (chain, false);
    };
    let mut path = vec![leaf];
    while let Some(issuer) = issuer(&parsed, &path) {
        path.push(issuer);
    }
    if leaf == 0 && path.is_sorted() {
        return (chain, false);
    }
    let others = (0..chain.len()).filter(|index| !path.contains(index));
    let order: Vec<_> = path.iter().copied().chain(others).collect();
    (order.into_iter().map(|index| chain[index].clone()).collect(), true)
}

/// The issuer of the last certificate of the path, if it is not in the path yet.
fn issuer(chain: &[Option<(&[u8], X509Certificate<'_>)>], path: &[usize]) -> Option<usize> {
    let (_, last) = chain[*path.last()?].as_ref()?;
    let mut named = chain.iter().enumerate().filter_map(|(index, certificate)| {
        let (_, certificate) = certificate.as_ref()?;
        let is_named = certificate.subject().as_raw() == last.issuer().as_raw();
        (is_named && !path.contains(&index)).then_some((index, certificate))
    });
    let first = named.next()?;
    // An authority with several keys has a certificate of the same name for each of them.
    let of_key = std::iter::once(first).chain(named).find(|(_, certificate)| {
        let wanted = authority_key(last);
        wanted.is_some() && wanted == subject_key(certificate)
    });
    Some(of_key.unwrap_or(first).0)
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(key) => Some(key.key_identifier.as_ref()?.0),
        _ => None,
    })
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0),
        _ => None,
    })
}
