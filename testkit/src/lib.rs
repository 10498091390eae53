//! Helpers of several suites of Portcullis: the binary in a folder of its own, registry:2, clients
//! as processes, blobs, and skips. A helper of one suite belongs in that suite.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "called by tests only, and a test stops at the first surprise"
)]

pub mod blob;
pub mod issuer;
pub mod process;
pub mod random;
pub mod registry2;
pub mod require;
pub mod server;
pub mod site;
pub mod skip;
pub mod wire;
