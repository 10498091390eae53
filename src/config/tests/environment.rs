//! Variables, alone and over a file.

use proptest::prelude::*;

use super::{contract::parts, *};

proptest! {
    #[test]
    fn variables_of_any_name_and_value_cause_no_panic(name in "[A-Za-z0-9_é]{0,12}", value in any::<String>()) {
        let sections = ["", "HTTP_", "HTTP_HEADERS_", "STORAGE_", "AUTH_", "LOG_FIELDS_"];
        for section in sections {
            let name = format!("REGISTRY_{section}{name}");
            let _ = load_environment(&[(&name, &value)]);
            let _ = load_environment(&[(&format!("REGISTRY_{section}"), &value)]);
            let _ = load_environment(&[("REGISTRY_HTTP_DRAINTIMEOUT", &value)]);
        }
    }
}

#[test]
fn name_with_control_characters_is_shown_without_them() {
    let config =
        load_environment(&[("REGISTRY_\x1b[2J", ""), ("REGISTRY_HTTP_TRUSTEDPROXIES_\x1b", "")]);
    let warnings = config.unwrap().warnings;
    assert_eq!(warnings.len(), 2);
    assert!(!warnings.concat().contains(char::is_control), "{warnings:?}");
}

#[test]
fn variables_work_without_a_file() {
    let config = load_environment(&[
        ("PATH", "/bin"),
        ("REGISTRY_CONFIGURATION_PATH", "/etc/config.yml"),
        ("REGISTRY_HTTP_ADDR", ":443"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/srv"),
        ("REGISTRY_AUTH", "htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
        ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
        ("REGISTRY_HTTP_TLS_KEY", "/k"),
        ("REGISTRY_HTTP_HEADERS_X-Content-Type-Options", "[nosniff]"),
        ("REGISTRY_LOG_FIELDS_DATA_CENTRE", "north"),
    ])
    .unwrap();
    assert_eq!(config.http.server.addr, ":443");
    assert_eq!(root(&config), PathBuf::from("/srv"));
    assert_eq!(htpasswd(&config).path, PathBuf::from("/auth/htpasswd"));
    assert_eq!(htpasswd(&config).realm, "Registry Realm");
    assert!(matches!(certificate(&config), CertificateSource::Files { .. }));
    assert_eq!(config.http.api.headers["x-content-type-options"], ["nosniff"]);
    assert_eq!(config.log.fields["data_centre"], "north");
    assert!(config.storage.delete.enabled);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn filesystem_driver_without_a_file_stores_in_data() {
    let config = load_environment(&[("REGISTRY_STORAGE", "filesystem")]).unwrap();
    assert_eq!(root(&config), std::path::absolute("data").unwrap());
}

#[test]
fn deletion_without_a_file_can_be_forbidden() {
    let config = load_environment(&[("REGISTRY_STORAGE_DELETE_ENABLED", "false")]).unwrap();
    assert!(!config.storage.delete.enabled);
}

#[test]
fn variable_overrides_the_file() {
    let config = load_with(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /a}}\nhttp: {addr: :1, tls: off, \
         headers: {X-A: [a]}}\n",
        &[
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b"),
            ("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3"),
            ("REGISTRY_HTTP_HEADERS_X-A_1", "b"),
            ("REGISTRY_HTTP_HEADERS_X-B_0", "c"),
        ],
    )
    .unwrap();
    assert_eq!(root(&config), PathBuf::from("/b"));
    assert_eq!(config.http.server.addr, ":1");
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(config.http.api.headers["X-A"], ["a", "b"]);
    assert_eq!(config.http.api.headers["x-b"], ["c"]);
}

#[test]
fn variable_of_a_section_replaces_it_before_longer_names_apply() {
    let config = load_with(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /a}, delete: {enabled: true}}\nauth: \
         none\n",
        &[
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
            ("REGISTRY_STORAGE", "inmemory"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/h"),
            ("REGISTRY_AUTH", "{htpasswd: {realm: r}}"),
        ],
    )
    .unwrap();
    assert!(matches!(config.storage.backend, storage::Options::Memory));
    assert!(config.storage.delete.enabled);
    assert_eq!(htpasswd(&config).realm, "r");
    assert_eq!(htpasswd(&config).path, PathBuf::from("/h"));
}

