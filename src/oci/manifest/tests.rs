use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor() -> serde_json::Value {
    serde_json::json!({ "mediaType": "application/x", "digest": DIGEST, "size": 0 })
}

fn image(media_type: Option<MediaType>) -> serde_json::Value {
    let mut json = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(), "layers": [descriptor()],
    });
    if let Some(media_type) = media_type {
        json["mediaType"] = media_type.as_str().into();
    }
    json
}

fn parse(
    json: &serde_json::Value,
    declared: Option<MediaType>,
) -> Result<Manifest, InvalidManifest> {
    Manifest::parse(json.to_string().as_bytes(), declared.map(MediaType::as_str))
}

#[test]
fn an_image_is_read_by_its_media_type_its_content_type_or_its_shape() {
    for own in [None, Some(MediaType::OciManifest)] {
        for declared in [None, Some(MediaType::OciManifest)] {
            assert_eq!(parse(&image(own), declared).unwrap().media_type(), MediaType::OciManifest);
        }
    }
    let docker = Some(MediaType::DockerManifest);
    assert_eq!(parse(&image(docker), docker).unwrap().media_type(), MediaType::DockerManifest);
}

#[test]
fn a_media_type_that_contradicts_the_content_type_is_refused() {
    let (oci, docker) = (Some(MediaType::OciManifest), Some(MediaType::DockerManifest));
    let error = |own, declared| parse(&image(own), declared).unwrap_err();
    assert!(matches!(error(oci, docker), InvalidManifest::Contradiction { .. }));
    assert!(matches!(error(None, docker), InvalidManifest::MissingMediaType { .. }));
    assert!(matches!(
        Manifest::parse(image(oci).to_string().as_bytes(), Some("text/plain")),
        Err(InvalidManifest::UnknownType(_))
    ));
    assert!(matches!(
        error(Some(MediaType::OciIndex), None),
        InvalidManifest::MissingField { field: "manifests", .. }
    ));
}

#[test]
fn fields_of_two_types_at_once_are_refused() {
    let mut json = image(None);
    json["manifests"] = serde_json::json!([]);
    assert!(matches!(parse(&json, None), Err(InvalidManifest::Ambiguous)));
}

