//! Which addresses may use the registry (`http.clients`). The server asks when it accepts a connection, and
//! the HTTP interface when it knows the client behind a proxy.

use std::net::IpAddr;

use arc_swap::ArcSwapOption;
use serde::Deserialize;

use super::Source;

/// `http.clients`, which registry:2 does not have.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct ClientsOptions {
    /// The addresses that may use the registry; empty: all.
    pub allow: Vec<Source>,
    /// The addresses that may not, also where `allow` has them.
    pub deny: Vec<Source>,
}

impl ClientsOptions {
    fn denies(&self, address: Option<IpAddr>) -> bool {
        self.deny.iter().any(|source| source.contains(address))
    }

    /// The file of a Unix socket has permissions of its own, so `allow` is about networks alone.
    fn allows(&self, address: Option<IpAddr>) -> bool {
        self.allow.is_empty()
            || address.is_none()
            || self.allow.iter().any(|source| source.contains(address))
    }

    /// Whether `deny` has every address that `allow` has, so that no client of a network may use the
    /// registry.
    #[must_use]
    pub fn refuse_all(&self) -> bool {
        let is_denied = |source: &Source| self.deny.iter().any(|denied| denied.covers(source));
        !self.allow.is_empty() && self.allow.iter().all(is_denied)
    }
}

/// The addresses that may use the registry now.
#[derive(Debug, Default)]
pub struct Clients(ArcSwapOption<ClientsOptions>);

impl Clients {
    /// The clients of these options.
    #[must_use]
    pub fn new(options: &ClientsOptions) -> Self {
        let clients = Self::default();
        clients.set(options);
        clients
    }

    /// Judges clients by these options from now on. Connections that are open stay open.
    pub fn set(&self, options: &ClientsOptions) {
        let is_set = *options != ClientsOptions::default();
        self.0.store(is_set.then(|| options.clone().into()));
    }

    /// Whether `deny` has this address; `None` is a Unix socket.
    #[must_use]
    pub fn denies(&self, address: Option<IpAddr>) -> bool {
        self.0.load().as_ref().is_some_and(|options| options.denies(address))
    }

    /// Whether a client at this address may not use the registry: `deny` has it, or `allow` lacks it.
    #[must_use]
    pub fn refuses(&self, address: Option<IpAddr>) -> bool {
        let options = self.0.load();
        options.as_ref().is_some_and(|options| options.denies(address) || !options.allows(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(list: &[&str]) -> Vec<Source> {
        list.iter().map(|text| Source::try_from((*text).to_owned()).unwrap()).collect()
    }

    fn options(allow: &[&str], deny: &[&str]) -> ClientsOptions {
        ClientsOptions { allow: sources(allow), deny: sources(deny) }
    }

    #[test]
    fn client_is_refused_where_deny_has_it_or_allow_lacks_it() {
        for (allow, deny, address, is_refused) in [
            (&[][..], &[][..], Some("192.0.2.1"), false),
            (&[], &["192.0.2.0/24"], Some("192.0.2.1"), true),
            (&[], &["192.0.2.0/24"], Some("::ffff:192.0.2.1"), true),
            (&[], &["192.0.2.0/24"], Some("198.51.100.1"), false),
            (&[], &["192.0.2.0/24"], None, false),
            (&["192.0.2.0/24"], &[], Some("192.0.2.1"), false),
            (&["192.0.2.7"], &[], Some("192.0.2.1"), true),
            (&["192.0.2.0/24"], &["192.0.2.1"], Some("192.0.2.1"), true),
            (&["2001:db8::/32"], &[], Some("2001:db8::1"), false),
            (&["2001:db8::/32"], &[], Some("192.0.2.1"), true),
            // A Unix socket has no address, and its file has permissions.
            (&["192.0.2.0/24"], &[], None, false),
            (&[], &["unix"], None, true),
        ] {
            let clients = Clients::new(&options(allow, deny));
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(clients.refuses(address), is_refused, "{allow:?} {deny:?} {address:?}");
        }
    }

    #[test]
    fn options_that_deny_all_they_allow_refuse_all() {
        assert!(options(&["192.0.2.0/24"], &["192.0.0.0/16"]).refuse_all());
        assert!(!options(&["192.0.2.0/24", "::1"], &["192.0.0.0/16"]).refuse_all());
        assert!(!options(&[], &["192.0.0.0/16"]).refuse_all());
    }
}
