//! Pushing manifests.

use serde_json::{Value, json};

use crate::{
    content::{
        ABSENT, CONFIG, DOCKER_LIST, DOCKER_MANIFEST, LAYER, OCI_INDEX, OCI_MANIFEST, SCHEMA_1,
        descriptor, digest, digest512, docker_image, docker_list, list, oci_image, oci_index, with,
    },
    step::{Step, post, put},
};

/// A push to `app`.
fn push(name: &str, reference: &str, kind: &str, manifest: impl ToString) -> Step {
    put(name, format!("/v2/app/manifests/{reference}"))
        .header("Content-Type", kind)
        .body(manifest.to_string())
}

/// A push to a repository for manifests that only one of the servers accepts, so that the tags of
/// the other repositories stay the same on both.
fn push_apart(name: &str, reference: &str, manifest: impl ToString) -> Step {
    put(name, format!("/v2/apart/manifests/{reference}"))
        .header("Content-Type", DOCKER_MANIFEST)
        .body(manifest.to_string())
}

/// The path that mounts a blob of `app` in another repository.
fn mount(name: &str, bytes: &str) -> String {
    format!("/v2/{name}/blobs/uploads/?mount={}&from=app", digest(bytes))
}

/// Accepted pushes.
#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn steps() -> Vec<Step> {
    let (docker, oci) = (docker_image(), oci_image());
    let annotated = with(oci.clone(), json!({ "annotations": { "a": "b" } }));
    let attached = with(
        oci.clone(),
        json!({ "subject": descriptor(OCI_MANIFEST, oci.to_string()), "artifactType": "a/b" }),
    );
    let foreign = json!({ "layers": [{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest("foreign"),
        "size": 7,
        "urls": ["https://example.com/layer"],
    }] });
    let untyped = json!({ "mediaType": null });
    let pretty = serde_json::to_string_pretty(&docker).unwrap() + "\n";
    vec![
        push("docker's image", "docker", DOCKER_MANIFEST, &docker),
        push("OCI's image", "oci", OCI_MANIFEST, &oci),
        push("docker's list", "docker-list", DOCKER_LIST, docker_list()),
        push("OCI's index", "oci-index", OCI_INDEX, oci_index()),
        push("by digest", &digest(annotated.to_string()), OCI_MANIFEST, &annotated),
        push(
            "by an escaped digest",
            &digest(docker.to_string()).replace(':', "%3A"),
            DOCKER_MANIFEST,
            &docker,
        ),
        push("the same again", "docker", DOCKER_MANIFEST, &docker),
        push("the same to another tag", "v1.0_x-y", DOCKER_MANIFEST, &docker),
        push("other bytes of the same", "pretty", DOCKER_MANIFEST, pretty),
        push("another to the tag", "moved", DOCKER_MANIFEST, &docker),
        push("and back", "moved", OCI_MANIFEST, &oci),
        push("the longest tag", &"t".repeat(128), DOCKER_MANIFEST, &docker),
        push("a tag of digits", "123", DOCKER_MANIFEST, &docker),
        push("a tag in capitals", "LATEST", DOCKER_MANIFEST, &docker),
        push(
            "OCI's image without its type",
            "untyped",
            OCI_MANIFEST,
            with(oci.clone(), untyped.clone()),
        ),
        push(
            "OCI's index without its type",
            "untyped-index",
            OCI_INDEX,
            with(oci_index(), untyped),
        ),
        push(
            "a type with parameters",
            "parameters",
            &format!("{OCI_MANIFEST}; charset=utf-8"),
            &oci,
        ),
        push(
            "an index of an index",
            "nested",
            OCI_INDEX,
            list(OCI_INDEX, OCI_INDEX, &[oci_index()]),
        ),
        push("an index of nothing", "hollow", OCI_INDEX, list(OCI_INDEX, OCI_MANIFEST, &[])),
        push(
            "an image without layers",
            "no-layers",
            OCI_MANIFEST,
            with(oci.clone(), json!({ "layers": [] })),
        ),
        push(
            "an image with a layer twice",
            "twice",
            OCI_MANIFEST,
            with(
                oci.clone(),
                json!({
                    "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER), descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
                }),
            ),
        ),
        push(
            "a layer of a type of its own",
            "chart",
            OCI_MANIFEST,
            with(
                oci,
                json!({
                    "layers": [descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", LAYER)],
                }),
            ),
        ),
        push("with a subject", "attached", OCI_MANIFEST, attached),
        put("in chunks", "/v2/app/manifests/chunked")
            .header("Content-Type", DOCKER_MANIFEST)
            .chunked(docker.to_string()),
        // A second repository, for the lists.
        post("a configuration for another repository", mount("team/app", CONFIG)),
        put("to another repository", "/v2/team/app/manifests/latest")
            .header("Content-Type", DOCKER_MANIFEST)
            .body(docker.to_string()),
        put("an index of an image that is elsewhere", "/v2/team/app/manifests/index")
            .header("Content-Type", OCI_INDEX)
            .body(oci_index().to_string()),
        // Differences, in repositories of their own.
        post("a configuration for what is apart", mount("apart", CONFIG)),
        post("a layer for what is apart", mount("apart", LAYER)),
        push_apart("as everywhere", "latest", &docker),
        push_apart("a layer from elsewhere", "foreign", with(docker.clone(), foreign)),
        push_apart(
            "with tags beside the digest",
            &format!("{}?tag=beside&tag=too", digest(docker.to_string())),
            &docker,
        ),
    ]
}

