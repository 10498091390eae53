//! Conditional requests (RFC 9110 §13). The entity tag of content is its quoted digest, and content
//! never changes under its digest.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};

use super::{
    call::Head,
    response::{CONTENT_DIGEST, status, value},
};
use crate::oci::Digest;

/// The entity tag of content.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    value(&format_args!("\"{digest}\""))
}

/// Whether a request has a precondition.
pub(super) fn is_conditional(head: &Head) -> bool {
    [header::IF_MATCH, header::IF_NONE_MATCH].iter().any(|name| head.headers.contains_key(name))
}

/// The `304` for a client whose `If-None-Match` (§13.1.2) says that it has this content already.
pub(super) fn not_modified(head: &Head, digest: &Digest) -> Option<Response<Body>> {
    let header = head.header(header::IF_NONE_MATCH)?;
    if !matches(header, digest) {
        return None;
    }
    let mut response = status(StatusCode::NOT_MODIFIED);
    response.headers_mut().insert(header::ETAG, etag(digest));
    response.headers_mut().insert(CONTENT_DIGEST, value(digest));
    Some(response)
}

/// The `412` for a client whose `If-Match` (§13.1.1) does not list this content. The comparison is
/// strong: a weak tag in the list never matches.
pub(super) fn precondition_failed(head: &Head, digest: &Digest) -> Option<Response<Body>> {
    let header = head.header(header::IF_MATCH)?;
    let matches = header.split(',').map(str::trim).any(|tag| tag == "*" || *tag == etag(digest));
    (!matches).then(|| status(StatusCode::PRECONDITION_FAILED))
}

/// Whether a list of entity tags matches the content. The comparison is weak (§13.1.2), and a digest
/// without quotes matches, as in registry:2.
fn matches(header: &str, digest: &Digest) -> bool {
    let digest = digest.to_string();
    header
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == digest)
}

/// Whether the `If-Range` (§13.1.5) of a request, if it has one, lets its `Range` apply.
pub(super) fn range_applies(head: &Head, digest: &Digest) -> bool {
    head.headers.get(header::IF_RANGE).is_none_or(|tag| *tag == etag(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn entity_tag_matches_in_every_form_that_clients_send() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let other = Digest::of(Algorithm::Sha256, b"x");
        for header in [
            format!("\"{digest}\""),
            format!("W/\"{digest}\""),
            digest.to_string(),
            format!("\"{other}\", \"{digest}\""),
            "*".to_owned(),
        ] {
            assert!(matches(&header, &digest), "{header}");
        }
        for header in [format!("\"{other}\""), String::new(), "\"\"".to_owned()] {
            assert!(!matches(&header, &digest), "{header}");
        }
    }
}
