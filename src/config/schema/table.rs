//! The table. Where a key is ours and not registry:2's, it says so.

use super::{
    Key,
    Kind::{self, *},
    Support,
    harmless::{UNUSED_HOOKS, UNUSED_REDIS, UNUSED_REPORTING},
};

mod others;

use others::{COMPATIBILITY, HEALTH, MIDDLEWARE, POLICY, REDIS, REPORTING, VALIDATION};

const fn works(name: &'static str, kind: Kind) -> Key {
    Key::new(name, kind, Support::Works)
}

const fn needless(name: &'static str, kind: Kind, reason: &'static str) -> Key {
    Key::new(name, kind, Support::Needless(reason))
}

const fn refused(name: &'static str, kind: Kind, reason: &'static str) -> Key {
    Key::new(name, kind, Support::Refused(reason))
}

const NO_SUCH_DRIVER: &str = "this storage driver is not supported yet, and keeping images \
    anywhere else would lose them from sight; use `filesystem`, or stay with registry:2 for this \
    store";
const NO_SUCH_AUTH: &str = "this kind of authentication is not supported yet, and ignoring it \
    would let the wrong people in; use `htpasswd` or `token`";
const NO_PROXY: &str = "pulling through from another registry is not supported yet, and without \
    it this would be an empty registry that takes pushes; remove the section to run one, or stay \
    with registry:2 for the mirror";

const NO_MIDDLEWARE: &str = "there is no middleware here, and without it clients would be sent \
    elsewhere than this asks for; remove the entry, or set `disabled: true` in it, to have blobs \
    served from here";
const NO_REDIS: &str = "no Redis is needed: metadata is cached in this process and checked against the \
    files; remove it";
const NO_REPORTING: &str = "errors are reported to the log only, so other receivers would \
    miss them; remove the section, and watch the log or the metrics (http.debug)";
const NO_HOOKS: &str = "the log sends no mail, so its recipients would miss it; remove the \
    hook, or set `disabled: true` in it, and let the program that collects the log send mail";
const BOUNDED: &str = "the work on files is bounded as it is";
const NO_REDIRECT: &str = "blobs are served from here and never redirected";
const REMEMBERED: &str = "metadata is cached in any case, within bounds, and checked \
    against the files";
const NO_REMOTE: &str = "it belongs to proxy.remoteurl, which is not set";
const CACHES: &[&str] = &["inmemory", "redis"];

/// The top of the file, `version` aside: that is looked at before this table.
pub(in crate::config) const ROOT: Kind = Section(&[
    works("log", LOG),
    Key::new("loglevel", Word(LEVELS), Support::Old),
    works("storage", STORAGE),
    works("auth", AUTH),
    // Ours.
    works("access", ACCESS),
    works("http", HTTP),
    works("catalog", Section(&[works("maxentries", Limit)])),
    works("tags", Section(&[works("maxtags", Limit)])),
    // Ours.
    works("uploads", Section(&[works("maxopen", Limit), works("maxperhour", Limit)])),
    refused("middleware", MIDDLEWARE, NO_MIDDLEWARE),
    works("notifications", NOTIFICATIONS),
    refused("redis", REDIS, NO_REDIS).unless(UNUSED_REDIS),
    works("health", HEALTH),
    works("proxy", PROXY),
    works("validation", VALIDATION),
    works("policy", POLICY),
    // Gone from registry:3, still in files written for registry:2.
    works("compatibility", COMPATIBILITY),
    refused("reporting", REPORTING, NO_REPORTING).unless(UNUSED_REPORTING),
]);

const LEVELS: &[&str] = &["error", "warn", "info", "debug"];

const LOG: Kind = Section(&[
    works("level", Word(LEVELS)),
    works("formatter", Word(&["text", "json", "logstash"])),
    works("fields", Free),
    works(
        "accesslog",
        Section(&[
            works("disabled", Bool),
            // Ours.
            works("formatter", Word(&["combined", "json"])),
        ]),
    ),
    works("reportcaller", Bool),
    refused(
        "hooks",
        List(&Section(&[
            works("disabled", Bool),
            works("type", Text),
            works("levels", TextList),
            works("options", Free),
        ])),
        NO_HOOKS,
    )
    .unless(UNUSED_HOOKS),
]);

