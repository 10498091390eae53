//! Portcullis: a container registry that carries its own gate.
//!
//! The crate is laid out in modules, and imports run one way between them:
//!
//! ```text
//! main → cli → app → config, server, http, jobs
//!                    http → gate, notify, registry, oci
//!                    registry → storage, oci
//!                    gate, notify → oci
//! ```
//!
//! - [`cli`] is what a person types; [`app`] puts the parts together and takes them down again.
//! - [`config`] reads the configuration file and the `REGISTRY_*` variables. Each part defines its
//!   own options; `config` only gathers them.
//! - [`server`] owns sockets, TLS and certificates and knows nothing of registries.
//! - [`gate`] answers who a caller is and what they may do. It knows no HTTP.
//! - [`http`] is the only module that names axum: it turns requests into calls and errors into
//!   responses.
//! - [`notify`] posts events to webhooks, from queues that outlive the process.
//! - [`registry`] is the core: blobs, uploads, manifests, tags. It knows no HTTP and no policy.
//! - [`storage`] keeps bytes at keys and knows nothing of registries.
//! - [`oci`] is the vocabulary of the specifications, valid by construction.
//! - [`jobs`] runs what happens by itself; [`health`] says whether the server is fit to serve;
//!   [`telemetry`] writes the log; [`network`] says which addresses are one customer's; `stamp` tells
//!   whether a file has changed, `chain` what caused an error, and `humanize` has words for people.
//!
//! `docs/ARCHITECTURE.md` has the whole map; `tests/it/architecture.rs` keeps the dependencies true.

pub mod app;
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
pub mod registry;
pub mod server;
mod stamp;
pub mod storage;
pub mod telemetry;
