//! The headers in which proxies record a request: `X-Forwarded-For`, `-Proto` and `-Host`,
//! `X-Real-IP`, and `Forwarded` (RFC 7239).
//!
//! A proxy writes some of these headers and passes the others through as its client sent them, and
//! this server cannot distinguish them. So no header has precedence: where a request has several,
//! they must agree. A client that adds one changes nothing, or counts as the proxy itself, whose
//! address and host the client cannot choose.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use axum::http::{HeaderMap, HeaderName, header};

use super::super::authority::is_authority;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The first forwarding header of a request. Most requests have none, so this scans the names and
/// looks none up.
pub(super) fn first(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| match name.as_str().as_bytes() {
        [b'x', b'-', b'f', ..] => [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST].contains(name),
        [b'x', b'-', b'r', ..] => **name == REAL_IP,
        [b'f', ..] => **name == header::FORWARDED,
        _ => false,
    })
}

/// Headers of one request that a proxy cannot all have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("Forwarded and X-Forwarded-For of a trusted proxy name different clients")]
    Forwarded,
    #[error("X-Real-IP of a trusted proxy is not one of the addresses in the other headers")]
    RealIp,
    #[error("a trusted proxy sends X-Real-IP several times")]
    RealIps,
}

/// The address of the client by the headers of a trusted peer. `trusts` says whether a proxy at an
/// address is trusted.
pub(super) fn client(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trusts: impl Fn(Option<IpAddr>) -> bool,
) -> Result<Option<IpAddr>, Contradiction> {
    let path = |nodes: &mut dyn Iterator<Item = Option<IpAddr>>| Path::new(peer, nodes, &trusts);
    let listed = headers.contains_key(FORWARDED_FOR).then(|| path(&mut forwarded_for(headers)));
    let elements = headers.contains_key(header::FORWARDED).then(|| elements(headers));
    let forwarded = elements.map(|elements| path(&mut elements.iter().map(Element::node)));
    let mut real = headers.get_all(REAL_IP).iter().map(|value| value.to_str().ok().and_then(node));
    let real = match (real.next(), real.next()) {
        (_, Some(_)) => return Err(Contradiction::RealIps),
        (real, None) => real,
    };
    let path = match (listed, forwarded) {
        (Some(listed), Some(forwarded)) if listed.client() != forwarded.client() => {
            return Err(Contradiction::Forwarded);
        }
        (Some(path), _) | (None, Some(path)) => path,
        (None, None) => return Ok(path(&mut real.into_iter()).client()),
    };
    match real {
        // A proxy that writes `X-Real-IP` and a list puts the same address into both. Where the list
        // lacks the address, the client has sent one of the two headers.
        Some(Some(real)) if !path.contains(real) => Err(Contradiction::RealIp),
        _ => Ok(path.client()),
    }
}

/// The addresses that a request has passed, from the peer outwards: the trusted proxies', and the one
/// of their client.
struct Path {
    addresses: Vec<Option<IpAddr>>,
    /// How many nodes trusted proxies have written.
    trusted: usize,
}

impl Path {
    /// `nodes` are the recorded addresses, the one that the peer wrote first. The path ends before a
    /// node without an address, since the author of further nodes is unknown.
    fn new(
        peer: Option<IpAddr>,
        nodes: &mut dyn Iterator<Item = Option<IpAddr>>,
        trusts: impl Fn(Option<IpAddr>) -> bool,
    ) -> Self {
        let mut addresses = Vec::new();
        let mut trusted = 0;
        let mut author = peer;
        loop {
            addresses.push(author);
            if !trusts(author) {
                break;
            }
            trusted += 1;
            let Some(Some(node)) = nodes.next() else { break };
            author = Some(node.to_canonical());
        }
        Self { addresses, trusted }
    }

    fn client(&self) -> Option<IpAddr> {
        self.addresses.last().copied().flatten()
    }

    /// Whether an address is on the path before the peer.
    fn contains(&self, address: IpAddr) -> bool {
        self.addresses[1..].contains(&Some(address.to_canonical()))
    }
}

/// The addresses of `X-Forwarded-For`, the last one first.
fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(node)
}

/// The address of a node (RFC 7239 §6), with or without a port and quotes; `None` for `unknown`, for
/// an obfuscated identifier (`_x`), and for a malformed node.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let has_port = rest.strip_prefix(':').map_or(rest.is_empty(), is_port);
        return has_port.then(|| address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)).flatten();
    }
    match text.split_once(':') {
        Some((address, port)) if is_port(port) => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        // An IPv6 address has at least two colons.
        _ => text.parse().ok(),
    }
}

/// Whether a text is a port or an obfuscated port (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let obfuscated = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(obfuscated),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit()),
    }
}

/// The scheme and the host that a client has used, by the forwarding headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum ForwardedOrigin<'a> {
    /// The request has no forwarding header.
    Absent,
    /// A trusted proxy has forwarded the origin. A missing part is that of this server.
    Trusted(Origin<'a>),
    /// The peer is not trusted, or the headers of a trusted proxy contradict each other: each origin
    /// in them may be wrong.
    Unverified(Vec<Origin<'a>>),
}

/// A scheme and a host, where a proxy has forwarded them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Origin<'a> {
    pub(in super::super) scheme: Option<&'static str>,
    pub(in super::super) host: Option<Cow<'a, str>>,
}

