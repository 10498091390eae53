//! Refuses cross-site request forgery: a write that a page of another site makes a browser send. No
//! client of a registry is a browser, but a browser that has the password of a registry sends it with
//! the requests of every page.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, Method, header};
use tower::Layer;

use super::check::{self, Check, Checked};
use crate::{
    http::{Error, call::Head},
    oci::ErrorCode,
};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Passes on reads, calls that are not cross-site, and calls of pages whose origin `headers`, the
/// headers of all responses, allow.
pub(super) fn layer<S>(
    headers: &Arc<ArcSwap<HeaderMap>>,
) -> impl Layer<S, Service = Checked<S, impl Check + use<S>>> + use<S> {
    let headers = Arc::clone(headers);
    check::layer(move |head: &Head| {
        if !is_cross_site_write(head) || is_allowed(head, &headers.load()) {
            return Ok(());
        }
        let why = "a page of another site makes a browser send this; to allow the page, add its \
                   origin to http.headers as Access-Control-Allow-Origin";
        Err(Error::refused(ErrorCode::Denied).because(why))
    })
}

/// Whether a page of another site makes a browser send a write.
fn is_cross_site_write(head: &Head) -> bool {
    let is_safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    !is_safe && head.headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site")
}

/// Whether `Access-Control-Allow-Origin` allows the origin of the page. `*` does not allow `POST`: a
/// browser sends a `POST` without a preflight, and with the password that it has.
fn is_allowed(head: &Head, headers: &HeaderMap) -> bool {
    let origin = head.headers.get(header::ORIGIN);
    let mut allowed = headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter();
    allowed.any(|allowed| match allowed.as_bytes() {
        b"*" => head.method != Method::POST,
        _ => Some(allowed) == origin,
    })
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::{call, echo};

    #[tokio::test]
    async fn write_of_another_sites_page_passes_only_where_its_origin_is_allowed() {
        let site = |site| ("sec-fetch-site", site);
        let origin = ("origin", "https://a.example");
        for (method, headers, allowed, passes) in [
            ("DELETE", vec![site("cross-site"), origin], None, false),
            ("DELETE", vec![site("cross-site"), origin], Some("https://b.example"), false),
            ("DELETE", vec![site("cross-site"), origin], Some("https://a.example"), true),
            ("DELETE", vec![site("cross-site"), origin], Some("*"), true),
            ("POST", vec![site("cross-site"), origin], Some("*"), false),
            ("DELETE", vec![site("same-origin"), origin], None, true),
            ("DELETE", vec![], None, true),
            ("GET", vec![site("cross-site"), origin], None, true),
        ] {
            let mut answers = HeaderMap::new();
            if let Some(allowed) = allowed {
                answers.insert("access-control-allow-origin", allowed.parse().unwrap());
            }
            let answers = Arc::new(ArcSwap::from_pointee(answers));
            let service = layer(&answers).layer(service_fn(echo));
            let answer = service.oneshot(call(method, "/v2/a/manifests/b", &headers)).await;
            assert_eq!(answer.is_ok(), passes, "{method} {headers:?} {allowed:?}");
        }
    }
}
