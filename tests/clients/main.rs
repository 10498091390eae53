//! Real clients against the real binary: docker with a daemon of its own, skopeo, podman and ctr;
//! an authority of certificates; and scanners of a server's TLS.
//!
//! Every test starts its own server and its own client state in temporary directories, trusts the
//! server through the CA file alone, and stops its processes even when it fails. The tests download
//! nothing: `image` makes the images. A suite without its clients prints
//! `skipped: <suite>: <reason>` (see `require`).

#![expect(
    clippy::expect_used,
    reason = "the helpers are called by tests only, and a test stops at the first surprise"
)]

mod acme;
mod answers;
mod artefacts;
mod certificates;
mod containerd;
mod docker;
mod dockerd;
mod image;
mod netns;
mod podman;
mod server;
mod skopeo;
mod sslscan;
mod tls_scan;
mod token_server;
mod tutorials;
