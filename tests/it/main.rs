//! Behaviour, driven through the public surface over real TLS.
//!
//! One binary, because linking is what costs; one module per subject. `support` starts servers and
//! makes content.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the helpers are called by tests only, and a test stops at the first surprise"
)]

mod architecture;
mod cli_certs;
mod cli_htpasswd;
mod cli_serve;
mod gate;
mod server;
mod storage_failures;
mod support;
