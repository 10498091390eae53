//! Behaviour, driven through the public surface over real TLS.
//!
//! One binary, because linking is what costs; one module per subject. `support` starts servers and
//! makes content.

#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "`pub` in the harness marks what tests use, and a test stops at the first surprise"
)]

mod architecture;
mod blobs;
mod browsers;
mod certificate_files;
mod cli_certs;
mod cli_config;
mod cli_htpasswd;
mod cli_purge_uploads;
mod cli_retain;
mod cli_rm;
mod cli_serve;
mod cli_verify;
mod client_certificates;
mod collection;
mod connections;
mod crowds;
mod early_answers;
mod errors;
mod excess;
mod fail2ban;
mod faults;
mod first_start;
mod floods;
mod gate;
mod headers;
mod health;
mod immutable_tags;
mod legacy_formats;
mod limits;
mod links;
mod lists;
mod local_authority;
mod locations;
mod manifests;
mod metrics;
mod misbehaving;
mod notifications;
mod power_loss;
mod readonly;
mod redirect;
mod referrers;
#[path = "../common/registry2.rs"]
mod registry2;
mod repositories;
mod retention;
mod server;
#[path = "../common/skip.rs"]
mod skip;
mod sockets;
mod storage_failures;
mod support;
mod throttle;
mod traversal;
mod uploads;
