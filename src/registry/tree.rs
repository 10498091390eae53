//! The storage tree: where things lie, links, locks, leases, and what is damaged.

mod damage;
mod foreign;
mod key;
pub(super) mod lease;
pub(super) mod link;
mod locks;

pub(super) use self::{
    damage::DamageLog,
    key::{CURRENT, LINK, PULLED, TreeKey, blobs, quarantine, repositories},
    lease::Leases,
    locks::Locks,
};
