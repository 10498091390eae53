//! What proxies write down of a request: `X-Forwarded-For`, `-Proto` and `-Host`, `X-Real-IP`, and
//! `Forwarded` (RFC 7239).
//!
//! A proxy writes some of these and passes the others through as its client sent them, and nothing
//! here can tell which. So no header goes before another: where several are there, they have to
//! agree. A client that adds one changes nothing, or is taken for the proxy itself, whose address
//! and name it cannot choose.

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

/// The first header of a request that says something of a client. Most requests have none, so this
/// looks no header up.
pub(super) fn first(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| match name.as_str().as_bytes() {
        [b'x', b'-', b'f', ..] => [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST].contains(name),
        [b'x', b'-', b'r', ..] => **name == REAL_IP,
        [b'f', ..] => **name == header::FORWARDED,
        _ => false,
    })
}

/// Headers of one request that cannot all be a proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("Forwarded and X-Forwarded-For of a trusted proxy name different clients")]
    Forwarded,
    #[error("X-Real-IP of a trusted proxy is not one of the addresses in the other headers")]
    RealIp,
    #[error("a trusted proxy sends X-Real-IP several times")]
    RealIps,
}

/// Which client a trusted peer says that a request comes from.
pub(super) fn client(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trusts: impl Fn(Option<IpAddr>) -> bool,
) -> Result<Option<IpAddr>, Contradiction> {
    let walk = |nodes: &mut dyn Iterator<Item = Option<IpAddr>>| Walk::new(peer, nodes, &trusts);
    let listed = headers.contains_key(FORWARDED_FOR).then(|| walk(&mut listed(headers)));
    let elements = headers.contains_key(header::FORWARDED).then(|| elements(headers));
    let forwarded = elements.map(|elements| walk(&mut elements.iter().map(Element::node)));
    let mut real = headers.get_all(REAL_IP).iter().map(|value| value.to_str().ok().and_then(node));
    let real = match (real.next(), real.next()) {
        (_, Some(_)) => return Err(Contradiction::RealIps),
        (real, None) => real,
    };
    let walk = match (listed, forwarded) {
        (Some(listed), Some(forwarded)) if listed.client() != forwarded.client() => {
            return Err(Contradiction::Forwarded);
        }
        (Some(walk), _) | (None, Some(walk)) => walk,
        (None, None) => return Ok(walk(&mut real.into_iter()).client()),
    };
    match real {
        // A proxy that writes the list as well has the same address in it; in one that it did not
        // write, it has not.
        Some(Some(real)) if !walk.passed(real) => Err(Contradiction::RealIp),
        _ => Ok(walk.client()),
    }
}

/// The addresses from the peer on outwards: trusted proxies', and the one of their client.
struct Walk {
    passed: Vec<Option<IpAddr>>,
    /// How many of the nodes were written by a trusted proxy.
    believed: usize,
}

impl Walk {
    /// `nodes` are the addresses that were written down, the one by the peer first. What stands
    /// before something that is no address was written by nobody who is known.
    fn new(
        peer: Option<IpAddr>,
        nodes: &mut dyn Iterator<Item = Option<IpAddr>>,
        trusts: impl Fn(Option<IpAddr>) -> bool,
    ) -> Self {
        let (mut passed, mut believed) = (Vec::new(), 0);
        let mut writer = peer;
        loop {
            passed.push(writer);
            if !trusts(writer) {
                break;
            }
            believed += 1;
            let Some(Some(node)) = nodes.next() else { break };
            writer = Some(node.to_canonical());
        }
        Self { passed, believed }
    }

    fn client(&self) -> Option<IpAddr> {
        self.passed.last().copied().flatten()
    }

    fn passed(&self, address: IpAddr) -> bool {
        self.passed[1..].contains(&Some(address.to_canonical()))
    }
}

/// The addresses of `X-Forwarded-For`, the last one first.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).map(node)
}

/// The address of a node (RFC 7239 §6), with or without a port and quotes; `None` for `unknown`,
/// for a name that hides an address (`_x`), and for what is malformed.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').map_or(Some(text), |text| text.strip_suffix('"'))?;
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let has_port = rest.strip_prefix(':').map_or(rest.is_empty(), is_port);
        return has_port.then(|| address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)).flatten();
    }
    match text.split_once(':') {
        Some((address, port)) if is_port(port) => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        // An address of IPv6 has two colons at least.
        _ => text.parse().ok(),
    }
}

