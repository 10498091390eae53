//! The access log, on standard output: a line for each request that is over.
//!
//! A line begins as registry:2's do, in the combined log format, and goes on with names and values
//! that this has no place for. Or it is a JSON object. Nothing a client sends can begin a line or
//! end a field: what is not a printable character of ASCII is written as `\xHH`, as Apache does.
//! And nothing makes a line long: of each field as much is written as is worth reading (`clip.rs`).

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::{self, Write as _},
    io,
    net::IpAddr,
    sync::OnceLock,
    time::Duration,
};

use serde::Serialize;

use super::{
    AccessFormatter, AccessLogOptions,
    clip::{self, LONGEST, Mark},
    writer::{LeftOut, Lines, Rank, Writer},
};

/// Where lines go, once there is a place; one for the process, as for the other log.
static LOG: OnceLock<AccessLog> = OnceLock::new();

#[derive(Debug)]
struct AccessLog {
    formatter: AccessFormatter,
    lines: Lines,
}

/// A request and its response, both over.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Whose request it was; `None` where somebody on this machine came through a file.
    pub client: Option<IpAddr>,
    /// Whether they were let in, by a name or because nobody is asked for one. Less is written of
    /// the requests of others, and they are the first to be left out when there is too much to
    /// write.
    pub let_in: bool,
    /// Their name, if they had to say it.
    pub user: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// `HTTP/1.1`
    pub protocol: &'static str,
    /// The status of the response.
    pub status: u16,
    /// How many bytes of its body were sent.
    pub sent: u64,
    /// How many bytes of the request's body were received.
    pub received: u64,
    /// `Referer`
    pub referer: &'a [u8],
    /// `User-Agent`
    pub agent: &'a [u8],
    /// The repository that it was about.
    pub repository: Option<&'a str>,
    /// The content that the response was about.
    pub digest: Option<&'a str>,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// What the response calls it.
    pub request: &'a dyn Display,
}

/// What can be shown.
pub trait Display: fmt::Display + fmt::Debug {}

impl<T: fmt::Display + fmt::Debug> Display for T {}

/// Begins to write the log, until the writer is dropped; `None` when the options say not to.
pub(super) fn init(options: &AccessLogOptions) -> io::Result<Option<Writer>> {
    if options.disabled {
        return Ok(None);
    }
    let lines = Lines::default();
    let report = |LeftOut { lines, of_strangers }| {
        tracing::warn!(
            lines,
            of_strangers,
            "the access log is written faster than it is read; lines dropped"
        );
    };
    let writer = lines.write_to(io::stdout(), report)?;
    let _ = LOG.set(AccessLog { formatter: options.formatter, lines });
    Ok(Some(writer))
}

/// Writes a line, if there is a log.
pub fn log(exchange: &Exchange<'_>) {
    let Some(AccessLog { formatter, lines }) = LOG.get() else { return };
    let rank = if exchange.let_in { Rank::Usual } else { Rank::OfStranger };
    lines.leave(&line(*formatter, exchange, jiff::Timestamp::now()), rank);
}

/// How much of the fields is written that a client fills in.
struct Limits {
    uri: usize,
    referer: usize,
    agent: usize,
}

/// What a request may need that means something: a name of 255 bytes, and a digest or some tags.
const USUAL: Limits = Limits { uri: 1024, referer: 256, agent: 256 };

/// Of somebody who is nobody, enough to see what it was.
const OF_STRANGER: Limits = Limits { uri: 256, referer: 0, agent: 64 };

/// Where all fields of a line are as long as they may be.
const TIGHT: Limits = Limits { referer: 48, agent: 48, ..USUAL };

/// Of fields that are not the client's to choose once it was let in. A method is: but none that
/// means something is so long.
const USER: usize = 128;
const METHOD: usize = 24;
const REPOSITORY: usize = 256;
const DIGEST: usize = 160;

fn line(formatter: AccessFormatter, exchange: &Exchange<'_>, time: jiff::Timestamp) -> String {
    let form = match formatter {
        AccessFormatter::Combined => combined,
        AccessFormatter::Json => json,
    };
    let limits = if exchange.let_in { USUAL } else { OF_STRANGER };
    let line = form(exchange, &limits, time);
    if line.len() <= LONGEST { line } else { form(exchange, &TIGHT, time) }
}

/// Most lines are shorter than this, in bytes.
const LINE: usize = 384;

