//! The hosts that the registry answers for (`http.allowedhosts`).

use std::str::FromStr as _;

use axum::http::header;
use serde::Deserialize;

use super::{
    Error, InvalidOptions, Options,
    authority::{is_authority, split_port},
    base_url::ConfiguredHost,
    call::Head,
};

/// An item of `http.allowedhosts`: a host name or an IP address, of IPv6 in brackets, for any port or for
/// one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct AllowedHost {
    host: String,
    /// `None`: any port.
    port: Option<u16>,
}

/// A text that is no host with an optional port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host with or without a port, such as `registry.example.com` or `[::1]:5000`, not {0:?}"
)]
pub struct InvalidHost(String);

impl TryFrom<String> for AllowedHost {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        if !is_authority(&text) {
            return Err(InvalidHost(text));
        }
        let (host, port) = split_port(&text);
        Ok(Self { host: host.to_owned(), port: port.and_then(|port| u16::from_str(port).ok()) })
    }
}

impl AllowedHost {
    /// Whether this is the host, and the port, that a request names. A request without a port means that of
    /// its scheme (RFC 9110 §4.2).
    fn is(&self, authority: &str) -> bool {
        let (host, port) = split_port(authority);
        let has_port = |allowed: u16| match port {
            Some(port) => u16::from_str(port) == Ok(allowed),
            None => matches!(allowed, 443 | 80),
        };
        self.host.eq_ignore_ascii_case(host) && self.port.is_none_or(has_port)
    }
}

/// The hosts of `http.allowedhosts` and `http.host`. An empty list allows all hosts.
#[derive(Debug)]
pub(super) struct AllowedHosts(Vec<AllowedHost>);

impl AllowedHosts {
    /// The allowed hosts of these options.
    ///
    /// # Errors
    ///
    /// When `http.host` is malformed.
    pub(super) fn new(options: &Options) -> Result<Self, InvalidOptions> {
        let mut hosts = options.allowedhosts.clone();
        if !hosts.is_empty()
            && let Some(ConfiguredHost { authority, .. }) = ConfiguredHost::parse(options, true)?
        {
            // Locations have it, and clients follow them.
            hosts.extend(AllowedHost::try_from(authority.to_owned()).ok());
        }
        Ok(Self(hosts))
    }

    /// Refuses a request for another host: 421 (RFC 9110 §15.5.20), after which a client that has sent it on
    /// a connection for one of these hosts opens another connection.
    pub(super) fn check(&self, head: &Head) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let authority = head.uri.authority().map(|authority| authority.as_str());
        let requested = authority.or_else(|| head.header(header::HOST)).unwrap_or_default();
        if self.0.iter().any(|host| host.is(requested)) {
            Ok(())
        } else if is_authority(requested) {
            Err(Error::Misdirected(requested.to_owned()))
        } else {
            Err(Error::Host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> AllowedHost {
        AllowedHost::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn host_is_allowed_for_any_port_unless_the_item_has_one() {
        for (item, requested, is_allowed) in [
            ("r.example", "r.example", true),
            ("r.example", "R.Example:5000", true),
            ("r.example", "x.r.example", false),
            ("r.example", "r.example.evil", false),
            ("r.example:5000", "r.example:5000", true),
            ("r.example:5000", "r.example:05000", true),
            ("r.example:5000", "r.example", false),
            ("r.example:443", "r.example", true),
            ("[::1]", "[::1]:5000", true),
            ("127.0.0.1", "127.0.0.1:1", true),
            ("127.0.0.1", "127.0.0.2", false),
        ] {
            assert_eq!(allowed(item).is(requested), is_allowed, "{item} {requested}");
        }
        for text in ["", "https://r.example", "*.example", "::1", "r.example/x"] {
            assert!(AllowedHost::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
