//! One tree, two programs: Portcullis serves what docker-registry (registry:2) has written,
//! unchanged, and the other way round. Both are the real programs; they take turns and never run at
//! the same time.
//!
//! `migration` executes docs/MIGRATING.md: from nginx with docker-registry to Portcullis, and back.
//!
//! `content` pushes images of every kind and `ledger` knows the content that either program must
//! then serve; `place` starts the programs. The tests make damaged trees, and trees with manifests
//! of schema 1, by hand. `REGISTRY2` names a program other than docker-registry, such as a
//! registry:3.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod api;
mod back;
mod content;
mod damaged;
mod ledger;
mod migration;
mod odd;
mod place;
mod schema1;
mod there;
