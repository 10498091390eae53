//! The settings in force, as the program prints them.

use super::*;

/// The line of a key: its value and its origin.
fn shown(config: &Config, key: &str) -> Option<(String, String)> {
    let line = config.settings.lines().iter().find(|line| line.key == key)?;
    let origin = line.origin.to_string();
    let place = origin.find("config.yml").map_or(&*origin, |start| &origin[start..]).to_owned();
    Some((line.value.clone().unwrap_or_default(), place))
}

#[test]
fn each_value_has_its_origin() {
    let config = load_with(
        "version: 0.1\nstorage: {filesystem: }\nhttp:\n  draintimeout: 90s\n  secret: sesame\n",
        &[("REGISTRY_LOG_LEVEL", "WARN"), ("REGISTRY_HTTP_TRUSTEDPROXIES", "[10.0.0.0/8]")],
    )
    .unwrap();
    for (key, value, origin) in [
        ("http.draintimeout", "90s", "config.yml:4:17"),
        ("http.secret", "\"***\"", "config.yml:5:11"),
        ("log.level", "warn", "REGISTRY_LOG_LEVEL"),
        ("http.trustedproxies", "[10.0.0.0/8]", "REGISTRY_HTTP_TRUSTEDPROXIES"),
        ("storage.filesystem.rootdirectory", "/var/lib/registry", "default"),
        ("storage.delete.enabled", "false", "default"),
        ("auth.htpasswd.cachettl", "5m", "default"),
        ("http.headers", "{}", "default"),
    ] {
        let expected = Some((value.to_owned(), origin.to_owned()));
        assert_eq!(shown(&config, key), expected, "{key}");
    }
    assert_eq!(shown(&config, "http.host"), None, "it has no default");
    assert!(!config.settings.to_string().contains("sesame"));
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn defaults_differ_without_a_file() {
    let config = load_environment(&[]).unwrap();
    let default = |value: &str| Some((value.to_owned(), "default".to_owned()));
    assert_eq!(shown(&config, "storage.filesystem.rootdirectory"), default("data"));
    assert_eq!(shown(&config, "storage.delete.enabled"), default("true"));
}

#[test]
fn chosen_alternative_is_shown() {
    let config = load("storage: inmemory\nauth: none\nhttp: {tls: off}").unwrap();
    let text = config.settings.to_string();
    for line in ["  inmemory: {}  ", "  none: {}  ", "  tls: off  "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for other in ["filesystem", "htpasswd", "minimumtls"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
}

/// The printed settings, except secrets, are a configuration with the same values.
#[test]
fn printed_settings_are_a_valid_configuration() {
    for yaml in [
        "",
        "storage: inmemory\nauth: none\nhttp: {tls: off}",
        "auth: {htpasswd: {realm: 'a: \"b\" # c', path: 'null'}}\nlog: {fields: {a: {b: [1, x]}}}",
        "http: {headers: {X-A: [a, 'b: c'], X-B: d}, addr: ':443', host: 'https://a.example:1'}",
        "validation: {manifests: {urls: {allow: ['^https?://a[.]b/', c]}, indexes: {platforms: LIST,\
         \n platformlist: [{architecture: amd64, os: linux}, {architecture: arm64, os: linux}]}}}",
        "auth: {htpasswd: {realm: \"a\\u0085\\u001b\\u202e\\U000e0041é漢\\x7f\"}}",
        "http: {draintimeout: 30000000000}\ncatalog: {maxentries: 0}",
        "http: {tls: {certificate: /c.pem, key: /k.pem, minimumtls: TLS1.3}}",
    ] {
        let config = load(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let text = config.settings.to_string();
        let hidden = text.chars().find(|c| *c != '\n' && c.escape_debug().count() > 6);
        assert_eq!(hidden, None, "{text}");
        let again = load_with(&text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(config.settings.changed(&again.settings), Vec::<String>::new(), "{text}");
        let parts = |config: &Config| {
            let (warnings, notes, settings) = Default::default();
            format!("{:?}", Config { warnings, notes, settings, ..config.clone() })
        };
        assert_eq!(parts(&config), parts(&again), "{text}");
    }
}

#[test]
fn changed_keys_are_named_and_secrets_are_not_shown() {
    let config = |yaml: &str| load(yaml).unwrap().settings;
    let before = config("http: {addr: ':1', secret: a, headers: {X-Token: [a]}}");
    assert_eq!(before.changed(&before), Vec::<String>::new());
    let after =
        config("http: {addr: ':2', secret: b, headers: {X-Token: [b]}}\nlog: {level: warn}");
    let keys = ["http.addr", "http.headers", "http.secret", "log.level"];
    assert_eq!(before.changed(&after), keys);
    let after =
        config("http: {addr: ':1', secret: a, headers: {X-Token: [a]}, host: h}\nauth: none");
    assert!(before.changed(&after).contains(&"auth.none".to_owned()));
    assert!(before.changed(&after).contains(&"auth.htpasswd.realm".to_owned()));
    assert!(before.changed(&after).contains(&"http.host".to_owned()));
    let mut adopted = before;
    adopted.adopt(&after, |key| key == "http.host");
    assert!(!adopted.changed(&after).contains(&"http.host".to_owned()));
    assert!(adopted.changed(&after).contains(&"auth.none".to_owned()));
}

#[test]
fn credentials_in_headers_and_addresses_are_not_shown() {
    let config = load(
        "http: {host: 'https://ann:sesame@a.example', headers: {Authorization: [sesame], X: [y]}}",
    );
    // The type of `http.host` validates the host, not the settings.
    let text = config.unwrap().settings.to_string();
    assert!(!text.contains("sesame"), "{text}");
    assert!(text.contains("https://ann:***@a.example") && text.contains("X: [y]"), "{text}");
}

#[test]
fn headers_sent_to_other_servers_are_shown_without_their_values() {
    let config = |value: &str| {
        load(&format!(
            "notifications: {{endpoints: [{{name: a, url: 'http://a', headers: {{X-Password: \
             [{value}], X-Pwd: {value}}}}}]}}\n\
             health: {{http: [{{uri: 'http://b', headers: {{X-Hub-Signature: [{value}], X-Pass: []}}}}]}}\n"
        ))
        .unwrap()
    };
    let text = config("sesame").settings.to_string();
    assert!(!text.contains("sesame"), "{text}");
    for shown in ["X-Password: \"***\"", "X-Pwd: \"***\"", "X-Hub-Signature: \"***\""] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let changed = config("sesame").settings.changed(&config("other").settings);
    assert_eq!(changed, ["health.http[0].headers", "notifications.endpoints[0].headers"]);
}

#[test]
fn debug_listener_beyond_loopback_gets_a_warning() {
    for addr in [":5001", "0.0.0.0:5001", "[::]:5001", "192.168.0.1:5001", "registry.example:5001"]
    {
        let config = load(&format!("http: {{debug: {{addr: '{addr}'}}}}")).unwrap();
        assert!(
            warns(&config, "http.debug.addr (") && warns(&config, "write 127.0.0.1:5001"),
            "{addr}"
        );
    }
    for addr in ["", "127.0.0.1:5001", "127.1.2.3:5001", "[::1]:5001", "localhost:5001"] {
        let config = load(&format!("http: {{debug: {{addr: '{addr}'}}}}")).unwrap();
        assert!(!warns(&config, "http.debug"), "{addr}");
    }
}
