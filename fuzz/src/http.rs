//! The request line and the headers of a request.

use ::http::{HeaderValue, Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::http::{
    Error, authority,
    endpoint::{Endpoint, PageQuery, ReferrersQuery},
    range::{self, Requested},
};

use crate::{
    first_line,
    names::{assert_digest, assert_name, assert_reference, assert_tag, assert_upload_id},
    text,
};

/// `METHOD path?query`: an endpoint that is formatted and parsed again is the same, it has the
/// request's method, and its parameters are safe.
pub fn endpoint(data: &[u8]) {
    let Some((method, target)) = text(data).and_then(|text| text.split_once(' ')) else { return };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match Endpoint::parse(&method, path, query) {
        Ok(endpoint) => {
            let written = Written::of(&endpoint);
            // An endpoint of `GET` changes nothing.
            assert_eq!(written.method, if method == Method::HEAD { Method::GET } else { method });
            let again = Endpoint::parse(&written.method, &written.path, &written.query);
            assert_eq!(again.expect("an endpoint can be written down"), endpoint);
            assert_parameters(&endpoint);
        }
        Err(Error::MethodNotAllowed(allowed)) => {
            assert!(!allowed.contains(&method), "{method} is allowed");
            for method in allowed {
                let parsed = Endpoint::parse(method, path, query);
                let known = !matches!(parsed, Err(Error::MethodNotAllowed(_) | Error::NotFound));
                assert!(known, "{method} is not allowed after all: {parsed:?}");
            }
        }
        Err(Error::NotFound | Error::Refused(_)) => {}
        Err(
            error @ (Error::Address
            | Error::Challenged { .. }
            | Error::Denied(_)
            | Error::Grant(_)
            | Error::Host
            | Error::Limited(_)
            | Error::Misdirected(_)
            | Error::Panicked
            | Error::Randomness(_)
            | Error::Registry(_)
            | Error::Unauthenticated { .. }),
        ) => {
            panic!("a parser gives the error of another layer: {error:?}")
        }
    }
}

fn assert_parameters(endpoint: &Endpoint) {
    use Endpoint as E;
    match endpoint {
        E::Base | E::Catalog { .. } | E::Search { .. } => {}
        E::DeleteRepository { name } | E::StartUpload { name, .. } | E::Tags { name, .. } => {
            assert_name(name);
        }
        E::AppendUpload { name, id }
        | E::CancelUpload { name, id }
        | E::UploadStatus { name, id } => {
            assert_name(name);
            assert_upload_id(*id);
        }
        E::FinishUpload { name, id, digest } => {
            assert_name(name);
            assert_upload_id(*id);
            assert_digest(digest);
        }
        E::DeleteBlob { name, digest }
        | E::PutBlob { name, digest }
        | E::ReadBlob { name, digest }
        | E::Referrers { name, query: ReferrersQuery { subject: digest, .. } } => {
            assert_name(name);
            assert_digest(digest);
        }
        E::MountBlob { name, digest, from } => {
            assert_name(name);
            assert_digest(digest);
            from.iter().for_each(assert_name);
        }
        E::DeleteManifest { name, reference } | E::ReadManifest { name, reference } => {
            assert_name(name);
            assert_reference(reference);
        }
        E::PutManifest { name, reference, tags } => {
            assert_name(name);
            assert_reference(reference);
            tags.iter().for_each(assert_tag);
        }
    }
}

/// An endpoint as a request for it.
struct Written {
    method: Method,
    path: String,
    query: String,
}

impl Written {
    fn of(endpoint: &Endpoint) -> Self {
        use Endpoint as E;
        let written = |method, path| Self { method, path, query: String::new() };
        match endpoint {
            E::Base => written(Method::GET, "/v2/".to_owned()),
            E::Catalog { page } => written(Method::GET, "/v2/_catalog".to_owned()).page(page),
            E::Search { term, size, page } => written(Method::GET, "/v1/search".to_owned())
                .with("q", Some(term))
                .with("n", size.as_ref())
                .with("page", page.as_ref()),
            E::Tags { name, page } => {
                written(Method::GET, format!("/v2/{name}/tags/list")).page(page)
            }
            E::Referrers { name, query: ReferrersQuery { subject, artifact_type, last } } => {
                written(Method::GET, format!("/v2/{name}/referrers/{subject}"))
                    .with("artifactType", artifact_type.as_ref())
                    .with("last", last.as_ref())
            }
            E::ReadBlob { name, digest } => {
                written(Method::GET, format!("/v2/{name}/blobs/{digest}"))
            }
            E::DeleteBlob { name, digest } => {
                written(Method::DELETE, format!("/v2/{name}/blobs/{digest}"))
            }
            E::DeleteRepository { name } => written(Method::DELETE, format!("/v2/{name}/")),
            E::ReadManifest { name, reference } => {
                written(Method::GET, format!("/v2/{name}/manifests/{reference}"))
            }
            E::DeleteManifest { name, reference } => {
                written(Method::DELETE, format!("/v2/{name}/manifests/{reference}"))
            }
            E::PutManifest { name, reference, tags } => tags.iter().fold(
                written(Method::PUT, format!("/v2/{name}/manifests/{reference}")),
                |w, tag| w.with("tag", Some(tag)),
            ),
            E::StartUpload { name, algorithm } => {
                written(Method::POST, format!("/v2/{name}/blobs/uploads/"))
                    .with("digest-algorithm", Some(algorithm))
            }
            E::PutBlob { name, digest } => {
                written(Method::POST, format!("/v2/{name}/blobs/uploads/"))
                    .with("digest", Some(digest))
            }
            E::MountBlob { name, digest, from } => {
                written(Method::POST, format!("/v2/{name}/blobs/uploads/"))
                    .with("mount", Some(digest))
                    .with("from", from.as_ref())
            }
            E::UploadStatus { name, id } => {
                written(Method::GET, format!("/v2/{name}/blobs/uploads/{id}"))
            }
            E::AppendUpload { name, id } => {
                written(Method::PATCH, format!("/v2/{name}/blobs/uploads/{id}"))
            }
            E::CancelUpload { name, id } => {
                written(Method::DELETE, format!("/v2/{name}/blobs/uploads/{id}"))
            }
            E::FinishUpload { name, id, digest } => {
                written(Method::PUT, format!("/v2/{name}/blobs/uploads/{id}"))
                    .with("digest", Some(digest))
            }
        }
    }

    fn page(self, PageQuery { size, last }: &PageQuery) -> Self {
        self.with("n", size.as_ref()).with("last", last.as_ref())
    }

    fn with(mut self, name: &str, value: Option<&impl ToString>) -> Self {
        if let Some(value) = value {
            let value = value.to_string();
            let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            let separator = if self.query.is_empty() { "" } else { "&" };
            self.query.push_str(&format!("{separator}{name}={value}"));
        }
        self
    }
}

/// The size of some content in one line and a `Range` in the next: the parts lie within the content
/// and are together no longer, and a single plain range gives the part that RFC 9110 defines.
pub fn range(data: &[u8]) {
    let Some((size, header)) = text(data).map(first_line) else { return };
    let Ok(size) = size.parse::<u64>() else { return };
    let requested = range::requested(header, size);
    if let Some(expected) = plain_range(header, size) {
        assert_eq!(requested, expected, "{header:?} of {size}");
    }
    let parts = match requested {
        Requested::Part(part) => vec![part],
        Requested::Parts(parts) => {
            assert!((2..=range::MAX_RANGES).contains(&parts.len()), "{} parts", parts.len());
            parts
        }
        Requested::All | Requested::Unsatisfiable => Vec::new(),
    };
    let total: u64 = parts.iter().map(|part| part.end - part.start).sum();
    assert!(total <= size, "{total} of {size}");
    for part in parts {
        assert!(part.start < part.end && part.end <= size, "{part:?} of {size}");
        let (first, last) = (part.start, part.end - 1);
        // The response says which part it is.
        assert_eq!(range::of_chunk(&format!("bytes {first}-{last}/{size}")), Some(part.clone()));
        assert_eq!(range::requested(&format!("bytes={first}-{last}"), size), Requested::Part(part));
    }
}

/// The part by RFC 9110 §14.1.2 of one range without white space, in numbers that are large enough;
/// `None` for any other header.
fn plain_range(header: &str, size: u64) -> Option<Requested> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<u128>().ok().map(Some),
        _ => None,
    };
    let size = u128::from(size);
    let (start, end) = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(length)) => (size - length.min(size), size),
        (Some(first), None) => (first, size),
        // Not valid; a server may reject it.
        (Some(first), Some(last)) if first > last => return Some(Requested::Unsatisfiable),
        (Some(first), Some(last)) => (first, size.min(last + 1)),
    };
    let narrow = |number: u128| u64::try_from(number).ok();
    Some(match (start < end, narrow(start), narrow(end)) {
        (true, Some(start), Some(end)) => Requested::Part(start..end),
        _ => Requested::Unsatisfiable,
    })
}

