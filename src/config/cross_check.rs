//! Checks that need several options: contradictions, dangers, options without effect.

use std::net::IpAddr;

use super::{Config, Error, checked::Checked, tree::Node};
use crate::{
    gate,
    http::{LimitsOptions, authority::is_authority},
    server::{self, CertificateSource, Passthrough, TlsOptions, TlsVersion},
};

/// The number of cipher suites of TLS 1.3; registry:2's own list has all three.
const TLS13_SUITES: usize = 3;

impl Checked {
    /// Refuses options that contradict each other.
    pub(super) fn cross_check(&self, config: &Config) -> Result<(), Error> {
        let options = &config.http.server;
        let refuse = |path: &[&str], message: &str| {
            let path: Vec<_> = path.iter().copied().map(str::to_owned).collect();
            let (key, at) = self.nearest(&path);
            Err(Error::Value { at, key, message: message.to_owned() })
        };
        if !options.redirectaddr.is_empty() && matches!(options.tls, TlsOptions::Off) {
            let message = "sends clients to HTTPS, and http.tls is off; remove one of the two";
            return refuse(&["http", "redirectaddr"], message);
        }
        if options.net == server::Net::Unix && self.json.pointer("/http/addr").is_none() {
            let message = "`unix` needs http.addr, the path of the socket";
            return refuse(&["http", "net"], message);
        }
        if let gate::Options::Htpasswd(gate::HtpasswdOptions { sessions, .. }) = &config.auth
            && sessions.expiry < gate::tokens::MIN_EXPIRY
        {
            let message = "is too short, since docker takes a token for valid for a minute: write 1m \
                           or more";
            return refuse(&["auth", "htpasswd", "sessions", "expiry"], message);
        }
        if let gate::Options::Token(issuer) = &config.auth {
            if let Some(message) = missing_of_issuer(issuer) {
                return refuse(&["auth", "token"], message);
            }
            if self.json.pointer("/http/tls/clientidentity").is_some_and(|word| !word.is_null()) {
                let message = "lets callers in without a token, and auth.token asks every caller for \
                               one; remove one of the two";
                return refuse(&["http", "tls", "clientidentity"], message);
            }
        }
        if let TlsOptions::On { passthrough, .. } = &options.tls {
            for (index, site) in passthrough.iter().enumerate() {
                if let Some((key, message)) = problem(site, &options.addr) {
                    return refuse(
                        &["http", "tls", "passthrough", &format!("[{index}]"), key],
                        &message,
                    );
                }
            }
        }
        if let Some(message) = without_identity(&options.tls)
            && self.json.pointer("/http/tls/clientidentity").is_some_and(|word| !word.is_null())
        {
            return refuse(&["http", "tls", "clientidentity"], message);
        }
        if let TlsOptions::On { minimum: TlsVersion::Tls12, suites, .. } = &options.tls
            && !suites.is_empty()
            && suites.iter().all(|suite| suite.version() == TlsVersion::Tls13)
        {
            let message = "has no suite of TLS 1.2, which http.tls.minimumtls lets clients speak; \
                           add one that begins with TLS_ECDHE_, or set minimumtls to tls1.3";
            return refuse(&["http", "tls", "ciphersuites"], message);
        }
        Ok(())
    }

