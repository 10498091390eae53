//! The access log, on standard output: a line for each finished request, in Apache's combined log
//! format (`access/combined.rs`), shorter on a terminal (`access/terminal.rs`), or as a JSON object
//! (`access/json.rs`).
//!
//! No text of a client can begin a line or end a field, and none makes a line long: each field has a
//! limit (`clip.rs`).

use std::{
    fmt,
    io::{self, IsTerminal as _},
    net::IpAddr,
    sync::OnceLock,
    time::Duration,
};

use super::{
    AccessFormatter, AccessLogOptions,
    clip::MAX_LINE,
    writer::{Dropped, Lines, Rank, Writer},
};

mod combined;
mod json;
mod terminal;

/// The access log of the process; empty until it is started, and where it is disabled.
static LOG: OnceLock<AccessLog> = OnceLock::new();

#[derive(Debug)]
struct AccessLog {
    form: Form,
    lines: Lines,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Combined,
    Json,
    Terminal,
}

impl Form {
    fn of(formatter: AccessFormatter, is_terminal: bool) -> Self {
        match formatter {
            AccessFormatter::Combined if is_terminal => Self::Terminal,
            AccessFormatter::Combined => Self::Combined,
            AccessFormatter::Json => Self::Json,
        }
    }
}

/// A finished request and its response.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The address of the client; `None` for a client on a Unix socket.
    pub client: Option<IpAddr>,
    /// Whether the caller was authenticated, with `auth: none` as anonymous. The lines of other
    /// callers are shorter, and are dropped first when there are too many lines.
    pub is_authenticated: bool,
    /// The name of the caller, with its kind; `None` without one.
    pub user: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// `HTTP/1.1`
    pub protocol: &'static str,
    /// The status of the response.
    pub status: u16,
    /// The number of sent bytes of its body.
    pub sent: u64,
    /// The number of received bytes of the request's body.
    pub received: u64,
    /// `Referer`
    pub referer: &'a [u8],
    /// `User-Agent`
    pub agent: &'a [u8],
    /// The repository in the path.
    pub repository: Option<&'a str>,
    /// The digest of the content of the response.
    pub digest: Option<&'a str>,
    /// The number of the access rule that let the caller do this. Only the JSON form has it.
    pub rule: Option<usize>,
    /// The time from the head of the request to the end of the response.
    pub duration: Duration,
    /// The id of the request.
    pub request: &'a dyn Display,
}

/// A value that can be written to the log.
pub trait Display: fmt::Display + fmt::Debug {}

impl<T: fmt::Display + fmt::Debug> Display for T {}

/// Starts the access log, until the returned writer is dropped; `None` where it is disabled.
pub(super) fn init(options: &AccessLogOptions) -> io::Result<Option<Writer>> {
    if options.disabled {
        return Ok(None);
    }
    let lines = Lines::default();
    let report = |Dropped { lines, unauthenticated }| {
        tracing::warn!(
            lines,
            unauthenticated,
            "the access log is written faster than it is read; lines dropped"
        );
    };
    let writer = lines.write_to(io::stdout(), report)?;
    let form = Form::of(options.formatter, io::stdout().is_terminal());
    let _ = LOG.set(AccessLog { form, lines });
    Ok(Some(writer))
}

/// Writes the line of a request, unless the access log is disabled.
pub fn log(exchange: &Exchange<'_>) {
    let Some(AccessLog { form, lines }) = LOG.get() else { return };
    let rank = if exchange.is_authenticated { Rank::Usual } else { Rank::Unauthenticated };
    lines.push(&line(*form, exchange, jiff::Timestamp::now()), rank);
}

/// The limits of the fields that every client can fill, in bytes.
struct Limits {
    uri: usize,
    referer: usize,
    agent: usize,
}

/// The limits for an authenticated caller: enough for a name of 255 bytes with a digest or some tags.
const AUTHENTICATED: Limits = Limits { uri: 1024, referer: 256, agent: 256 };

/// The limits for an unauthenticated caller: enough to recognise the request.
const UNAUTHENTICATED: Limits = Limits { uri: 256, referer: 0, agent: 64 };

/// The limits for a line whose fields all have their full length.
const TIGHT: Limits = Limits { referer: 48, agent: 48, ..AUTHENTICATED };

// The limits of the fields that an authenticated caller cannot choose freely. It can choose the
// method, but no method of HTTP is so long.
const USER: usize = 128;
const METHOD: usize = 24;
const REPOSITORY: usize = 256;
const DIGEST: usize = 160;

fn line(form: Form, exchange: &Exchange<'_>, time: jiff::Timestamp) -> String {
    let form = match form {
        Form::Combined => combined::line,
        Form::Json => json::line,
        Form::Terminal => terminal::line,
    };
    let limits = if exchange.is_authenticated { AUTHENTICATED } else { UNAUTHENTICATED };
    let line = form(exchange, &limits, time);
    if line.len() <= MAX_LINE { line } else { form(exchange, &TIGHT, time) }
}

#[cfg(test)]
mod tests;
