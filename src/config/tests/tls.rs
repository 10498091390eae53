//! `http.tls`: cipher suites and client certificates.

use super::*;
use crate::server::{
    CipherSuite, ClientAuth, ClientCertificates,
    acme::{self, ChallengeChoice, LETS_ENCRYPT},
    certificates::ClientIdentity,
};

fn tls(keys: &str) -> Result<Config, Error> {
    load(&format!("storage: inmemory\nhttp:\n  tls:\n    {keys}\n"))
}

fn suites(config: &Config) -> &[CipherSuite] {
    match &config.http.server.tls {
        TlsOptions::On { suites, .. } => suites,
        TlsOptions::Off => panic!("TLS is off"),
    }
}

fn clients(config: &Config) -> Option<&ClientCertificates> {
    match &config.http.server.tls {
        TlsOptions::On { clients, .. } => clients.as_ref(),
        TlsOptions::Off => panic!("TLS is off"),
    }
}

#[test]
fn clientauth_has_the_values_of_registry_2() {
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
        let expected = ClientCertificates { authorities, demand, identity: None };
        assert_eq!(clients(&config), Some(&expected), "{keys}");
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
    let expected = ClientCertificates { authorities, demand, identity: None };
    assert_eq!(clients(&config), Some(&expected));
}

#[test]
fn unknown_clientauth_is_refused() {
    let message = shorten(&tls("{clientcas: [/ca.pem], clientauth: required}").unwrap_err());
    assert!(message.starts_with("config.yml:5:40: http.tls.clientauth: "), "{message}");
    assert!(message.contains("verify-client-cert-if-given"), "{message}");
}

#[test]
fn clientauth_without_clientcas_gets_a_warning() {
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
fn clientidentity_names_the_field_of_a_verified_certificate() {
    for (word, identity) in [
        ("cn", ClientIdentity::Cn),
        ("dns", ClientIdentity::Dns),
        ("email", ClientIdentity::Email),
        ("uri", ClientIdentity::Uri),
    ] {
        let config = tls(&format!("{{clientcas: [/ca.pem], clientidentity: {word}}}")).unwrap();
        let clients = clients(&config).unwrap();
        assert_eq!(clients.identity_of_verified(), Some(identity));
        assert_eq!(identity.word(), word);
    }
}

#[test]
fn clientidentity_without_verified_certificates_is_refused() {
    for (keys, expected) in [
        ("{clientidentity: dns}", "5:22: http.tls.clientidentity: needs http.tls.clientcas"),
        (
            "{clientcas: [/ca.pem], clientauth: request-client-cert, clientidentity: dns}",
            "set clientauth to verify-client-cert-if-given",
        ),
        (
            "{clientcas: [/ca.pem], clientauth: require-any-client-cert, clientidentity: dns}",
            "set clientauth to verify-client-cert-if-given",
        ),
        ("{clientcas: [/ca.pem], clientidentity: subject}", "`cn`"),
    ] {
        let message = shorten(&tls(keys).unwrap_err());
        assert!(message.contains(expected), "{keys}: {message}");
    }
}

#[test]
fn names_for_a_certificate_that_the_server_does_not_create_get_a_warning() {
    for (tls, why) in [
        ("{}", None),
        ("off", Some("http.tls is off")),
        ("{certificate: /a.crt, key: /a.key}", Some("http.tls.certificate names another")),
    ] {
        let yaml = format!("storage: inmemory\nhttp:\n  hosts: [r.example]\n  tls: {tls}\n");
        let config = load(&yaml).unwrap();
        let warning = config.warnings.iter().find(|warning| warning.starts_with("http.hosts ("));
        let found = warning.zip(why).map(|(warning, why)| warning.contains(why));
        assert_eq!(found, why.map(|_| true), "{tls}: {:?}", config.warnings);
        assert_eq!(warning.is_some(), why.is_some(), "{tls}: {:?}", config.warnings);
    }
}

#[test]
fn site_to_which_no_connection_can_be_passed_is_refused_at_its_place() {
    for (item, expected) in [
        ("{names: [www.example], addr: '127.0.0.1:8443'}", None),
        ("{names: '*.shop.example', addr: 'site.lan:443', proxyprotocol: true}", None),
        ("{addr: '127.0.0.1:8443'}", Some("5:19: http.tls.passthrough[0]: missing field `names`")),
        ("{names: [], addr: '127.0.0.1:8443'}", Some("names: needs the names")),
        ("{names: [127.0.0.1], addr: 'a:1'}", Some("names: `127.0.0.1` is neither")),
        ("{names: ['a.*'], addr: 'a:1'}", Some("names: `a.*` is neither")),
        ("{names: [www.example], addr: 127.0.0.1}", Some("addr: `127.0.0.1` lacks")),
        ("{names: [www.example], addr: ':8443'}", Some("addr: `:8443` lacks")),
        ("{names: [www.example], addr: '127.0.0.1:5000'}", Some("connect to itself")),
    ] {
        match (tls(&format!("passthrough: [{item}]")), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                let message = shorten(&error);
                assert!(message.starts_with("config.yml:5:"), "{item}: {message}");
                assert!(message.contains(expected), "{item}: {message}");
                assert!(message.contains("http.tls.passthrough[0]"), "{item}: {message}");
            }
            (found, _) => panic!("{item}: {found:?}"),
        }
    }
}