    /// Warns of options that are allowed and dangerous.
    pub(super) fn warnings(&self, config: &Config, warnings: &mut Vec<String>) {
        let mut warn = |path: &[&str], what: &str| warnings.push(self.about(path, what));
        let options = &config.http.server;
        let off = matches!(options.tls, TlsOptions::Off);
        // A Unix socket crosses no network.
        if off && options.net == server::Net::Tcp {
            warn(&["http", "tls"], "is off: passwords and images cross the network unencrypted");
        }
        if options.h2c.enabled && !off {
            warn(
                &["http", "h2c"],
                "has no effect: it is for plain HTTP; over TLS clients negotiate HTTP/2 by ALPN",
            );
        }
        if let Some(why) = other_certificate(&options.tls)
            && !config.http.api.hosts.is_empty()
        {
            warn(
                &["http", "hosts"],
                &format!(
                    "has no effect: it is for the certificate that the server creates, and {why}"
                ),
            );
        }
        if matches!(options.tls, TlsOptions::On { clients: None, .. })
            && self.json.pointer("/http/tls/clientauth").is_some()
        {
            warn(
                &["http", "tls", "clientauth"],
                "has no effect: no client is asked for a certificate unless http.tls.clientcas \
                 names their issuers",
            );
        }
        if let Some(port) = beyond_this_machine(&config.http.api.debug.addr) {
            warn(
                &["http", "debug", "addr"],
                &format!(
                    "is not on loopback: a client that reaches it reads metrics and health without \
                     a password; write 127.0.0.1:{port} for programs on this machine, or let a \
                     firewall keep others away"
                ),
            );
        }
        if matches!(config.auth, gate::Options::None) && config.access.is_none() {
            warn(&["auth", "none"], "lets every client pull, push and delete without a password");
        }
        if config.http.api.secret.is_some() {
            warn(
                &["http", "secret"],
                "is accepted and not needed: upload sessions are kept in the storage and carry no \
                 signature",
            );
        }
        self.warnings_of_limits(config, warnings);
    }

    /// Warns of limits without effect, and of addresses that leave no client.
    fn warnings_of_limits(&self, config: &Config, warnings: &mut Vec<String>) {
        let mut warn = |path: &[&str], what: &str| warnings.push(self.about(path, what));
        let limits = &config.http.api.limits;
        if limits.requests.is_none() {
            let default = LimitsOptions::default();
            let what = "has no effect without http.limits.requests, such as `100/s`";
            if limits.burst != default.burst {
                warn(&["http", "limits", "burst"], what);
            }
            if limits.delay != default.delay {
                warn(&["http", "limits", "delay"], what);
            }
        }
        if config.http.api.clients.refuse_all() {
            warn(
                &["http", "clients"],
                "refuses every client: deny has all addresses that allow has; remove them from one of \
                 the two lists",
            );
        }
    }

    /// Warns of checks that wait for a Redis which the server does not use: without it, they make the
    /// server unhealthy.
    pub(super) fn checks_of_redis(&self, warnings: &mut Vec<String>) {
        let redis = self.root.get("redis");
        let addrs = redis.and_then(|redis| redis.get("addrs")).map_or(&[][..], Node::items);
        let addr = redis.and_then(|redis| redis.get("addr")).into_iter();
        let addrs: Vec<_> = addr.chain(addrs).filter_map(Node::written).collect();
        let checks = self.root.get("health").and_then(|health| health.get("tcp"));
        for (index, check) in checks.map_or(&[][..], Node::items).iter().enumerate() {
            if let Some(node) = check.get("addr")
                && node.written().is_some_and(|addr| addrs.contains(&addr))
            {
                warnings.push(format!(
                    "health.tcp[{index}].addr ({}) is that of redis: without Redis every request \
                     gets 503; remove the check",
                    node.origin
                ));
            }
        }
    }

    /// Notes options that have no effect beside others.
    pub(super) fn notes(&self, config: &Config, notes: &mut Vec<String>) {
        let TlsOptions::On { minimum, suites, .. } = &config.http.server.tls else { return };
        let path = &["http", "tls", "ciphersuites"];
        let newest = suites.iter().filter(|suite| suite.version() == TlsVersion::Tls13).count();
        if *minimum == TlsVersion::Tls13 && !suites.is_empty() {
            let what = "has no effect: it is about TLS 1.2, which http.tls.minimumtls rules out";
            notes.push(self.about(path, what));
        } else if (1..TLS13_SUITES).contains(&newest) {
            let what = "chooses among the suites of TLS 1.2; those of TLS 1.3 are always enabled";
            notes.push(self.about(path, what));
        }
    }

