//! Manifests that real tools write and the specification does not allow: build caches, empty lists,
//! null or missing fields; and keys that programs read differently.

use serde_json::{Value, json};

use crate::{
    content::{
        ABSENT, CONFIG, DOCKER_LIST, DOCKER_MANIFEST, LAYER, OCI_INDEX, OCI_MANIFEST, descriptor,
        digest, docker_image, docker_list, oci_image, oci_index,
    },
    script::manifests::all_types,
    step::{Step, get, head, put},
};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CACHE_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A manifest in which a field has a changed value, which may be null.
fn changed(mut manifest: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[key] = value;
    manifest
}

/// The same without a field.
fn without(mut manifest: Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
    manifest
}

/// What `BuildKit` exports as a cache: an index of blobs.
fn cache(layer: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(LAYER_TYPE, layer), descriptor(CACHE_TYPE, CONFIG)],
    })
}

/// A push, with and without credentials.
fn push(name: &str, tag: &str, kind: &str, manifest: impl ToString) -> [Step; 2] {
    let step = |name: String| {
        put(name, format!("/v2/app/manifests/{tag}"))
            .header("Content-Type", kind)
            .body(manifest.to_string())
    };
    [step(name.to_owned()), step(format!("without credentials: {name}")).by(None)]
}

/// Manifests that both accept and then serve.
pub(super) fn steps() -> Vec<Step> {
    let (docker, oci) = (docker_image(), oci_image());
    let mut steps = Vec::new();
    for (what, kind, manifest) in [
        ("cache", OCI_INDEX, cache(LAYER)),
        ("docker-cache", DOCKER_LIST, changed(cache(LAYER), "/mediaType", json!(DOCKER_LIST))),
        ("null-layers", OCI_MANIFEST, changed(oci.clone(), "/layers", Value::Null)),
        ("null-docker-layers", DOCKER_MANIFEST, changed(docker.clone(), "/layers", Value::Null)),
        ("missing-docker-layers", DOCKER_MANIFEST, without(docker.clone(), "/layers")),
        ("null-manifests", OCI_INDEX, changed(oci_index(), "/manifests", Value::Null)),
        ("null-docker-manifests", DOCKER_LIST, changed(docker_list(), "/manifests", Value::Null)),
        ("missing-manifests", OCI_INDEX, without(oci_index(), "/manifests")),
        ("empty-type", OCI_MANIFEST, changed(oci.clone(), "/mediaType", json!(""))),
        ("null-type", OCI_MANIFEST, changed(oci.clone(), "/mediaType", Value::Null)),
        ("empty-index-type", OCI_INDEX, changed(oci_index(), "/mediaType", json!(""))),
        ("null-annotations", OCI_MANIFEST, changed(oci.clone(), "/annotations", Value::Null)),
        ("null-in-them", OCI_MANIFEST, changed(oci.clone(), "/annotations", json!({ "a": null }))),
        ("null-beside", OCI_MANIFEST, changed(oci.clone(), "/manifests", Value::Null)),
        ("no-size", OCI_MANIFEST, without(oci.clone(), "/layers/0/size")),
        ("null-size", DOCKER_MANIFEST, changed(docker.clone(), "/config/size", Value::Null)),
        ("no-layer-type", OCI_MANIFEST, without(oci.clone(), "/layers/0/mediaType")),
        ("null-urls", OCI_MANIFEST, changed(oci.clone(), "/layers/0/urls", Value::Null)),
        ("null-platform", OCI_INDEX, changed(oci_index(), "/manifests/0/platform", Value::Null)),
        ("null-os", OCI_INDEX, changed(oci_index(), "/manifests/0/platform/os", Value::Null)),
        (
            "more-annotations",
            OCI_MANIFEST,
            changed(oci, "/layers/0/annotations", json!({ "a": "b" })),
        ),
    ] {
        steps.extend(push(&format!("push {what}"), what, kind, manifest));
        let target = format!("/v2/app/manifests/{what}");
        steps.push(get(what, &target).header("Accept", all_types()));
        steps.push(head(format!("{what}, head"), &target).header("Accept", all_types()));
        steps.push(get(format!("without credentials: {what}"), target).by(None));
    }
    let child = format!("/v2/app/blobs/{}", digest(LAYER));
    steps.push(get("a child of a cache", child));
    steps.extend(push("a cache that lacks a blob", "lacking", OCI_INDEX, cache(ABSENT)));
    steps.extend(push("a type that is null", "untyped", DOCKER_MANIFEST, {
        changed(docker, "/mediaType", Value::Null)
    }));
    steps
}

/// Manifests that Go programs and other programs read differently: pushes that registry:2 accepts.
pub(super) fn ambiguous() -> Vec<Step> {
    let text = oci_image().to_string();
    let replaced = |from: &str, to: &str| {
        let replaced = text.replacen(from, to, 1);
        assert_ne!(replaced, text, "{from}");
        replaced
    };
    let layers = json!([descriptor(LAYER_TYPE, LAYER)]);
    let pushes = [
        ("all keys in another case", {
            ["schemaVersion", "mediaType", "config", "layers", "digest", "size"].iter().fold(
                text.clone(),
                |text, key| {
                    let (first, rest) = key.split_at(1);
                    text.replace(
                        &format!("\"{key}\""),
                        &format!("\"{}{rest}\"", first.to_uppercase()),
                    )
                },
            )
        }),
        ("layers twice, in another case", replaced("{", &format!(r#"{{"Layers":{layers},"#))),
        ("layers twice", replaced("{", &format!(r#"{{"layers":{layers},"#))),
        ("a long s", replaced("\"layers\"", "\"layer\u{17f}\"")),
        ("a digest twice", {
            replaced("\"digest\"", &format!(r#""Digest":"{}","digest""#, digest(LAYER)))
        }),
        ("urls in another case", replaced("\"size\"", r#""URLs":[],"size""#)),
        ("a type twice", replaced("\"mediaType\"", r#""MediaType":"x/y","mediaType""#)),
        ("an annotation twice", replaced("{", r#"{"annotations":{"a":"b","a":"c"},"#)),
        ("an unknown key twice", replaced("{", r#"{"unknown":1,"unknown":2,"#)),
    ];
    // To a repository for manifests that only one of the servers accepts.
    let steps = pushes.into_iter().flat_map(|(what, body)| {
        let step = |name: String| {
            put(name, "/v2/apart/manifests/ambiguous")
                .header("Content-Type", OCI_MANIFEST)
                .body(body.clone())
        };
        [step(what.to_owned()), step(format!("without credentials: {what}")).by(None)]
    });
    steps.collect()
}