/// A port, or a name that hides one (RFC 7239 §6).
fn is_port(text: &str) -> bool {
    let hidden = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(hidden),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit()),
    }
}

/// What is said of the scheme and the host that a client has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Named<'a> {
    /// Nothing.
    Nothing,
    /// By a trusted proxy; what is missing is as it is here.
    Trusted(Place<'a>),
    /// By a peer that is not trusted, or by headers of which one is not the proxy's: nobody knows.
    Claimed(Vec<Place<'a>>),
}

/// A scheme and a host, as far as they were said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Place<'a> {
    pub(in super::super) scheme: Option<&'static str>,
    pub(in super::super) host: Option<Cow<'a, str>>,
}

/// Whether a place is said to be another than this.
pub(in super::super) fn differs(claims: &[Place<'_>], scheme: &str, host: &str) -> bool {
    claims.iter().any(|claim| {
        claim.scheme.is_some_and(|claimed| claimed != scheme)
            || claim.host.as_ref().is_some_and(|claimed| !claimed.eq_ignore_ascii_case(host))
    })
}

/// What the trusted proxies say.
pub(super) fn named(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    trusts: impl Fn(Option<IpAddr>) -> bool,
) -> Named<'_> {
    let x = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, REAL_IP];
    let by_x = x.iter().any(|name| headers.contains_key(name));
    if !headers.contains_key(header::FORWARDED) {
        return Named::Trusted(place_by_x(headers));
    }
    let elements = elements(headers);
    let walk = Walk::new(peer, &mut elements.iter().map(Element::node), trusts);
    // The proxy that is farthest out knows what the client has used; the others know each other.
    let mut place = Place::default();
    for element in elements.into_iter().take(walk.believed) {
        place.scheme = element.scheme().or(place.scheme);
        place.host = element.host.or(place.host);
    }
    let other = place_by_x(headers);
    if by_x && other != place {
        return Named::Claimed(vec![place, other]);
    }
    Named::Trusted(place)
}

/// What a peer says that is not trusted, and whoever is before it: all of it.
pub(super) fn claimed(headers: &HeaderMap) -> Named<'_> {
    let mut claims = vec![place_by_x(headers)];
    for element in elements(headers) {
        claims.push(Place { scheme: element.scheme(), host: element.host });
    }
    // What is no host is not one that clients use.
    for claim in &mut claims {
        claim.host = claim.host.take().filter(|host| is_authority(host));
    }
    Named::Claimed(claims)
}

fn place_by_x(headers: &HeaderMap) -> Place<'_> {
    let first = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    Place {
        scheme: first(FORWARDED_PROTO).and_then(scheme),
        host: first(FORWARDED_HOST).map(Cow::Borrowed),
    }
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// What one proxy has written into `Forwarded`; nothing, if it cannot be read.
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

/// The elements of `Forwarded`, the last one first. A line that cannot be read is one of which
/// nothing is known: a client may have opened a quote that swallows what the proxy has added.
fn elements(headers: &HeaderMap) -> Vec<Element<'_>> {
    let lines = headers.get_all(header::FORWARDED).iter().rev();
    let read = lines.map(|line| line.to_str().ok().and_then(parsed));
    read.flat_map(|elements| elements.unwrap_or_else(|| vec![Element::default()])).collect()
}

/// The elements of one line, the last one first (RFC 7239 §4); `None` where it is malformed.
fn parsed(mut rest: &str) -> Option<Vec<Element<'_>>> {
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
                let (element, mut ignored) = (elements.last_mut()?, None);
                let place = match name.to_ascii_lowercase().as_str() {
                    "for" => &mut element.node,
                    "host" => &mut element.host,
                    "proto" => &mut element.proto,
                    // `by`, and what is to come.
                    name if name.bytes().all(is_plain) => &mut ignored,
                    _ => return None,
                };
                // Each only once.
                if place.replace(value).is_some() {
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

/// A value at the beginning of a text, and what follows it.
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

/// What may stand in a value without quotes: what a token may have, and what many put there that
/// must be quoted: `[::1]:80`.
fn is_plain(c: u8) -> bool {
    c.is_ascii_graphic() && !matches!(c, b'"' | b',' | b';' | b'=' | b'\\')
}
