//! Files, and what is assumed without one.

use super::*;

#[test]
fn nothing_configured_is_closed_and_lets_its_users_delete() {
    let config = load_environment(&[]).unwrap();
    assert_eq!(config.http.server.addr, "0.0.0.0:5000");
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(htpasswd(&config).path, PathBuf::from("auth/htpasswd"));
    assert_eq!(root(&config), PathBuf::from("data"));
    assert!(config.storage.delete.enabled);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn file_without_tls_and_auth_has_both_enabled() {
    let config = load("storage: {filesystem: {}}\nhttp: {addr: :5000}\nauth:\n").unwrap();
    assert_eq!(config.http.server.addr, ":5000");
    assert_eq!(*certificate(&config), CertificateSource::BuiltIn);
    assert_eq!(htpasswd(&config).path, PathBuf::from("auth/htpasswd"));
    assert!(!config.storage.delete.enabled);
}

#[test]
fn configuration_of_the_official_image_is_taken_as_it_is() {
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
fn filesystem_driver_is_rooted_where_registry_2_has_it() {
    for yaml in ["storage: filesystem", "storage:\n  filesystem:\n"] {
        assert_eq!(root(&load(yaml).unwrap()), PathBuf::from("/var/lib/registry"));
    }
}

#[test]
fn file_without_a_driver_keeps_images_in_data_and_says_so() {
    for yaml in ["", "storage: {delete: {enabled: true}}"] {
        let config = load(yaml).unwrap();
        assert_eq!(root(&config), PathBuf::from("data"));
        assert!(warns(&config, "names no driver"));
    }
}

#[test]
fn memory_is_a_driver_too() {
    for yaml in ["storage: inmemory", "storage:\n  inmemory:\n"] {
        let config = load(yaml).unwrap();
        assert!(matches!(config.storage.backend, storage::Options::Memory));
    }
}

#[test]
fn two_drivers_are_refused_with_both_their_places() {
    let message = load("storage:\n  filesystem:\n  inmemory:\n").unwrap_err();
    let message = message.to_string();
    assert!(message.contains("config.yml:3:3"), "{message}");
    assert!(message.contains("config.yml:4:3"), "{message}");
}

#[test]
fn what_cannot_be_ignored_is_refused() {
    for (yaml, start) in [
        ("storage: {s3: {bucket: b}}", "config.yml:2:11: storage.s3: "),
        ("storage: gcs", "config.yml:2:10: storage.gcs: "),
        ("auth: {token: {realm: r}}", "config.yml:2:8: auth.token: "),
        ("auth: silly", "config.yml:2:7: auth.silly: "),
        ("proxy: {remoteurl: https://registry-1.docker.io}", "config.yml:2:9: proxy.remoteurl: "),
        ("middleware: {storage: [{name: redirect}]}", "config.yml:2:1: middleware: "),
        ("redis: {addr: localhost:6379}", "config.yml:2:1: redis: "),
        (
            "storage: {filesystem: {}, cache: {blobdescriptor: redis}}",
            "config.yml:2:35: storage.cache.blobdescriptor: no Redis is needed",
        ),
        ("reporting: {bugsnag: {apikey: k}}", "config.yml:2:1: reporting: "),
        ("log: {hooks: [{type: mail}]}", "config.yml:2:7: log.hooks: "),
        ("http: {tls: {letsencrypt: {email: a@b}}}", "config.yml:2:14: http.tls.letsencrypt: "),
    ] {
        let message = refusal(yaml);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn what_would_be_refused_may_be_there_switched_off() {
    let config = load(
        "storage: {filesystem: {}, maintenance: {readonly: {enabled: false}}}\nproxy: {remoteurl: \
         ''}\nhttp: {tls: {clientcas: [], letsencrypt: {email: ''}}}\nlog: {hooks: [{disabled: true, \
         type: mail}]}\nmiddleware: {storage: [{name: redirect, disabled: true}], registry: \
         []}\ncompatibility: {schema1: {enabled: false}}\nredis: {addr: ''}\nreporting: {bugsnag: \
         {apikey: ''}}\n",
    );
    let config = config.unwrap();
    assert_eq!((config.warnings, config.notes), (Vec::<String>::new(), Vec::<String>::new()));
}

#[test]
fn plain_http_and_open_access_need_words_and_are_warned_of() {
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
fn secret_is_accepted_and_never_shown() {
    let config = load("http: {secret: 4711}").unwrap();
    assert!(!format!("{config:?}").contains("4711"), "a secret is not kept");
    assert!(warns(&config, "http.secret"));
    assert!(!warns(&config, "4711"));
    let message = refusal("http: {secret: [hunter2]}");
    assert!(!message.contains("hunter2"), "{message}");
    let message = refusal("http: {secret: \"hunter2}\n");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn all_that_is_wrong_is_named_at_once_with_its_place() {
    let yaml = "version: 0.2
log: {level: loud, colour: red}
storage:
  filesystem: {rootdirectry: /srv}
  immutabletags: [{tags: '('}, {tags: ok}, {repositories: a//b}]
http:
  trustedproxies: [here, 10.0.0.0/8, there, 'nowhere']
  draintimeout: 1d
  tls: {certificate: /c, ky: /k, minimumtls: ssl3}
health: {tcp: [{adr: x}, {interval: 1x}]}
redis: {addr: r}
";
    let variables =
        [("REGISTRY_CATALOG_MAXENTRIES", "many"), ("REGISTRY_NOTIFICATIONS_ENDPOINTS_7_NAME", "x")];
    let error = load_with(yaml, &variables).unwrap_err();
    let told: Vec<_> = error.problems().iter().map(shorten).collect();
    assert!(told.iter().all(|told| error.to_string().contains(told)), "{error}");
    for start in [
        "config.yml:1:10: version: ",
        "REGISTRY_NOTIFICATIONS_ENDPOINTS_7_NAME: `7` is no item",
        "config.yml:2:14: log.level: ",
        "config.yml:2:20: there is no key `log.colour`",
        "config.yml:4:16: there is no key `storage.filesystem.rootdirectry`",
        "config.yml:8:17: http.draintimeout: ",
        "config.yml:9:26: there is no key `http.tls.ky`",
        "config.yml:9:46: http.tls.minimumtls: ",
        "config.yml:10:17: there is no key `health.tcp[0].adr`",
        "config.yml:10:37: health.tcp[1].interval: ",
        "config.yml:11:1: redis: ",
        "REGISTRY_CATALOG_MAXENTRIES: catalog.maxentries: ",
        "config.yml:5:26: storage.immutabletags[0].tags: ",
        "config.yml:5:59: storage.immutabletags[2].repositories: ",
        "config.yml:7:20: http.trustedproxies[0]",
        "config.yml:7:38: http.trustedproxies[2]",
        "config.yml:7:45: http.trustedproxies[3]",
    ] {
        let count = told.iter().filter(|told| told.starts_with(start)).count();
        assert_eq!(count, 1, "{start}: {told:#?}");
    }
    // That the key of the certificate is missing follows from its name being misspelt.
    assert_eq!(told.len(), 17, "{told:#?}");
}

#[test]
fn no_key_has_control_characters() {
    for yaml in ["\"\\e[2J\": 1", "http: {headers: {\"a\\n\": {}}}", "log: {fields: {\"a\\0\": 1}}"]
    {
        let message = refusal(yaml);
        assert!(message.contains("a key has a control character in it"), "{message}");
        assert!(message.starts_with("config.yml:2:"), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn version_is_required_and_must_be_supported() {
    let message = load_with("log: {level: info}", &[]).unwrap_err().to_string();
    assert!(message.contains("add the line `version: 0.1`"), "{message}");
    for yaml in ["", "- version: 0.1", "0.1", "version:"] {
        let error = load_with(yaml, &[]).unwrap_err();
        assert!(matches!(error, Error::VersionMissing { .. }), "{error}");
    }
    for yaml in ["version: 0.2", "version: 0.10", "version: [0.1]"] {
        let error = load_with(yaml, &[]).unwrap_err();
        assert!(matches!(error, Error::Version { .. }), "{error}");
    }
    load_with("version: '0.1'", &[]).unwrap();
}

#[test]
fn unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        refusal("storage:\n  filesystem:\n    rootdirectry: /srv\n"),
        "config.yml:4:5: there is no key `storage.filesystem.rootdirectry`. Did you mean \
         `rootdirectory`?"
    );
    assert_eq!(
        refusal("http:\ntls:\n  minimumtls: tls1.3\n"),
        "config.yml:3:1: there is no key `tls`. `tls` belongs to `http`; check the indentation."
    );
    assert_eq!(
        refusal("http:\n  certificate: /c\n"),
        "config.yml:3:3: there is no key `http.certificate`. `certificate` belongs to `http.tls`; \
         check the indentation."
    );
    assert_eq!(
        refusal("redis: {adr: x}"),
        "config.yml:2:9: there is no key `redis.adr`. Did you mean `addr`?"
    );
    refusal("health: {tcp: [{adr: x}]}");
    for (yaml, home) in [
        ("htpasswd: {path: /h}", "`auth`"),
        ("storage: {rootdirectory: /s}", "`storage.filesystem`"),
        ("auth: {path: /h}", "`auth.htpasswd`"),
        ("s3: {bucket: b}", "`storage`"),
        ("readonly: {enabled: true}", "`storage.maintenance`"),
        // There are several; those below the section come first.
        ("http: {enabled: true}", "`http.h2c` or `http.debug.prometheus`"),
    ] {
        let message = refusal(yaml);
        assert!(message.contains(&format!(" belongs to {home}; check the indent")), "{message}");
    }
}

#[test]
fn quotes_around_a_value_that_is_no_text_are_looked_through_with_a_note() {
    let config = load(
        "http: {http2: {disabled: \"true\"}, relativeurls: 'yes'}\ncatalog: {maxentries: \"100\"}\n\
         storage: {filesystem: {maxthreads: \"50\"}, maintenance: {uploadpurging: {enabled: \
         'false'}}}\nredis: {tls: {enabled: 'false'}}\nlog: {hooks: [{disabled: \"true\", type: \
         mail}], accesslog: {disabled: \" true \"}}\n",
    )
    .unwrap();
    assert!(config.http.server.http2.disabled && config.http.api.relativeurls);
    assert_eq!(config.catalog.maxentries, 100);
    assert!(!config.storage.maintenance.uploadpurging.enabled);
    assert!(config.log.accesslog.disabled);
    for note in [
        "http.http2.disabled (",
        "http.relativeurls (",
        "catalog.maxentries (",
        "storage.filesystem.maxthreads (",
        "storage.maintenance.uploadpurging.enabled (",
        "redis.tls.enabled (",
        "log.hooks[0].disabled (",
    ] {
        let told =
            config.notes.iter().find(|told| told.starts_with(note) && told.contains("quotes"));
        assert!(told.is_some(), "{note}: {:?}", config.notes);
    }
    assert!(
        config.notes.iter().any(|told| told.contains("it is taken as `100`: remove the quotes"))
    );
    let text = config.settings.to_string();
    assert!(text.contains("  maxentries: 100 "), "{text}");
    assert_eq!(config.warnings, Vec::<String>::new());
    // A text stays one, and what reads as nothing of the kind is refused as before.
    assert_eq!(htpasswd(&load("auth: {htpasswd: {realm: \"true\"}}").unwrap()).realm, "true");
    for yaml in ["catalog: {maxentries: \"1 00\"}", "http: {relativeurls: \"maybe\"}"] {
        assert!(refusal(yaml).contains("expected"), "{yaml}");
    }
}

/// registry:2 has the same: a text is not `true` to it.
#[test]
fn deletion_that_is_enabled_in_quotes_stays_off_and_is_warned_of() {
    let quoted = load("storage: {filesystem: {}, delete: {enabled: \"true\"}}").unwrap();
    assert!(!quoted.storage.delete.enabled);
    assert!(warns(&quoted, "storage.delete.enabled ("), "{:?}", quoted.warnings);
    assert!(warns(&quoted, "deletion stays off"), "{:?}", quoted.warnings);
    assert!(quoted.settings.to_string().contains("    enabled: false "));
    for value in ["\"true\"", "'true'"] {
        let config = load_environment(&[("REGISTRY_STORAGE_DELETE_ENABLED", value)]).unwrap();
        assert!(!config.storage.delete.enabled, "{value}");
        assert!(warns(&config, "storage.delete.enabled (REGISTRY_STORAGE_DELETE_ENABLED)"));
    }
    let off = load("storage: {filesystem: {}, delete: {enabled: \"false\"}}").unwrap();
    assert!(!off.storage.delete.enabled && off.warnings.is_empty() && off.notes.len() == 1);
}

#[test]
fn schema_1_is_warned_of_where_it_is_asked_for() {
    let config = load("compatibility: {schema1: {enabled: true}}").unwrap();
    assert!(warns(&config, "compatibility.schema1.enabled ("), "{:?}", config.warnings);
    assert!(warns(&config, "those that are stored stay pullable"), "{:?}", config.warnings);
}

#[test]
fn file_in_another_encoding_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    let text = "version: 0.1\nlog: {level: debug}\n";
    let units: Vec<u8> =
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, units).unwrap();
    let message = Config::load(Some(&file), []).unwrap_err().to_string();
    assert!(message.contains("config.yml") && message.contains("UTF-16"), "{message}");
    fs::write(&file, format!("\u{feff}{text}")).unwrap();
    assert_eq!(Config::load(Some(&file), []).unwrap().log.level, telemetry::Level::Debug);
}

#[test]
fn free_form_sections_take_any_key() {
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
fn what_does_not_fit_is_named_with_place_expectation_and_finding() {
    for (yaml, expected) in [
        (
            "storage: {delete: {enabled: maybe}}",
            "config.yml:2:29: storage.delete.enabled: expected `true` or `false`, found `maybe`",
        ),
        ("http: 5", "config.yml:2:7: http: expected a section, found `5`"),
        ("http: [5]", "config.yml:2:7: http: expected a section, found a list"),
        (
            "catalog: {maxentries: many}",
            "config.yml:2:23: catalog.maxentries: expected a whole number, found `many`",
        ),
        (
            "http: {draintimeout: 1d}",
            "config.yml:2:22: http.draintimeout: expected a duration such as `30s` or `1h30m`, \
             found `1d`: units are ns, us, ms, s, m and h",
        ),
        (
            "log: {level: loud}",
            "config.yml:2:14: log.level: expected `error` or `warn` or `info` or `debug`, found \
             `loud`",
        ),
        (
            "http: {trustedproxies: [10.0.0.0/8, here]}",
            "config.yml:2:37: http.trustedproxies[1]: expected a network such as `10.0.0.0/8`, or \
             `unix`, not \"here\"",
        ),
        (
            "http:\n  tls:\n    key: /k\n",
            "config.yml:4:5: http.tls: key is set, certificate is not",
        ),
    ] {
        assert_eq!(refusal(yaml), expected);
    }
}

#[test]
fn bad_yaml_is_refused_with_its_place() {
    for (yaml, start) in [
        ("http: {}\nhttp: {}\n", "config.yml:3:1: "),
        ("http:\n\taddr: x\n", "config.yml:3:2: "),
        ("---\nhttp: {}\n", "config.yml:3:1: "),
        ("http: [\n", "config.yml:2:7: "),
        ("http: *nowhere\n", "config.yml:2:7: "),
    ] {
        let message = refusal(yaml);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn aliases_work_and_an_alias_bomb_does_not() {
    let config = load("log: {fields: &f {a: b}}\nhttp: {headers: *f}\n").unwrap();
    assert_eq!(config.http.api.headers["a"], ["b"]);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(",");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert!(matches!(load(&bomb), Err(Error::Syntax { .. })));
    assert!(matches!(load(&"[".repeat(20_000)), Err(Error::Syntax { .. })));
}

#[test]
fn missing_file_is_named() {
    let error = Config::load(Some("/nowhere/config.yml".as_ref()), []).unwrap_err();
    assert!(error.to_string().contains("/nowhere/config.yml"), "{error}");
}

#[test]
fn old_spellings_are_understood() {
    let config = load("loglevel: debug").unwrap();
    assert_eq!(config.log.level, telemetry::Level::Debug);
    assert!(warns(&config, "old name of log.level"));
    let config = load("loglevel: debug\nlog: {level: error}").unwrap();
    assert_eq!(config.log.level, telemetry::Level::Error);
    assert!(warns(&config, "no effect beside log.level"));
    let config = load("log: {formatter: logstash}").unwrap();
    assert_eq!(config.log.formatter, telemetry::Formatter::Logstash);
    assert!(refusal("loglevel: loud").starts_with("config.yml:2:11: log.level: "));
}

#[test]
fn no_limit_means_the_default_limit() {
    for limit in ["0", "-1", ""] {
        let config = load(&format!("catalog: {{maxentries: {limit}}}\ntags: {{maxtags: {limit}}}"));
        let config = config.unwrap();
        assert_eq!(config.catalog.maxentries, 1000);
        assert_eq!(config.tags.maxtags, http::TagsOptions::default().maxtags);
    }
}

#[test]
fn bare_number_counts_nanoseconds_and_an_implausible_one_gets_a_warning() {
    let config = load("http: {draintimeout: 30000000000}").unwrap();
    assert_eq!(config.http.server.draintimeout, Duration::from_secs(30));
    assert!(!warns(&config, "nanoseconds"));
    let config = load("http: {draintimeout: 30}").unwrap();
    assert_eq!(config.http.server.draintimeout, Duration::from_nanos(30));
    assert!(warns(&config, "`30s` for seconds"));
    let config = load("http: {draintimeout: 0}").unwrap();
    assert_eq!(config.http.server.draintimeout, Duration::ZERO);
    assert!(refusal("http: {draintimeout: -5}").contains("negative"));
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
fn rule_about_tags_that_matches_nothing_is_refused_at_its_place() {
    for (rule, said) in [
        ("repositories: '{a,b}'", "no repository has a '{' in its name"),
        ("repositories: a//b", "an empty part in its name"),
        ("tags: '('", "regex parse error"),
    ] {
        let message = refusal(&format!("storage: {{immutabletags: [{{}}, {{{rule}}}]}}"));
        assert!(message.contains("storage.immutabletags[1]"), "{message}");
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn rule_of_retention_that_keeps_nothing_is_refused_at_its_place() {
    let rules = |rule: &str| {
        format!("storage:\n  retention:\n    rules:\n      - keeplatest: 1\n      - {rule}\n")
    };
    for rule in ["tags: ^pr-", "{}", "{keeplatest: 0, keeppushedwithin: 0s}"] {
        let message = refusal(&rules(rule));
        assert!(message.contains("storage.retention.rules[1]"), "{message}");
        assert!(message.contains("config.yml:6:"), "{message}");
        assert!(message.contains("would delete every tag"), "{message}");
    }
    let config = load(&rules("{tags: ^pr-, keeppulledwithin: 168h}")).unwrap();
    assert_eq!(config.storage.tags.retention.rules.len(), 2);
    assert_eq!(config.storage.tags.retention.interval, Duration::from_secs(24 * 3600));
}