/// The `Content-Range` of a chunk: it does not end before it begins, and formatting it and parsing
/// it again gives the same.
pub fn content_range(data: &[u8]) {
    let Some(range) = text(data).and_then(range::of_chunk) else { return };
    assert!(range.start <= range.end, "{range:?}");
    let first = range.start;
    // A chunk of no bytes at the beginning ends before the first byte.
    let last = i128::from(range.end) - 1;
    for again in [
        format!("{first}-{last}"),
        format!("bytes {first}-{last}/*"),
        format!("bytes={first}-{last}/{}", range.end),
    ] {
        assert_eq!(range::of_chunk(&again), Some(range.clone()), "{again}");
    }
}

/// The `Host` of a request or of the configuration: only an authority is accepted, so that a
/// `Location` that begins with it leads there.
pub fn authority(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if !authority::is_authority(text) {
        return;
    }
    let location = format!("https://{text}/v2/");
    HeaderValue::from_str(&location).expect("it can stand in a header");
    let uri: Uri = location.parse().unwrap_or_else(|why| panic!("{location}: {why}"));
    assert_eq!(uri.scheme_str(), Some("https"));
    assert_eq!(uri.path_and_query().map(|path| path.as_str()), Some("/v2/"));
    let authority = uri.authority().expect("it is absolute");
    assert_eq!(authority.as_str(), text);
    // RFC 3986 §3.2.3: a port is digits.
    let after_host = text.strip_prefix(authority.host()).expect("it begins with the host");
    match after_host.strip_prefix(':') {
        Some(port) => assert!(port.bytes().all(|b| b.is_ascii_digit()), "{text:?}"),
        None => assert_eq!(after_host, "", "{text:?}"),
    }
    assert!(text.len() <= 260, "{} bytes", text.len());
}