#[test]
fn what_is_no_manifest_is_refused() {
    for text in ["", "{}", "[]", "null", "1", "{\"schemaVersion\":2}", "{\"layers\":[]}"] {
        assert!(Manifest::parse(text.as_bytes(), None).is_err(), "{text}");
    }
    let mut json = image(None);
    json["schemaVersion"] = 3.into();
    assert!(matches!(parse(&json, None), Err(InvalidManifest::SchemaVersion)));
    json["schemaVersion"] = 1.into();
    assert!(matches!(parse(&json, None), Err(InvalidManifest::Schema1)));
    json["schemaVersion"] = 2.into();
    json["layers"][0]["size"] = (-1).into();
    assert!(matches!(parse(&json, None), Err(InvalidManifest::Json(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(Manifest::parse(deep.as_bytes(), None), Err(InvalidManifest::Json(_))));
}

#[test]
fn lists_of_values_are_no_objects() {
    // As serde's own structs would have them: the values in the order of the fields.
    let by_place = serde_json::json!([
        2,
        MediaType::OciIndex.as_str(),
        null,
        null,
        [],
        null,
        null,
        null,
        null,
        null
    ]);
    assert!(matches!(parse(&by_place, None), Err(InvalidManifest::Json(_))));
    let stored = Manifest::stored_media_type(by_place.to_string().as_bytes());
    assert_eq!(stored, "application/octet-stream");
    for field in ["config", "layers", "subject"] {
        let mut json = image(None);
        let values = serde_json::json!(["a/b", descriptor()["digest"], 1, null]);
        json[field] = if field == "layers" { serde_json::json!([values]) } else { values };
        assert!(matches!(parse(&json, None), Err(InvalidManifest::Json(_))), "{field}");
    }
    let mut index = serde_json::json!({ "schemaVersion": 2, "manifests": [] });
    assert!(parse(&index, None).is_ok());
    index["manifests"] = serde_json::json!([["a/b", descriptor()["digest"], 1, null]]);
    assert!(matches!(parse(&index, None), Err(InvalidManifest::Json(_))));
}

#[test]
fn what_is_not_utf_8_is_refused_wherever_it_stands() {
    let mut json = image(None);
    json["x"] = "é".into();
    let mut bytes = json.to_string().into_bytes();
    assert!(Manifest::parse(&bytes, None).is_ok());
    bytes.retain(|b| *b != 0xa9);
    assert!(matches!(Manifest::parse(&bytes, None), Err(InvalidManifest::NotUtf8(_))));
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    for field in ["schemaVersion", "mediaType", "manifests", "signatures"] {
        let mut text = image(None).to_string();
        text.truncate(text.len() - 1);
        text += &format!(r#","{field}":null,"{field}":null}}"#);
        let refused = Manifest::parse(text.as_bytes(), None);
        assert!(matches!(refused, Err(InvalidManifest::Json(_))), "{field}");
    }
}

#[test]
fn a_message_does_not_repeat_all_of_a_long_value() {
    let long = "é".repeat(100_000);
    for field in ["digest", "size"] {
        let mut json = image(None);
        json["config"][field] = long.as_str().into();
        let message = parse(&json, None).unwrap_err().to_string();
        assert!(message.contains("éé") && message.contains("… at line 1 column "), "{message}");
        assert!(message.len() < 1000, "{field}: {} bytes", message.len());
    }
}

#[test]
fn the_artifact_type_of_an_image_falls_back_to_its_configs_type() {
    let mut json = image(None);
    assert_eq!(parse(&json, None).unwrap().artifact_type(), Some("application/x"));
    json["artifactType"] = "application/sbom".into();
    assert_eq!(parse(&json, None).unwrap().artifact_type(), Some("application/sbom"));
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [] });
    assert_eq!(parse(&index, None).unwrap().artifact_type(), None);
}

#[test]
fn the_type_of_stored_bytes_is_told_from_the_bytes() {
    for (json, expected) in [
        (image(Some(MediaType::DockerManifest)), MediaType::DockerManifest.as_str()),
        (image(None), MediaType::OciManifest.as_str()),
        (serde_json::json!({ "manifests": [] }), MediaType::OciIndex.as_str()),
        (
            serde_json::json!({ "schemaVersion": 1, "signatures": [] }),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
        (
            serde_json::json!({ "schemaVersion": 1, "fsLayers": [] }),
            "application/vnd.docker.distribution.manifest.v1+json",
        ),
        (
            serde_json::json!({
                "mediaType": format!(" {}; charset=utf-8", MediaType::DockerManifestList),
            }),
            MediaType::DockerManifestList.as_str(),
        ),
        (
            serde_json::json!({ "schemaVersion": 2, "mediaType": "a\r\nSet-Cookie: b" }),
            MediaType::OciManifest.as_str(),
        ),
    ] {
        assert_eq!(Manifest::stored_media_type(json.to_string().as_bytes()), expected);
    }
}

/// A digest like no other here.
fn digest_of(text: &str) -> Digest {
    Digest::of(crate::oci::Algorithm::Sha256, text.as_bytes())
}

#[test]
fn all_that_a_stored_manifest_of_any_kind_refers_to_is_read() {
    let named = |text: &str| serde_json::json!({ "digest": digest_of(text), "size": 1 });
    let sum = |text: &str| serde_json::json!({ "blobSum": digest_of(text) });
    for (manifest, blobs, manifests) in [
        (
            serde_json::json!({ "config": named("c"), "layers": [named("1"), named("2")] }),
            &["c", "1", "2"][..],
            &[][..],
        ),
        (
            serde_json::json!({ "config": named("c"), "layers": [
                { "digest": digest_of("far"), "size": 1, "urls": ["https://far.example/"] }
            ] }),
            &["c", "far"],
            &[],
        ),
        (serde_json::json!({ "manifests": [named("a"), named("b")] }), &[], &["a", "b"]),
        (serde_json::json!({ "mediaType": "x", "blobs": [named("a")] }), &["a"], &[]),
        (
            serde_json::json!({ "schemaVersion": 1, "fsLayers": [sum("a"), sum("a"), sum("b")] }),
            &["a", "a", "b"],
            &[],
        ),
        (
            serde_json::json!({ "config": {}, "layers": [{ "digest": "x" }, named("a")] }),
            &["a"],
            &[],
        ),
        (serde_json::json!({ "subject": named("s"), "annotations": { "digest": "x" } }), &[], &[]),
    ] {
        let list = |texts: &[&str]| texts.iter().map(|text| digest_of(text)).collect::<Vec<_>>();
        let bytes = manifest.to_string();
        let found = References::of(bytes.as_bytes()).unwrap();
        assert_eq!((found.blobs, found.manifests), (list(blobs), list(manifests)), "{manifest}");
    }
    for none in ["", "[]", "7", "{", r#"{"layers":7}"#, r#"["sha256:0"]"#] {
        assert_eq!(References::of(none.as_bytes()), None, "{none}");
    }
}
