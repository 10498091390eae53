//! The sections of registry:2 and registry:3 that do nothing here yet.

use super::{
    Key,
    Kind::{self, *},
    later,
};

pub(super) const MIDDLEWARE: Kind = Section(&[
    later("registry", List(&Section(MIDDLEWARES))),
    later("repository", List(&Section(MIDDLEWARES))),
    later("storage", List(&Section(MIDDLEWARES))),
]);
const MIDDLEWARES: &[Key] = &[later("name", Text), later("disabled", Bool), later("options", Free)];

pub(super) const REDIS: Kind = Section(&[
    later("addr", Text),
    later("addrs", TextList),
    later("clientname", Text),
    later("db", Integer),
    later("protocol", Integer),
    later("username", Text),
    later("password", Secret),
    later("sentinelusername", Text),
    later("sentinelpassword", Secret),
    later("maxretries", Integer),
    later("minretrybackoff", Duration),
    later("maxretrybackoff", Duration),
    later("dialtimeout", Duration),
    later("readtimeout", Duration),
    later("writetimeout", Duration),
    later("contexttimeoutenabled", Bool),
    later("poolfifo", Bool),
    later("poolsize", Integer),
    later("pooltimeout", Duration),
    later("minidleconns", Integer),
    later("maxidleconns", Integer),
    later("maxactiveconns", Integer),
    later("connmaxidletime", Duration),
    later("connmaxlifetime", Duration),
    later("maxredirects", Integer),
    later("readonly", Bool),
    later("routebylatency", Bool),
    later("routerandomly", Bool),
    later("mastername", Text),
    later("disableidentity", Bool),
    later("identitysuffix", Text),
    later("unstableresp3", Bool),
    later(
        "tls",
        Section(&[
            later("enabled", Bool),
            later("certificate", Text),
            later("key", Text),
            later("rootcas", TextList),
        ]),
    ),
    later(
        "pool",
        Section(&[
            later("maxidle", Integer),
            later("maxactive", Integer),
            later("idletimeout", Duration),
        ]),
    ),
]);

pub(super) const HEALTH: Kind = Section(&[
    later(
        "storagedriver",
        Section(&[
            later("enabled", Bool),
            later("interval", Duration),
            later("threshold", Integer),
        ]),
    ),
    later(
        "file",
        List(&Section(&[
            later("file", Text),
            later("interval", Duration),
            later("threshold", Integer),
        ])),
    )
    .alias("filecheckers"),
    later(
        "http",
        List(&Section(&[
            later("uri", Text),
            later("headers", Headers),
            later("statuscode", Integer),
            later("timeout", Duration),
            later("interval", Duration),
            later("threshold", Integer),
        ])),
    )
    .alias("httpcheckers"),
    later(
        "tcp",
        List(&Section(&[
            later("addr", Text),
            later("timeout", Duration),
            later("interval", Duration),
            later("threshold", Integer),
        ])),
    )
    .alias("tcpcheckers"),
]);

pub(super) const VALIDATION: Kind = Section(&[
    later("enabled", Bool),
    later("disabled", Bool),
    later(
        "manifests",
        Section(&[
            later("urls", Section(&[later("allow", TextList), later("deny", TextList)])),
            later(
                "indexes",
                Section(&[
                    later("platforms", Text),
                    later(
                        "platformlist",
                        List(&Section(&[later("architecture", Text), later("os", Text)])),
                    ),
                ]),
            ),
        ]),
    ),
]);

pub(super) const POLICY: Kind =
    Section(&[later("repository", Section(&[later("classes", TextList)]))]);

pub(super) const COMPATIBILITY: Kind = Section(&[later(
    "schema1",
    Section(&[later("enabled", Bool), later("trustkey", Text), later("signingkeyfile", Text)]),
)]);

pub(super) const REPORTING: Kind = Section(&[
    later(
        "bugsnag",
        Section(&[later("apikey", Secret), later("releasestage", Text), later("endpoint", Text)]),
    ),
    later(
        "newrelic",
        Section(&[later("licensekey", Secret), later("name", Text), later("verbose", Bool)]),
    ),
]);
