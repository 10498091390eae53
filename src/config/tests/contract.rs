//! Every key of registry:2 and registry:3 with its outcome, and every rule of their variables.
//!
//! The table follows their schema (v0.1), not ours. A key that is missing in our schema or in the table
//! fails a test.

use std::collections::BTreeSet;

use super::*;
use Outcome::*;

/// The outcome of a key that is set.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It changes the options, and the settings show it with its place.
    Works,
    /// It has no effect, and a note with these words says why.
    Needless(&'static str),
    /// It has no effect, and a warning with these words says why.
    Warned(&'static str),
    /// It is refused, and an error with these words says why.
    Refused(&'static str),
    /// It switches off a section that would be refused, without a message.
    Off,
}

const DRIVER: Outcome = Refused("this storage driver is not supported yet");
const AUTH: Outcome = Refused("this kind of authentication is not supported yet");
const MIDDLEWARE: Outcome = Refused("there is no middleware here");
const REDIS: Outcome = Refused("no Redis is needed");
const UNUSED_REDIS: Outcome = Needless("no Redis is needed");
const REMEMBERED: Outcome = Needless("cached in any case");
const BOUNDED: Outcome = Needless("bounded as it is");
const NO_REMOTE: Outcome = Needless("belongs to proxy.remoteurl");
const REPORTING: Outcome = Refused("errors are reported to the log only");
const UNUSED_REPORTING: Outcome = Needless("nothing is reported without");

const S3: &str = "accesskey=a secretkey=s sessiontoken=t region=us-east-1 \
    regionendpoint=http://minio:9000 redirectendpoint=http://minio:9000 forcepathstyle=true bucket=b \
    encrypt=true keyid=k secure=false skipverify=true v4auth=false chunksize=5242880 \
    multipartcopychunksize=33554432 multipartcopymaxconcurrency=100 \
    multipartcopythresholdsize=33554432 rootdirectory=/r storageclass=REDUCED_REDUNDANCY \
    objectacl=public-read useragent=u usedualstack=true accelerate=true usefipsendpoint=true \
    loglevel=debug";

/// Sections, their keys with values that are not the defaults, and the outcome of each. `[]` is the
/// first item of a list.
const KEYS: &[(&str, &str, Outcome)] = &[
    ("", "loglevel=debug", Works),
    ("log", r#"level=debug formatter=logstash fields={"a":"b"} reportcaller=true"#, Works),
    ("log.accesslog", "disabled=true", Works),
    ("log.hooks[]", "disabled=true", Off),
    (
        "log.hooks[]",
        r#"type=mail levels=[panic] options={"smtp":{"addr":"a:25","username":"u","password":"p","insecure":true},"from":"f","to":["t"]}"#,
        Needless("registry:2 sends nothing for such a hook"),
    ),
    ("", "storage=inmemory", Works),
    ("storage.filesystem", "rootdirectory=/srv", Works),
    ("storage.filesystem", "maxthreads=50", BOUNDED),
    ("storage", "inmemory={}", Works),
    ("storage.s3", S3, DRIVER),
    ("storage.s3aws", S3, DRIVER),
    (
        "storage.gcs",
        "bucket=b keyfile=/k credentials={} rootdirectory=/r chunksize=262144 maxconcurrency=5",
        DRIVER,
    ),
    (
        "storage.azure",
        "accountname=a container=c accountkey=k connectionstring=c realm=r serviceurl=u \
         rootdirectory=/r max_retries=3 retry_delay=1s skipverify=true",
        DRIVER,
    ),
    ("storage.azure.credentials", "type=client_secret clientid=c tenantid=t secret=s", DRIVER),
    // Keys of v2 only, as the next one.
    ("storage", "swift={} oss={}", DRIVER),
    ("storage.delete", "enabled=true", Works),
    ("storage.redirect", "disable=true", Needless("never redirected")),
    (
        "storage.cache",
        "blobdescriptor=inmemory blobdescriptorsize=5 layerinfo=inmemory",
        REMEMBERED,
    ),
    ("storage.cache", "blobdescriptor=redis layerinfo=redis", REDIS),
    ("storage.tag", "concurrencylimit=5", BOUNDED),
    ("storage.maintenance.uploadpurging", "enabled=false age=24h interval=1h dryrun=true", Works),
    ("storage.maintenance.readonly", "enabled=true", Works),
    ("auth.silly", "realm=r service=s", AUTH),
    ("auth.htpasswd", "realm=r path=/h", Works),
    (
        "auth.token",
        "realm=r service=s issuer=i rootcertbundle=/b jwks=/j autoredirect=true \
         autoredirectpath=/a signingalgorithms=[EdDSA]",
        Works,
    ),
    ("auth", "none={}", Works),
    ("middleware.registry[]", "name=n options={}", MIDDLEWARE),
    ("middleware.repository[]", "name=n options={}", MIDDLEWARE),
    ("middleware.storage[]", "name=n options={}", MIDDLEWARE),
    ("middleware.registry[]", "disabled=true", Off),
    ("middleware.repository[]", "disabled=true", Off),
    ("middleware.storage[]", "disabled=true", Off),
    // The options of cloudfront, redirect and rewrite.
    (
        "middleware.storage[].options",
        "baseurl=https://cdn.example privatekey=/k keypairid=k duration=1m ipfilteredby=aws \
         awsregion=r updatefrequency=1h iprangesurl=u scheme=https host=h trimpathprefix=/p",
        MIDDLEWARE,
    ),
    (
        "http",
        r#"addr=:443 net=unix prefix=/r/ host=https://r.example relativeurls=true draintimeout=7s headers={"X-A":["b"]}"#,
        Works,
    ),
    ("http", "secret=s", Warned("is accepted and not needed")),
    ("http.tls", "certificate=/c key=/k minimumtls=tls1.3", Works),
    ("http.tls", "clientcas=[/ca.pem]", Works),
    (
        "http.tls",
        "clientauth=request-client-cert ciphersuites=[TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        Works,
    ),
    (
        "http.tls.letsencrypt",
        "cachefile=/l email=a@b.example hosts=[r.example] directoryurl=https://ca.example/dir",
        Works,
    ),
    ("http.debug", "addr=127.0.0.1:5001", Works),
    ("http.debug.prometheus", "enabled=true path=/m", Works),
    ("http.http2", "disabled=true", Works),
    ("http.h2c", "enabled=true", Works),
    ("notifications.events", "includereferences=true", Works),
    (
        "notifications.endpoints[]",
        r#"name=n disabled=true url=http://hook.example/ headers={"X-A":["b"]} timeout=7s threshold=7 backoff=7s ignoredmediatypes=[a/b]"#,
        Works,
    ),
    ("notifications.endpoints[].ignore", "mediatypes=[a/b] actions=[pull]", Works),
    // The keys of v3, then those of v2 only.
    (
        "redis",
        "addrs=[r:6379] clientname=c db=1 protocol=3 username=u password=p sentinelusername=s \
         sentinelpassword=p maxretries=5 minretrybackoff=1s maxretrybackoff=1s dialtimeout=1s \
         readtimeout=1s writetimeout=1s contexttimeoutenabled=true poolfifo=true poolsize=5 \
         pooltimeout=1s minidleconns=1 maxidleconns=1 maxactiveconns=1 connmaxidletime=1s \
         connmaxlifetime=1s maxredirects=1 readonly=true routebylatency=true routerandomly=true \
         mastername=m disableidentity=true identitysuffix=i unstableresp3=true",
        UNUSED_REDIS,
    ),
    ("redis.tls", "enabled=true certificate=/c key=/k rootcas=[/r]", UNUSED_REDIS),
    ("redis", "addr=r:6379", UNUSED_REDIS),
    ("redis.pool", "maxidle=1 maxactive=1 idletimeout=1s", UNUSED_REDIS),
    ("health.storagedriver", "enabled=true interval=7s threshold=7", Works),
    ("health.file[]", "file=/f interval=7s threshold=7", Works),
    (
        "health.http[]",
        r#"uri=http://a.example/ headers={"X-A":["b"]} statuscode=204 timeout=7s interval=7s threshold=7"#,
        Works,
    ),
    ("health.tcp[]", "addr=a.example:1 timeout=7s interval=7s threshold=7", Works),
    ("catalog", "maxentries=7", Works),
    ("tags", "maxtags=7", Works),
    ("proxy", "remoteurl=https://registry-1.docker.io", Refused("pulling through")),
    ("proxy", "username=u password=p ttl=1h cachewritetimeout=1m", NO_REMOTE),
    ("proxy.exec", "command=/c lifetime=1h", NO_REMOTE),
    ("validation", "disabled=true enabled=true", Works),
    ("validation.manifests.urls", "allow=[^https://] deny=[^http://]", Works),
    (
        "validation.manifests.indexes",
        r#"platforms=none platformlist=[{"architecture":"arm64","os":"linux"}]"#,
        Works,
    ),
    ("validation.manifests.indexes.platformlist[]", "architecture=arm64 os=windows", Works),
    ("policy.repository", "classes=[image]", Works),
    ("compatibility.schema1", "enabled=true", Warned("schema 1 are not accepted")),
    (
        "compatibility.schema1",
        "signingkeyfile=/k trustkey=/k",
        Needless("nothing is signed; remove it"),
    ),
    ("reporting.bugsnag", "apikey=k", REPORTING),
    ("reporting.bugsnag", "releasestage=r endpoint=e", UNUSED_REPORTING),
    ("reporting.newrelic", "licensekey=k", REPORTING),
    ("reporting.newrelic", "name=n verbose=true", UNUSED_REPORTING),
];

/// The keys that only our schema has.
const OURS: &[&str] = &[
    "access.groupfile",
    "access.quotas[].bytes",
    "access.quotas[].except",
    "access.quotas[].repositories",
    "access.rules[].except",
    "access.rules[].from",
    "access.rules[].may",
    "access.rules[].repositories",
    "access.rules[].who",
    "storage.maintenance.garbagecollection.enabled",
    "storage.maintenance.garbagecollection.interval",
    "storage.maintenance.garbagecollection.grace",
    "storage.maintenance.garbagecollection.deleteuntagged",
    "storage.maintenance.garbagecollection.deleteuntaggedafter",
    "log.accesslog.formatter",
    "storage.immutabletags[].repositories",
    "storage.immutabletags[].tags",
    "storage.retention.interval",
    "storage.retention.dryrun",
    "storage.retention.rules[].repositories",
    "storage.retention.rules[].tags",
    "storage.retention.rules[].keeplatest",
    "storage.retention.rules[].keeppushedwithin",
    "storage.retention.rules[].keeppulledwithin",
    "storage.delete.blobs",
    "auth.htpasswd.legacyformats",
    "auth.htpasswd.cachettl",
    "auth.htpasswd.throttle.window",
    "auth.htpasswd.throttle.failures",
    "auth.htpasswd.throttle.addressfailures",
    "auth.htpasswd.throttle.userfailures",
    "auth.htpasswd.sessions.challenge",
    "auth.htpasswd.sessions.expiry",
    "auth.htpasswd.sessions.keyfile",
    "auth.htpasswd.tokens.file",
    "auth.htpasswd.tokens.maxlifetime",
    "http.redirectaddr",
    "http.hosts",
    "http.allowedhosts",
    "http.tls.clientidentity",
    "http.tls.more[].certificate",
    "http.tls.more[].key",
    "http.tls.passthrough[].names",
    "http.tls.passthrough[].addr",
    "http.tls.passthrough[].proxyprotocol",
    "http.tls.letsencrypt.challenge",
    "http.tls.letsencrypt.profile",
    "http.tls.letsencrypt.caroot",
    "http.tls.letsencrypt.eab.kid",
    "http.tls.letsencrypt.eab.hmackey",
    "http.trustedproxies",
    "http.proxyprotocol",
    "http.limits.requests",
    "http.limits.burst",
    "http.limits.delay",
    "http.limits.download",
    "http.limits.upload",
    "http.limits.connections",
    "http.clients.allow",
    "http.clients.deny",
    "http.idletimeout",
    "http.maxconnections",
    "http.maxconnectionsperaddress",
    "http.limits.blob",
    "notifications.maxpending",
    "uploads.maxopen",
    "uploads.maxperhour",
];

/// The number of keys of the table, so that a lost line fails a test.
const COUNT: usize = 246;

/// A key with a value.
#[derive(Debug)]
struct Case {
    path: String,
    value: &'static str,
    outcome: Outcome,
}

fn cases() -> Vec<Case> {
    let case = |section, pair: &'static str, outcome| {
        let (key, value) = pair.split_once('=').unwrap();
        Case { path: schema::join(section, key), value, outcome }
    };
    let of = |&(section, pairs, outcome): &(&'static str, &'static str, _)| {
        pairs.split_whitespace().map(move |pair| case(section, pair, outcome)).collect::<Vec<_>>()
    };
    KEYS.iter().flat_map(of).collect()
}

/// The keys that a key requires, as variables.
fn companions(path: &str) -> Vec<(&'static str, &'static str)> {
    let all: &[(&str, &[(&str, &str)])] = &[
        // A section `filesystem` changes the root directory.
        ("storage.filesystem", &[("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/r")]),
        ("http.net", &[("REGISTRY_HTTP_ADDR", "/run/registry.sock")]),
        // With TLS, h2c has no effect.
        ("http.h2c", &[("REGISTRY_HTTP_TLS", "off")]),
        ("http.tls.certificate", &[("REGISTRY_HTTP_TLS_KEY", "/k")]),
        ("http.tls.key", &[("REGISTRY_HTTP_TLS_CERTIFICATE", "/c")]),
        ("http.tls.clientauth", &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/ca.pem]")]),
        ("http.tls.clientidentity", &[("REGISTRY_HTTP_TLS_CLIENTCAS", "[/ca.pem]")]),
        (
            "http.tls.letsencrypt",
            &[
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_CACHEFILE", "/acme"),
                ("REGISTRY_HTTP_TLS_LETSENCRYPT_HOSTS", "[registry.example.com]"),
            ],
        ),
        (
            "auth.token",
            &[
                ("REGISTRY_AUTH_TOKEN_REALM", "https://auth.example/token"),
                ("REGISTRY_AUTH_TOKEN_SERVICE", "registry"),
                ("REGISTRY_AUTH_TOKEN_ISSUER", "issuer"),
                ("REGISTRY_AUTH_TOKEN_JWKS", "/jwks.json"),
            ],
        ),
        ("health.file[]", &[("REGISTRY_HEALTH_FILE_0_FILE", "/f")]),
        ("health.http[]", &[("REGISTRY_HEALTH_HTTP_0_URI", "http://a.example/")]),
        ("health.tcp[]", &[("REGISTRY_HEALTH_TCP_0_ADDR", "a.example:1")]),
        (
            "notifications.endpoints[]",
            &[
                ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "hook"),
                ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://hook.example/"),
            ],
        ),
        (
            "validation.manifests.indexes.platformlist[]",
            &[
                ("REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_ARCHITECTURE", "amd64"),
                ("REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS", "linux"),
            ],
        ),
        // Sections that would be refused if they were not switched off.
        ("log.hooks[].disabled", &[("REGISTRY_LOG_HOOKS_0_TYPE", "mail")]),
        ("middleware.registry[].disabled", &[("REGISTRY_MIDDLEWARE_REGISTRY_0_NAME", "n")]),
        ("middleware.repository[].disabled", &[("REGISTRY_MIDDLEWARE_REPOSITORY_0_NAME", "n")]),
        ("middleware.storage[].disabled", &[("REGISTRY_MIDDLEWARE_STORAGE_0_NAME", "n")]),
    ];
    let own = path.replace("[].", "_0_").replace('.', "_").to_uppercase();
    let of = all.iter().filter(|(section, _)| path.starts_with(section));
    // A variable of the key itself would override the value.
    of.flat_map(|(_, variables)| variables.iter().copied())
        .filter(|(name, _)| !name.ends_with(&own))
        .collect()
}

/// Loads a file with this key only, and the variables that the key requires.
fn load_key(path: &str, value: &str) -> Result<Config, Error> {
    let mut yaml = value.to_owned();
    for segment in path.rsplit('.') {
        yaml = match segment.strip_suffix("[]") {
            Some(list) => format!("{{{list}: [{yaml}]}}"),
            None => format!("{{{segment}: {yaml}}}"),
        };
    }
    let yaml = &yaml[1..yaml.len() - 1];
    load_with(&format!("version: 0.1\n{yaml}\n"), &companions(path))
}

/// The options, without messages and origins.
pub(super) fn parts(config: &Config) -> String {
    let (warnings, notes, settings) = Default::default();
    format!("{:?}", Config { warnings, notes, settings, ..config.clone() })
}

/// Whether a message about the key, or a section of it, has these words.
fn says(words: &[String], path: &str, what: &str) -> bool {
    let path = path.replace("[]", "[0]");
    words.iter().any(|sentence| {
        let key = sentence.split(' ').next().unwrap();
        path.starts_with(key) && sentence.contains(what)
    })
}

/// What to do when a test of this file fails.
const HOW: &str = "\
    Operators bring files of registry:2 and registry:3, and go by the outcome of each key.\n\
    - A key has another outcome on purpose: change its row in KEYS, here in\n  \
      src/config/tests/contract.rs, and name the change in CHANGELOG.md.\n\
    - registry:2 or registry:3 has the key: add it to KEYS with a value that is not the default,\n  \
      and change COUNT.\n\
    - The key is ours: add it to OURS, and mark it \"Ours\" in portcullis.example.yml.\n\
    - The key requires others: name their variables in `companions`.\n\
    If no line above fits, correct the schema (src/config/schema/table.rs) and leave the test as it is.";

fn check(Case { path, value, outcome }: &Case) {
    let result = load_key(path, value);
    if let Ok(config) = &result {
        let unknown = config.warnings.iter().find(|warning| warning.contains("names no key"));
        assert_eq!(unknown, None, "{path}: a variable in `companions` is misspelt");
    }
    let config = match (outcome, result) {
        (Refused(words), Err(Error::Refused { key, reason, .. })) => {
            assert!(path.replace("[]", "").starts_with(&key), "{path}: {key}");
            assert!(reason.contains(words), "{path}: {reason}");
            return;
        }
        (Refused(_), found) => panic!("{path}: {value} is not refused: {found:?}\n{HOW}"),
        (_, Ok(config)) => config,
        (_, Err(error)) => panic!("{path}: {value}: {error}\n{HOW}"),
    };
    // A certificate without its key cannot be loaded.
    let without = load_with("version: 0.1\n", &companions(path));
    let without = without.unwrap_or_else(|_| load("").unwrap());
    // The options hide a secret; the settings show that it has changed.
    let changed = parts(&config) != parts(&without)
        || matches!(outcome, Works) && !config.settings.changed(&without.settings).is_empty();
    match outcome {
        Works => {
            assert!(changed, "{path}: {value} changes nothing\n{HOW}");
            assert!(!says(&config.notes, path, ""), "{path}: {:?}", config.notes);
            assert!(!says(&config.warnings, path, "no effect"), "{path}: {:?}", config.warnings);
            let shown = match path.as_str() {
                "loglevel" => "log.level".to_owned(),
                "storage" => "storage.inmemory".to_owned(),
                path => path.replace("[]", "[0]"),
            };
            let is_line = |key: &str| {
                key == shown || key.strip_prefix(&*shown).is_some_and(|k| k.starts_with('['))
            };
            let mut lines = config.settings.lines().iter().filter(|line| is_line(&line.key));
            let has_place = lines.any(|line| line.origin.to_string().contains("config.yml:2:"));
            assert!(has_place, "{path} is not shown:\n{}", config.settings);
        }
        Needless(words) => {
            assert!(!changed, "{path}: {value} changes something");
            assert!(says(&config.notes, path, words), "{path}: {:?}\n{HOW}", config.notes);
        }
        Warned(words) => {
            assert!(says(&config.warnings, path, words), "{path}: {:?}\n{HOW}", config.warnings);
        }
        Off => {
            assert!(!changed, "{path}: {value} changes something");
            let silent = (without.warnings, Vec::new());
            assert_eq!((config.warnings, config.notes), silent, "{path}");
        }
        Refused(_) => unreachable!(),
    }
}

#[test]
fn every_key_of_registry_2_and_3_works_or_has_a_message() {
    let cases = cases();
    for case in &cases {
        check(case);
    }
    let keys: BTreeSet<_> = cases.iter().map(|case| &case.path).collect();
    assert_eq!(keys.len(), COUNT, "the table has lost or gained a key\n{HOW}");
}

/// The keys of the schema that have a value, with `[]` after lists.
fn known(section: &str, kind: &'static Kind, paths: &mut BTreeSet<String>) {
    for key in kind.keys() {
        let path = schema::join(section, key.name);
        match &key.kind {
            Kind::List(item) => known(&format!("{path}[]"), item, paths),
            kind if kind.keys().next().is_some() => known(&path, kind, paths),
            _ => {
                paths.insert(path);
            }
        }
    }
}

#[test]
fn every_key_of_the_schema_is_in_the_table_or_ours() {
    let mut missing = BTreeSet::new();
    known("", &schema::ROOT, &mut missing);
    for ours in OURS {
        assert!(
            missing.remove(*ours),
            "{ours} is not in the schema, or is in the table too\n{HOW}"
        );
    }
    for Case { path, .. } in cases() {
        // The schema does not list the parameters of a driver.
        missing.retain(|known| {
            known != &path && !path.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
        });
    }
    assert_eq!(
        missing,
        BTreeSet::new(),
        "the schema has keys that no table of this file has\n{HOW}"
    );
}

/// Values that registry:2 accepts for a key, and Portcullis does not.
#[test]
fn unsupported_values_of_registry_2_are_refused() {
    for (path, value) in [
        ("http.tls.minimumtls", "tls1.0"),
        ("http.tls.minimumtls", "tls1.1"),
        ("log.level", "trace"),
    ] {
        let error = load_key(path, value).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
    }
}
