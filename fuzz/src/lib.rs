//! The properties of the parsers of Portcullis that must hold for any input from outside.
//!
//! Each target is a function of bytes that panics when one of its properties does not hold. The
//! programs in `fuzz_targets/` pass it bytes from libFuzzer; `tests/regressions.rs` passes it the
//! files in `seeds/` and `regressions/`.
//!
//! A new target needs a function here, a line in [`TARGETS`], a program in `fuzz_targets/` with its
//! `[[bin]]`, and a seed. A finding becomes a file in `regressions/<target>/` before it is fixed.

mod config;
mod gate;
mod http;
mod names;
mod oci;
mod server;

pub use config::configuration;
pub use gate::{authorization, bearer, group_file, htpasswd, scopes, token_file};
pub use http::{authority, content_range, endpoint, range};
pub use names::{digest, reference, repository_name, upload_id};
pub use oci::{hasher_state, manifest};
pub use server::{client_hello, proxy_header};

/// A function that panics when the bytes break a property.
pub type Target = fn(&[u8]);

/// Every target by the name of its program.
pub const TARGETS: &[(&str, Target)] = &[
    ("authority", authority),
    ("authorization", authorization),
    ("bearer", bearer),
    ("client_hello", client_hello),
    ("configuration", configuration),
    ("content_range", content_range),
    ("digest", digest),
    ("endpoint", endpoint),
    ("group_file", group_file),
    ("hasher_state", hasher_state),
    ("htpasswd", htpasswd),
    ("manifest", manifest),
    ("proxy_header", proxy_header),
    ("range", range),
    ("reference", reference),
    ("repository_name", repository_name),
    ("scopes", scopes),
    ("token_file", token_file),
    ("upload_id", upload_id),
];

/// The bytes as text, for parsers of text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The first line, and what follows it.
fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// A message contains nothing that controls a terminal or forges a line of the log.
fn assert_printable(message: &str) {
    assert!(!message.contains(char::is_control), "has a control character: {message:?}");
}