    /// A sentence about a key, with its place.
    pub(super) fn about(&self, path: &[&str], what: &str) -> String {
        let path: Vec<_> = path.iter().copied().map(str::to_owned).collect();
        let (key, at) = self.nearest(&path);
        format!("{key} ({at}) {what}")
    }
}

/// What a section `auth.token` lacks.
fn missing_of_issuer(issuer: &gate::IssuerOptions) -> Option<&'static str> {
    let gate::IssuerOptions { realm, service, issuer: name, rootcertbundle, jwks, .. } = issuer;
    if realm.is_empty() {
        Some(
            "needs `realm`, the address of the token server, such as https://auth.example.com/token",
        )
    } else if service.is_empty() {
        Some("needs `service`, the name of this registry, which the token server puts into `aud`")
    } else if name.is_empty() {
        Some("needs `issuer`, the name of the token server, which it puts into `iss`")
    } else if rootcertbundle.is_none() && jwks.is_none() {
        Some(
            "needs `rootcertbundle`, a file of PEM certificates, or `jwks`, a file of keys: else nothing \
             tells whose tokens to believe",
        )
    } else {
        None
    }
}

/// Why no client certificate can name its client; `None` where one can.
fn without_identity(tls: &TlsOptions) -> Option<&'static str> {
    match tls {
        TlsOptions::On { clients: Some(clients), .. } if clients.demand.verifies() => None,
        TlsOptions::On { clients: Some(_), .. } => Some(
            "would let in any client that makes itself a certificate, since http.tls.clientauth \
             verifies none: set clientauth to verify-client-cert-if-given, or to \
             require-and-verify-client-cert",
        ),
        TlsOptions::On { clients: None, .. } => Some(
            "needs http.tls.clientcas, the certificates of the authorities that issue client \
             certificates",
        ),
        TlsOptions::Off => Some("needs TLS, and http.tls is off; remove one of the two"),
    }
}

/// Why the server presents another certificate than the one that it creates; `None` where it does not.
const fn other_certificate(tls: &TlsOptions) -> Option<&'static str> {
    match tls {
        TlsOptions::Off => Some("http.tls is off"),
        TlsOptions::On { source: CertificateSource::Files { .. }, .. } => {
            Some("http.tls.certificate names another, whose names are in the file")
        }
        TlsOptions::On { source: CertificateSource::LetsEncrypt(_), .. } => {
            Some("http.tls.letsencrypt names the hosts of its own")
        }
        TlsOptions::On { source: CertificateSource::BuiltIn, .. } => None,
    }
}

/// The key of an item of `http.tls.passthrough` with which no connection can be passed through, and why.
fn problem(site: &Passthrough, own: &str) -> Option<(&'static str, String)> {
    let Passthrough { names, addr, .. } = site;
    if names.is_empty() {
        let message = "needs the names that clients ask for, such as www.example.com";
        return Some(("names", message.to_owned()));
    }
    let is_name = |name: &&String| {
        let host = name.strip_prefix("*.").unwrap_or(name);
        host.parse::<IpAddr>().is_err() && is_authority(host) && !host.contains(':')
    };
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        let message =
            format!("`{name}` is neither a host name nor a wildcard such as *.shop.example.com");
        return Some(("names", message));
    }
    let Some((host, port)) = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        return Some(("addr", format!("`{addr}` lacks a host or a port, as in 127.0.0.1:8443")));
    };
    let (own_host, own_port) = own.rsplit_once(':')?;
    if port.parse::<u16>().is_err() {
        return Some(("addr", format!("`{addr}` lacks a port, as in 127.0.0.1:8443")));
    }
    let is_own = port == own_port && (host == own_host || beyond_this_machine(addr).is_none());
    is_own.then(|| ("addr", format!("`{addr}` is http.addr: the server would connect to itself")))
}

/// The port of an address that other machines can reach; `None` for loopback.
fn beyond_this_machine(addr: &str) -> Option<&str> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical().is_loopback());
    (!is_loopback).then_some(port)
}
