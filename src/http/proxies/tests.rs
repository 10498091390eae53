use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::{forwarded::Origin, *};

const PEER: &str = "10.0.0.1";
const CLIENT: &str = "198.51.100.5";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

fn peer(address: &str) -> Peer {
    Peer::Tcp((address.parse::<IpAddr>().unwrap(), 1).into())
}

fn trusting(proxies: &[&str]) -> Proxies {
    Proxies::new(&proxies.iter().map(|proxy| proxy.parse().unwrap()).collect::<Vec<_>>())
}

/// The client of a request that comes from [`PEER`], whose network is trusted.
fn client(lines: &[(&'static str, &str)]) -> String {
    let client = trusting(&["10.0.0.0/8", "fd00::/8"]).client(&headers(lines), peer(PEER));
    client.unwrap().to_string()
}

#[test]
fn address_has_many_forms() {
    for (text, expected) in [
        ("198.51.100.5", CLIENT),
        ("198.51.100.5:4321", CLIENT),
        ("\"198.51.100.5:4321\"", CLIENT),
        ("\"198.51.100.5\"", CLIENT),
        ("198.51.100.5:_port", CLIENT),
        ("2001:db8::5", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:4321", "2001:db8::5"),
        ("\"[2001:db8::5]:4321\"", "2001:db8::5"),
        ("::ffff:198.51.100.5", CLIENT),
        // No address: the peer counts as the client.
        ("unknown", PEER),
        ("_hidden", PEER),
        ("\"_hidden:_port\"", PEER),
        ("", PEER),
        ("\"", PEER),
        ("198.51.100.5:port", PEER),
        ("198.51.100.5:123456", PEER),
        ("198.51.100.5:", PEER),
        ("198.51.100.5 4321", PEER),
        ("[198.51.100.5]", PEER),
        ("[2001:db8::5", PEER),
        ("[2001:db8::5]x", PEER),
        ("2001:db8::5%eth0", PEER),
        ("198.051.100.005", PEER),
        ("localhost", PEER),
    ] {
        assert_eq!(client(&[("x-forwarded-for", text)]), expected, "{text}");
        assert_eq!(client(&[("x-real-ip", text)]), expected, "{text}");
        let quoted = if text.starts_with('"') { text.to_owned() } else { format!("\"{text}\"") };
        if quoted != "\"" {
            assert_eq!(client(&[("forwarded", &format!("for={quoted}"))]), expected, "{text}");
        }
    }
}

#[test]
fn client_is_the_first_address_from_the_peer_that_is_not_a_trusted_proxys() {
    for list in [
        "198.51.100.5",
        "192.0.2.66, 198.51.100.5",
        "192.0.2.66,198.51.100.5 , 10.0.0.2",
        "192.0.2.66, 198.51.100.5:80, [fd00::1]:80, 10.0.0.2",
    ] {
        assert_eq!(client(&[("x-forwarded-for", list)]), CLIENT, "{list}");
        let elements = list.split(',').map(|node| format!("for=\"{}\"", node.trim()));
        let forwarded = elements.collect::<Vec<_>>().join(", ");
        assert_eq!(client(&[("forwarded", &forwarded)]), CLIENT, "{forwarded}");
    }
    // The lines of one header are one list (RFC 9110 §5.3).
    let lines = [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "198.51.100.5, 10.0.0.2")];
    assert_eq!(client(&lines), CLIENT);
    // Any client may have sent what precedes a node without an address.
    assert_eq!(client(&[("x-forwarded-for", "198.51.100.5, unknown, 10.0.0.2")]), "10.0.0.2");
    assert_eq!(client(&[("x-forwarded-for", "198.51.100.5,, 10.0.0.2")]), "10.0.0.2");
    assert_eq!(client(&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
    assert_eq!(client(&[("x-forwarded-proto", "https")]), PEER);
}

#[test]
fn forwarded_is_read_by_its_grammar() {
    for (value, expected) in [
        ("for=198.51.100.5", CLIENT),
        ("For=198.51.100.5;proto=https;by=203.0.113.43", CLIENT),
        ("proto=https; for=\"198.51.100.5:80\" ;host=\"r.example:443\"", CLIENT),
        ("for=198.51.100.5:80", CLIENT),
        ("for=[2001:db8::5]:80", "2001:db8::5"),
        ("for=\"\\198.51.100.5\"", CLIENT),
        (";;for=198.51.100.5;", CLIENT),
        (", for=198.51.100.5", CLIENT),
        ("secret=\"for=192.0.2.66, for=192.0.2.66\";for=198.51.100.5", CLIENT),
        ("proto=https", PEER),
        ("for=198.51.100.5;for=192.0.2.66", PEER),
        ("for=\"198.51.100.5", PEER),
        ("for=\"198.51.100.5\"x", PEER),
        ("for=\"198.51.100.5\\", PEER),
        ("for 198.51.100.5", PEER),
        ("for=;proto=http", PEER),
        ("f\"r=198.51.100.5", PEER),
        ("for=198.51.100.5,", PEER),
        // A client opens a quote, which swallows the element of the proxy.
        ("for=\"192.0.2.66, for=\"198.51.100.5:80\"", PEER),
        ("for=192.0.2.66;x=\", for=198.51.100.5", PEER),
    ] {
        assert_eq!(client(&[("forwarded", value)]), expected, "{value}");
    }
    // A malformed line does not invalidate the lines that the proxy adds.
    assert_eq!(client(&[("forwarded", "for=\""), ("forwarded", "for=198.51.100.5")]), CLIENT);
    assert_eq!(client(&[("forwarded", "for=198.51.100.5"), ("forwarded", "for=\"")]), PEER);
}

#[test]
fn headers_that_contradict_each_other_leave_the_peer_as_the_client() {
    let (own, other) = ("198.51.100.5", "192.0.2.66");
    let forwarded = |address| format!("for={address}");
    for (lines, expected) in [
        ([("x-forwarded-for", own), ("forwarded", &forwarded(own))], CLIENT),
        ([("x-forwarded-for", own), ("forwarded", &forwarded(other))], PEER),
        ([("x-forwarded-for", own), ("x-real-ip", own)], CLIENT),
        ([("x-forwarded-for", own), ("x-real-ip", other)], PEER),
        // `X-Real-IP` has the address of the second proxy, the client of the last one.
        ([("x-forwarded-for", "198.51.100.5, 10.0.0.2"), ("x-real-ip", "10.0.0.2")], CLIENT),
        ([("forwarded", &forwarded(own)), ("x-real-ip", other)], PEER),
        ([("x-real-ip", own), ("x-real-ip", other)], PEER),
        ([("x-forwarded-for", own), ("x-real-ip", "unknown")], CLIENT),
    ] {
        assert_eq!(client(&lines), expected, "{lines:?}");
    }
}

#[test]
fn only_headers_of_a_trusted_peer_count() {
    let lines = [("x-forwarded-for", CLIENT), ("x-real-ip", CLIENT)];
    let from = |proxies: &[&str], peer: Peer| trusting(proxies).client(&headers(&lines), peer);
    let client = Some(CLIENT.parse().unwrap());
    assert_eq!(from(&["10.0.0.0/8"], peer("::ffff:10.0.0.1")), client);
    assert_eq!(from(&["unix"], Peer::Unix), client);
    for (proxies, address) in [
        (&[][..], "127.0.0.1"),
        (&["unix"], "127.0.0.1"),
        (&["10.0.0.0/8"], "11.0.0.1"),
        (&["10.0.0.0/8"], "::1"),
    ] {
        assert_eq!(from(proxies, peer(address)), Some(address.parse().unwrap()));
    }
    assert_eq!(from(&["127.0.0.0/8"], Peer::Unix), None);
    assert!(super::super::Options::default().trustedproxies.is_empty());
}

#[test]
fn each_peer_is_reported_once_up_to_a_limit() {
    let reported = ReportedPeers::default();
    let insert = |address: &str| reported.insert(Some(address.parse().unwrap()));
    assert!(reported.insert(None) && !reported.insert(None));
    assert!(insert("192.0.2.1") && !insert("192.0.2.1") && !insert("::ffff:192.0.2.1"));
    assert!(insert("2001:db8::1") && !insert("2001:db8::2"), "a /64 is one peer");
    let addresses = (0..1000).map(|nth| IpAddr::from(Ipv4Addr::from_bits(nth)));
    let count = addresses.filter(|address| reported.insert(Some(*address))).count();
    assert_eq!(count, MAX_REPORTED - 3);
}

#[test]
fn proxy_is_displayed_as_an_item_of_a_list_in_yaml() {
    let all = ["10.0.0.0/8", "2001:db8::/32", "unix"];
    let texts = all.map(|proxy| proxy.parse::<Proxy>().unwrap().to_string());
    assert_eq!(texts, ["10.0.0.0/8", "'2001:db8::/32'", "unix"]);
}

/// The value of a header that a client may send: a random sequence of pieces.
fn header() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "for=",
        "host=evil.example",
        "proto=http",
        "by=",
        "\"",
        "\\",
        ",",
        ";",
        " ",
        "=",
        "[",
        "]",
        ":80",
        "192.0.2.66",
        "10.0.0.9",
        "10.0.0.2",
        PEER,
        CLIENT,
        "::1",
        "unknown",
        "_x",
        "http",
        "evil.example",
        "\t",
        "x",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

/// The headers that a proxy writes. It appends to lists, replaces other headers, and passes through
/// those that it does not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    List,
    ListOnSeparateLine,
    RealIp,
    Both,
    Forwarded,
    ForwardedQuoted,
    All,
}

fn pass_on(mut headers: HeaderMap, from: &str, writes: Writes) -> HeaderMap {
    let joined = |headers: &HeaderMap, name| {
        let values: Vec<_> = headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect();
        values.join(", ")
    };
    let add = |headers: &mut HeaderMap, name: &'static str, own: String| {
        let before = joined(headers, name);
        let value = if before.is_empty() { own } else { format!("{before}, {own}") };
        headers.insert(name, value.parse().unwrap());
    };
    let replace = |headers: &mut HeaderMap, name: &'static str, value: &str| {
        headers.insert(name, value.parse().unwrap());
    };
    if matches!(writes, Writes::List | Writes::Both | Writes::All) {
        add(&mut headers, "x-forwarded-for", from.to_owned());
    }
    if writes == Writes::ListOnSeparateLine {
        headers.append("x-forwarded-for", from.parse().unwrap());
    }
    if matches!(writes, Writes::RealIp | Writes::Both | Writes::All) {
        replace(&mut headers, "x-real-ip", from);
    }
    if matches!(writes, Writes::Forwarded | Writes::All) {
        add(&mut headers, "forwarded", format!("for={from};proto=https;host=r.example"));
    } else if writes == Writes::ForwardedQuoted {
        let own = format!("for=\"{from}:80\";host=\"r.example\";proto=https;by=\"[fd00::1]\"");
        add(&mut headers, "forwarded", own);
    } else {
        replace(&mut headers, "x-forwarded-proto", "https");
        replace(&mut headers, "x-forwarded-host", "r.example");
    }
    headers
}

proptest! {
    #[test]
    fn client_behind_trusted_proxies_is_itself_or_a_proxy(
        sent in prop::collection::vec((prop::sample::select(vec![
            "x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host", "x-forwarded-proto",
        ]), header()), 0..6),
        writes in prop::sample::select(vec![
            Writes::List, Writes::ListOnSeparateLine, Writes::RealIp, Writes::Both,
            Writes::Forwarded, Writes::ForwardedQuoted, Writes::All,
        ]),
        has_two in any::<bool>(),
    ) {
        let proxies = trusting(&["10.0.0.1/32", "10.0.0.2/32"]);
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name, value.parse().unwrap());
        }
        // `X-Real-IP` has room for one client: of two proxies that write nothing else, the second
        // would have to remove the lists that it passes through.
        let outer = (has_two && writes != Writes::RealIp).then_some("10.0.0.2");
        if let Some(outer) = outer {
            headers = pass_on(pass_on(headers, CLIENT, writes), outer, writes);
        } else {
            headers = pass_on(headers, CLIENT, writes);
        }
        let client = proxies.client(&headers, peer(PEER)).unwrap().to_string();
        let known = [Some(CLIENT), Some(PEER), outer].contains(&Some(client.as_str()));
        prop_assert!(known, "{}: {:?}", client, headers);
        match proxies.origin(&headers, peer(PEER)) {
            ForwardedOrigin::Trusted(Origin { scheme, host }) => {
                prop_assert!(scheme.is_none_or(|scheme| scheme == "https"), "{:?}", headers);
                prop_assert!(host.is_none_or(|host| host == "r.example"), "{:?}", headers);
            }
            // No response repeats an unverified origin.
            ForwardedOrigin::Unverified(_) => {}
            ForwardedOrigin::Absent => prop_assert!(false, "the proxy has written a header"),
        }
    }
}
