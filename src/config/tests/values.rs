//! The values of keys: quotes, old spellings, limits, durations, secrets.

use super::*;

#[test]
fn unsupported_sections_are_accepted_when_switched_off() {
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
fn largest_blob_has_a_unit_or_counts_bytes() {
    for (yaml, size) in [
        ("", None),
        ("http: {limits: {blob: }}", None),
        ("http: {limits: {blob: 20GiB}}", Some("20 GiB")),
        ("http: {limits: {blob: 500MB}}", Some("500 MB")),
        ("http: {limits: {blob: 4096}}", Some("4 KiB")),
    ] {
        let blob = load(yaml).unwrap().http.api.limits.blob;
        assert_eq!(blob.map(|blob| blob.to_string()).as_deref(), size, "{yaml}");
    }
    for (written, end) in [
        ("20G", "write `GB` or `GiB`"),
        ("0", "leave the key out for no limit"),
        ("large", "it is no number of bytes such as `500MB` or `20GiB`"),
    ] {
        let message = refusal(&format!("http: {{limits: {{blob: {written}}}}}"));
        assert!(message.starts_with("config.yml:2:23: http.limits.blob: "), "{message}");
        assert!(message.ends_with(end), "{message}");
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
fn quoted_numbers_and_booleans_are_accepted_with_a_note() {
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
        let found =
            config.notes.iter().find(|found| found.starts_with(note) && found.contains("quotes"));
        assert!(found.is_some(), "{note}: {:?}", config.notes);
    }
    assert!(
        config.notes.iter().any(|found| found.contains("it is taken as `100`: remove the quotes"))
    );
    let text = config.settings.to_string();
    assert!(text.contains("  maxentries: 100 "), "{text}");
    assert_eq!(config.warnings, Vec::<String>::new());
    // A string stays a string, and a quoted value that is neither number nor boolean is refused.
    assert_eq!(htpasswd(&load("auth: {htpasswd: {realm: \"true\"}}").unwrap()).realm, "true");
    for yaml in ["catalog: {maxentries: \"1 00\"}", "http: {relativeurls: \"maybe\"}"] {
        assert!(refusal(yaml).contains("expected"), "{yaml}");
    }
}

/// In registry:2, too, a string is not `true`.
#[test]
fn deletion_enabled_in_quotes_stays_off_with_a_warning() {
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
fn schema_1_gets_a_warning_where_it_is_enabled() {
    let config = load("compatibility: {schema1: {enabled: true}}").unwrap();
    assert!(warns(&config, "compatibility.schema1.enabled ("), "{:?}", config.warnings);
    assert!(warns(&config, "those that are stored stay pullable"), "{:?}", config.warnings);
}

#[test]
fn old_spellings_are_accepted() {
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
fn absent_limit_means_the_default_limit() {
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
fn limits_and_clients_without_effect_are_warned_of() {
    let config = load("http: {limits: {burst: 7, delay: 1s}}").unwrap();
    for key in ["http.limits.burst (", "http.limits.delay ("] {
        assert!(warns(&config, key), "{:?}", config.warnings);
    }
    let config = load("http: {limits: {requests: 100/s, burst: 7, delay: 1s}}").unwrap();
    assert!(!warns(&config, "http.limits"), "{:?}", config.warnings);
    let config = load("http: {clients: {allow: [10.1.0.0/16], deny: [10.0.0.0/8]}}").unwrap();
    assert!(warns(&config, "refuses every client"), "{:?}", config.warnings);
}
