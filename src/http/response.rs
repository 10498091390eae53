//! Responses that several handlers and layers make, and the headers they share.

use std::{fmt, io::Write as _};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, header},
};

use super::error;

/// The response to `OPTIONS` of an endpoint (RFC 9110 §9.3.7).
pub(super) fn options(allowed: &[Method]) -> Response<Body> {
    let mut response = status(StatusCode::OK);
    response.headers_mut().insert(header::ALLOW, value(&error::list(allowed)));
    response
}

/// A `301` to a path.
pub(super) fn redirect(path: &str) -> Response<Body> {
    let mut response = status(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A response with capacity for the headers of most responses.
pub(super) fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().reserve(HEADERS);
    response
}

/// An empty response with a status.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = response(Body::empty());
    *response.status_mut() = status;
    response
}

/// A JSON response. `HEAD` gets its headers only.
pub(super) fn json(method: &Method, body: String) -> Response<Body> {
    let length = body.len();
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(body) };
    let mut response = response(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

/// Adds the `Link` to the next page of a list: `path` below the registry's `prefix` (RFC 8288).
pub(super) fn link_next(response: &mut Response<Body>, prefix: &str, path: &str) {
    let link = format!("<{prefix}{path}>; rel=\"next\"");
    response.headers_mut().insert(header::LINK, value(&link));
}

/// The capacity for headers: a response to a read has eleven headers and a date, and operators add
/// some.
const HEADERS: usize = 16;

/// The header with the digest of the content of a response.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A header value from text that is always valid in a header: digests, tags, names and numbers.
pub(super) fn value(text: &impl fmt::Display) -> HeaderValue {
    // Each response has several values, and few are longer than this buffer on the stack.
    let mut buffer = [0; 160];
    let mut rest = buffer.as_mut_slice();
    let value = match write!(rest, "{text}") {
        Ok(()) => {
            let free = rest.len();
            HeaderValue::from_bytes(&buffer[..buffer.len() - free])
        }
        Err(_) => HeaderValue::from_str(&text.to_string()),
    };
    value.unwrap_or(HeaderValue::from_static(""))
}
