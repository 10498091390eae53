//! The names that become paths in the storage tree: each is accepted unchanged or refused, and none
//! leads out of its folder.

use std::path::{Component, Path};

use ::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::{
    http::endpoint::Endpoint,
    oci::{Algorithm, Digest, Reference, RepositoryName, Tag},
    registry::UploadId,
};

use crate::text;

/// A repository name.
pub fn repository_name(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let parsed = text.parse::<RepositoryName>();
    let fits = text.len() <= 255 && text.split('/').all(is_component);
    assert_eq!(parsed.is_ok(), fits, "the grammar says {fits} to {text:?}");
    if let Ok(name) = parsed {
        assert_eq!(name.as_str(), text);
        assert_eq!(name.to_string(), text);
        assert_name(&name);
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, checked differently from the parser: by the separators
/// between the words.
fn is_component(text: &str) -> bool {
    let word = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    let separator = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    text.starts_with(word)
        && text.ends_with(word)
        && text.split(word).filter(|s| !s.is_empty()).all(separator)
}

/// A tag or a digest, and the manifest's path that ends in it.
pub fn reference(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let reference = match (text.parse::<Tag>(), text.parse::<Digest>()) {
        (Ok(_), Ok(_)) => panic!("both a tag and a digest: {text:?}"),
        (Ok(tag), Err(_)) => Some(Reference::Tag(tag)),
        (Err(_), Ok(digest)) => Some(Reference::Digest(digest)),
        (Err(_), Err(_)) => None,
    };
    if let Some(reference) = &reference {
        assert_eq!(reference.to_string(), text);
        assert_reference(reference);
    }
    let path = format!("/v2/a/manifests/{}", utf8_percent_encode(text, NON_ALPHANUMERIC));
    let asked = match Endpoint::parse(&Method::GET, &path, "") {
        Ok(Endpoint::ReadManifest { reference, .. }) => Some(reference),
        Ok(other) => panic!("{path} is {other:?}"),
        Err(_) => None,
    };
    assert_eq!(asked, reference, "{path}");
}

/// A digest, and the digest of the bytes themselves.
pub fn digest(data: &[u8]) {
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, data);
        assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
        assert_digest(&digest);
    }
    let Some(text) = text(data) else { return };
    let json = serde_json::to_string(text).expect("text is JSON");
    let from_json = serde_json::from_str::<Digest>(&json);
    let Ok(digest) = text.parse::<Digest>() else {
        assert!(from_json.is_err(), "taken from JSON alone: {text:?}");
        return;
    };
    assert_eq!(digest.to_string(), text);
    assert_eq!(Digest::from_parts(digest.algorithm().as_str(), digest.hex()), Ok(digest.clone()));
    assert_eq!(serde_json::to_string(&digest).expect("a digest is JSON"), json);
    assert_eq!(from_json.expect("what parses is taken from JSON"), digest);
    assert_digest(&digest);
}

/// The id of an upload session.
pub fn upload_id(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(id) = text.parse::<UploadId>() {
        assert_eq!(id.to_string(), text, "another text is the same id");
        assert_upload_id(id);
    }
}

pub(crate) fn assert_name(name: &RepositoryName) {
    let text = name.as_str();
    assert!(text.len() <= 255, "{} bytes", text.len());
    for component in text.split('/') {
        assert_component(component);
        // Entries of the storage tree beside repositories begin with `_`.
        assert!(!component.starts_with(['_', '.', '-']), "{text:?}");
    }
    assert!(!text.contains(".."), "{text:?}");
}

pub(crate) fn assert_reference(reference: &Reference) {
    match reference {
        Reference::Tag(tag) => assert_tag(tag),
        Reference::Digest(digest) => assert_digest(digest),
    }
}

pub(crate) fn assert_tag(tag: &Tag) {
    assert!((1..=128).contains(&tag.as_str().len()), "{} bytes", tag.as_str().len());
    assert_component(tag.as_str());
}

pub(crate) fn assert_digest(digest: &Digest) {
    let length = match digest.algorithm() {
        Algorithm::Sha256 => 64,
        Algorithm::Sha512 => 128,
    };
    assert_eq!(digest.hex().len(), length);
    assert!(digest.hex().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{digest}");
}

pub(crate) fn assert_upload_id(id: UploadId) {
    let text = id.to_string();
    assert_eq!(text.len(), 36);
    assert!(text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{text:?}");
}

/// One name in a folder, of characters that need no escaping anywhere.
fn assert_component(text: &str) {
    let mut components = Path::new(text).components();
    assert_eq!(components.next(), Some(Component::Normal(text.as_ref())), "{text:?}");
    assert_eq!(components.next(), None, "{text:?}");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    assert!(text.bytes().all(plain), "{text:?}");
}