/// Refused pushes.
#[expect(clippy::too_many_lines, reason = "a list")]
pub(super) fn bad() -> Vec<Step> {
    let (docker, oci) = (docker_image(), oci_image());
    let absent = |kind| descriptor(kind, ABSENT);
    let layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let config_type = "application/vnd.oci.image.config.v1+json";
    let schema_1 = json!({
        "schemaVersion": 1, "name": "app", "tag": "one", "architecture": "amd64",
        "fsLayers": [{ "blobSum": digest(LAYER) }], "history": [{ "v1Compatibility": "{}" }],
    });
    let digest_of = |text: &str| {
        with(
            oci.clone(),
            json!({ "config": {
                "mediaType": config_type, "digest": text, "size": CONFIG.len(),
            }}),
        )
    };
    let mut steps = vec![
        push("another digest", &digest(ABSENT), DOCKER_MANIFEST, &docker),
        push("another digest, sha512", &digest512(ABSENT), DOCKER_MANIFEST, &docker),
        push("by sha512", &digest512(docker.to_string()), DOCKER_MANIFEST, &docker),
        push("a malformed digest", "sha256:abc", DOCKER_MANIFEST, &docker),
        push(
            "a digest of another algorithm",
            &format!("md5:{}", "0".repeat(32)),
            DOCKER_MANIFEST,
            &docker,
        ),
        push("a malformed tag", "-bad", DOCKER_MANIFEST, &docker),
        push("a tag with a dot before it", ".bad", DOCKER_MANIFEST, &docker),
        push("too long a tag", &"t".repeat(129), DOCKER_MANIFEST, &docker),
        push("a tag with an escaped space", "a%20b", DOCKER_MANIFEST, &docker),
        push("no tag", "", DOCKER_MANIFEST, &docker),
        push(
            "no layer",
            "bad",
            OCI_MANIFEST,
            with(oci.clone(), json!({ "layers": [absent(layer_type)] })),
        ),
        push(
            "no configuration",
            "bad",
            OCI_MANIFEST,
            with(oci.clone(), json!({ "config": absent(config_type) })),
        ),
        push(
            "neither layer nor configuration",
            "bad",
            OCI_MANIFEST,
            with(
                oci.clone(),
                json!({
                    "config": absent(config_type), "layers": [descriptor(layer_type, "also absent")],
                }),
            ),
        ),
        push(
            "a layer of another repository",
            "bad",
            OCI_MANIFEST,
            with(
                oci.clone(),
                json!({
                    "layers": [descriptor(layer_type, "by sha512 elsewhere")],
                }),
            ),
        ),
        push(
            "no image of docker's list",
            "bad",
            DOCKER_LIST,
            with(
                docker_list(),
                json!({
                    "manifests": [absent(DOCKER_MANIFEST)],
                }),
            ),
        ),
        push(
            "no image of OCI's index",
            "bad",
            OCI_INDEX,
            with(
                oci_index(),
                json!({
                    "manifests": [absent(OCI_MANIFEST)],
                }),
            ),
        ),
        push(
            "too large",
            "bad",
            OCI_MANIFEST,
            with(oci.clone(), json!({ "annotations": { "a": "x".repeat(4 << 20) } })),
        ),
        push(
            "unsigned schema 1",
            "bad",
            "application/vnd.docker.distribution.manifest.v1+json",
            &schema_1,
        ),
        push("schema 1", "bad", SCHEMA_1, &schema_1),
        push("schema 1 as JSON", "bad", "application/json", &schema_1),
        push("no digest in a descriptor", "bad", OCI_MANIFEST, digest_of("")),
        push("no good digest in a descriptor", "bad", OCI_MANIFEST, digest_of("sha256:abc")),
        push(
            "another algorithm in a descriptor",
            "bad",
            OCI_MANIFEST,
            digest_of(&format!("md5:{}", "0".repeat(32))),
        ),
        put("to a malformed name", "/v2/App/manifests/bad")
            .header("Content-Type", OCI_MANIFEST)
            .body(oci.to_string()),
        put("to a repository without the blobs", "/v2/unknown/manifests/bad")
            .header("Content-Type", OCI_MANIFEST)
            .body(oci.to_string()),
        post("by post", "/v2/app/manifests/bad")
            .header("Content-Type", OCI_MANIFEST)
            .body(oci.to_string()),
        put("without a type", "/v2/apart/manifests/typeless").body(docker.to_string()),
        // serde would read that as a struct.
        push(
            "the values of an index in a list",
            "bad",
            OCI_INDEX,
            json!([2, OCI_INDEX, null, null, [], null, null, null, null, null]),
        ),
        put("bytes that are no text", "/v2/app/manifests/bad")
            .header("Content-Type", OCI_MANIFEST)
            .body(*b"\xff\xfe"),
    ];
    for (what, kind, manifest) in [
        ("JSON", "application/json", docker.clone()),
        ("text", "text/plain", docker.clone()),
        ("an unknown type", "manifest", docker.clone()),
        ("octets", "application/octet-stream", docker.clone()),
        ("a configuration", config_type, docker.clone()),
        ("OCI's image, but docker's", OCI_MANIFEST, docker),
        ("docker's image, but OCI's", DOCKER_MANIFEST, oci.clone()),
        ("docker's list, but OCI's index", DOCKER_LIST, oci_index()),
        ("OCI's index, but an image", OCI_INDEX, oci.clone()),
        ("OCI's image, but an index", OCI_MANIFEST, oci_index()),
    ] {
        steps.push(push(&format!("sent as {what}"), "sent", kind, manifest));
    }
    for (what, fields) in [
        ("no schema version", json!({ "schemaVersion": null })),
        ("schema version 1", json!({ "schemaVersion": 1 })),
        ("schema version 3", json!({ "schemaVersion": 3 })),
        ("a schema version in words", json!({ "schemaVersion": "2" })),
        ("no configuration at all", json!({ "config": null })),
        ("no layers at all", json!({ "layers": null })),
        ("layers that are no list", json!({ "layers": {} })),
        ("an index as well", json!({ "manifests": [] })),
        ("an unknown field", json!({ "unknown": 1 })),
    ] {
        steps.push(push(
            &format!("an image with {what}"),
            "formed",
            OCI_MANIFEST,
            with(oci.clone(), fields),
        ));
    }
    for (what, text) in [
        ("nothing", ""),
        ("no JSON", "not JSON"),
        ("half of JSON", "{\"schemaVersion\":2,"),
        ("an empty object", "{}"),
        ("a list", "[]"),
        ("null", "null"),
        ("a number", "2"),
    ] {
        for (short, kind) in
            [("docker", DOCKER_MANIFEST), ("OCI", OCI_MANIFEST), ("index", OCI_INDEX)]
        {
            steps.push(push(
                &format!("{what}, {short}"),
                "bad",
                kind,
                Value::String(text.to_owned()).as_str().unwrap_or_default(),
            ));
        }
    }
    steps
}
