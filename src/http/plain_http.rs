//! The response to plain HTTP on the TLS port.
//!
//! docker reaches a registry on localhost, or one of its `insecure-registries`, by HTTPS first. When that
//! fails, after a 401 too, docker tries plain HTTP and shows the response to that. So the response below
//! `/v2/` has the specification's JSON, and says what a user of docker has to type.

use serde_json::json;

use super::authority::is_authority;
use crate::oci::ErrorCode;

/// Go's sentence, which users and their search engines know.
const SENTENCE: &str = "client sent an HTTP request to an HTTPS server";

/// The response to the beginning of a plain HTTP request on the TLS port. It is HTTP/1.0, which has no
/// persistent connections.
///
/// The head of the request is untrusted, and may be cut off: the response repeats its `Host` only where
/// that is a host with an optional port.
#[must_use]
pub fn refuse_plain_http(request: &[u8]) -> Vec<u8> {
    let request = String::from_utf8_lossy(request);
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let is_api = path == "/v2" || path.starts_with("/v2/");
    let host = host(lines);
    let Body { kind, text } = if is_api { in_json(host) } else { in_text(host) };
    let body = if method == "HEAD" { "" } else { &text };
    format!(
        "HTTP/1.0 400 Bad Request\r\n\
         Content-Type: {kind}\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\
         \r\n\
         {body}",
        text.len(),
    )
    .into_bytes()
}

/// A body with its `Content-Type`.
struct Body {
    kind: &'static str,
    text: String,
}

fn in_text(host: &str) -> Body {
    Body { kind: "text/plain; charset=utf-8", text: format!("{SENTENCE}: use https://{host}\n") }
}

/// docker shows the message only.
fn in_json(host: &str) -> Body {
    let message = format!(
        "{SENTENCE}; docker does so without a login: type `docker login {host}`; \
         other clients: use https://{host}"
    );
    let entry = json!({ "code": ErrorCode::Unsupported.as_str(), "message": message });
    Body { kind: "application/json", text: format!("{}\n", json!({ "errors": [entry] })) }
}

/// The `Host` among header lines; `HOST` where it is missing or malformed.
fn host<'a>(lines: impl Iterator<Item = &'a str>) -> &'a str {
    let host = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    host.filter(|host| is_authority(host)).unwrap_or("HOST")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> String {
        String::from_utf8(refuse_plain_http(request.as_bytes())).unwrap()
    }

    #[test]
    fn refusal_of_plain_http_repeats_nothing_but_a_host() {
        for (host, expected) in [
            ("localhost:5000", "docker login localhost:5000`"),
            ("[::1]:5000", "docker login [::1]:5000`"),
            ("a\"b", "docker login HOST`"),
            ("<script>", "docker login HOST`"),
            ("", "docker login HOST`"),
        ] {
            let answer = answer(&format!("GET /v2/ HTTP/1.1\r\nhOST: {host}\r\n\r\n"));
            assert!(answer.contains(expected), "{host}: {answer}");
        }
        assert!(answer("GET /v2/ HTTP/1.1\r\nA: b\r\n\r\nHost: x").contains("docker login HOST`"));
        for request in ["", "GET", "GET /v2/", "GET /v2/ HTTP/1.1\r\nHos", "\r\n\r\n"] {
            assert!(answer(request).starts_with("HTTP/1.0 400 "), "{request}");
        }
    }
}