impl Origin<'_> {
    /// Whether a part of the origin differs from this scheme or this host.
    pub(in super::super) fn differs(&self, scheme: &str, host: &str) -> bool {
        self.scheme.is_some_and(|own| own != scheme)
            || self.host.as_ref().is_some_and(|own| !own.eq_ignore_ascii_case(host))
    }
}

/// The origin by the headers of a trusted peer. `trusts` says whether a proxy at an address is
/// trusted.
pub(super) fn trusted_origin(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trusts: impl Fn(Option<IpAddr>) -> bool,
) -> ForwardedOrigin<'_> {
    let x_headers = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, REAL_IP];
    let has_x_header = x_headers.iter().any(|name| headers.contains_key(name));
    if !headers.contains_key(header::FORWARDED) {
        return ForwardedOrigin::Trusted(x_origin(headers));
    }
    let elements = elements(headers);
    let path = Path::new(peer, &mut elements.iter().map(Element::node), trusts);
    // The outermost proxy has seen the origin that the client used; the others see a proxy's.
    let mut origin = Origin::default();
    for element in elements.into_iter().take(path.trusted) {
        origin.scheme = element.scheme().or(origin.scheme);
        origin.host = element.host.or(origin.host);
    }
    let x_origin = x_origin(headers);
    if has_x_header && x_origin != origin {
        return ForwardedOrigin::Unverified(vec![origin, x_origin]);
    }
    ForwardedOrigin::Trusted(origin)
}

/// All origins in the headers of an untrusted peer.
pub(super) fn unverified_origins(headers: &HeaderMap) -> ForwardedOrigin<'_> {
    let mut origins = vec![x_origin(headers)];
    for element in elements(headers) {
        origins.push(Origin { scheme: element.scheme(), host: element.host });
    }
    // No client uses a malformed host.
    for origin in &mut origins {
        origin.host = origin.host.take().filter(|host| is_authority(host));
    }
    ForwardedOrigin::Unverified(origins)
}

/// The origin by `X-Forwarded-Proto` and `X-Forwarded-Host`.
fn x_origin(headers: &HeaderMap) -> Origin<'_> {
    let first = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    Origin {
        scheme: first(FORWARDED_PROTO).and_then(scheme),
        host: first(FORWARDED_HOST).map(Cow::Borrowed),
    }
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// An element of `Forwarded`, the record of one proxy; empty if it is malformed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element<'a> {
    node: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    proto: Option<Cow<'a, str>>,
}

impl Element<'_> {
    fn node(&self) -> Option<IpAddr> {
        self.node.as_deref().and_then(node)
    }

    fn scheme(&self) -> Option<&'static str> {
        self.proto.as_deref().and_then(scheme)
    }
}

/// The elements of `Forwarded`, the last one first. A malformed line counts as one empty element: a
/// client may have opened a quote that swallows the element of the proxy.
fn elements(headers: &HeaderMap) -> Vec<Element<'_>> {
    let lines = headers.get_all(header::FORWARDED).iter().rev();
    let parsed = lines.map(|line| line.to_str().ok().and_then(parse_line));
    parsed.flat_map(|elements| elements.unwrap_or_else(|| vec![Element::default()])).collect()
}

/// The elements of one line, the last one first (RFC 7239 §4); `None` where the line is malformed.
fn parse_line(mut rest: &str) -> Option<Vec<Element<'_>>> {
    let mut elements = vec![Element::default()];
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.bytes().next() {
            None => break,
            Some(b';') => rest = &rest[1..],
            Some(b',') => {
                elements.push(Element::default());
                rest = &rest[1..];
            }
            Some(_) => {
                let (name, after) = rest.split_once('=')?;
                let (value, after) = value(after)?;
                let element = elements.last_mut()?;
                let mut ignored = None;
                let parameter = match name.to_ascii_lowercase().as_str() {
                    "for" => &mut element.node,
                    "host" => &mut element.host,
                    "proto" => &mut element.proto,
                    // `by`, and extensions.
                    name if name.bytes().all(is_plain) => &mut ignored,
                    _ => return None,
                };
                // An element has each parameter at most once.
                if parameter.replace(value).is_some() {
                    return None;
                }
                rest = after.trim_start_matches([' ', '\t']);
                if !(rest.is_empty() || rest.starts_with([';', ','])) {
                    return None;
                }
            }
        }
    }
    elements.reverse();
    Some(elements)
}

/// Splits a text into the value at its beginning and the rest.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|c| !is_plain(c)).unwrap_or(text.len());
        return (end > 0).then(|| (Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Whether a value may have this byte without quotes: the characters of a token, and those that must
/// be quoted but that many proxies do not quote: `[::1]:80`.
fn is_plain(c: u8) -> bool {
    c.is_ascii_graphic() && !matches!(c, b'"' | b',' | b';' | b'=' | b'\\')
}
