//! Headers: trusted proxies, echoed values, and the log.

use std::path::Path;

use portcullis::{config::Config, gate::htpasswd::BcryptHash, http::Proxy, server::TlsOptions};

use crate::support::{
    Answered as _, TestServer,
    content::{OCI_INDEX, OCI_MANIFEST, closing, descriptor, empty_index, trifle},
    digest, h2,
    process::{Process, TRUSTED},
    raw::{self, header},
    server::PASSWORD,
};

/// Opens an upload with a verbatim head, and gives the response.
async fn open_with(server: &TestServer, line: &str, headers: &str) -> String {
    let user = raw::authorization();
    let head = format!(
        "{line} HTTP/1.1\r\nauthorization: {user}\r\n\
         content-length: 0\r\nconnection: close\r\n{headers}\r\n"
    );
    raw::exchange(server.connect(&[]).await, head.as_bytes()).await
}

const OPEN: &str = "POST /v2/app/blobs/uploads/";

#[tokio::test]
async fn location_follows_three_headers_of_trusted_proxies_only() {
    for trusted in [false, true] {
        let server = TestServer::with(|config| {
            if !trusted {
                config.http.api.trustedproxies = vec!["192.0.2.0/24".parse().unwrap()];
            }
        })
        .await;
        for headers in [
            "forwarded: host=evil.example;proto=http\r\n",
            "x-forwarded-server: evil.example\r\n",
            "x-forwarded-prefix: /evil\r\n",
            "x-forwarded-port: 666\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n",
            "x-original-host: evil.example\r\nx-host: evil.example\r\n",
            "x-original-url: /evil\r\nx-rewrite-url: /evil\r\n",
            "x-http-method-override: DELETE\r\n",
        ] {
            let answer =
                open_with(&server, OPEN, &format!("host: good.example\r\n{headers}")).await;
            let location = header(&answer, "location").expect(headers);
            let start = match (headers.starts_with("forwarded:"), trusted) {
                (true, true) => "http://evil.example",
                (true, false) => "",
                (false, _) => "https://good.example",
            };
            let start = format!("{start}/v2/app/blobs/uploads/");
            assert!(location.starts_with(&start), "{answer}");
        }
        // A client cannot become trusted by claiming a trusted address.
        let claimed = "host: good.example\r\nx-forwarded-for: 127.0.0.1\r\n\
                       x-forwarded-host: other.example\r\nx-forwarded-proto: http\r\n";
        let answer = open_with(&server, OPEN, claimed).await;
        let start = if trusted { "http://other.example/" } else { "/v2/" };
        assert!(header(&answer, "location").unwrap().starts_with(start), "{answer}");
    }
}

/// The host that a trusted proxy reports must still be only a host and a port.
#[tokio::test]
async fn poisoned_forwarded_host_is_not_repeated() {
    let server = TestServer::start().await;
    for bad in [
        "evil.example/x",
        "evil.example\\x",
        "evil.example@good.example",
        "good.example#evil",
        "evil.example:80:80",
        "evil.example:-1",
        "[::1]evil.example",
        "[evil.example]",
        "evil.example\t",
        "javascript:evil",
        "%65vil.example",
        "evil.example%0d%0ax-evil: 1",
        "\u{435}vil.example",
        "<evil.example>",
        "evil.example;x",
    ] {
        for name in ["x-forwarded-host", "host"] {
            let other = if name == "host" { "" } else { "host: good.example\r\n" };
            let answer = open_with(&server, OPEN, &format!("{other}{name}: {bad}\r\n")).await;
            assert!(matches!(raw::status(&answer), Some(202 | 400)), "{name} {bad}: {answer}");
            let location = header(&answer, "location").unwrap_or_default();
            let harmless = location.starts_with('/')
                || location.is_empty()
                || location.starts_with("https://good.example/")
                || bad == "evil.example\t";
            assert!(harmless, "{name} {bad}: {location}");
            assert!(!location.contains("//v2"), "{location}");
        }
    }
}

