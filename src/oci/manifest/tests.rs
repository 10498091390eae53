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
fn image_is_read_by_its_media_type_its_content_type_or_its_shape() {
    for own in [None, Some(MediaType::OciManifest)] {
        for declared in [None, Some(MediaType::OciManifest)] {
            assert_eq!(parse(&image(own), declared).unwrap().media_type(), MediaType::OciManifest);
        }
    }
    let docker = Some(MediaType::DockerManifest);
    assert_eq!(parse(&image(docker), docker).unwrap().media_type(), MediaType::DockerManifest);
}

#[test]
fn media_type_that_contradicts_the_content_type_is_refused() {
    let oci = Some(MediaType::OciManifest);
    let docker = Some(MediaType::DockerManifest);
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
fn malformed_manifests_are_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "1",
        r#"{"schemaVersion":2}"#,
        r#"{"layers":[]}"#,
        r#"{"schemaVersion":2,"layers":[]}"#,
        r#"{"schemaVersion":2,"layers":null}"#,
    ] {
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
fn arrays_of_values_are_refused_in_place_of_objects() {
    // serde's derived structs accept arrays of the values in the order of the fields.
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
fn malformed_utf_8_is_refused_everywhere() {
    let mut json = image(None);
    json["x"] = "é".into();
    let mut bytes = json.to_string().into_bytes();
    assert!(Manifest::parse(&bytes, None).is_ok());
    bytes.retain(|b| *b != 0xa9);
    assert!(matches!(Manifest::parse(&bytes, None), Err(InvalidManifest::NotUtf8(_))));
}

#[test]
fn repeated_field_is_refused() {
    for field in ["schemaVersion", "mediaType", "manifests", "signatures"] {
        let mut text = image(None).to_string();
        text.truncate(text.len() - 1);
        text += &format!(r#","{field}":null,"{field}":null}}"#);
        let refused = Manifest::parse(text.as_bytes(), None);
        assert!(matches!(refused, Err(InvalidManifest::Json(_))), "{field}");
    }
}

#[test]
fn key_that_programs_read_differently_is_refused_at_every_level() {
    let named = |key: &str, text: &str| {
        let refused = Manifest::parse(text.as_bytes(), None);
        match refused {
            Err(why @ InvalidManifest::Json(_)) => {
                assert!(why.to_string().contains(&format!("`{key}`")), "{why}: {text}");
            }
            other => panic!("{other:?}: {text}"),
        }
    };
    let whole = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OciManifest.as_str(),
        "config": descriptor(),
        "layers": [{
            "mediaType": "x", "digest": DIGEST, "size": 1, "urls": ["https://a.example/"],
            "annotations": { "a": "b" }, "platform": { "architecture": "amd64", "os": "linux" },
        }],
        "subject": descriptor(),
        "artifactType": "a/b",
        "annotations": { "a": "b", "A": "c" },
    });
    let text = whole.to_string();
    Manifest::parse(text.as_bytes(), None).unwrap();
    for (place, fields) in [
        ("", &["schemaVersion", "mediaType", "config", "layers", "manifests", "blobs"][..]),
        ("", &["subject", "artifactType", "annotations", "signatures", "fsLayers"]),
        ("/config", &["mediaType", "digest", "size", "urls", "platform", "annotations"]),
        ("/layers/0", &["mediaType", "digest", "size", "urls", "platform", "annotations"]),
        ("/layers/0/platform", &["architecture", "os"]),
        ("/subject", &["digest"]),
    ] {
        for field in fields {
            let long_s = field.replacen('s', "\u{17f}", 1);
            for variant in [field.to_uppercase(), field.to_lowercase(), long_s] {
                if variant == *field {
                    continue;
                }
                let mut other = whole.clone();
                other.pointer_mut(place).unwrap()[&variant] = serde_json::Value::Null;
                named(&variant, &other.to_string());
            }
        }
    }
    for (once, twice, key) in [
        (r#""annotations":{"A""#, r#""annotations":{"A":"x","A""#, "A"),
        (r#""annotations":{"a":"b"}"#, r#""annotations":{"a":"b","a":"b"}"#, "a"),
        (r#""os":"linux""#, r#""os":"linux","os":"linux""#, "os"),
        (r#""os":"linux""#, r#""os":"linux","os.version":"1","os.version":"2""#, "os.version"),
        (r#""size":1"#, r#""size":1,"size":1"#, "size"),
        (r#""size":1"#, r#""size":1,"data":"","data":"eA==""#, "data"),
        (r#""urls":["#, r#""url\u0073":[],"urls":["#, "urls"),
        (r#""schemaVersion":2"#, r#""schemaVersion":2,"x":1,"x":1"#, "x"),
    ] {
        let doubled = text.replacen(once, twice, 1);
        assert_ne!(doubled, text, "{once}");
        named(key, &doubled);
    }
}

#[test]
fn lists_that_are_null_or_missing_are_empty() {
    for layers in [Some(serde_json::Value::Null), None] {
        for own in [None, Some(MediaType::OciManifest), Some(MediaType::DockerManifest)] {
            let mut json = image(own);
            match &layers {
                Some(layers) => json["layers"] = layers.clone(),
                None => drop(json.as_object_mut().unwrap().remove("layers")),
            }
            // A tool with one struct for all types writes this.
            json["manifests"] = serde_json::Value::Null;
            let manifest = parse(&json, own).unwrap();
            assert_eq!(manifest.media_type(), own.unwrap_or(MediaType::OciManifest));
            assert!(
                matches!(manifest.kind(), ManifestKind::Image { layers, .. } if layers.is_empty())
            );
            let stored = Manifest::stored_media_type(json.to_string().as_bytes());
            assert_eq!(stored, manifest.media_type().as_str());
        }
    }
    let index = MediaType::OciIndex;
    let list = MediaType::DockerManifestList;
    for (json, kind) in [
        (serde_json::json!({ "schemaVersion": 2, "mediaType": index.as_str() }), index),
        (serde_json::json!({ "schemaVersion": 2, "mediaType": list.as_str() }), list),
        (
            serde_json::json!({ "schemaVersion": 2, "mediaType": list.as_str(), "manifests": null }),
            list,
        ),
        (serde_json::json!({ "schemaVersion": 2, "manifests": null }), index),
        (
            serde_json::json!({
                "schemaVersion": 2, "mediaType": "", "manifests": null, "layers": null, "config": null,
            }),
            index,
        ),
    ] {
        let manifest = parse(&json, Some(kind)).unwrap();
        assert!(
            matches!(manifest.kind(), ManifestKind::Index { manifests } if manifests.is_empty())
        );
        assert_eq!(Manifest::stored_media_type(json.to_string().as_bytes()), kind.as_str());
    }
}

#[test]
fn null_is_the_same_as_an_absent_field() {
    let digest = DIGEST;
    let json = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "",
        "config": { "digest": digest, "mediaType": null, "size": null, "annotations": null },
        "layers": [{ "digest": digest, "urls": null, "platform": null }, {
            "digest": digest, "platform": { "architecture": null }, "annotations": { "a": null },
        }],
        "subject": null,
        "artifactType": null,
        "annotations": { "a": null },
    });
    let manifest = parse(&json, Some(MediaType::OciManifest)).unwrap();
    assert_eq!(manifest.media_type(), MediaType::OciManifest);
    assert_eq!(manifest.annotations().unwrap()["a"], "");
    let ManifestKind::Image { config, layers } = manifest.kind() else { panic!() };
    assert_eq!((config.media_type.as_str(), config.size), ("", 0));
    assert_eq!(layers[0].platform, None);
    assert_eq!(layers[1].platform, Some(Platform::default()));
    // Docker's types require a `mediaType`.
    let refused = parse(&json, Some(MediaType::DockerManifest));
    assert!(matches!(refused, Err(InvalidManifest::MissingMediaType { .. })));
}

#[test]
fn size_that_no_client_can_read_is_refused() {
    let mut json = image(None);
    for (size, is_read) in [(u64::MAX >> 1, true), (1 << 63, false), (u64::MAX, false)] {
        json["layers"][0]["size"] = size.into();
        assert_eq!(parse(&json, None).is_ok(), is_read, "{size}");
    }
}

#[test]
fn message_does_not_repeat_all_of_a_long_value() {
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
fn artifact_type_of_an_image_falls_back_to_its_configs_type() {
    let mut json = image(None);
    assert_eq!(parse(&json, None).unwrap().artifact_type(), Some("application/x"));
    json["artifactType"] = "application/sbom".into();
    assert_eq!(parse(&json, None).unwrap().artifact_type(), Some("application/sbom"));
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [] });
    assert_eq!(parse(&index, None).unwrap().artifact_type(), None);
}

#[test]
fn media_type_of_stored_bytes_follows_from_the_bytes() {
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
        (
            serde_json::json!({ "SchemaVersion": 1, "Signatures": [] }),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ),
        (
            serde_json::json!({ "SchemaVersion": 2, "MediaType": MediaType::DockerManifest.as_str() }),
            MediaType::DockerManifest.as_str(),
        ),
        (serde_json::json!({ "Manifests": [] }), MediaType::OciIndex.as_str()),
        (serde_json::json!({ "config": {}, "manifests": null }), MediaType::OciManifest.as_str()),
    ] {
        assert_eq!(Manifest::stored_media_type(json.to_string().as_bytes()), expected);
    }
    let last = r#"{"mediaType":"a/b","MEDIATYPE":"c/d","mediaType":null}"#;
    assert_eq!(Manifest::stored_media_type(last.as_bytes()), "c/d");
}
