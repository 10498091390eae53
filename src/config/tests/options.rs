//! The defaults, and the options of a file.

use super::*;

#[test]
fn defaults_require_tls_and_passwords_and_permit_deletion() {
    let config = load_environment(&[]).unwrap();
    assert_eq!(config.http.server.addr, "0.0.0.0:5000");
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(htpasswd(&config).path, std::path::absolute("auth/htpasswd").unwrap());
    assert_eq!(root(&config), std::path::absolute("data").unwrap());
    assert!(config.storage.delete.enabled);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn file_without_tls_and_auth_has_both_enabled() {
    let config = load("storage: {filesystem: {}}\nhttp: {addr: :5000}\nauth:\n").unwrap();
    assert_eq!(config.http.server.addr, ":5000");
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(htpasswd(&config).path, std::path::absolute("auth/htpasswd").unwrap());
    assert!(!config.storage.delete.enabled);
}

#[test]
fn configuration_of_the_official_image_is_accepted_unchanged() {
    let config = load(
        "log:\n  fields:\n    service: registry\nstorage:\n  cache:\n    blobdescriptor: \
         inmemory\n  filesystem:\n    rootdirectory: /var/lib/registry\nhttp:\n  addr: :5000\n  \
         headers:\n    X-Content-Type-Options: [nosniff]\nhealth:\n  storagedriver:\n    enabled: \
         true\n    interval: 10s\n    threshold: 3\n",
    )
    .unwrap();
    assert_eq!(config.log.fields["service"], "registry");
    assert_eq!(config.http.api.headers["X-Content-Type-Options"], ["nosniff"]);
    assert_eq!(root(&config), PathBuf::from("/var/lib/registry"));
    assert_eq!(config.warnings, Vec::<String>::new());
    assert!(config.health.storagedriver.enabled);
    assert_eq!(config.notes.len(), 1);
    assert!(config.notes[0].starts_with("storage.cache.blobdescriptor"), "{:?}", config.notes);
}

#[test]
fn each_option_reaches_its_part() {
    let config = load(
        "log: {level: DEBUG, formatter: json, accesslog: {disabled: true}}\nstorage:\n  \
         filesystem: {rootdirectory: /srv}\n  delete: {enabled: true}\nauth:\n  htpasswd: {realm: \
         017, path: /h, cachettl: 1h30m}\nhttp:\n  addr: 127.0.0.1:5001\n  host: https://r.example\n  \
         prefix: /r/\n  relativeurls: true\n  draintimeout: 1.5m\n  http2: {disabled: true}\n  \
         trustedproxies: [10.0.0.0/8]\n  tls: {certificate: /c, key: /k, minimumtls: \
         tls1.3}\ncatalog: {maxentries: 5}\ntags: {maxtags: 6}\n",
    )
    .unwrap();
    assert_eq!(config.log.level, telemetry::Level::Debug);
    assert_eq!(config.log.formatter, telemetry::Formatter::Json);
    assert!(config.log.accesslog.disabled);
    assert_eq!(root(&config), PathBuf::from("/srv"));
    assert!(config.storage.delete.enabled);
    assert_eq!(htpasswd(&config).realm, "017");
    assert_eq!(htpasswd(&config).cachettl, Duration::from_secs(5400));
    assert_eq!(config.http.api.host.as_deref(), Some("https://r.example"));
    assert_eq!(config.http.api.prefix, "/r/");
    assert!(config.http.api.relativeurls);
    assert_eq!(config.http.api.trustedproxies.len(), 1);
    assert_eq!(config.http.server.draintimeout, Duration::from_secs(90));
    assert!(config.http.server.http2.disabled);
    let TlsOptions::On { source, minimum, .. } = &config.http.server.tls else {
        panic!("TLS is off");
    };
    assert_eq!(*minimum, TlsVersion::Tls13);
    assert!(matches!(source, CertificateSource::Files { .. }));
    assert_eq!(config.catalog.maxentries, 5);
    assert_eq!(config.tags.maxtags, 6);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn filesystem_driver_has_the_root_of_registry_2() {
    for yaml in ["storage: filesystem", "storage:\n  filesystem:\n"] {
        assert_eq!(root(&load(yaml).unwrap()), PathBuf::from("/var/lib/registry"));
    }
}

#[test]
fn file_without_a_driver_stores_in_data_with_a_warning() {
    for yaml in ["", "storage: {delete: {enabled: true}}"] {
        let config = load(yaml).unwrap();
        assert_eq!(root(&config), std::path::absolute("data").unwrap());
        assert!(warns(&config, "names no driver"));
    }
}

#[test]
fn inmemory_is_a_driver() {
    for yaml in ["storage: inmemory", "storage:\n  inmemory:\n"] {
        let config = load(yaml).unwrap();
        assert!(matches!(config.storage.backend, storage::Options::Memory));
    }
}

#[test]
fn plain_http_and_open_access_require_a_word_and_get_a_warning() {
    for word in ["off", "false", "'off'", "no"] {
        let config = load(&format!("http:\n  tls: {word}\nauth: none\n")).unwrap();
        assert!(matches!(config.http.server.tls, TlsOptions::Off), "{word}");
        assert!(matches!(config.auth, gate::Options::None));
        assert!(warns(&config, "config.yml:3:8) is off: passwords"));
        assert!(warns(&config, "config.yml:4:7) lets every client"));
    }
    for yaml in ["http: {tls: }", "http: {tls: ''}", "http: {tls: on}", "http: {tls: {}}"] {
        assert_eq!(*certificate(&load(yaml).unwrap()), CertificateSource::BuiltIn);
    }
    assert!(refusal("http: {tls: none}").contains("expected a section, or `off`, found `none`"));
    for yaml in ["auth: {none: }", "auth: {none: {}}"] {
        assert!(matches!(load(yaml).unwrap().auth, gate::Options::None));
    }
    for yaml in ["auth: off", "auth: false", "auth: anonymous"] {
        refusal(yaml);
    }
}

#[test]
fn free_form_sections_accept_any_key() {
    let config = load(
        "log: {fields: {a: {b: [1, 2.5, x]}, c: 017}}\nhttp: {headers: {X-A: [b], X-C: \
         d}}\nmiddleware: {storage: [{name: redirect, disabled: true, options: {any: \
         thing}}]}\n",
    )
    .unwrap();
    assert_eq!(
        serde_json::to_string(&config.log.fields).unwrap(),
        r#"{"a":{"b":[1,2.5,"x"]},"c":17.0}"#
    );
    assert_eq!(config.http.api.headers["X-C"], ["d"]);
}

#[test]
fn endpoint_is_read_with_all_its_keys_and_shown_without_its_secrets() {
    let config = load(
        "notifications:
  events: {includereferences: true}
  maxpending: 5
  endpoints:
  - name: hook
    disabled: true
    url: https://user:hush@hook
    headers: {Authorization: [Bearer hush]}
    timeout: 2s
    threshold: 3
    backoff: 4s
    ignoredmediatypes: [a]
    ignore: {mediatypes: [b], actions: [pull]}
  - name: other
",
    )
    .unwrap();
    assert_eq!(config.warnings.iter().filter(|warning| warning.contains("notif")).count(), 0);
    assert!(!format!("{config:?}").contains("hush"));
    let notifications = config.notifications;
    assert!(notifications.events.includereferences);
    assert_eq!(notifications.maxpending, 5);
    let hook = notify::EndpointOptions {
        name: "hook".to_owned(),
        disabled: true,
        url: "https://user:hush@hook".to_owned(),
        headers: [("Authorization".to_owned(), vec!["Bearer hush".to_owned()])].into(),
        timeout: Duration::from_secs(2),
        threshold: 3,
        backoff: Duration::from_secs(4),
        ignoredmediatypes: vec!["a".to_owned()],
        ignore: notify::IgnoreOptions {
            mediatypes: vec!["b".to_owned()],
            actions: vec!["pull".to_owned()],
        },
    };
    let other =
        notify::EndpointOptions { name: "other".to_owned(), ..notify::EndpointOptions::default() };
    assert_eq!(notifications.endpoints, [hook, other]);
    assert!(refusal("notifications: {endpoints: hook}").contains("expected a list"));
    assert!(refusal("notifications: {endpoints: [{adress: a}]}").contains("adress"));
}

#[test]
fn untagged_manifests_go_after_thirty_days_only_without_a_file() {
    let after = |config: Config| config.storage.maintenance.garbagecollection.deleteuntaggedafter;
    let bare = Config::load(None, []).unwrap();
    let line = "deleteuntaggedafter: 720h";
    assert!(bare.settings.to_string().contains(line), "{}", bare.settings);
    assert_eq!(after(bare), Duration::from_secs(30 * 24 * 3600));
    let off = "REGISTRY_STORAGE_MAINTENANCE_GARBAGECOLLECTION_DELETEUNTAGGEDAFTER";
    let off = Config::load(None, [(off.to_owned(), "0s".to_owned())]).unwrap();
    assert_eq!(after(off), Duration::ZERO);
    assert_eq!(after(load("storage: {filesystem: {}}\n").unwrap()), Duration::ZERO);
}