#[test]
fn cipher_suites_have_the_names_of_go() {
    let config = tls("ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
         TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
         TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, \
         TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256, \
         TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]");
    let config = config.unwrap();
    let count = |version| suites(&config).iter().filter(|suite| suite.version() == version).count();
    assert_eq!((count(TlsVersion::Tls12), count(TlsVersion::Tls13)), (6, 3));
    assert_eq!((config.warnings, config.notes), (Vec::<String>::new(), Vec::<String>::new()));

    for keys in ["ciphersuites: []", "ciphersuites: ''", "ciphersuites:"] {
        assert_eq!(suites(&tls(keys).unwrap()), [], "{keys}");
    }
    let name = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    for variable in ["REGISTRY_HTTP_TLS_CIPHERSUITES", "REGISTRY_HTTP_TLS_CIPHERSUITES_0"] {
        assert_eq!(suites(&load_environment(&[(variable, name)]).unwrap()).len(), 1);
    }
}

#[test]
fn unknown_or_weak_cipher_suite_is_refused_at_its_place() {
    let known = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    for (suite, what) in [
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", "an attacker who gets the server's key later"),
        ("TLS_RSA_WITH_AES_256_GCM_SHA384", "an attacker who gets the server's key later"),
        ("TLS_RSA_WITH_AES_128_CBC_SHA", "CBC"),
        ("TLS_RSA_WITH_AES_256_CBC_SHA", "CBC"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "CBC"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "CBC"),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "CBC"),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "CBC"),
        ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", "3DES"),
        ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "3DES"),
        ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", "RC4"),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265", "there is no cipher suite `TLS_ECDHE_RSA"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "there is no cipher suite `ECDHE-"),
    ] {
        let message =
            shorten(&tls(&format!("ciphersuites:\n      - {known}\n      - {suite}")).unwrap_err());
        let place = "config.yml:7:9: http.tls.ciphersuites[1]: ";
        assert!(message.starts_with(place), "{message}");
        assert!(message.contains(what) && message.contains(suite), "{message}");
        let list = "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, \
                    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        assert!(message.contains(list), "{message}");
    }
}

#[test]
fn list_without_a_suite_of_tls_1_2_needs_tls_1_3() {
    let message = shorten(&tls("ciphersuites: [TLS_AES_128_GCM_SHA256]").unwrap_err());
    assert!(message.starts_with("config.yml:5:19: http.tls.ciphersuites: "), "{message}");
    assert!(message.contains("minimumtls to tls1.3"), "{message}");

    let notes = |keys: &str| {
        let config = tls(keys).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{keys}");
        config.notes
    };
    for list in ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"] {
        let notes = notes(&format!("{{minimumtls: tls1.3, ciphersuites: [{list}]}}"));
        assert!(notes.len() == 1 && notes[0].contains("has no effect"), "{notes:?}");
    }
    let one_of_each = "[TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]";
    let notes = notes(&format!("ciphersuites: {one_of_each}"));
    assert!(notes.len() == 1 && notes[0].contains("always enabled"), "{notes:?}");
}