fn combined(exchange: &Exchange<'_>, limits: &Limits, time: jiff::Timestamp) -> String {
    let Exchange { client, method, uri, protocol, status, sent, received, .. } = exchange;
    let mut line = String::with_capacity(LINE);
    // Writing to a string does not fail.
    let _ = match client {
        Some(client) => write!(line, "{client} - "),
        // As nginx has it.
        None => write!(line, "unix: - "),
    };
    match exchange.user {
        Some(user) if !user.is_empty() => field(&mut line, user.as_bytes(), b' ', USER),
        _ => line.push('-'),
    }
    date(&mut line, time);
    field(&mut line, method.as_bytes(), b' ', METHOD);
    line.push(' ');
    // The path comes first: of what is too long the query is cut.
    field(&mut line, uri.as_bytes(), b' ', limits.uri);
    line.extend([" ", protocol, "\" "]);
    number(&mut line, u64::from(*status));
    line.push(' ');
    number(&mut line, *sent);
    line.push_str(" \"");
    field(&mut line, exchange.referer, b'"', limits.referer);
    line.push_str("\" \"");
    field(&mut line, exchange.agent, b'"', limits.agent);
    line.push('"');
    if let Some(repository) = exchange.repository {
        line.push_str(" repository=");
        field(&mut line, repository.as_bytes(), b' ', REPOSITORY);
    }
    if let Some(digest) = exchange.digest {
        line.push_str(" digest=");
        field(&mut line, digest.as_bytes(), b' ', DIGEST);
    }
    line.push_str(" received=");
    number(&mut line, *received);
    line.push_str(" seconds=");
    number(&mut line, exchange.duration.as_secs());
    line.push('.');
    // Six digits behind a one.
    let micros = 1_000_000 + exchange.duration.subsec_micros();
    line.push_str(&itoa::Buffer::new().format(micros)[1..]);
    let _ = writeln!(line, " request={}", exchange.request);
    line
}

/// Adds a number. As `write!` does, which takes longer; there is a line for each request.
fn number(line: &mut String, number: u64) {
    line.push_str(itoa::Buffer::new().format(number));
}

/// Adds the date. It is made once a second on each thread.
fn date(line: &mut String, time: jiff::Timestamp) {
    thread_local! {
        static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != time.as_second() {
            *second = time.as_second();
            text.clear();
            write_date(text, time);
        }
        line.push_str(text);
    });
}

/// ` [21/Nov/2026:20:14:20 +0000] "`
fn write_date(line: &mut String, time: jiff::Timestamp) {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let time = jiff::tz::Offset::UTC.to_datetime(time);
    let month = usize::try_from(time.month() - 1).ok().and_then(|month| MONTHS.get(month));
    let _ = write!(
        line,
        " [{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000] \"",
        time.day(),
        month.unwrap_or(&"-"),
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    );
}

/// Adds what a client sent, up to `limit` bytes. `end` is what would end the field: a quote, or a
/// space where the field has no quotes of its own.
fn field(line: &mut String, bytes: &[u8], end: u8, limit: usize) {
    // What is short enough is gone through once.
    let start = line.len();
    if bytes.len() <= limit {
        escape(line, bytes, end);
        if line.len() - start <= limit {
            return;
        }
        line.truncate(start);
    }
    let mut room = Mark::beside(limit);
    let fits = |byte: &&u8| {
        let width = width(**byte, end);
        let fits = width <= room;
        room = room.saturating_sub(width);
        fits
    };
    let kept = bytes.iter().take_while(fits).count();
    escape(line, &bytes[..kept], end);
    let _ = write!(line, "{}", Mark(bytes.len()));
}

/// How many bytes [`escape`] makes of one.
const fn width(byte: u8, end: u8) -> usize {
    match byte {
        b'\\' => 2,
        b'"' if end == b'"' => 2,
        b'"' => 4,
        _ if byte == end || !is_visible(byte) => 4,
        _ => 1,
    }
}

