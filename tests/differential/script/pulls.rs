//! The types that clients accept, and the types that they get.

use super::manifests::all_types;
use crate::{
    content::{
        DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, SCHEMA_1, digest, docker_image,
        docker_list, oci_image, oci_index,
    },
    step::{Step, get, head},
};

pub(super) fn steps() -> Vec<Step> {
    let accepted = [
        ("every type", Some(all_types())),
        ("without Accept", None),
        ("anything", Some("*/*".to_owned())),
        ("docker's image", Some(DOCKER_MANIFEST.to_owned())),
        ("OCI's types", Some(format!("{OCI_MANIFEST},{OCI_INDEX}"))),
        ("docker's types", Some(format!("{DOCKER_MANIFEST};q=0.5, {DOCKER_LIST}"))),
        ("schema 1", Some(SCHEMA_1.to_owned())),
        ("JSON", Some("application/json".to_owned())),
    ];
    let mut steps = Vec::new();
    for tag in ["docker", "oci", "docker-list", "oci-index"] {
        for (what, accept) in &accepted {
            let target = format!("/v2/app/manifests/{tag}");
            for step in [get(*what, &target), head(format!("{what}, head"), &target)] {
                let step = Step { name: format!("{tag}: {}", step.name), ..step };
                steps.push(match accept {
                    Some(types) => step.header("Accept", types),
                    None => step,
                });
            }
        }
    }
    for (what, manifest) in [
        ("docker", docker_image()),
        ("oci", oci_image()),
        ("docker-list", docker_list()),
        ("oci-index", oci_index()),
    ] {
        let target = format!("/v2/app/manifests/{}", digest(manifest.to_string()));
        steps.push(get(format!("{what}, by digest: without Accept"), target));
    }
    let several = get("oci: in several headers", "/v2/app/manifests/oci");
    steps.push(
        [DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST]
            .into_iter()
            .fold(several, |step, kind| step.header("Accept", kind)),
    );
    steps
}
