use proptest::prelude::*;

use super::{
    Form::{Combined, Json, Terminal},
    *,
};

const EXCHANGE: Exchange<'static> = Exchange {
    client: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
    is_authenticated: true,
    user: Some("ann"),
    method: "GET",
    uri: "/v2/app/manifests/latest",
    protocol: "HTTP/1.1",
    status: 200,
    sent: 259,
    received: 0,
    referer: b"",
    agent: b"curl/7.88.1",
    repository: Some("app"),
    digest: Some("sha256:ab"),
    rule: Some(3),
    duration: Duration::from_micros(1_002_003),
    request: &"id-1",
};

fn time() -> jiff::Timestamp {
    "2026-11-21T20:14:20.5Z".parse().unwrap()
}

#[test]
fn line_begins_with_registry_2s_and_has_further_fields() {
    assert_eq!(
        line(Combined, &EXCHANGE, time()),
        "127.0.0.1 - ann [21/Nov/2026:20:14:20 +0000] \"GET /v2/app/manifests/latest \
         HTTP/1.1\" 200 259 \"\" \"curl/7.88.1\" repository=app digest=sha256:ab received=0 \
         seconds=1.002003 request=id-1\n"
    );
    let nobody = Exchange { user: None, repository: None, digest: None, ..EXCHANGE };
    assert!(line(Combined, &nobody, time()).starts_with("127.0.0.1 - - ["));
    let later = "2027-01-02T03:04:05Z".parse().unwrap();
    let line = line(Combined, &nobody, later);
    assert!(line.starts_with("127.0.0.1 - - [02/Jan/2027:03:04:05 +0000] \""), "{line}");
}

#[test]
fn line_on_a_terminal_is_short() {
    // The time depends on the time zone of the machine.
    let short = |exchange: &Exchange<'_>| line(Terminal, exchange, time())[8..].to_owned();
    assert_eq!(
        short(&EXCHANGE),
        " 200 ann@127.0.0.1 GET /v2/app/manifests/latest 259 bytes 1002 ms\n"
    );
    let nobody =
        Exchange { client: None, user: None, uri: "/v2/\n\x1b[31m", received: 1024, ..EXCHANGE };
    assert_eq!(short(&nobody), " 200 unix GET /v2/\\x0a\\x1b[31m 1024 bytes 1002 ms\n");
}

#[test]
fn terminal_shortens_the_combined_format_only() {
    assert_eq!(Form::of(AccessFormatter::Combined, true), Terminal);
    assert_eq!(Form::of(AccessFormatter::Combined, false), Combined);
    assert_eq!(Form::of(AccessFormatter::Json, true), Json);
}

#[test]
fn no_text_of_a_client_ends_a_line_or_a_field() {
    let nasty = Exchange {
        user: Some("a b\"\n"),
        method: "G\"T",
        uri: "/v2/ \u{e9}",
        referer: b"\" 500 \\\r\n",
        agent: b"\x1b[31m x",
        ..EXCHANGE
    };
    let combined = line(Combined, &nasty, time());
    assert!(
        combined.starts_with(
            "127.0.0.1 - a\\x20b\\x22\\x0a [21/Nov/2026:20:14:20 +0000] \"G\\x22T \
             /v2/\\x20\\xc3\\xa9 HTTP/1.1\" 200 259 \"\\\" 500 \\\\\\x0d\\x0a\" \"\\x1b[31m x\" "
        ),
        "{combined}"
    );
    assert_eq!(combined.matches('\n').count(), 1);
    let line = line(Json, &nasty, time());
    assert_eq!(line.matches('\n').count(), 1);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["user"], "a b\"\n");
    assert_eq!(json["agent"], "\u{1b}[31m x");
    assert_eq!((&json["seconds"], &json["rule"]), (&1.002003.into(), &3.into()));
}

#[test]
fn guide_names_every_field() {
    let guide = include_str!("../../../docs/LOGGING.md");
    let json: serde_json::Value = serde_json::from_str(&line(Json, &EXCHANGE, time())).unwrap();
    for (field, _) in json.as_object().unwrap() {
        assert!(guide.contains(&format!("`{field}`")), "{field}");
    }
    let line = line(Combined, &EXCHANGE, time());
    for field in line.split(' ').filter_map(|part| part.split_once('=')) {
        assert!(guide.contains(&format!("`{}=`", field.0)), "{}", field.0);
    }
}