/// Adds bytes, of which none ends a line or the field.
fn escape(line: &mut String, mut bytes: &[u8], end: u8) {
    let is_plain = |&byte: &u8| byte != end && byte != b'\\' && byte != b'"' && is_visible(byte);
    while !bytes.is_empty() {
        let plain = bytes.iter().take_while(|&byte| is_plain(byte)).count();
        let (text, rest) = bytes.split_at(plain);
        // It is ASCII.
        line.push_str(str::from_utf8(text).unwrap_or_default());
        let Some((&byte, rest)) = rest.split_first() else { return };
        match byte {
            b'\\' => line.push_str("\\\\"),
            b'"' if end == b'"' => line.push_str("\\\""),
            b'"' => line.push_str("\\x22"),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
        bytes = rest;
    }
}

const fn is_visible(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[derive(Serialize)]
struct Json<'a> {
    time: String,
    client: Option<IpAddr>,
    user: Option<Cow<'a, str>>,
    method: Cow<'a, str>,
    uri: Cow<'a, str>,
    protocol: &'static str,
    status: u16,
    sent: u64,
    received: u64,
    referer: Option<String>,
    agent: Option<String>,
    repository: Option<Cow<'a, str>>,
    digest: Option<Cow<'a, str>>,
    seconds: f64,
    request: String,
}

fn json(exchange: &Exchange<'_>, limits: &Limits, time: jiff::Timestamp) -> String {
    let text = |bytes: &[u8], limit| (!bytes.is_empty()).then(|| clip::bytes(bytes, limit));
    let Exchange { client, user, method, uri, protocol, status, .. } = *exchange;
    let Exchange { sent, received, repository, digest, .. } = *exchange;
    let json = Json {
        time: format!("{time:.3}"),
        client,
        user: user.map(|user| clip::text(user, USER)),
        method: clip::text(method, METHOD),
        uri: clip::text(uri, limits.uri),
        protocol,
        status,
        sent,
        received,
        referer: text(exchange.referer, limits.referer),
        agent: text(exchange.agent, limits.agent),
        repository: repository.map(|repository| clip::text(repository, REPOSITORY)),
        digest: digest.map(|digest| clip::text(digest, DIGEST)),
        seconds: exchange.duration.as_secs_f64(),
        request: exchange.request.to_string(),
    };
    // Nothing in it cannot be written.
    let mut line = serde_json::to_string(&json).unwrap_or_default();
    line.push('\n');
    super::format::visible(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        AccessFormatter::{Combined, Json},
        *,
    };

    const EXCHANGE: Exchange<'static> = Exchange {
        client: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        let_in: true,
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
        duration: Duration::from_micros(1_002_003),
        request: &"id-1",
    };

    fn time() -> jiff::Timestamp {
        "2026-11-21T20:14:20.5Z".parse().unwrap()
    }

    #[test]
    fn a_line_is_registry_2s_with_more_behind_it() {
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
    fn nothing_from_outside_ends_a_line_or_a_field() {
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
        assert_eq!(json["seconds"], 1.002003);
    }

    #[test]
    fn every_field_stands_in_the_guide() {
        let guide = include_str!("../../docs/LOGGING.md");
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
    fn what_is_too_long_is_cut_between_escapes_and_ends_in_its_length() {
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

        let stranger = Exchange { let_in: false, user: None, repository: None, ..known };
        let text = line(Combined, &stranger, time());
        let uri = &uri[..244];
        let agent = "\\xff".repeat(13);
        assert!(text.contains(&format!("\"GET {uri}...[5023] HTTP/1.1\"")), "{text}");
        assert!(text.contains(&format!(" \"...[300]\" \"{agent}...[3800]\" ")), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line(Json, &stranger, time())).unwrap();
        assert_eq!(json["uri"], format!("{uri}...[5023]"));
        assert_eq!(json["referer"], "...[300]");
        assert_eq!(json["agent"], format!("{}...[3800]", "\u{fffd}".repeat(17)));
    }

    #[test]
    fn what_clients_send_every_day_is_whole() {
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
            let_in in any::<bool>(),
        ) {
            let [user, method, uri, repository, digest] = &texts;
            let [user, method, uri, repository, digest] =
                [(user, 0), (method, 1), (uri, 2), (repository, 3), (digest, 4)]
                    .map(|(text, nth)| text.repeat(times[nth]));
            let referer = bytes.repeat(times[5]);
            let agent = bytes.repeat(times[6]);
            let exchange = Exchange {
                client: Some("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap()),
                let_in,
                user: Some(&user),
                method: &method,
                uri: &uri,
                sent: u64::MAX,
                received: u64::MAX,
                referer: &referer,
                agent: &agent,
                repository: Some(&repository),
                digest: Some(&digest),
                duration: Duration::MAX,
                request: &"01234567-0123456789abcdef",
                ..EXCHANGE
            };
            for formatter in [Combined, Json] {
                let line = line(formatter, &exchange, time());
                prop_assert!(line.len() <= LONGEST, "{} bytes: {line}", line.len());
                prop_assert_eq!(line.matches('\n').count(), 1);
                if formatter == Json {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
                }
            }
        }
    }
}
