//! What browsers ask for, and what is asked of them. No client of a registry is one, but there are
//! pages that show what is in a registry, and pages that would do it harm: a browser sends the
//! password of a registry along whoever has written the page.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::Call;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers of all responses, unless `http.headers` has others: no response is a page, has scripts,
/// or is a part of somebody else's page. They are constant, so that it costs less to send them than
/// to find out who is a browser, and caches need not tell browsers from others.
///
/// A page of another origin that `Access-Control-Allow-Origin` lets read responses can go on: its
/// requests are in CORS mode, and `Cross-Origin-Resource-Policy` is for those without (Fetch, "HTTP
/// fetch": the check is made where a request's mode is "no-cors").
pub(super) fn policies() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let nothing = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers
}

/// Whether a browser asks if a page may send a request (Fetch, "CORS-preflight request"). It has
/// no credentials by specification; `http.headers` has the answer.
pub(super) fn is_preflight(call: &Call) -> bool {
    call.method == Method::OPTIONS
        && call.headers.contains_key(header::ORIGIN)
        && call.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a page of another site has a browser change something, and `answers`, the headers of all
/// responses, do not let that page in. Where they let every page in, a `POST` is not among what they
/// allow: a browser sends it without asking first, and with the password that it has.
pub(super) fn is_forged(call: &Call, answers: &HeaderMap) -> bool {
    let is_safe = matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || call.headers.get(FETCH_SITE).is_none_or(|site| site != "cross-site") {
        return false;
    }
    let origin = call.headers.get(header::ORIGIN);
    let mut allowed = answers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter();
    !allowed.any(|allowed| match allowed.as_bytes() {
        b"*" => call.method != Method::POST,
        _ => Some(allowed) == origin,
    })
}