#[test]
fn long_field_is_truncated_between_escapes_and_ends_in_its_length() {
    let agent = [0xff; 3800];
    let uri = format!("/v2/app/tags/list?last={}", "x".repeat(5000));
    let referer = "r".repeat(300);
    let user = "u".repeat(200);
    let known = Exchange {
        user: Some(&user),
        uri: &uri,
        referer: referer.as_bytes(),
        agent: &agent,
        ..EXCHANGE
    };
    let text = line(Combined, &known, time());
    let user = "u".repeat(116);
    assert!(text.starts_with(&format!("127.0.0.1 - {user}...[200] [")), "{text}");
    let uri = &uri[..1012];
    assert!(text.contains(&format!("\"GET {uri}...[5023] HTTP/1.1\"")), "{text}");
    let referer = &referer[..244];
    let agent = "\\xff".repeat(61);
    assert!(text.contains(&format!(" \"{referer}...[300]\" \"{agent}...[3800]\" ")), "{text}");

    let unknown = Exchange { is_authenticated: false, user: None, repository: None, ..known };
    let text = line(Combined, &unknown, time());
    let uri = &uri[..244];
    let agent = "\\xff".repeat(13);
    assert!(text.contains(&format!("\"GET {uri}...[5023] HTTP/1.1\"")), "{text}");
    assert!(text.contains(&format!(" \"...[300]\" \"{agent}...[3800]\" ")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&line(Json, &unknown, time())).unwrap();
    assert_eq!(json["uri"], format!("{uri}...[5023]"));
    assert_eq!(json["referer"], "...[300]");
    assert_eq!(json["agent"], format!("{}...[3800]", "\u{fffd}".repeat(17)));
}

#[test]
fn usual_fields_of_clients_are_not_truncated() {
    let agent = "docker/24.0.7 go/go1.20.10 git-commit/311b9ff kernel/6.5.0-1015 os/linux \
                 arch/amd64 UpstreamClient(Docker-Client/24.0.7 \\(linux\\))";
    let uri = format!("/v2/{}/manifests/sha512:{}", "n".repeat(255), "a".repeat(128));
    let exchange = Exchange { uri: &uri, agent: agent.as_bytes(), ..EXCHANGE };
    let text = line(Combined, &exchange, time());
    assert!(text.contains(&uri) && !text.contains("...["), "{text}");
    let json: serde_json::Value = serde_json::from_str(&line(Json, &exchange, time())).unwrap();
    assert_eq!((&json["uri"], &json["agent"]), (&uri.into(), &agent.into()));
}

proptest! {
    #[test]
    fn no_line_is_longer_than_two_kibibytes(
        texts in proptest::array::uniform5("(\\PC|[\"\\\\\u{202e}\u{e0041}é]){0,40}"),
        times in proptest::array::uniform7(0_usize..200),
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        is_authenticated in any::<bool>(),
    ) {
        let [user, method, uri, repository, digest] = &texts;
        let [user, method, uri, repository, digest] =
            [(user, 0), (method, 1), (uri, 2), (repository, 3), (digest, 4)]
                .map(|(text, nth)| text.repeat(times[nth]));
        let referer = bytes.repeat(times[5]);
        let agent = bytes.repeat(times[6]);
        let exchange = Exchange {
            client: Some("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap()),
            is_authenticated,
            user: Some(&user),
            method: &method,
            uri: &uri,
            sent: u64::MAX,
            received: u64::MAX,
            referer: &referer,
            agent: &agent,
            repository: Some(&repository),
            digest: Some(&digest),
            rule: Some(usize::MAX),
            duration: Duration::MAX,
            request: &"01234567-0123456789abcdef",
            ..EXCHANGE
        };
        for formatter in [Combined, Json] {
            let line = line(formatter, &exchange, time());
            prop_assert!(line.len() <= MAX_LINE, "{} bytes: {line}", line.len());
            prop_assert_eq!(line.matches('\n').count(), 1);
            if formatter == Json {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
            }
        }
    }
}
