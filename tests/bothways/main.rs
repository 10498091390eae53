//! One tree, two programs: what docker-registry (registry:2) has written is served by Portcullis as
//! it is, and the other way round. Both are the real programs; they take turns and never run at the
//! same time.
//!
//! `migration` executes docs/MIGRATING.md: from nginx with docker-registry to Portcullis, and back.
//!
//! `content` pushes images of every kind and `ledger` knows what has to be there then, whoever
//! serves it; `place` starts the programs. Trees that are damaged, and those with manifests of
//! schema 1, are made by hand. `REGISTRY2` names another program than docker-registry, such as a
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