/// The first line may name a host as well (RFC 9112 §3.2.2), HTTP/2 has `:authority`.
#[tokio::test]
async fn target_with_a_poisoned_authority_is_not_repeated() {
    let server = TestServer::start().await;
    for authority in ["user@evil.example", "evil.example:99999", "[::1]:x"] {
        let line = format!("POST https://{authority}/v2/app/blobs/uploads/");
        let answer = open_with(&server, &line, "host: good.example\r\n").await;
        let location = header(&answer, "location").unwrap_or_default();
        assert!(!location.contains("evil"), "{authority}: {answer}");
    }
    for (authority, status) in [("user@evil.example", 12), ("evil.example/x", 12)] {
        let (addr, ca) = (server.addr(), server.authority());
        let settings = h2::frame(h2::SETTINGS, 0, 0, &[]);
        let mut connection = h2::Connection::open(addr, &ca, &settings).await;
        let block = h2::block("POST", "/v2/app/blobs/uploads/", &[]);
        let usual = b"\x0a:authority\x09localhost";
        let at = block.windows(usual.len()).position(|part| part == usual).unwrap();
        let mut own = b"\x0a:authority".to_vec();
        h2::string(&mut own, authority);
        let block = [&block[..at], &own, &block[at + usual.len()..]].concat();
        let end = h2::END_HEADERS | h2::END_STREAM;
        connection.send(&h2::frame(h2::HEADERS, end, 1, &block)).await;
        let over =
            |frame: &h2::Frame| matches!(frame.kind, h2::HEADERS | h2::RST_STREAM | h2::GOAWAY);
        let frames = connection.until(over).await;
        let last = frames.last().expect("an answer");
        // Header names are compressed, values that are not in the table are sent verbatim.
        let text = String::from_utf8_lossy(&last.payload);
        assert!(!text.contains("evil"), "{authority}: {last:?}");
        assert!(last.kind != h2::HEADERS || last.is_status(status) || !text.contains("//"));
    }
}

/// Everything that a response header echoes: no echoed text can begin another header.
#[tokio::test]
async fn repeated_header_values_do_not_split_a_response() {
    let server = TestServer::start().await;
    for tag in ["a", "b", "c"] {
        trifle(&server, "app", tag).await;
    }
    let subject = server.push_blob("app", "subject").await;
    for nth in 0..3 {
        let mut index: serde_json::Value =
            serde_json::from_str(&empty_index(&nth.to_string())).unwrap();
        index["subject"] = descriptor(OCI_INDEX, "subject");
        index["artifactType"] = "a/b\r\nx-evil: 1".into();
        let body = index.to_string();
        server.push_manifest("app", &digest(&body), OCI_INDEX, body.clone()).await;
    }
    let evil = "%0d%0ax-evil:%201%0d%0a%0d%0a";
    for line in [
        format!("GET /v2/app/tags/list?n=1&last={evil}"),
        format!("GET /v2/app/tags/list?n=1{evil}"),
        format!("GET /v2/app{evil}/tags/list?n=1"),
        format!("GET /v2/_catalog?n=1&last={evil}"),
        format!("GET /v2/app/referrers/{subject}?artifactType={evil}"),
        format!("GET /v2/app/referrers/{subject}?n=1&artifactType=a/b{evil}"),
        format!("GET /v2/app/manifests/{evil}"),
        format!("PUT /v2/app/manifests/{}?tag={evil}", digest("x")),
        format!("GET /v2/app/blobs/{evil}"),
        format!("POST /v2/app{evil}/blobs/uploads/"),
        format!("POST /v2/app/blobs/uploads/?mount={subject}&from={evil}"),
        format!("POST /v2/app/blobs/uploads/?digest={evil}"),
        format!("POST /v2/app/blobs/uploads/?digest-algorithm={evil}"),
        format!("PATCH /v2/app/blobs/uploads/{evil}"),
        format!("GET /v1/search?q={evil}&n=1"),
        format!("GET /v2{evil}"),
        format!("GET /{evil}"),
        format!("GET {evil}"),
    ] {
        for headers in
            ["host: good.example\r\n", "host: good.example\r\norigin: x%0d%0ax-evil: 1\r\n"]
        {
            let answer = open_with(&server, &line, headers).await;
            assert!(raw::status(&answer).is_some(), "{line}: {answer:?}");
            let head = answer.split("\r\n\r\n").next().unwrap();
            assert!(!head.contains("\nx-evil"), "{line}: {answer}");
        }
    }
}

/// The media type in a manifest becomes a header.
#[tokio::test]
async fn manifest_cannot_add_headers_to_a_response() {
    let server = TestServer::start().await;
    for kind in ["a/b\r\nx-evil: 1", "a/b\n x", "\u{e4}/b", "a/b\u{0}"] {
        let mut index: serde_json::Value = serde_json::from_str(&empty_index("x")).unwrap();
        index["mediaType"] = kind.into();
        let answer = server.push_manifest("app", "bad", OCI_INDEX, index.to_string()).await;
        answer.expect(400);
    }
    // A manifest that is in the tree already.
    trifle(&server, "app", "latest").await;
    let own = digest(empty_index("app:latest"));
    let hex = own.strip_prefix("sha256:").unwrap();
    let data = server.tree().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
    let body = empty_index("x").replace(OCI_INDEX, "a/b\\r\\nx-evil: 1");
    std::fs::write(data, body).unwrap();
    let server = server.restart().await;
    let answer = server.get("/v2/app/manifests/latest").await.expect(200);
    assert!(!answer.headers.contains_key("x-evil"), "{answer:?}");
    assert!(!answer.header("content-type").contains("evil"));
    for kind in
        [format!("{OCI_MANIFEST}\tx"), format!("{OCI_MANIFEST}, {OCI_INDEX}"), "%0d%0a".to_owned()]
    {
        let answer = server.push_manifest("app", "bad", &kind, empty_index("x")).await;
        assert!(answer.status.is_client_error(), "{kind}: {answer:?}");
    }
}

