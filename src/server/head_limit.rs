//! The limit of the length of an HTTP/1.1 request's head.
//!
//! hyper compares the length of its buffer with its limit between two reads only, so it takes a
//! longer head where one read completes it. The check here holds whatever the reads give.

use axum::http::{Request, Response, StatusCode, Version, header};
use http_body_util::Empty;

/// How long the head of a request over HTTP/1.1 may be, in bytes. podman asks for 1,024 ranges of a
/// blob in one head of 22 KiB, over HTTP/1.1 only.
pub(super) const HEAD_LIMIT: usize = 32 * 1024;

/// Whether the head of this request takes more than [`HEAD_LIMIT`] bytes of HTTP/1.1 (RFC 9112 §2.1),
/// without optional whitespace. h2 itself compares the header list of a request over HTTP/2 with its
/// limit.
pub(super) fn is_exceeded<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_2 && length(request) > HEAD_LIMIT
}

/// The response that hyper gives when its own limit is exceeded. Its connection is closed.
pub(super) fn too_large<D>() -> Response<Empty<D>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn length<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let origin = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => scheme.len() + "://".len() + authority.as_str().len(),
        (_, authority) => authority.map_or(0, |authority| authority.as_str().len()),
    };
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + origin + path + "  HTTP/1.1\r\n".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + fields.sum::<usize>() + "\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_a_head_is_that_of_its_bytes() {
        for (target, version, fields) in [
            ("/v2/", Version::HTTP_11, &[("host", "registry"), ("range", "bytes=0-1")][..]),
            ("/v2/?n=1", Version::HTTP_10, &[]),
            ("https://registry:443/v2/", Version::HTTP_11, &[("a", "1"), ("a", "2")]),
            ("*", Version::HTTP_11, &[]),
        ] {
            let mut request = Request::builder().method("GET").uri(target).version(version);
            let mut head = format!("GET {target} {version:?}\r\n");
            for (name, value) in fields {
                request = request.header(*name, *value);
                head += &format!("{name}: {value}\r\n");
            }
            head += "\r\n";
            assert_eq!(length(&request.body(()).unwrap()), head.len(), "{head}");
        }
    }

    #[test]
    fn head_of_http_1_is_compared_with_the_limit_and_one_of_http_2_is_not() {
        let rest = "GET / HTTP/1.1\r\nx: \r\n\r\n".len();
        for (version, length, exceeds) in [
            (Version::HTTP_11, HEAD_LIMIT, false),
            (Version::HTTP_11, HEAD_LIMIT + 1, true),
            (Version::HTTP_10, HEAD_LIMIT + 1, true),
            (Version::HTTP_2, HEAD_LIMIT + 1, false),
        ] {
            let long = "x".repeat(length - rest);
            let request = Request::builder().uri("/").version(version).header("x", long);
            assert_eq!(is_exceeded(&request.body(()).unwrap()), exceeds, "{version:?} {length}");
        }
    }
}
