//! Behaviour, driven through the public surface over real TLS.
//!
//! One binary, because linking takes most of the time; one folder per subject. `support` starts
//! servers and makes content.

#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "`pub` in the harness marks what tests use, and a test stops at the first surprise"
)]

mod architecture;
mod support;

/// Access rules: who may do what.
mod access {
    mod agreement;
    mod challenges;
    mod consequences;
    mod nobody;
    mod table;
}

/// Authentication: htpasswd, client certificates, throttling.
mod auth {
    mod access_page;
    mod access_rules;
    mod certificate_identity;
    mod client_certificates;
    mod deploy_tokens;
    mod fail2ban;
    mod gate;
    mod issuer;
    mod legacy_formats;
    mod sessions;
    mod throttle;
}

/// Commands as processes.
mod cli {
    mod access;
    mod certs;
    mod config;
    mod first_start;
    mod generated;
    mod htpasswd;
    mod invocation;
    mod ls;
    mod migrate;
    mod purge_uploads;
    mod retain;
    mod rm;
    mod serve;
    mod token;
    mod usage;
    mod verify;
}

/// Deleted repositories, garbage collection, retention.
mod delete {
    mod collection;
    mod repositories;
    mod retention;
}

/// HTTP: errors, headers, names.
mod http {
    mod browsers;
    mod errors;
    mod headers;
    mod locations;
    mod traversal;
}

/// Which addresses may use the registry, and how much of it.
mod limits {
    mod bytes;
    mod clients;
    mod connections;
    mod requests;
}

/// Notifications.
mod notify {
    mod notifications;
}

/// Reads.
mod pull {
    mod blobs;
    mod lists;
    mod referrers;
}

/// Writes.
mod push {
    mod blob_limit;
    mod excess;
    mod immutable_tags;
    mod limits;
    mod manifests;
    mod quotas;
    mod uploads;
}

/// Listeners, TLS, connections and their limits, the drain.
mod server {
    mod certificate_files;
    mod connections;
    mod crowds;
    mod early_answers;
    mod floods;
    mod lifecycle;
    mod local_authority;
    mod misbehaving;
    mod passthrough;
    mod proxy_protocol;
    mod redirect;
    mod sni;
    mod sockets;
}

/// The disk: failures, power cuts, symbolic links, read-only operation.
mod storage {
    mod failures;
    mod faults;
    mod links;
    mod power_loss;
    mod readonly;
}

/// Metrics and health.
mod telemetry {
    mod health;
    mod metrics;
}
