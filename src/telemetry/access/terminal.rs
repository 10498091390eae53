//! The access log on a terminal, for a person who watches it:
//! `12:00:01 200 ann@127.0.0.1 GET /v2/app/tags/list 31 bytes 2 ms`, the time in the time zone of the
//! terminal. Programs read the other formats, which have all fields.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::{Exchange, Limits, METHOD, USER, combined::field};

/// The line of a request. Its fields have `limits`.
pub(super) fn line(exchange: &Exchange<'_>, limits: &Limits, time: jiff::Timestamp) -> String {
    let Exchange { client, method, uri, status, sent, received, duration, .. } = exchange;
    let time = time.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
    let mut line = format!("{time} {status} ");
    if let Some(user) = exchange.user.filter(|user| !user.is_empty()) {
        field(&mut line, user.as_bytes(), b' ', USER);
        line.push('@');
    }
    // Writing to a string does not fail.
    let _ = match client {
        Some(client) => write!(line, "{client} "),
        None => write!(line, "unix "),
    };
    field(&mut line, method.as_bytes(), b' ', METHOD);
    line.push(' ');
    field(&mut line, uri.as_bytes(), b' ', limits.uri);
    let bytes = sent.max(received);
    let _ = writeln!(line, " {bytes} bytes {} ms", duration.as_millis());
    line
}
