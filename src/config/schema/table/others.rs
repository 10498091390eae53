//! Sections of registry:2 and registry:3 beside the main ones. In a section that is refused as a
//! whole, the keys stand for the check of their names.

use super::{
    Key,
    Kind::{self, *},
    Support, refused, works,
};
use crate::config::schema::harmless::UNUSED_SIGNATURES;

pub(super) const MIDDLEWARE: Kind = Section(&[
    works("registry", List(&Section(MIDDLEWARES))),
    works("repository", List(&Section(MIDDLEWARES))),
    works("storage", List(&Section(MIDDLEWARES))),
]);
const MIDDLEWARES: &[Key] = &[works("name", Text), works("disabled", Bool), works("options", Free)];

pub(super) const REDIS: Kind = Section(&[
    works("addr", Text),
    works("addrs", TextList),
    works("clientname", Text),
    works("db", Integer),
    works("protocol", Integer),
    works("username", Text),
    works("password", Secret),
    works("sentinelusername", Text),
    works("sentinelpassword", Secret),
    works("maxretries", Integer),
    works("minretrybackoff", Duration),
    works("maxretrybackoff", Duration),
    works("dialtimeout", Duration),
    works("readtimeout", Duration),
    works("writetimeout", Duration),
    works("contexttimeoutenabled", Bool),
    works("poolfifo", Bool),
    works("poolsize", Integer),
    works("pooltimeout", Duration),
    works("minidleconns", Integer),
    works("maxidleconns", Integer),
    works("maxactiveconns", Integer),
    works("connmaxidletime", Duration),
    works("connmaxlifetime", Duration),
    works("maxredirects", Integer),
    works("readonly", Bool),
    works("routebylatency", Bool),
    works("routerandomly", Bool),
    works("mastername", Text),
    works("disableidentity", Bool),
    works("identitysuffix", Text),
    works("unstableresp3", Bool),
    works(
        "tls",
        Section(&[
            works("enabled", Bool),
            works("certificate", Text),
            works("key", Text),
            works("rootcas", TextList),
        ]),
    ),
    works(
        "pool",
        Section(&[
            works("maxidle", Integer),
            works("maxactive", Integer),
            works("idletimeout", Duration),
        ]),
    ),
]);

pub(super) const HEALTH: Kind = Section(&[
    works(
        "storagedriver",
        Section(&[
            works("enabled", Bool),
            works("interval", Duration),
            works("threshold", Integer),
        ]),
    ),
    works(
        "file",
        List(&Section(&[
            works("file", Text),
            works("interval", Duration),
            works("threshold", Integer),
        ])),
    )
    .alias("filecheckers"),
    works(
        "http",
        List(&Section(&[
            works("uri", Secret),
            works("headers", SentHeaders),
            works("statuscode", Integer),
            works("timeout", Duration),
            works("interval", Duration),
            works("threshold", Integer),
        ])),
    )
    .alias("httpcheckers"),
    works(
        "tcp",
        List(&Section(&[
            works("addr", Text),
            works("timeout", Duration),
            works("interval", Duration),
            works("threshold", Integer),
        ])),
    )
    .alias("tcpcheckers"),
]);

pub(super) const VALIDATION: Kind = Section(&[
    works("enabled", Bool),
    works("disabled", Bool),
    works(
        "manifests",
        Section(&[
            works("urls", Section(&[works("allow", TextList), works("deny", TextList)])),
            works(
                "indexes",
                Section(&[
                    works("platforms", Word(&["all", "none", "list"])),
                    works(
                        "platformlist",
                        List(&Section(&[works("architecture", Text), works("os", Text)])),
                    ),
                ]),
            ),
        ]),
    ),
]);

pub(super) const POLICY: Kind =
    Section(&[works("repository", Section(&[works("classes", TextList)]))]);

const NO_SCHEMA_1: &str = "manifests of schema 1 are not accepted, and those that are stored stay \
    pullable; push such images again with a current client, which makes another manifest of them";
const NO_SIGNATURES: &str = "no manifest is signed here: those of schema 1 are served as they are \
    stored; remove the key";

pub(super) const COMPATIBILITY: Kind = Section(&[works(
    "schema1",
    Section(&[
        Key::new("enabled", Bool, Support::Missed(NO_SCHEMA_1)),
        refused("trustkey", Text, NO_SIGNATURES).unless(UNUSED_SIGNATURES),
        refused("signingkeyfile", Text, NO_SIGNATURES).unless(UNUSED_SIGNATURES),
    ]),
)]);

pub(super) const REPORTING: Kind = Section(&[
    works(
        "bugsnag",
        Section(&[works("apikey", Secret), works("releasestage", Text), works("endpoint", Text)]),
    ),
    works(
        "newrelic",
        Section(&[works("licensekey", Secret), works("name", Text), works("verbose", Bool)]),
    ),
]);
