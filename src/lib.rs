//! Portcullis: a container registry with TLS and authentication built in.
//!
//! Imports between modules run one way. The main dependencies:
//!
//! ```text
//! main → cli → app → config, server, http, registry, notify, jobs
//!                    http → gate, registry, oci
//!                    registry → storage, oci
//!                    gate, notify → oci
//! ```
//!
//! - [`cli`] has the commands; [`app`] constructs the parts, starts and stops them.
//! - [`config`] reads the configuration file and the `REGISTRY_*` variables. Each part defines its
//!   own options; `config` only collects them.
//! - [`server`] owns sockets, TLS and certificates and knows nothing of registries.
//! - [`gate`] authenticates and authorises callers. It names no HTTP type.
//! - [`http`] has the middleware and the handlers: it turns requests into calls of the core and errors
//!   into responses.
//! - [`notify`] posts events to webhooks, from queues that outlive the process.
//! - [`registry`] is the core: blobs, uploads, manifests, tags. It knows no HTTP and no policy.
//! - [`storage`] keeps bytes at keys and knows nothing of registries.
//! - [`oci`] is the vocabulary of the specifications, valid by construction.
//! - [`jobs`] runs periodic tasks; [`health`] checks whether the server is fit to serve; [`telemetry`]
//!   writes the log; [`network`] gives the network of an address; [`byte_size`] reads `20GiB`; `stamp` tells whether a file has
//!   changed, `chain` formats an error with its causes, `humanize` formats ages, `outbound` begins the client of
//!   requests to other servers.
//!
//! `docs/ARCHITECTURE.md` has all dependencies and a glossary; `tests/it/architecture.rs` checks the
//! dependencies.

pub mod app;
pub mod byte_size;
mod chain;
pub mod cli;
pub mod config;
pub mod gate;
pub mod health;
pub mod http;
mod humanize;
pub mod jobs;
pub mod network;
pub mod notify;
pub mod oci;
mod outbound;
pub mod registry;
pub mod server;
mod stamp;
pub mod storage;
pub mod telemetry;