#[tokio::test]
async fn host_of_plain_http_is_as_guarded_as_that_of_tls() {
    let server = TestServer::with(|config| config.http.server.tls = TlsOptions::Off).await;
    for bad in ["evil.example/x", "user@evil.example", "evil.example\\"] {
        let request =
            server.request("POST", "/v2/app/blobs/uploads/").header("x-forwarded-host", bad);
        let answer = request.answer().await.expect(202);
        let location = answer.header("location").to_owned();
        assert!(!location.contains("evil"), "{location}");
        let location =
            format!("{}{location}", if location.starts_with('/') { &server.base } else { "" });
        server.put(&closing(&location, &digest("x")), "x").await.expect(201);
    }
}

/// Names that a password file may have, and that could forge a line of a log.
const NAMES: [&str; 5] = [
    "eve\" level=error msg=\"forged",
    "eve level=error msg=forged",
    "eve\\nforged",
    "eve','forged",
    "{\"level\" \"forged\"}",
];

fn write_users(path: &Path, names: &[&str]) {
    let hash = BcryptHash::new(PASSWORD, 4).unwrap();
    let lines = names.iter().map(|name| format!("{name}:{}\n", hash.as_str()));
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

/// Sends text that could pass for log lines or control a terminal, and checks the logs.
async fn assert_logs(formatter: &str, names: &[&str], targets: &[&[u8]], agents: &[&[u8]]) {
    let access = if formatter == "json" { "json" } else { "combined" };
    let variables = [
        ("REGISTRY_LOG_FORMATTER", formatter),
        ("REGISTRY_LOG_LEVEL", "debug"),
        ("REGISTRY_LOG_ACCESSLOG_FORMATTER", access),
    ];
    let server = Process::prepared(&variables, |users| write_users(users, names));
    let send = async |user: &str, target: &[u8], agent: &[u8]| {
        let user = raw::basic(user, PASSWORD);
        let head = [
            b"GET ",
            target,
            b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: ",
            user.as_bytes(),
            b"\r\nuser-agent: ",
            agent,
            b"\r\n\r\n",
        ]
        .concat();
        let stream = raw::connect(server.addr, &server.ca(), &[]).await;
        raw::exchange(stream, &head).await
    };
    for name in names {
        let answer = send(name, b"/v2/", b"x").await;
        assert_eq!(raw::status(&answer), Some(200), "{name}: {answer}");
        send(&format!("{name}, unknown"), b"/v2/", b"x").await;
    }
    for target in targets {
        send(names[0], target, b"x").await;
    }
    for agent in agents {
        send(names[0], b"/v2/", agent).await;
    }
    send(names[0], b"/v2/the/last/tags/list", b"x").await;
    let (log, requests) = server.end_with_access().await;
    assert!(requests.contains("/v2/the/last/tags/list"), "{requests}");
    // Malformed requests have none.
    let fewest = 2 * names.len() + targets.len() / 2;
    assert!(requests.lines().count() > fewest, "{requests}");
    assert_lines(&log, formatter);
    assert_lines(&requests, access);
}

/// Every line is one of ours, whole, and harmless on a terminal.
fn assert_lines(log: &str, formatter: &str) {
    for line in log.lines() {
        let whole = match formatter {
            "json" => serde_json::from_str::<serde_json::Value>(line)
                .is_ok_and(|json| json["time"].is_string() && json["level"] != "forged"),
            "combined" => {
                let unquoted = outside_of_quotes(line);
                line.starts_with("127.0.0.1 - ")
                    && !unquoted.contains(" level=")
                    && [" [", " received=", " seconds=", " request="]
                        .iter()
                        .all(|part| unquoted.matches(part).count() == 1)
            }
            _ => {
                line.starts_with("time=\"20")
                    && line.contains(" level=")
                    && line.contains(" msg=\"")
            }
        };
        assert!(whole, "{line:?}");
        let levels = || outside_of_quotes(line).matches(" level=").count();
        assert!(formatter != "text" || levels() == 1, "{line:?}");
        let bad = line.chars().find(|c| is_dangerous(*c));
        assert_eq!(bad, None, "{line:?}");
    }
}

/// Characters that control a terminal, end a line in some programs, or change the direction of
/// text.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The part of a line outside double quotes.
fn outside_of_quotes(line: &str) -> String {
    let (mut outside, mut quoted, mut escaped) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted => outside.push(c),
            _ => {}
        }
    }
    assert!(!quoted, "a quote is left open: {line:?}");
    outside
}

