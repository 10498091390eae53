//! The access log, on standard output: a line for each request that is over.
//!
//! A line begins as registry:2's do, in the combined log format, and goes on with names and values
//! that this has no place for. Or it is a JSON object. Nothing a client sends can begin a line or
//! end a field: what is not a printable character of ASCII is written as `\xHH`, as Apache does.

use std::{
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
    writer::{Lines, Writer},
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
    let report =
        |lines| tracing::warn!(lines, "the access log grows faster than it is read: left out");
    let writer = lines.write_to(io::stdout(), report)?;
    let _ = LOG.set(AccessLog { formatter: options.formatter, lines });
    Ok(Some(writer))
}

/// Writes a line, if there is a log.
pub fn log(exchange: &Exchange<'_>) {
    let Some(AccessLog { formatter, lines }) = LOG.get() else { return };
    let line = match formatter {
        AccessFormatter::Combined => combined(exchange, jiff::Timestamp::now()),
        AccessFormatter::Json => json(exchange, jiff::Timestamp::now()),
    };
    lines.leave(&line, false);
}

/// Most lines are shorter than this, in bytes.
const LINE: usize = 384;

fn combined(exchange: &Exchange<'_>, time: jiff::Timestamp) -> String {
    let Exchange { client, method, uri, protocol, status, sent, received, .. } = exchange;
    let mut line = String::with_capacity(LINE);
    // Writing to a string does not fail.
    let _ = match client {
        Some(client) => write!(line, "{client} - "),
        // As nginx has it.
        None => write!(line, "unix: - "),
    };
    match exchange.user {
        Some(user) if !user.is_empty() => escape(&mut line, user.as_bytes(), b' '),
        _ => line.push('-'),
    }
    date(&mut line, time);
    escape(&mut line, method.as_bytes(), b' ');
    line.push(' ');
    escape(&mut line, uri.as_bytes(), b' ');
    line.extend([" ", protocol, "\" "]);
    number(&mut line, u64::from(*status));
    line.push(' ');
    number(&mut line, *sent);
    line.push_str(" \"");
    escape(&mut line, exchange.referer, b'"');
    line.push_str("\" \"");
    escape(&mut line, exchange.agent, b'"');
    line.push('"');
    if let Some(repository) = exchange.repository {
        line.push_str(" repository=");
        escape(&mut line, repository.as_bytes(), b' ');
    }
    if let Some(digest) = exchange.digest {
        line.push_str(" digest=");
        escape(&mut line, digest.as_bytes(), b' ');
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

/// Adds what a client sent. `end` is what would end the field: a quote, or a space where the field
/// has no quotes of its own.
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

fn is_visible(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

#[derive(Serialize)]
struct Json<'a> {
    time: String,
    client: Option<IpAddr>,
    user: Option<&'a str>,
    method: &'a str,
    uri: &'a str,
    protocol: &'static str,
    status: u16,
    sent: u64,
    received: u64,
    referer: Option<String>,
    agent: Option<String>,
    repository: Option<&'a str>,
    digest: Option<&'a str>,
    seconds: f64,
    request: String,
}

fn json(exchange: &Exchange<'_>, time: jiff::Timestamp) -> String {
    let text =
        |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    let Exchange { client, user, method, uri, protocol, status, .. } = *exchange;
    let Exchange { sent, received, repository, digest, .. } = *exchange;
    let json = Json {
        time: format!("{time:.3}"),
        client,
        user,
        method,
        uri,
        protocol,
        status,
        sent,
        received,
        referer: text(exchange.referer),
        agent: text(exchange.agent),
        repository,
        digest,
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
    use super::*;

    const EXCHANGE: Exchange<'static> = Exchange {
        client: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
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
            combined(&EXCHANGE, time()),
            "127.0.0.1 - ann [21/Nov/2026:20:14:20 +0000] \"GET /v2/app/manifests/latest \
             HTTP/1.1\" 200 259 \"\" \"curl/7.88.1\" repository=app digest=sha256:ab received=0 \
             seconds=1.002003 request=id-1\n"
        );
        let nobody = Exchange { user: None, repository: None, digest: None, ..EXCHANGE };
        assert!(combined(&nobody, time()).starts_with("127.0.0.1 - - ["));
        let later = "2027-01-02T03:04:05Z".parse().unwrap();
        let line = combined(&nobody, later);
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
        let line = combined(&nasty, time());
        assert!(
            line.starts_with(
                "127.0.0.1 - a\\x20b\\x22\\x0a [21/Nov/2026:20:14:20 +0000] \"G\\x22T \
                 /v2/\\x20\\xc3\\xa9 HTTP/1.1\" 200 259 \"\\\" 500 \\\\\\x0d\\x0a\" \"\\x1b[31m x\" "
            ),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1);
        let line = json(&nasty, time());
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["user"], "a b\"\n");
        assert_eq!(json["agent"], "\u{1b}[31m x");
        assert_eq!(json["seconds"], 1.002003);
    }

    #[test]
    fn every_field_stands_in_the_guide() {
        let guide = include_str!("../../docs/LOGGING.md");
        let line: serde_json::Value = serde_json::from_str(&json(&EXCHANGE, time())).unwrap();
        for (field, _) in line.as_object().unwrap() {
            assert!(guide.contains(&format!("`{field}`")), "{field}");
        }
        let line = combined(&EXCHANGE, time());
        for field in line.split(' ').filter_map(|part| part.split_once('=')) {
            assert!(guide.contains(&format!("`{}=`", field.0)), "{}", field.0);
        }
    }
}