#[test]
fn certificate_without_a_key_and_key_without_a_certificate_are_refused() {
    for (keys, what) in
        [("certificate: /a.crt", "key is not"), ("key: /a.key", "certificate is not")]
    {
        let message = shorten(&tls(keys).unwrap_err());
        assert!(message.contains("http.tls: ") && message.contains(what), "{message}");
    }
}

fn letsencrypt(config: &Config) -> &acme::Options {
    match certificate(config) {
        CertificateSource::LetsEncrypt(options) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn letsencrypt_has_the_keys_of_registry_2() {
    let config = tls(
        "letsencrypt: {cachefile: /acme, email: ops@example.com, hosts: [Registry.Example.com.]}",
    )
    .unwrap();
    let options = letsencrypt(&config);
    assert_eq!(options.cachefile, PathBuf::from("/acme"));
    assert_eq!(options.hosts, ["registry.example.com"]);
    assert_eq!((&*options.email, &*options.directoryurl), ("ops@example.com", LETS_ENCRYPT));
    assert_eq!(options.challenge, ChallengeChoice::Auto);
    assert_eq!((config.warnings, config.notes), (Vec::<String>::new(), Vec::<String>::new()));
}

#[test]
fn letsencrypt_takes_the_host_of_http_host_where_it_names_none() {
    let variables = [
        ("REGISTRY_HTTP_TLS_LETSENCRYPT_CACHEFILE", "acme"),
        ("REGISTRY_HTTP_HOST", "https://registry.example.com:5000/"),
    ];
    let config = load_environment(&variables).unwrap();
    let options = letsencrypt(&config);
    assert_eq!(options.hosts, ["registry.example.com"]);
    assert_eq!(options.cachefile, std::path::absolute("acme").unwrap());
}

#[test]
fn letsencrypt_without_what_it_needs_is_refused() {
    for (keys, message) in [
        (
            "letsencrypt: {cachefile: /l}",
            "http.tls.letsencrypt.hosts is empty, and so is http.host",
        ),
        (
            "letsencrypt: {cachefile: /l, hosts: ['*.example.com']}",
            "hosts: `*.example.com` is a wildcard",
        ),
        ("letsencrypt: {cachefile: /l, hosts: [192.0.2.1]}", "hosts: `192.0.2.1` is no host name"),
        (
            "letsencrypt: {cachefile: /l, hosts: ['a.example:5000']}",
            "is no host name: write names without a port",
        ),
        ("letsencrypt: {cachefile: /l, hosts: [../a]}", "hosts: `../a` is no host name"),
        ("letsencrypt: {cachefile: /l, hosts: ['..']}", "is no host name"),
        (
            "letsencrypt: {cachefile: /l, hosts: [a.example], challenge: http-01}",
            "letsencrypt.challenge: http-01 is answered on the listener of plain HTTP: set http.redirectaddr",
        ),
        (
            "{certificate: /c, key: /k, letsencrypt: {cachefile: /l, hosts: [a.example]}}",
            "certificate and letsencrypt are both set",
        ),
        (
            "letsencrypt: {cachefile: /l, hosts: [a.example], eab: {kid: k, hmackey: 'a b'}}",
            "hmackey: is no base64url",
        ),
        (
            "letsencrypt: {cachefile: /l, hosts: [a.example], eab: {kid: k}}",
            "kid is set, hmackey is not",
        ),
    ] {
        let found = shorten(&tls(keys).unwrap_err());
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn letsencrypt_without_a_folder_has_no_effect_and_says_so() {
    let config = tls("letsencrypt: {email: ops@example.com, hosts: [a.example]}").unwrap();
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert!(warns(&config, "http.tls.letsencrypt ("), "{:?}", config.warnings);
    assert!(warns(&config, "has no effect without `cachefile`"), "{:?}", config.warnings);
    let config = tls("{certificate: /c, key: /k, letsencrypt: {email: '', hosts: []}}").unwrap();
    assert_eq!((config.warnings, config.notes), (Vec::<String>::new(), Vec::<String>::new()));
}

#[test]
fn key_of_an_external_account_is_never_shown() {
    let config =
        tls("letsencrypt: {cachefile: /l, hosts: [a.example], eab: {kid: k, hmackey: aHVudGVyMg}}");
    let config = config.unwrap();
    assert!(letsencrypt(&config).eab.is_some());
    assert!(!format!("{config:?} {}", config.settings).contains("aHVudGVyMg"));
}
