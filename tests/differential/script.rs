//! The requests, in the order in which they are sent.

mod blobs;
mod catalog;
mod deletions;
mod gate;
mod manifests;
mod methods;
mod mounts;
mod odd;
mod paths;
mod pulls;
mod pushes;
mod tags;
mod uploads;
mod version;

use crate::step::Step;

/// Every step, its name after that of its group.
pub(crate) fn all() -> Vec<Step> {
    let groups = [
        ("version", version::steps()),
        ("gate", gate::steps()),
        ("empty catalog", catalog::of_nothing()),
        ("uploads", uploads::steps()),
        ("chunks", uploads::chunks()),
        ("sessions", uploads::sessions()),
        ("mounts", mounts::steps()),
        ("blobs", blobs::steps()),
        ("pushes", pushes::steps()),
        ("bad pushes", pushes::bad()),
        ("odd", odd::steps()),
        ("ambiguous", odd::ambiguous()),
        ("manifests", manifests::steps()),
        ("pulls", pulls::steps()),
        ("tags", tags::steps()),
        ("catalog", catalog::steps()),
        ("paths", paths::steps()),
        ("methods", methods::steps()),
        ("deletions", deletions::steps()),
    ];
    let named = |group: &str, step: Step| Step { name: format!("{group}: {}", step.name), ..step };
    groups
        .into_iter()
        .flat_map(|(group, steps)| steps.into_iter().map(move |step| named(group, step)))
        .collect()
}