#[test]
fn empty_variable_restores_the_default_and_disables_no_protection() {
    let config = load_with(
        "version: 0.1\nstorage: inmemory\nhttp: {tls: off, host: h}\nauth: none\n",
        &[("REGISTRY_AUTH", ""), ("REGISTRY_HTTP_TLS", ""), ("REGISTRY_HTTP_HOST", "")],
    )
    .unwrap();
    htpasswd(&config);
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(config.http.api.host, None);
}

#[test]
fn list_items_are_counted_and_only_the_next_one_can_be_added() {
    let config = load_environment(&[
        ("REGISTRY_HTTP_TRUSTEDPROXIES_0", "10.0.0.0/8"),
        ("REGISTRY_HTTP_TRUSTEDPROXIES_1", "192.168.0.0/16"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "hook"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "https://hook"),
    ])
    .unwrap();
    assert_eq!(config.http.api.trustedproxies.len(), 2);
    assert_eq!(config.notifications.endpoints[0].name, "hook");
    assert_eq!(config.notifications.endpoints[0].url, "https://hook");
    for name in [
        "REGISTRY_HTTP_TRUSTEDPROXIES_1",
        "REGISTRY_HTTP_TRUSTEDPROXIES_FIRST",
        "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_NAME",
    ] {
        let error = load_environment(&[(name, "10.0.0.0/8")]).unwrap_err();
        assert!(matches!(error, Error::Index { .. }), "{error}");
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn unknown_variables_get_a_warning_and_have_no_effect() {
    let config = load_environment(&[
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_HTTP_TLS_PORT", "not: [yaml"),
        ("REGISTRY_LOG_HOOKS_0_PORT", "1"),
        ("REGISTRY_HTPP_ADDR", ":1"),
        ("REGISTRY_VERSION", "0.2"),
    ])
    .unwrap();
    assert_eq!(config.warnings.len(), 7, "{:?}", config.warnings);
    assert!(warns(&config, "REGISTRY_PORT names no key"));
    assert!(warns(&config, "did you mean REGISTRY_HTTP_ADDR?"));
    let config = load_environment(&[("REGISTRY_HTPASSWD_PATH", "/h")]).unwrap();
    assert!(warns(&config, "did you mean REGISTRY_AUTH_HTPASSWD_PATH?"), "{:?}", config.warnings);
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
}

#[test]
fn names_of_fields_in_registry_2_are_accepted_beside_those_of_keys() {
    for name in [
        "REGISTRY_HEALTH_FILECHECKERS_0_FILE",
        "REGISTRY_HEALTH_HTTPCHECKERS_0_URI",
        "REGISTRY_HEALTH_TCPCHECKERS_0_ADDR",
        "REGISTRY_HEALTH_TCP_0_ADDR",
    ] {
        let config = load_environment(&[(name, "true")]).unwrap();
        assert!(!warns(&config, "names no key"), "{name}");
    }
    for name in [
        "REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES",
        "REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES",
    ] {
        let config = load_environment(&[(name, "true")]).unwrap();
        assert!(config.notifications.events.includereferences, "{name}");
    }
}

#[test]
fn fault_in_a_variable_is_named_by_the_variable() {
    for (name, value) in [
        ("REGISTRY_STORAGE_DELETE_ENABLED", "maybe"),
        ("REGISTRY_HTTP_DRAINTIMEOUT", "1d"),
        ("REGISTRY_HTTP", "{adr: :1}"),
        ("REGISTRY_HTTP_ADDR", "[unclosed"),
        ("REGISTRY_HTTP_TRUSTEDPROXIES_0", "here"),
        ("REGISTRY_HTTP_TLS_KEY", "/k"),
        ("REGISTRY_STORAGE_S3_BUCKET", "b"),
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_AUTH", "basic"),
        ("REGISTRY_AUTH_TOKEN_REALM", "r"),
        ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
    ] {
        let error = load_environment(&[(name, value)]).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn variable_does_not_hide_a_fault_in_the_file() {
    let error = load_with("version: 0.1\nhttp: 5\n", &[("REGISTRY_HTTP_ADDR", ":1")]).unwrap_err();
    assert_eq!(shorten(&error), "config.yml:2:7: http: expected a section, found `5`");
}

#[test]
fn second_driver_by_variable_is_refused() {
    let error = load_with(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /a}}\n",
        &[("REGISTRY_STORAGE_INMEMORY", "{}")],
    )
    .unwrap_err();
    assert!(matches!(error, Error::Several { .. }), "{error}");
    let message = error.to_string();
    assert!(message.starts_with("REGISTRY_STORAGE_INMEMORY: "), "{message}");
    assert!(message.contains("`filesystem` (/"), "{message}");
}

#[test]
fn every_working_key_can_be_reached() {
    for (path, key) in schema::leaves() {
        let value = match key.kind {
            Kind::Bool => "true",
            Kind::Limit | Kind::Integer => "7",
            Kind::Duration => "7m",
            Kind::Word(words) => words[0],
            Kind::Free | Kind::Headers => "{}",
            Kind::List(_) => "[]",
            _ if matches!(&*path, "http.trustedproxies" | "http.proxyprotocol") => "10.0.0.0/8",
            _ if path.starts_with("http.clients.") => "10.0.0.0/8",
            _ if path == "http.limits.blob" => "20GiB",
            _ if path == "http.limits.requests" => "7/s",
            _ if path.starts_with("http.limits.") => "7MiB/s",
            _ if path == "http.tls.ciphersuites" => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            _ if path == "auth.token.signingalgorithms" => "RS256",
            _ => "text",
        };
        let name = format!("REGISTRY_{}", path.replace('.', "_").to_uppercase());
        let beside: &[(&str, &str)] = if path.starts_with("http.tls.letsencrypt.") {
            &[
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_CACHEFILE", "/acme"),
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS", "a.example"),
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_EAB_KID", "k"),
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_EAB_HMACKEY", "a2V5"),
            ]
        } else if path.starts_with("auth.token.") {
            &[
                ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
                ("REGISTRY_HTTP_TLS_KEY", "/k"),
                ("REGISTRY_AUTH_TOKEN_REALM", "https://auth.example/token"),
                ("REGISTRY_AUTH_TOKEN_SERVICE", "registry"),
                ("REGISTRY_AUTH_TOKEN_ISSUER", "issuer"),
                ("REGISTRY_AUTH_TOKEN_JWKS", "/jwks.json"),
            ]
        } else {
            &[("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"), ("REGISTRY_HTTP_TLS_KEY", "/k")]
        };
        let others = beside.iter().copied().filter(|(other, _)| *other != name);
        let mut variables: Vec<_> = others.chain([(&*name, value)]).collect();
        if path == "http.tls.clientidentity" {
            variables.push(("REGISTRY_HTTP_TLS_CLIENTCAS", "[/ca.pem]"));
        }
        let result = load_environment(&variables);
        let config = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!warns(&config, "names no key"), "{name}");
    }
}

#[test]
fn variable_that_looks_like_a_setting_is_named_with_what_to_write_instead() {
    for (name, value, expected) in [
        ("PORTCULLIS_HTTP_ADDR", ":80", "has no effect: write REGISTRY_HTTP_ADDR"),
        ("PORTCULLIS_HTTP_HEADERS_X-A", "[b]", "has no effect: write REGISTRY_HTTP_HEADERS_X-A"),
        ("PORTCULLIS_CONFIGURATION_PATH", "/c", "write REGISTRY_CONFIGURATION_PATH"),
        ("PORTCULLIS_ADDR", ":80", "has no effect: settings have the names of registry:2"),
        ("SETTINGS_FLAVOR", "local", "remove it; REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY names"),
        ("DOCKER_REGISTRY_CONFIG", "/c.yml", "configuration file of registry:2 in REGISTRY_CONF"),
        ("STORAGE_PATH", "/srv", "write REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv"),
        ("AWS_BUCKET", "b", "directory, which REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY names"),
    ] {
        let warnings = load_environment(&[(name, value)]).unwrap().warnings;
        let [warning] = &*warnings else { panic!("{name}: {warnings:?}") };
        assert!(warning.starts_with(&format!("{name} ")), "{warning}");
        assert!(warning.contains(expected), "{warning}");
    }
    // Those of Kubernetes and of `docker run --link`, of other programs, and empty ones.
    for name in ["PORTCULLIS_PORT", "PORTCULLIS_SERVICE_HOST", "PORTCULLIS_PORT_5000_TCP", "BUCKET"]
    {
        let config = load_environment(&[(name, "tcp://10.0.0.1:5000"), ("SETTINGS_FLAVOR", "")]);
        assert_eq!(config.unwrap().warnings, Vec::<String>::new(), "{name}");
    }
    let config = load_environment(&[("PORTCULLIS_\x1b", ""), ("PORTCULLIS_LOG_FIELDS_\x1b", "")]);
    assert!(!config.unwrap().warnings.concat().contains(char::is_control));
}

#[test]
fn storage_of_docker_registry_1_that_is_no_directory_is_refused() {
    for flavor in ["s3", "gcs", "prod", "swift", "ceph-s3"] {
        let error = load_environment(&[("SETTINGS_FLAVOR", flavor), ("AWS_BUCKET", "images")]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("SETTINGS_FLAVOR: `{flavor}` is a storage")), "{error}");
        assert!(error.contains("set REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY to"), "{error}");
    }
}

/// The meaning of variables in registry:2, each beside the equivalent file.
#[test]
fn variables_follow_registry_2s_rules() {
    for (variables, yaml) in [
        // Values are YAML, for sections too.
        (&[("REGISTRY_HTTP_TLS_MINIMUMTLS", "'tls1.3'")][..], "http: {tls: {minimumtls: tls1.3}}"),
        (
            &[("REGISTRY_HTTP_DEBUG_PROMETHEUS", "{enabled: true, path: /m}")],
            "http: {debug: {prometheus: {enabled: true, path: /m}}}",
        ),
        (&[("REGISTRY_HTTP_HEADERS", r#"{"X-A":["b"]}"#)], "http: {headers: {X-A: [b]}}"),
        (&[("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW", "[a, b]")], ALLOWED),
        // The name of a driver.
        (&[("REGISTRY_STORAGE", "inmemory")], "storage: inmemory"),
        (&[("REGISTRY_STORAGE", "filesystem")], "storage: {filesystem: {}}"),
        // Variables apply in the order of their names.
        (
            &[("REGISTRY_AUTH_HTPASSWD_PATH", "/h"), ("REGISTRY_AUTH", "htpasswd")],
            "auth: {htpasswd: {path: /h}}",
        ),
        // The name of a field in registry:2 where it differs from the key, and the key.
        (&[("REGISTRY_LOGLEVEL", "debug")], "log: {level: debug}"),
        (&[("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/f")], "health: {file: [{file: /f}]}"),
        (&[("REGISTRY_HEALTH_FILE_0_FILE", "/f")], "health: {file: [{file: /f}]}"),
        (
            &[("REGISTRY_HEALTH_HTTPCHECKERS_0_URI", "http://a/")],
            "health: {http: [{uri: 'http://a/'}]}",
        ),
        (&[("REGISTRY_HEALTH_TCPCHECKERS_0_ADDR", "a:1")], "health: {tcp: [{addr: 'a:1'}]}"),
        // A new name is in lower case. registry:2 cannot set a name with `_`.
        (&[("REGISTRY_LOG_FIELDS_SERVICE", "r")], "log: {fields: {service: r}}"),
        (&[("REGISTRY_LOG_FIELDS_DATA_CENTRE", "n")], "log: {fields: {data_centre: n}}"),
        (&[("REGISTRY_HTTP_HEADERS_X-A", "[b]")], "http: {headers: {x-a: [b]}}"),
        // Items count from 0, and the next number adds an item.
        (
            &[
                ("REGISTRY_POLICY_REPOSITORY_CLASSES_1", "plugin"),
                ("REGISTRY_POLICY_REPOSITORY_CLASSES_0", "image"),
            ],
            "policy: {repository: {classes: [image, plugin]}}",
        ),
        // registry:2 panics at the first of these, and documents the second.
        (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")], READ_ONLY),
        (&[("REGISTRY_STORAGE_MAINTENANCE_READONLY", r#"{"enabled":true}"#)], READ_ONLY),
        (&[("REGISTRY_STORAGE_MAINTENANCE", "{readonly: {enabled: true}}")], READ_ONLY),
        (
            &[("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED", "false")],
            "storage: {maintenance: {uploadpurging: {enabled: false}}}",
        ),
        (
            &[("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING", r#"{"enabled":false}"#)],
            "storage: {maintenance: {uploadpurging: {enabled: false}}}",
        ),
        // Unknown variables and the version have no effect.
        (&[("REGISTRY_PORT", "tcp://10.0.0.1:5000"), ("REGISTRY_VERSION", "9")], ""),
    ] {
        let by_variable = load_with("version: 0.1\n", variables).unwrap();
        let by_file = load(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        assert_eq!(parts(&by_variable), parts(&by_file), "{variables:?}");
        let unknown =
            by_variable.warnings.iter().filter(|warning| warning.contains("names no key"));
        assert_eq!(unknown.count(), usize::from(yaml.is_empty()), "{:?}", by_variable.warnings);
    }
}

const ALLOWED: &str = "validation: {manifests: {urls: {allow: [a, b]}}}";
const READ_ONLY: &str = "storage: {maintenance: {readonly: {enabled: true}}}";