const TARGETS: [&[u8]; 7] = [
    b"/v2/%0d%0atime=%22x%22%20level=error%20msg=%22forged%22/tags/list",
    b"/v2/%1b[31mred/tags/list",
    b"/v2/\"%20level=error%20msg=\"forged/tags/list",
    b"/v2/\"level=error/tags/list?x=\"&y='",
    b"/v2/a\\nb\\\"/tags/list",
    b"/v2/app/manifests/%00%7f%c2%85%e2%80%a8",
    b"/v1/search?q=%0aforged",
];

const AGENTS: [&[u8]; 7] = [
    b"x\" level=error msg=\"forged",
    b"x\tlevel=error",
    b"x\\\" level=error",
    b"x\xff\xfe\x85 level=error",
    b"caf\xc3\xa9 \xc2\x85\xe2\x80\xa8 level=error",
    b"x\x1b[31m level=error",
    b"x\rtime=\"forged\" level=error",
];

#[tokio::test]
async fn log_line_of_text_cannot_be_forged() {
    assert_logs("text", &NAMES, &TARGETS, &AGENTS).await;
}

#[tokio::test]
async fn log_line_of_json_cannot_be_forged() {
    assert_logs("json", &NAMES, &TARGETS, &AGENTS).await;
}

/// Control characters beyond ASCII, and Unicode's line ends and direction marks, in a user's name
/// must be escaped in a log.
#[tokio::test]
async fn log_shows_no_terminal_commands_in_a_user_name() {
    let names = ["eve\u{2028}x", "eve\u{202e}x"];
    for formatter in ["text", "json"] {
        assert_logs(formatter, &names, &[], &[]).await;
    }
}

/// The same in a path, which HTTP/1.1 clients may send as bytes that are not ASCII.
#[tokio::test]
async fn log_shows_no_terminal_commands_in_a_path() {
    let targets: [&[u8]; 4] = [
        b"/v2/\xc2\x9b31m/tags/list",
        b"/v2/\xc2\x85level=error/tags/list",
        b"/v2/a/tags/list?x=\xe2\x80\xa8y",
        b"/v2/\xe2\x80\xaea/tags/list",
    ];
    for formatter in ["text", "json"] {
        assert_logs(formatter, &["eve"], &targets, &[]).await;
    }
}

/// A request of HTTP/1.1 without a host, or with two, must be refused with 400 (RFC 9112 §3.2):
/// a proxy in front may have used the other one.
#[tokio::test]
async fn request_with_no_host_or_two_is_refused() {
    let server = TestServer::start().await;
    for headers in [
        "",
        "host: good.example\r\nhost: evil.example\r\n",
        "host: good.example\r\nx: y\r\nhost: good.example\r\n",
        "host: good.example, evil.example\r\n",
        "host: good.example evil.example\r\n",
    ] {
        let answer = open_with(&server, OPEN, headers).await;
        assert_eq!(raw::status(&answer), Some(400), "{headers:?}: {answer}");
    }
}

/// A browser needs HSTS on every response.
#[tokio::test]
async fn headers_of_the_configuration_are_on_every_response() {
    let server = TestServer::with(|config| {
        let headers = &mut config.http.api.headers;
        headers.insert("Strict-Transport-Security".to_owned(), vec!["max-age=63072000".to_owned()]);
        headers.insert("X-Content-Type-Options".to_owned(), vec!["other".to_owned()]);
        headers.insert("X-Two".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
    })
    .await;
    trifle(&server, "app", "a").await;
    let missing = format!("/v2/app/blobs/{}", digest(b"missing"));
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/v2", 301),
        ("GET", "/v2/", 200),
        ("HEAD", "/v2/app/manifests/a", 200),
        ("GET", "/v2/app/manifests/a", 200),
        ("GET", "/v2/app/tags/list", 200),
        ("GET", "/nothing", 404),
        ("GET", &missing, 404),
        ("GET", "/v2/_catalog?n=x", 400),
        ("PUT", "/v2/_catalog", 405),
        ("DELETE", "/v2/app/manifests/a", 202),
    ] {
        for (known, status) in
            [(false, if path.starts_with("/v2/") { 401 } else { status }), (true, status)]
        {
            let request =
                if known { server.request(method, path) } else { server.anonymous(method, path) };
            let answer = request.answer().await.expect(status);
            assert_eq!(answer.header("strict-transport-security"), "max-age=63072000", "{path}");
            let all = |name| answer.headers.get_all(name).iter().collect::<Vec<_>>();
            assert_eq!(all("x-content-type-options"), ["other"], "{path}");
            assert_eq!(all("x-two"), ["a", "b"], "{path}");
        }
    }
}

