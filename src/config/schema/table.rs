//! The table. Where a key is ours and not registry:2's, it says so.

use super::{
    Key,
    Kind::{self, *},
    Support,
};

mod later;

use later::{COMPATIBILITY, HEALTH, MIDDLEWARE, POLICY, REDIS, REPORTING, VALIDATION};

const fn works(name: &'static str, kind: Kind) -> Key {
    Key::new(name, kind, Support::Works)
}

const fn later(name: &'static str, kind: Kind) -> Key {
    Key::new(name, kind, Support::Later)
}

const fn refused(name: &'static str, kind: Kind, reason: &'static str) -> Key {
    Key::new(name, kind, Support::Refused(reason))
}

const NO_SUCH_DRIVER: &str = "this storage driver is not supported yet, and keeping images \
    anywhere else would lose them from sight; use `filesystem`, or stay with registry:2 for this \
    store";
const NO_SUCH_AUTH: &str = "this kind of authentication is not supported yet, and ignoring it \
    would let the wrong people in; use `htpasswd`";
const NO_PROXY: &str = "pulling through from another registry is not supported yet, and without \
    it this would be an empty registry that takes pushes; remove the section to run one, or stay \
    with registry:2 for the mirror";
const NO_CLIENT_CERTIFICATES: &str = "client certificates are not supported yet, and ignoring \
    this would let in whoever has a password but no certificate; remove the key to rely on \
    passwords alone";
const NO_READ_ONLY: &str = "read-only operation is not supported yet, and ignoring this would \
    accept pushes; remove the key to run a registry that can be written";

/// The top of the file, `version` aside: that is looked at before this table.
pub(in crate::config) const ROOT: Kind = Section(&[
    works("log", LOG),
    Key::new("loglevel", Word(LEVELS), Support::Old),
    works("storage", STORAGE),
    works("auth", AUTH),
    works("http", HTTP),
    works("catalog", Section(&[works("maxentries", Limit)])),
    works("tags", Section(&[works("maxtags", Limit)])),
    // Ours.
    works("uploads", Section(&[works("maxopen", Limit)])),
    later("middleware", MIDDLEWARE),
    works("notifications", NOTIFICATIONS),
    later("redis", REDIS),
    later("health", HEALTH),
    works("proxy", PROXY),
    later("validation", VALIDATION),
    later("policy", POLICY),
    // Gone from registry:3, still in files written for registry:2.
    later("compatibility", COMPATIBILITY),
    later("reporting", REPORTING),
]);

const LEVELS: &[&str] = &["error", "warn", "info", "debug"];

const LOG: Kind = Section(&[
    works("level", Word(LEVELS)),
    works("formatter", Word(&["text", "json"])),
    works("fields", Free),
    works("accesslog", Section(&[works("disabled", Bool)])),
    later("reportcaller", Bool),
    later(
        "hooks",
        List(&Section(&[
            later("disabled", Bool),
            later("type", Text),
            later("levels", TextList),
            later("options", Free),
        ])),
    ),
]);

const STORAGE: Kind = OneOf {
    of: &[
        works("filesystem", Section(&[works("rootdirectory", Text), later("maxthreads", Integer)])),
        works("inmemory", Free),
        refused("s3", Free, NO_SUCH_DRIVER),
        refused("s3aws", Free, NO_SUCH_DRIVER),
        refused("gcs", Free, NO_SUCH_DRIVER),
        refused("azure", Free, NO_SUCH_DRIVER),
        refused("swift", Free, NO_SUCH_DRIVER),
        refused("oss", Free, NO_SUCH_DRIVER),
    ],
    beside: &[
        works("delete", Section(&[works("enabled", Bool)])),
        later("redirect", Section(&[later("disable", Bool)])),
        later(
            "cache",
            Section(&[
                later("blobdescriptor", Text),
                later("layerinfo", Text),
                later("blobdescriptorsize", Integer),
            ]),
        ),
        later("tag", Section(&[later("concurrencylimit", Integer)])),
        works(
            "maintenance",
            Section(&[
                later(
                    "uploadpurging",
                    Section(&[
                        later("enabled", Bool),
                        later("age", Duration),
                        later("interval", Duration),
                        later("dryrun", Bool),
                    ]),
                ),
                works("readonly", Section(&[refused("enabled", Bool, NO_READ_ONLY)])),
            ]),
        ),
    ],
};

const AUTH: Kind = OneOf {
    of: &[
        works(
            "htpasswd",
            Section(&[
                works("realm", Text),
                works("path", Text),
                // Ours.
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
            ]),
        ),
        works("none", Free),
        refused("token", Free, NO_SUCH_AUTH),
        refused("silly", Free, NO_SUCH_AUTH),
    ],
    beside: &[],
};

const HTTP: Kind = Section(&[
    works("addr", Text),
    works("net", Word(&["tcp"])),
    works("prefix", Text),
    works("host", Text),
    works("secret", Secret),
    works("relativeurls", Bool),
    works("draintimeout", Duration),
    works("tls", TLS),
    works("headers", Headers),
    works("http2", Section(&[works("disabled", Bool)])),
    // Ours.
    works("trustedproxies", TextList),
    works("idletimeout", Duration),
    works("maxconnections", Limit),
    later("h2c", Section(&[later("enabled", Bool)])),
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
            works("headers", Headers),
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

/// That it can be switched off in a word is ours: in registry:2 leaving it out does that.
const TLS: Kind = Switch(&[
    works("certificate", Text),
    works("key", Text),
    works("minimumtls", Word(&["tls1.2", "tls1.3"])),
    refused("clientcas", TextList, NO_CLIENT_CERTIFICATES),
    later("clientauth", Text),
    later("ciphersuites", TextList),
    later(
        "letsencrypt",
        Section(&[
            later("cachefile", Text),
            later("email", Text),
            later("hosts", TextList),
            later("directoryurl", Text),
        ]),
    ),
]);

/// Without `remoteurl` registry:2 is no proxy, whatever else the section says. So only that key is
/// refused.
const PROXY: Kind = Section(&[
    refused("remoteurl", Text, NO_PROXY),
    later("username", Text),
    later("password", Secret),
    later("ttl", Duration),
    later("cachewritetimeout", Duration),
    later("exec", Section(&[later("command", Text), later("lifetime", Duration)])),
]);
