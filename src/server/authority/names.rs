//! The subject alternative names of a server certificate.

use std::{fmt, net::IpAddr};

use rcgen::SanType;
use rustls_pki_types::DnsName;

use super::AuthorityError;

/// A subject alternative name: a host name in lower case, whose first label may be `*`, or an IP
/// address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Host(String),
    Address(IpAddr),
}

impl Name {
    /// Parses a name: a host name or an IP address, alone, in brackets, with a port, or in a URL.
    pub(super) fn parse(text: &str) -> Result<Self, AuthorityError> {
        let refuse = || AuthorityError::Name { name: text.to_owned() };
        let host = host_of(text).trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.parse() {
            return Ok(Self::Address(address));
        }
        let labels = host.strip_prefix("*.").unwrap_or(&host);
        // `DnsName` accepts `1.2.3` and `300.1.1.1`.
        let numeric =
            labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if numeric || DnsName::try_from(labels).is_err() {
            return Err(refuse());
        }
        Ok(Self::Host(host))
    }

    pub(super) fn to_san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Host(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The required names of a server certificate: `hosts`, `localhost` and the loopback addresses.
pub(super) fn required(hosts: &[String]) -> Result<Vec<Name>, AuthorityError> {
    let mut names = Vec::new();
    let own = ["localhost", "127.0.0.1", "::1"];
    for host in hosts.iter().map(String::as_str).chain(own) {
        add(&mut names, Name::parse(host)?);
    }
    Ok(names)
}

/// Adds a name unless the list has it.
pub(super) fn add(names: &mut Vec<Name>, name: Name) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// The host name of this machine; `None` if it is not a valid name.
pub(super) fn of_this_machine() -> Option<Name> {
    let system = rustix::system::uname();
    Name::parse(system.nodename().to_str().ok()?).ok()
}

/// The host in `https://host:port/path`. All other parts are optional.
fn host_of(text: &str) -> &str {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.split_once(':') {
        // More than one colon and no brackets: an IPv6 address.
        Some((_, port)) if port.contains(':') => authority,
        Some((host, _)) => host,
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_found_in_urls_addresses_and_names_with_a_port() {
        for (text, name) in [
            ("registry.example.com", "registry.example.com"),
            ("Registry.Example.COM.", "registry.example.com"),
            ("https://registry.example.com:5000/v2/", "registry.example.com"),
            ("registry:5000", "registry"),
            ("*.example.com", "*.example.com"),
            ("my_host", "my_host"),
            ("192.0.2.1:5000", "192.0.2.1"),
            ("[2001:db8::1]:5000", "2001:db8::1"),
            ("https://[::1]/", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), name, "{text}");
        }
        for text in ["", ":5000", "a b", "münchen.de", "300.1.1.1", "*.*.example.com", "-x", "*"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