const STORAGE: Kind = OneOf {
    of: &[
        works(
            "filesystem",
            Section(&[works("rootdirectory", Text), needless("maxthreads", Integer, BOUNDED)]),
        ),
        works("inmemory", Free),
        refused("s3", Free, NO_SUCH_DRIVER),
        refused("s3aws", Free, NO_SUCH_DRIVER),
        refused("gcs", Free, NO_SUCH_DRIVER),
        refused("azure", Free, NO_SUCH_DRIVER),
        refused("swift", Free, NO_SUCH_DRIVER),
        refused("oss", Free, NO_SUCH_DRIVER),
    ],
    beside: &[
        works(
            "delete",
            // The second is ours.
            Section(&[works("enabled", Bool), works("blobs", Word(&["unneeded", "force"]))]),
        ),
        works("redirect", Section(&[needless("disable", Bool, NO_REDIRECT)])),
        works(
            "cache",
            Section(&[
                needless("blobdescriptor", Word(CACHES), REMEMBERED).refusing("redis", NO_REDIS),
                needless("layerinfo", Word(CACHES), REMEMBERED).refusing("redis", NO_REDIS),
                needless("blobdescriptorsize", Integer, REMEMBERED),
            ]),
        ),
        works("tag", Section(&[needless("concurrencylimit", Integer, BOUNDED)])),
        works(
            "maintenance",
            Section(&[
                works(
                    "uploadpurging",
                    Section(&[
                        works("enabled", Bool),
                        works("age", Duration),
                        works("interval", Duration),
                        works("dryrun", Bool),
                    ]),
                ),
                works("readonly", Section(&[works("enabled", Bool)])),
                // Ours.
                works(
                    "garbagecollection",
                    Section(&[
                        works("enabled", Bool),
                        works("interval", Duration),
                        works("grace", Duration),
                        works("deleteuntagged", Bool),
                        works("deleteuntaggedafter", Duration),
                    ]),
                ),
            ]),
        ),
        // Ours.
        works("immutabletags", List(&Section(&[works("repositories", Text), works("tags", Text)]))),
        works("retention", RETENTION),
    ],
};

/// Ours.
const RETENTION: Kind = Section(&[
    works("interval", Duration),
    works("dryrun", Bool),
    works(
        "rules",
        List(&Section(&[
            works("repositories", Text),
            works("tags", Text),
            works("keeplatest", Limit),
            works("keeppushedwithin", Duration),
            works("keeppulledwithin", Duration),
        ])),
    ),
]);

const CHALLENGES: &[&str] = &["auto", "basic", "bearer"];

/// Ours.
const ACCESS: Kind = Section(&[
    works("groupfile", Text),
    works(
        "rules",
        List(&Section(&[
            works("who", TextList),
            works("repositories", TextList),
            works("except", TextList),
            works("from", TextList),
            works("may", TextList),
        ])),
    ),
    works(
        "quotas",
        List(&Section(&[
            works("repositories", TextList),
            works("except", TextList),
            works("bytes", Text),
        ])),
    ),
]);

const AUTH: Kind = OneOf {
    of: &[
        works(
            "htpasswd",
            Section(&[
                works("realm", Text),
                works("path", Text),
                // Ours.
                works("legacyformats", Bool),
                works("cachettl", Duration),
                works(
                    "throttle",
                    Section(&[
                        works("window", Duration),
                        works("failures", Limit),
                        works("addressfailures", Limit),
                        works("userfailures", Limit),
                    ]),
                ),
                works(
                    "sessions",
                    Section(&[
                        works("challenge", Word(CHALLENGES)),
                        works("expiry", Duration),
                        works("keyfile", Text),
                    ]),
                ),
                works("tokens", Section(&[works("file", Text), works("maxlifetime", Duration)])),
            ]),
        ),
        works("none", Free),
        works(
            "token",
            Section(&[
                works("realm", Text),
                works("service", Text),
                works("issuer", Text),
                works("rootcertbundle", Text),
                works("jwks", Text),
                works("autoredirect", Bool),
                works("autoredirectpath", Text),
                works("signingalgorithms", TextList),
            ]),
        ),
        refused("silly", Free, NO_SUCH_AUTH),
    ],
    beside: &[],
};

