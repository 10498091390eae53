//! What must hold of everything that Portcullis reads from outside, whatever the bytes.
//!
//! Each target is a function of bytes that panics when one of its properties does not hold. The
//! programs in `fuzz_targets/` hand it bytes that libFuzzer makes up; `tests/regressions.rs` hands
//! it those that are kept in `seeds/` and `regressions/`.
//!
//! A new target needs a function here, a line in [`TARGETS`], a program in `fuzz_targets/` with its
//! `[[bin]]`, and a seed. A finding becomes a file in `regressions/<target>/` before it is mended.

mod config;
mod gate;
mod http;
mod names;
mod oci;

pub use config::configuration;
pub use gate::{authorization, htpasswd};
pub use http::{authority, content_range, endpoint, range};
pub use names::{digest, reference, repository_name, upload_id};
pub use oci::{hasher_state, manifest};

/// A function that panics when the bytes break a property.
pub type Target = fn(&[u8]);

/// Every target by the name of its program.
pub const TARGETS: &[(&str, Target)] = &[
    ("authority", authority),
    ("authorization", authorization),
    ("configuration", configuration),
    ("content_range", content_range),
    ("digest", digest),
    ("endpoint", endpoint),
    ("hasher_state", hasher_state),
    ("htpasswd", htpasswd),
    ("manifest", manifest),
    ("range", range),
    ("reference", reference),
    ("repository_name", repository_name),
    ("upload_id", upload_id),
];

/// The bytes as text, for what only ever reads text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The first line, and what follows it.
fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

/// No terminal and no log obeys a message, and no line of it passes for another.
fn assert_printable(message: &str) {
    assert!(!message.contains(char::is_control), "has a control character: {message:?}");
}