/// Sends three requests with these headers, from this machine, and gives the log.
async fn log_after(trusted: &str, headers: &[(&str, &str)]) -> String {
    let server = Process::start(&[(TRUSTED.0, trusted)]);
    for _ in 0..3 {
        let request = server.request("GET", "/v2/");
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        request.answer().await.expect(200);
    }
    server.end().await
}

#[tokio::test]
async fn untrusted_proxy_is_logged_once_with_the_remedy() {
    for (trusted, all) in [("", "127.0.0.1/32"), ("[10.0.0.0/8]", "10.0.0.0/8, 127.0.0.1/32")] {
        for header in
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"]
        {
            let log = log_after(trusted, &[("x-x", "y"), (header, "192.0.2.1")]).await;
            let lines: Vec<_> = log.lines().filter(|line| line.contains("not believed")).collect();
            let [line] = lines[..] else { panic!("{log}") };
            assert!(
                line.contains(" level=warning ") && line.contains(" peer=127.0.0.1 "),
                "{line}"
            );
            assert!(line.contains(&format!(" header={header} ")), "{line}");
            let (_, write) = line.split_once(" write=\"").unwrap();
            let write = write.split_once('"').unwrap().0;
            assert_eq!(write, format!("http: {{trustedproxies: [{all}]}}"));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.yml");
            std::fs::write(&path, format!("version: 0.1\n{write}\n")).unwrap();
            let config = Config::load(Some(&path), []).unwrap();
            let here: Proxy = "127.0.0.1/32".parse().unwrap();
            assert_eq!(config.http.api.trustedproxies.last(), Some(&here));
        }
    }
    let log = log_after("[127.0.0.0/8]", &[("x-forwarded-for", "192.0.2.1")]).await;
    assert!(!log.contains("trustedproxies"), "{log}");
    let log = log_after("", &[("x-forwarded-by", "192.0.2.1"), ("from", "x")]).await;
    assert!(!log.contains("trustedproxies"), "{log}");
}

#[tokio::test]
async fn trusted_proxy_that_passes_a_header_through_is_named_once_in_the_log() {
    let headers = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
    let log = log_after(TRUSTED.1, &headers).await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("different clients")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    assert!(line.contains(" level=warning ") && line.ends_with(" peer=127.0.0.1"), "{line}");
}

#[tokio::test]
async fn request_for_another_host_is_misdirected() {
    let server = TestServer::with(|config| {
        let hosts = ["good.example", "[::1]:5000"].map(|host| host.to_owned().try_into().unwrap());
        config.http.api.allowedhosts = hosts.to_vec();
        config.http.api.host = Some("https://main.example".to_owned());
    })
    .await;
    for (host, status) in [
        ("good.example", 202),
        ("GOOD.example:1234", 202),
        ("main.example", 202),
        ("[::1]:5000", 202),
        ("[::1]", 421),
        ("localhost", 421),
        ("127.0.0.1", 421),
        ("good.example.evil", 421),
    ] {
        let answer = open_with(&server, OPEN, &format!("host: {host}\r\n")).await;
        assert_eq!(raw::status(&answer), Some(status), "{host}: {answer}");
        if status == 421 {
            let text = format!("\r\n\r\nthis is not the server of {host}\n");
            assert!(answer.ends_with(&text), "{answer}");
        }
    }
    // The target in absolute form wins over `Host` (RFC 9112 §3.2.2), without a password as well.
    for (target, host, status) in [
        ("https://evil.example/", "good.example", 421),
        ("https://good.example/v2/", "good.example", 401),
        ("/", "evil.example", 421),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nconnection: close\r\nhost: {host}\r\n\r\n");
        let answer = raw::exchange(server.connect(&[]).await, head.as_bytes()).await;
        assert_eq!(raw::status(&answer), Some(status), "{target}: {answer}");
    }
    // Over HTTP/2, where `:authority` has the host.
    let answer = server.get("/v2/").await.expect(421);
    assert!(answer.text().starts_with("this is not the server of localhost:"), "{}", answer.text());
}
