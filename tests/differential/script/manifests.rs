//! Reading manifests, by clients that accept every type.

use crate::{
    content::{
        ABSENT, CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest, digest512,
        docker_image, oci_image,
    },
    step::{Step, get, head, patch, post},
};

/// The `Accept` of docker, skopeo and containerd.
pub(super) fn all_types() -> String {
    [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX].join(", ")
}

#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn steps() -> Vec<Step> {
    let all = all_types();
    let (docker, oci) = (digest(docker_image().to_string()), digest(oci_image().to_string()));
    let mut steps = Vec::new();
    for (what, reference) in [
        ("by digest", docker.clone()),
        ("by an escaped digest", oci.replace(':', "%3A")),
        ("of another tag", "v1.0_x-y".to_owned()),
        ("in other bytes", "pretty".to_owned()),
        ("behind a tag that moved", "moved".to_owned()),
        ("by the longest tag", "t".repeat(128)),
        ("in a tag of digits", "123".to_owned()),
        ("without a type", "untyped".to_owned()),
        ("of an index without a type", "untyped-index".to_owned()),
        ("of an index of an index", "nested".to_owned()),
        ("of an index of nothing", "hollow".to_owned()),
        ("with a subject", "attached".to_owned()),
        ("of a tag in other letters", "latest".to_owned()),
        ("that was refused", "bad".to_owned()),
        ("that is not there", "unknown".to_owned()),
        ("of an unknown digest", digest(ABSENT)),
        ("by sha512", digest512(docker_image().to_string())),
        ("that is a blob", digest(CONFIG)),
        ("of a malformed digest", "sha256:abc".to_owned()),
        ("of another algorithm", format!("md5:{}", "0".repeat(32))),
        ("of a malformed tag", "-bad".to_owned()),
        ("of too long a tag", "t".repeat(129)),
        ("of a tag and a slash", "docker/".to_owned()),
        ("of nothing", String::new()),
    ] {
        let target = format!("/v2/app/manifests/{reference}");
        steps.push(get(what, &target).header("Accept", &all));
        steps.push(head(format!("{what}, head"), target).header("Accept", &all));
    }
    for (what, tag) in
        [("with a layer from elsewhere", "foreign"), ("of a tag beside a digest", "beside")]
    {
        let target = format!("/v2/apart/manifests/{tag}");
        steps.push(get(what, &target).header("Accept", &all));
        steps.push(head(format!("{what}, head"), target).header("Accept", &all));
    }
    for (what, tag) in [
        ("the tag", format!("\"{docker}\"")),
        ("the tag without quotes", docker.clone()),
        ("the tag, weak", format!("W/\"{docker}\"")),
        ("one of several tags", format!("\"x\", \"{docker}\"")),
        ("any tag", "*".to_owned()),
        ("another tag", format!("\"{oci}\"")),
        ("the tag, with another before it", format!("\"x\",\"{docker}\"")),
    ] {
        let step = get(format!("if there is not {what}"), "/v2/app/manifests/docker");
        steps.push(step.header("Accept", &all).header("If-None-Match", tag));
    }
    steps.extend([
        head("if there is not the tag, head", "/v2/app/manifests/docker")
            .header("Accept", &all)
            .header("If-None-Match", format!("\"{docker}\"")),
        get("if there is the tag", "/v2/app/manifests/docker")
            .header("Accept", &all)
            .header("If-Match", "\"x\""),
        get("a range", "/v2/app/manifests/docker")
            .header("Accept", &all)
            .header("Range", "bytes=0-3"),
        get("in an unknown repository", "/v2/unknown/manifests/docker").header("Accept", &all),
        head("in an unknown repository, head", "/v2/unknown/manifests/docker")
            .header("Accept", &all),
        get("by digest in another repository", format!("/v2/team/app/manifests/{oci}"))
            .header("Accept", &all),
        get("a list of manifests", "/v2/app/manifests"),
        post("post", "/v2/app/manifests/docker"),
        patch("patch", "/v2/app/manifests/docker"),
        Step::new("OPTIONS", "options", "/v2/app/manifests/docker"),
        get("referrers", format!("/v2/app/referrers/{oci}")),
        get("referrers of nothing", format!("/v2/app/referrers/{}", digest(ABSENT))),
    ]);
    steps
}
