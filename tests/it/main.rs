//! Behaviour, driven through the public surface over real TLS.
//!
//! One binary, because linking is what costs; one module per subject. `support` starts servers and
//! makes content.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "`pub` in the harness marks what tests use, and a test stops at the first surprise"
)]

mod blobs;
mod errors;
mod limits;
mod lists;
mod locations;
mod manifests;
mod referrers;
mod support;
mod uploads;
