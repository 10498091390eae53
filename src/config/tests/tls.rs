//! `http.tls`: client certificates.

use super::*;
use crate::server::{ClientAuth, ClientCertificates};

fn tls(keys: &str) -> Result<Config, Error> {
    load(&format!("storage: inmemory\nhttp:\n  tls:\n    {keys}\n"))
}

fn clients(config: &Config) -> Option<&ClientCertificates> {
    match &config.http.server.tls {
        TlsOptions::On { clients, .. } => clients.as_ref(),
        TlsOptions::Off => panic!("TLS is off"),
    }
}

#[test]
fn client_certificates_are_asked_for_in_the_words_of_registry_2() {
    for (keys, demand) in [
        ("clientcas: [/ca.pem]", ClientAuth::RequireAndVerifyClientCert),
        ("clientcas: /ca.pem", ClientAuth::RequireAndVerifyClientCert),
        ("{clientcas: [/ca.pem], clientauth: ''}", ClientAuth::RequireAndVerifyClientCert),
        ("{clientcas: [/ca.pem], clientauth: request-client-cert}", ClientAuth::RequestClientCert),
        (
            "{clientcas: [/ca.pem], clientauth: require-any-client-cert}",
            ClientAuth::RequireAnyClientCert,
        ),
        (
            "{clientcas: [/ca.pem], clientauth: verify-client-cert-if-given}",
            ClientAuth::VerifyClientCertIfGiven,
        ),
        (
            "{clientcas: [/ca.pem], clientauth: Require-And-Verify-Client-Cert}",
            ClientAuth::RequireAndVerifyClientCert,
        ),
    ] {
        let config = tls(keys).unwrap();
        let authorities = vec![PathBuf::from("/ca.pem")];
        assert_eq!(clients(&config), Some(&ClientCertificates { authorities, demand }), "{keys}");
        assert_eq!(config.warnings, Vec::<String>::new(), "{keys}");
    }
    let variables = [
        ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a.pem"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS_1", "/b.pem"),
        ("REGISTRY_HTTP_TLS_CLIENTAUTH", "require-any-client-cert"),
    ];
    let config = load_environment(&variables).unwrap();
    let authorities = ["/a.pem", "/b.pem"].map(PathBuf::from).to_vec();
    let demand = ClientAuth::RequireAnyClientCert;
    assert_eq!(clients(&config), Some(&ClientCertificates { authorities, demand }));
}

#[test]
fn another_word_for_what_is_asked_of_clients_is_refused() {
    let message = shorten(&tls("{clientcas: [/ca.pem], clientauth: required}").unwrap_err());
    assert!(message.starts_with("config.yml:5:40: http.tls.clientauth: "), "{message}");
    assert!(message.contains("verify-client-cert-if-given"), "{message}");
}

#[test]
fn what_is_asked_of_clients_without_their_authorities_is_warned_of() {
    for keys in [
        "clientauth: require-and-verify-client-cert",
        "{clientauth: request-client-cert, clientcas: []}",
    ] {
        let config = tls(keys).unwrap();
        assert_eq!(clients(&config), None);
        assert!(
            warns(&config, "http.tls.clientauth (") && warns(&config, "has no effect"),
            "{keys}"
        );
    }
}

#[test]
fn half_of_a_certificate_is_refused() {
    for (keys, what) in
        [("certificate: /a.crt", "key is not"), ("key: /a.key", "certificate is not")]
    {
        let message = shorten(&tls(keys).unwrap_err());
        assert!(message.contains("http.tls: ") && message.contains(what), "{message}");
    }
}
