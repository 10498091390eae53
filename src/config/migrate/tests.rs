use proptest::prelude::*;

use super::*;

const GUIDE: &str = include_str!("../../../docs/MIGRATING.md");

fn moved(yaml: &str) -> Result<Migration, String> {
    migrate(Path::new("/etc/config.yml"), yaml, None, false).map_err(|error| error.to_string())
}

fn site(text: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.conf");
    std::fs::write(&file, text).unwrap();
    Site::read(&file).unwrap()
}

fn dropped(migration: &Migration) -> Vec<&str> {
    let keys = migration.changes.iter().filter_map(|change| match change {
        Change::Dropped { key, .. } => Some(&**key),
        _ => None,
    });
    keys.collect()
}

fn left(migration: &Migration) -> Vec<&str> {
    let what = migration.changes.iter().filter_map(|change| match change {
        Change::Left { what, .. } => Some(&**what),
        _ => None,
    });
    what.collect()
}

/// A block of the guide, by the words behind its fence.
fn block(name: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{name}\n")).unwrap();
    rest.split_once("\n```").unwrap().0
}

/// A side of the guide's difference between the two configurations.
fn side(sign: char) -> String {
    let lines = block("diff walkthrough: config").lines();
    let lines = lines.filter(|line| line.starts_with([' ', sign])).map(|line| &line[1..]);
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn guides_site_and_file_become_the_guides_configuration() {
    let site = site(block("nginx walkthrough: pair"));
    let made = migrate(Path::new("config.yml"), &side('-'), Some(&site), true).unwrap();
    let load = |yaml: &str| Config::from_text(Path::new("config.yml"), yaml, []).unwrap().settings;
    let differing = load(&made.yaml).changed(&load(&side('+')));
    // The guide leaves the host to the requests.
    assert_eq!(differing, ["http.host"], "{}", made.yaml);
    assert_eq!(left(&made), [""; 0], "{}", made.yaml);
    assert_eq!(dropped(&made), ["storage.cache.blobdescriptor"]);
}

/// A file with the keys of registry:2's documentation.
const DOCUMENTED: &str = "version: 0.1
log:
  level: trace
  fields: {service: registry, build: '017'}
  hooks: [{type: mail, levels: [panic], options: {from: a@b.example}}]
storage:
  filesystem: {rootdirectory: /var/lib/registry, maxthreads: 100}
  cache: {blobdescriptor: redis, blobdescriptorsize: 10000}
  redirect: {disable: false}
  maintenance: {uploadpurging: {enabled: true, age: 168h}}
auth:
  htpasswd: {realm: basic-realm, path: /auth/htpasswd}
http:
  addr: localhost:5000
  secret: asecretforlocaldevelopment
  tls: {certificate: /c, key: /k, minimumtls: tls1.0}
  headers: {X-Content-Type-Options: [nosniff]}
  colour: red
redis: {addr: localhost:6379, pool: {maxidle: 16}}
notifications:
  endpoints:
    - {name: alistener, url: https://my.listener.example/event, headers: {Authorization: ['a: b']}}
middleware: {storage: [{name: redirect, options: {baseurl: https://cdn.example}}]}
reporting: {bugsnag: {apikey: k}}
compatibility: {schema1: {signingkeyfile: /k.json, enabled: true}}
";

#[test]
fn file_after_registry_2s_documentation_is_moved() {
    let made = moved(DOCUMENTED).unwrap();
    assert_eq!(
        dropped(&made),
        [
            "log.hooks",
            "storage.filesystem.maxthreads",
            "storage.cache.blobdescriptor",
            "storage.cache.blobdescriptorsize",
            "storage.redirect.disable",
            "http.secret",
            "http.tls.minimumtls",
            "http.colour",
            "redis",
            "middleware",
            "reporting",
            "compatibility.schema1.signingkeyfile",
            "compatibility.schema1.enabled",
        ]
    );
    assert_eq!(left(&made), [""; 0]);
    let config = Config::from_text(Path::new("new.yml"), &made.yaml, []).unwrap();
    assert_eq!((config.warnings, config.notes), (Vec::new(), Vec::new()), "{}", made.yaml);
    for line in [
        "  level: debug",
        "    build: \"017\"",
        "    # storage.filesystem.maxthreads dropped: the work on files is bounded as it is",
        "  # http.colour dropped: registry:2 ignores it, and there is no such key here.",
        "    -\n      name: alistener",
        "        Authorization: [\"a: b\"]",
    ] {
        assert!(made.yaml.contains(&format!("{line}\n")), "{line}:\n{}", made.yaml);
    }
    assert!(made.yaml.lines().all(|line| line.chars().count() <= 100), "{}", made.yaml);
    assert!(!made.yaml.contains("\nredis:") && !made.yaml.contains("cache:\n"), "{}", made.yaml);
}

#[test]
fn site_replaces_the_sockets_of_registry_2_and_keeps_its_users() {
    let site = site(
        "server { listen 443 ssl; server_name r.example; ssl_certificate /n/c; ssl_certificate_key /n/k;
         add_header X-A new; auth_basic R; auth_basic_user_file /n/h;
         location / { proxy_pass http://unix:/run/registry.sock; } }",
    );
    let yaml = "version: 0.1\nstorage: {filesystem: {}}\n\
                http: {net: unix, addr: /run/registry.sock, host: https://old.example,\
                tls: {certificate: /r/c, key: /r/k}, headers: {x-a: [old], X-B: [b]}}\n\
                auth: {htpasswd: {path: /r/h, realm: r}}\n";
    let made = migrate(Path::new("config.yml"), yaml, Some(&site), true).unwrap();
    let config = Config::from_text(Path::new("new.yml"), &made.yaml, []).unwrap();
    let shown = config.settings.to_string();
    for line in [
        "  addr: \":443\"",
        "  host: https://old.example",
        "    certificate: /n/c",
        "    path: /r/h",
        "x-a: [new]",
        "X-B: [b]",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(dropped(&made), ["http.net", "http.tls"]);
    assert_eq!(left(&made).len(), 3, "{:?}", made.changes);
}

#[test]
fn check_of_the_dropped_redis_is_dropped_and_others_stay() {
    let made = moved(
        "version: 0.1\nredis: {addr: r:6379}\nhealth: {tcp: [{addr: r:6379}, {addr: db:1}]}\n",
    );
    let made = made.unwrap();
    assert_eq!(dropped(&made), ["redis", "health.tcp"]);
    assert!(made.yaml.contains("addr: db:1") && !made.yaml.contains("r:6379"), "{}", made.yaml);
}

#[test]
fn plain_site_stays_plain_and_says_so() {
    let site = site("server { listen 5000; location / { proxy_pass http://a; } }");
    let made = migrate(Path::new("c"), "version: 0.1\n", Some(&site), false).unwrap();
    assert!(
        made.yaml.contains("  # nginx did not encrypt; remove this line for HTTPS\n  tls: off\n")
    );
    assert!(made.yaml.contains("# nginx's `listen 5000` ("), "{}", made.yaml);
    assert_eq!(left(&made), ["no passwords"]);
}

#[test]
fn file_that_leaves_tls_and_passwords_to_others_is_told_what_changes() {
    let made = moved("version: 0.1\nstorage: {filesystem: {}}\n").unwrap();
    assert_eq!(left(&made), ["plain HTTP", "no passwords"]);
    let made =
        moved("version: 0.1\nauth: none\nhttp: {tls: {certificate: /c, key: /k}}\n").unwrap();
    assert_eq!(left(&made), [""; 0]);
}

#[test]
fn registry_that_keeps_its_images_elsewhere_is_refused_with_the_place() {
    for (yaml, place) in [
        ("storage: {s3: {bucket: b}}", "/etc/config.yml:2:11: storage.s3: this storage driver"),
        ("storage: gcs", "/etc/config.yml:2:10: storage.gcs: this storage driver"),
        ("proxy: {remoteurl: https://a.example}", "/etc/config.yml:2:9: proxy.remoteurl: pulling"),
        ("http: {draintimeout: often}", "/etc/config.yml:2:22: http.draintimeout: expected"),
        ("http: [", "/etc/config.yml:"),
    ] {
        let error = moved(&format!("version: 0.1\n{yaml}\n")).unwrap_err();
        assert!(error.starts_with(place), "{yaml}: {error}");
    }
    assert!(moved("storage: {}").unwrap_err().contains("add the line `version: 0.1`"));
}

proptest! {
    /// Keys of every kind, with texts that YAML could take for something else.
    #[test]
    fn texts_keep_their_meaning(text in r#"([a-z0-9:# '"\\,\[\]{}&*!|>%@-]|\PC){0,20}"#) {
        prop_assume!(!text.contains(char::is_control));
        let yaml = format!(
            "version: 0.1\nlog: {{fields: {{k: {0}}}}}\nauth: {{htpasswd: {{realm: {0}}}}}\n",
            serde_json::Value::from(&*text)
        );
        let load = |yaml: &str| Config::from_text(Path::new("c"), yaml, []);
        if let (Ok(made), Ok(old)) = (moved(&yaml), load(&yaml)) {
            let new = load(&made.yaml).unwrap();
            prop_assert_eq!(new.settings.changed(&old.settings), Vec::<String>::new());
        }
    }

    #[test]
    fn any_file_is_moved_or_refused(text in r#"(version: 0.1\n)?([a-z]{1,9}: ?\{?|[\[\]{}\n ,'"&*-]|\PC){0,30}"#) {
        if let Ok(made) = moved(&text) {
            prop_assert!(load(Path::new("new.yml"), &made.yaml).is_ok(), "{}", made.yaml);
        }
    }
}
