//! Where clients reach us: what a `Location` begins with; and where they are.
//!
//! A host that a client sends back to us in a `Host` header is repeated to that client only, but
//! `X-Forwarded-*` would let anybody who can reach the port decide it for others behind a cache;
//! so those count from trusted peers alone. What is not a plain host and port is never repeated:
//! then locations are relative, which every client can follow.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use axum::http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;
use serde::Deserialize;

use super::{Call, InvalidOptions, Options};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose `X-Forwarded-*` are believed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Proxy {
    /// Whoever has an address of this network.
    Network(IpNet),
    /// Whoever comes through a socket that is a file; written `unix`.
    Unix,
}

impl Proxy {
    /// Those that nobody can be who is not on this machine.
    pub(super) fn on_this_machine() -> Vec<Self> {
        vec![
            Self::Network(IpNet::new_assert([127, 0, 0, 0].into(), 8)),
            Self::Network(IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128)),
            Self::Unix,
        ]
    }
}

impl FromStr for Proxy {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        text.parse().map(Self::Network).map_err(|_| NotAProxy(text.to_owned()))
    }
}

impl TryFrom<String> for Proxy {
    type Error = NotAProxy;

    fn try_from(text: String) -> Result<Self, NotAProxy> {
        text.parse()
    }
}

/// A text that names no proxies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as `10.0.0.0/8`, or `unix`, not {0:?}")]
pub struct NotAProxy(String);

/// How the beginning of a location is chosen.
#[derive(Debug)]
pub(super) struct OriginRules {
    fixed: Option<String>,
    relative: bool,
    trusted: Vec<Proxy>,
    secure: bool,
    prefix: String,
}

/// The beginning of locations in the answer to one call.
#[derive(Debug)]
pub(super) struct Origin(String);

impl Origin {
    /// The address of a path, which begins with `/v2/`.
    pub(super) fn locate(&self, path: &str) -> HeaderValue {
        super::value(&self.address(path))
    }

    /// As [`locate`](Self::locate), for other places than headers.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl OriginRules {
    pub(super) fn new(
        options: &Options,
        prefix: &str,
        secure: bool,
    ) -> Result<Self, InvalidOptions> {
        let fixed = fixed(options, secure)?;
        Ok(Self {
            fixed: fixed.map(|(scheme, authority)| format!("{scheme}://{authority}")),
            relative: options.relativeurls,
            trusted: options.trustedproxies.clone(),
            secure,
            prefix: prefix.to_owned(),
        })
    }

    pub(super) fn of(&self, call: &Call) -> Origin {
        let base = if self.relative { None } else { self.absolute(call) };
        Origin(format!("{}{}", base.unwrap_or_default(), self.prefix))
    }

    /// Where a call comes from: of the addresses that it was passed on by, the last one that is not
    /// a trusted proxy's; `None` for the other end of a socket that is a file.
    pub(super) fn client(&self, call: &Call) -> Option<IpAddr> {
        let mut client = call.connection.peer.ip();
        let passed = call.headers.get_all(FORWARDED_FOR).iter().rev();
        // What stands before something that cannot be read cannot be believed.
        let texts = passed.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        for text in texts {
            if !self.trusts(client) {
                break;
            }
            match text.trim().parse() {
                Ok(address) => client = Some(address),
                Err(_) => break,
            }
        }
        client
    }

    /// Whether a proxy of this address, or one behind a file, is believed.
    fn trusts(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        self.trusted.iter().any(|proxy| match (proxy, &address) {
            (Proxy::Network(network), Some(address)) => network.contains(address),
            (Proxy::Unix, None) => true,
            (Proxy::Network(_), None) | (Proxy::Unix, Some(_)) => false,
        })
    }

    fn absolute(&self, call: &Call) -> Option<String> {
        if let Some(fixed) = &self.fixed {
            return Some(fixed.clone());
        }
        let trusted = self.trusts(call.connection.peer.ip());
        let forwarded = |name| {
            let first = call.header(HeaderName::from_static(name))?.split(',').next()?;
            trusted.then_some(first.trim())
        };
        let authority = forwarded("x-forwarded-host")
            .or_else(|| call.uri.authority().map(|authority| authority.as_str()))
            .or_else(|| call.header(header::HOST))
            .filter(|authority| is_authority(authority))?;
        let scheme = forwarded("x-forwarded-proto")
            .filter(|scheme| matches!(*scheme, "http" | "https"))
            .unwrap_or_else(|| scheme(self.secure));
        Some(format!("{scheme}://{authority}"))
    }
}

/// Scheme and authority of `http.host`, where it is set.
pub(super) fn fixed(
    options: &Options,
    secure: bool,
) -> Result<Option<(&str, &str)>, InvalidOptions> {
    match options.host.as_deref().map(|host| host.trim_end_matches('/')) {
        None | Some("") => Ok(None),
        Some(host) => {
            let (scheme, authority) =
                host.split_once("://").unwrap_or_else(|| (scheme(secure), host));
            if !is_authority(authority) || !matches!(scheme, "http" | "https") {
                return Err(InvalidOptions::Host(host.to_owned()));
            }
            Ok(Some((scheme, authority)))
        }
    }
}

const fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Whether a text is a host name or an address with an optional port, and nothing that could be
/// more: no user, no path, no character that ends or begins either.
#[must_use]
pub fn is_authority(text: &str) -> bool {
    let (host, port) = split_port(text);
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    // `parse` alone would take a sign, and any number of zeros.
    let port_ok = |port: &str| {
        port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    host_ok && port.is_none_or(port_ok)
}

/// A host and what stands behind the colon, where there is one.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_an_optional_port_is_repeated() {
        for text in ["a", "a.b-c:5000", "127.0.0.1:5000", "[::1]", "[::1]:5000"] {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "", ":5000", "a:", "a:b", "a:+80", "a:000080", "a/b", "a@b", "a b", "a?b", "a#b",
            "::1", "[::1", "a:99999", "a\"b",
        ] {
            assert!(!is_authority(text), "{text}");
        }
    }
}