const HTTP: Kind = Section(&[
    works("addr", Text),
    works("net", Word(&["tcp", "unix"])),
    works("prefix", Text),
    works("host", Text),
    works("secret", Secret),
    works("relativeurls", Bool),
    works("draintimeout", Duration),
    works("tls", TLS),
    works("headers", Headers),
    works("http2", Section(&[works("disabled", Bool)])),
    // Ours.
    works("redirectaddr", Text),
    works("hosts", TextList),
    works("allowedhosts", TextList),
    works("trustedproxies", TextList),
    works("proxyprotocol", TextList),
    works(
        "limits",
        Section(&[
            works("requests", Text),
            works("burst", Integer),
            works("delay", Duration),
            works("download", Text),
            works("upload", Text),
            works("connections", Limit),
            works("blob", Text),
        ]),
    ),
    works("clients", Section(&[works("allow", TextList), works("deny", TextList)])),
    works("idletimeout", Duration),
    works("maxconnections", Limit),
    works("maxconnectionsperaddress", Limit),
    works("h2c", Section(&[works("enabled", Bool)])),
    works(
        "debug",
        Section(&[
            works("addr", Text),
            works("prometheus", Section(&[works("enabled", Bool), works("path", Text)])),
        ]),
    ),
]);

const NOTIFICATIONS: Kind = Section(&[
    works("events", Section(&[works("includereferences", Bool)])).alias("eventconfig"),
    works(
        "endpoints",
        List(&Section(&[
            works("name", Text),
            works("disabled", Bool),
            works("url", Secret),
            works("headers", SentHeaders),
            works("timeout", Duration),
            works("threshold", Limit),
            works("backoff", Duration),
            works("ignoredmediatypes", TextList),
            works("ignore", Section(&[works("mediatypes", TextList), works("actions", TextList)])),
        ])),
    ),
    // Ours.
    works("maxpending", Limit),
]);

const CLIENT_AUTH: &[&str] = &[
    "request-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "require-and-verify-client-cert",
];

/// That it can be switched off in a word is ours: in registry:2 leaving it out does that.
const TLS: Kind = Switch(&[
    works("certificate", Text),
    works("key", Text),
    // Ours.
    works("more", List(&Section(&[works("certificate", Text), works("key", Text)]))),
    works(
        "passthrough",
        List(&Section(&[
            works("names", TextList),
            works("addr", Text),
            works("proxyprotocol", Bool),
        ])),
    ),
    works("minimumtls", Word(&["tls1.2", "tls1.3"])),
    works("ciphersuites", TextList),
    works("clientcas", TextList),
    works("clientauth", Word(CLIENT_AUTH)),
    works("clientidentity", Word(&["cn", "dns", "email", "uri"])),
    works(
        "letsencrypt",
        Section(&[
            works("cachefile", Text),
            works("email", Text),
            works("hosts", TextList),
            works("directoryurl", Text),
            // Ours.
            works("challenge", Word(&["auto", "tls-alpn-01", "http-01"])),
            works("profile", Text),
            works("caroot", Text),
            works("eab", Section(&[works("kid", Text), works("hmackey", Secret)])),
        ]),
    ),
]);

/// Without `remoteurl` registry:2 is no proxy, whatever else the section says. So only that key is
/// refused.
const PROXY: Kind = Section(&[
    refused("remoteurl", Text, NO_PROXY),
    needless("username", Text, NO_REMOTE),
    needless("password", Secret, NO_REMOTE),
    needless("ttl", Duration, NO_REMOTE),
    needless("cachewritetimeout", Duration, NO_REMOTE),
    works(
        "exec",
        Section(&[needless("command", Text, NO_REMOTE), needless("lifetime", Duration, NO_REMOTE)]),
    ),
]);
