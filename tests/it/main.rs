//! Behaviour, driven through the public surface over real TLS.
//!
//! One binary, because linking is what costs; one module per subject. `support` starts servers and
//! makes content.

mod architecture;
mod cli_certs;
mod cli_htpasswd;
mod cli_serve;
mod gate;
mod server;
mod storage_failures;
mod support;
