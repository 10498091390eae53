//! Files that are refused, and the places and remedies in the errors.

use super::*;

#[test]
fn two_drivers_are_refused_with_both_places() {
    let message = load("storage:\n  filesystem:\n  inmemory:\n").unwrap_err();
    let message = message.to_string();
    assert!(message.contains("config.yml:3:3"), "{message}");
    assert!(message.contains("config.yml:4:3"), "{message}");
}

#[test]
fn session_tokens_that_docker_would_take_for_longer_ones_are_refused() {
    let message = refusal("auth: {htpasswd: {sessions: {expiry: 59s}}}");
    let start = "config.yml:2:38: auth.htpasswd.sessions.expiry: is too short";
    assert!(message.starts_with(start), "{message}");
    assert!(message.ends_with("write 1m or more"), "{message}");
    load("auth: {htpasswd: {sessions: {expiry: 1m}}}").unwrap();
}

#[test]
fn unsupported_sections_are_refused_with_their_place() {
    for (yaml, start) in [
        ("storage: {s3: {bucket: b}}", "config.yml:2:11: storage.s3: "),
        ("storage: gcs", "config.yml:2:10: storage.gcs: "),
        ("auth: {token: {realm: r}}", "config.yml:2:15: auth.token: needs `service`"),
        ("auth: {token: {}}", "config.yml:2:15: auth.token: needs `realm`"),
        (
            "auth: {token: {realm: r, service: s, issuer: i}}",
            "config.yml:2:15: auth.token: needs `rootcertbundle`",
        ),
        ("auth: silly", "config.yml:2:7: auth.silly: "),
        ("proxy: {remoteurl: https://registry-1.docker.io}", "config.yml:2:9: proxy.remoteurl: "),
        ("middleware: {storage: [{name: redirect}]}", "config.yml:2:1: middleware: "),
        (
            "storage: {cache: {layerinfo: redis}}\nredis: {addr: r}",
            "config.yml:2:19: storage.cache.layerinfo: ",
        ),
        (
            "storage: {filesystem: {}, cache: {blobdescriptor: redis}}",
            "config.yml:2:35: storage.cache.blobdescriptor: no Redis is needed",
        ),
        ("reporting: {bugsnag: {apikey: k}}", "config.yml:2:1: reporting: "),
        ("log: {hooks: [{type: mail, levels: [panic]}]}", "config.yml:2:7: log.hooks: "),
        (
            "compatibility: {schema1: {enabled: true, trustkey: /k}}",
            "config.yml:2:42: compatibility.schema1.trustkey: no manifest is signed here",
        ),
    ] {
        let message = refusal(yaml);
        assert!(message.starts_with(start), "{message}");
    }
}

