//! Responses without the parts that differ by nature: addresses, the ids of uploads, signed state,
//! the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde_json::Value;

use crate::exchange::Answer;

/// Headers about the connection, the time and the request itself.
const BY_NATURE: &[&str] = &["connection", "date", "transfer-encoding", "x-request-id"];

/// A response that can be compared with another server's.
#[derive(Debug)]
pub(crate) struct Normal {
    pub(crate) status: u16,
    /// Values of one name are joined by commas.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Body,
}

/// The body of a response.
#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    /// `application/json`
    Json(Value),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// Removes from a response the parts that differ by nature. An upload in `kept` gets its name
/// there.
pub(crate) fn of(
    answer: &Answer,
    address: SocketAddr,
    kept: &BTreeMap<&'static str, String>,
) -> Normal {
    let normal = |text: &str| text_of(text, address, kept);
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &answer.headers {
        if BY_NATURE.contains(&name.as_str()) {
            continue;
        }
        let value = normal(value);
        headers
            .entry(name.clone())
            .and_modify(|first| *first = format!("{first}, {value}"))
            .or_insert(value);
    }
    if let Some(allow) = headers.get_mut("allow") {
        // A set, without an order.
        let methods: BTreeSet<&str> = allow.split(',').map(str::trim).collect();
        *allow = methods.into_iter().collect::<Vec<_>>().join(", ");
    }
    let mut bytes = answer.body.clone();
    if let Some(boundary) = headers.get("content-type").and_then(|kind| boundary_of(kind)) {
        // It is random, and its length differs.
        let named = |text: &str| text.replace(&boundary, "{boundary}");
        bytes = named(&String::from_utf8_lossy(&bytes)).into_bytes();
        let told = answer.body.len().to_string();
        for (name, value) in &mut headers {
            *value = match name.as_str() {
                "content-length" if *value == told => bytes.len().to_string(),
                _ => named(value),
            };
        }
    }
    let is_json = answer
        .header("content-type")
        .is_some_and(|kind| kind.split(';').next() == Some("application/json"));
    let body = match serde_json::from_slice(&answer.body) {
        Ok(json) if is_json => Body::Json(json_of(json, &normal)),
        _ => Body::Bytes(bytes),
    };
    Normal { status: answer.status, headers, body }
}

/// The boundary between the parts of a body.
fn boundary_of(kind: &str) -> Option<String> {
    Some(kind.strip_prefix("multipart/byteranges; boundary=")?.to_owned())
}

/// The id of the upload in an address: the first thing that looks like a UUID.
pub(crate) fn upload_id(text: &str) -> Option<&str> {
    const LENGTH: usize = 36;
    (0..text.len()).find_map(|at| text.get(at..at + LENGTH).filter(|part| is_uuid(part)))
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn text_of(text: &str, address: SocketAddr, kept: &BTreeMap<&'static str, String>) -> String {
    let mut text = text.replace(&address.to_string(), "{address}");
    while let Some(id) = upload_id(&text).map(str::to_owned) {
        let known = kept.iter().find(|(_, location)| location.contains(&id));
        let name = known.map_or("new upload", |(name, _)| name);
        text = text.replace(&id, &format!("{{{name}}}"));
    }
    without_state(&text)
}

/// A URL without the signed state of an upload, which only registry:2 has.
fn without_state(text: &str) -> String {
    let Some((before, rest)) = text.split_once("_state=") else {
        return text.to_owned();
    };
    match rest.split_once('&') {
        Some((_, after)) => format!("{before}{after}"),
        None => before.trim_end_matches(['?', '&']).to_owned(),
    }
}

fn json_of(json: Value, normal: &impl Fn(&str) -> String) -> Value {
    match json {
        Value::String(text) => Value::String(normal(&text)),
        Value::Array(items) => items.into_iter().map(|item| json_of(item, normal)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, json_of(value, normal))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_by_nature_are_replaced_and_nothing_else() {
        let address: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let (one, two) =
            ("6b3c9a93-af5d-473f-a4cf-9710022185cd", "00000000-af5d-473f-a4cf-9710022185cd");
        let kept = BTreeMap::from([("up", format!("/v2/a/blobs/uploads/{one}?_state=x"))]);
        for (text, expected) in [
            (
                format!("https://127.0.0.1:5000/v2/a/blobs/uploads/{one}?_state=abc_-="),
                "https://{address}/v2/a/blobs/uploads/{up}",
            ),
            (format!("/uploads/{two}?_state=a&x=y"), "/uploads/{new upload}?x=y"),
            (format!("/uploads/{two}?x=y&_state=a"), "/uploads/{new upload}?x=y"),
            ("sha256:6b3c9a93-af5d".to_owned(), "sha256:6b3c9a93-af5d"),
        ] {
            assert_eq!(text_of(&text, address, &kept), expected);
        }
    }
}
