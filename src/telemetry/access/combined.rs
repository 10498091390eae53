//! The access log in Apache's combined log format.
//!
//! A line begins as registry:2's do and continues with further fields, as names with values. A byte
//! that is not printable ASCII is written as `\xHH`, as Apache does.

use std::{cell::RefCell, fmt::Write as _};

use super::{DIGEST, Exchange, Limits, METHOD, REPOSITORY, USER};
use crate::telemetry::clip::Mark;

/// The capacity of a line in bytes: most lines are shorter.
const CAPACITY: usize = 384;

/// The line of a request. Its fields have `limits`.
pub(super) fn line(exchange: &Exchange<'_>, limits: &Limits, time: jiff::Timestamp) -> String {
    let Exchange { client, method, uri, protocol, status, sent, received, .. } = exchange;
    let mut line = String::with_capacity(CAPACITY);
    // Writing to a string does not fail.
    let _ = match client {
        Some(client) => write!(line, "{client} - "),
        // As in nginx's log.
        None => write!(line, "unix: - "),
    };
    match exchange.user {
        Some(user) if !user.is_empty() => field(&mut line, user.as_bytes(), b' ', USER),
        _ => line.push('-'),
    }
    date(&mut line, time);
    field(&mut line, method.as_bytes(), b' ', METHOD);
    line.push(' ');
    // The path comes first, so a limit truncates the query.
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
    // The digits after a leading one, so that zeros stay.
    let micros = 1_000_000 + exchange.duration.subsec_micros();
    line.push_str(&itoa::Buffer::new().format(micros)[1..]);
    let _ = writeln!(line, " request={}", exchange.request);
    line
}

/// Adds a number. `write!` is slower, and each request has a line.
fn number(line: &mut String, number: u64) {
    line.push_str(itoa::Buffer::new().format(number));
}

/// Adds the date. Each thread formats it once a second.
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

/// Adds a field with text of a client, up to `limit` bytes. `end` is the byte that would end the
/// field: a quote, or a space if the field has no quotes of its own.
pub(super) fn field(line: &mut String, bytes: &[u8], end: u8, limit: usize) {
    // A text within the limit is read once.
    let start = line.len();
    if bytes.len() <= limit {
        escape(line, bytes, end);
        if line.len() - start <= limit {
            return;
        }
        line.truncate(start);
    }
    let mut room = Mark::room_beside(limit);
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

/// The number of bytes that [`escape`] writes for one byte.
const fn width(byte: u8, end: u8) -> usize {
    match byte {
        b'\\' => 2,
        b'"' if end == b'"' => 2,
        b'"' => 4,
        _ if byte == end || !is_visible(byte) => 4,
        _ => 1,
    }
}

/// Adds bytes, escaped so that none ends the line or the field.
fn escape(line: &mut String, mut bytes: &[u8], end: u8) {
    let is_plain = |&byte: &u8| byte != end && byte != b'\\' && byte != b'"' && is_visible(byte);
    while !bytes.is_empty() {
        let plain = bytes.iter().take_while(|&byte| is_plain(byte)).count();
        let (text, rest) = bytes.split_at(plain);
        // Plain bytes are ASCII.
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
