//! The lines, one file for each group that is measured together.

use crate::{arguments::Plan, line::Work};

mod access;
mod attack;
mod collection;
mod idle;
mod image;
mod lists;
mod login;
mod memory;
mod passthrough;
mod pull;
mod push;
mod requests;

/// All lines, in their order.
pub(crate) fn all(plan: &Plan) -> Vec<Box<dyn Work>> {
    vec![
        Box::new(requests::SmallRequests),
        Box::new(pull::Pull::new(plan, 1)),
        Box::new(pull::Pull::new(plan, 8)),
        Box::new(push::Push::new(plan, 1)),
        Box::new(push::Push::new(plan, 4)),
        Box::new(image::ManyLayers::default()),
        Box::new(login::FirstLogin),
        Box::new(memory::Memory::new(plan)),
        Box::new(lists::Lists::new(plan)),
        Box::new(idle::IdleConnections::default()),
        Box::new(attack::WrongPasswords),
        Box::new(collection::Collection::new(plan)),
        Box::new(access::Callers::default()),
        Box::new(access::Pages::new(plan)),
        Box::new(access::Held),
        Box::new(passthrough::Download::new(plan)),
        Box::new(passthrough::Held),
    ]
}