/// Each of these has no effect in registry:2 either, and files that follow its documentation have
/// them.
#[test]
fn refused_keys_without_effect_in_registry_2_get_a_note() {
    for (yaml, note) in [
        (
            "storage: {filesystem: {}, cache: {blobdescriptor: inmemory}}\n\
             redis: {addr: localhost:6379, db: 0, pool: {maxidle: 16}, tls: {enabled: false}}",
            "redis (",
        ),
        ("reporting: {bugsnag: {apikey: '', releasestage: production, endpoint: }}", "reporting ("),
        ("reporting: {newrelic: {licensekey: , name: registry, verbose: true}}", "reporting ("),
        ("log: {hooks: [{type: mail, levels: [], options: {from: a@b.example}}]}", "log.hooks ("),
        ("log: {hooks: [{type: mail, levels: [panic], disabled: true}, {type: x}]}", "log.hooks ("),
        (
            "compatibility: {schema1: {signingkeyfile: /etc/registry/key.json, enabled: false}}",
            "compatibility.schema1.signingkeyfile (",
        ),
    ] {
        let config = load(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let found = config.notes.iter().filter(|found| found.starts_with(note));
        assert_eq!(found.count(), 1, "{yaml}: {:?}", config.notes);
    }
}

#[test]
fn check_of_the_redis_that_is_not_used_gets_a_warning() {
    for redis in ["addr: redis:6379", "addrs: [a:1, redis:6379]"] {
        let config = load(&format!(
            "redis: {{{redis}}}\nhealth: {{tcp: [{{addr: db:1}}, {{addr: redis:6379}}]}}"
        ));
        let config = config.unwrap();
        let warning = "that of redis: without Redis every request gets 503";
        assert!(warns(&config, warning), "{:?}", config.warnings);
        assert!(warns(&config, "health.tcp[1].addr ("), "{:?}", config.warnings);
    }
    let config = load("health: {tcp: [{addr: redis:6379}]}").unwrap();
    assert!(!warns(&config, "redis"), "{:?}", config.warnings);
}

#[test]
fn commands_about_storage_read_a_file_whose_other_keys_are_refused() {
    let yaml = "version: 0.1
storage:
  filesystem: {rootdirectory: /srv}
  cache: {blobdescriptor: redis}
auth: {token: {realm: r}, silly: {}}
redis: {addr: r}
proxy: {remoteurl: https://mirror.example}
http: {tls: {minimumtls: tls1.0, certificate: /c}, draintimeout: often, trustedproxies: [here]}
middleware: {storage: [{name: redirect}]}
reporting: {bugsnag: {apikey: k}}
";
    load_with(yaml, &[]).unwrap_err();
    let read = load_for_storage(yaml).unwrap();
    assert_eq!(root(&read.config), PathBuf::from("/srv"));
    assert_eq!(
        read.refused,
        [
            "auth.silly",
            "http.draintimeout",
            "http.tls.minimumtls",
            "middleware",
            "proxy.remoteurl",
            "redis",
            "reporting",
            "storage.cache.blobdescriptor",
        ]
    );
    // What such a command reads, and what may be a misspelt or misplaced key of storage.
    for (wrong, place) in [
        ("storage: {s3: {bucket: b}}", "config.yml:2:11: storage.s3: "),
        ("storage: {delete: {enabled: maybe}}", "config.yml:2:29: storage.delete.enabled: "),
        ("storag: {filesystem: {}}", "config.yml:2:1: there is no key `storag`"),
        ("http: {filesystem: {}}", "config.yml:2:8: there is no key `http.filesystem`"),
    ] {
        let error = load_for_storage(&format!("version: 0.1\n{wrong}")).unwrap_err();
        assert!(shorten(&error).starts_with(place), "{wrong}: {error}");
    }
    load_for_storage("storage: {filesystem: {}}").unwrap_err();
}

#[test]
fn all_faults_are_named_at_once_with_their_places() {
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
reporting: {bugsnag: {apikey: k}}
";
    let variables =
        [("REGISTRY_CATALOG_MAXENTRIES", "many"), ("REGISTRY_NOTIFICATIONS_ENDPOINTS_7_NAME", "x")];
    let error = load_with(yaml, &variables).unwrap_err();
    let problems: Vec<_> = error.problems().iter().map(shorten).collect();
    assert!(problems.iter().all(|problem| error.to_string().contains(problem)), "{error}");
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
        "config.yml:11:1: reporting: ",
        "REGISTRY_CATALOG_MAXENTRIES: catalog.maxentries: ",
        "config.yml:5:26: storage.immutabletags[0].tags: ",
        "config.yml:5:59: storage.immutabletags[2].repositories: ",
        "config.yml:7:20: http.trustedproxies[0]",
        "config.yml:7:38: http.trustedproxies[2]",
        "config.yml:7:45: http.trustedproxies[3]",
    ] {
        let count = problems.iter().filter(|problem| problem.starts_with(start)).count();
        assert_eq!(count, 1, "{start}: {problems:#?}");
    }
    // The missing `key` of the certificate is no fault of its own: it is misspelt as `ky`.
    assert_eq!(problems.len(), 17, "{problems:#?}");
}

#[test]
fn control_characters_in_keys_are_refused() {
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
        // Several sections have this key; those below the named section come first.
        ("http: {enabled: true}", "`http.h2c` or `http.debug.prometheus`"),
    ] {
        let message = refusal(yaml);
        assert!(message.contains(&format!(" belongs to {home}; check the indent")), "{message}");
    }
}

#[test]
fn file_in_utf_16_is_named() {
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
fn mismatched_value_is_named_with_place_expectation_and_finding() {
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
fn malformed_limit_and_network_say_what_to_type() {
    for (yaml, expected) in [
        (
            "http: {clients: {deny: [10.0.0.0/8, 10.0.0]}}",
            "config.yml:2:37: http.clients.deny[1]: expected a network such as `10.0.0.0/8`, an \
             address, or `unix`, not \"10.0.0\"",
        ),
        (
            "http: {limits: {requests: 100}}",
            "config.yml:2:27: http.limits.requests: expected requests in a time, such as `100/s`, \
             `6000/m` or `1000/h`, not \"100\"",
        ),
        (
            "http: {limits: {requests: 0/s}}",
            "config.yml:2:27: http.limits.requests: \"0/s\" lets nothing pass: leave the key out for no \
             limit",
        ),
        (
            "http: {limits: {burst: 0}}",
            "config.yml:2:24: http.limits.burst: expected 1 or more, not 0: no request would pass",
        ),
        (
            "http: {limits: {download: 50mb}}",
            "config.yml:2:27: http.limits.download: expected bytes in a time, such as `50MiB/s` or \
             `500kB/s`, not \"50mb\"",
        ),
        (
            "http: {limits: {upload: 50M/s}}",
            "config.yml:2:25: http.limits.upload: \"50M/s\": the unit `M` stands for a power of 1000 or of \
             1024: write `MB` or `MiB`",
        ),
    ] {
        assert_eq!(refusal(yaml), expected);
    }
}

#[test]
fn malformed_yaml_is_refused_with_its_place() {
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
fn aliases_are_accepted_and_an_alias_bomb_is_refused() {
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
fn malformed_rule_of_immutable_tags_is_refused_with_its_place() {
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
fn rule_of_retention_without_a_keep_condition_is_refused_with_its_place() {
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
