//! The syntax of an authority (RFC 3986 §3.2): the `host` or `host:port` that this server repeats in
//! a response.

use std::net::Ipv6Addr;

/// Whether a text is a host name or an IP address with an optional port. A user, a path, and every
/// character that could delimit one are invalid.
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
    // `parse` alone accepts a sign, and any number of leading zeros.
    let port_ok = |port: &str| {
        port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    host_ok && port.is_none_or(port_ok)
}

/// Splits an authority into its host and, where it has one, its port. The port is not checked.
#[must_use]
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
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
