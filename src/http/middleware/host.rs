//! Refuses a request that does not name exactly one host (RFC 9112 §3.2) with 400, and one that names a host
//! for which the registry does not answer with 421.

use std::sync::Arc;

use tower::Layer;

use super::check::{self, Check, Checked};
use crate::http::{AllowedHosts, Error, call::Head};

/// Passes on the calls that have one well-formed `Host`, or do not need one, and whose host is allowed.
pub(super) fn layer<S>(
    allowed: &Arc<AllowedHosts>,
) -> impl Layer<S, Service = Checked<S, impl Check + use<S>>> + use<S> {
    let allowed = Arc::clone(allowed);
    check::layer(move |head: &Head| match head.has_one_host() {
        true => allowed.check(head),
        false => Err(Error::Host),
    })
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::{
        Options,
        middleware::testing::{call, echo},
    };

    #[tokio::test]
    async fn request_passes_with_one_host_only() {
        for (hosts, passes) in [
            (&[("host", "a.example:5000")][..], true),
            (&[("host", "")], true),
            (&[], false),
            (&[("host", "a"), ("host", "a")], false),
            (&[("host", "a/b")], false),
        ] {
            let any = Arc::new(AllowedHosts::new(&Options::default()).unwrap());
            let service = layer(&any).layer(service_fn(echo));
            let mut call = call("GET", "/", &[]);
            let head = Arc::get_mut(&mut call.head).unwrap();
            head.headers.clear();
            for (name, value) in hosts {
                head.headers.append(*name, value.parse().unwrap());
            }
            let answer = service.oneshot(call).await;
            assert_eq!(answer.is_ok(), passes, "{hosts:?}");
            assert!(passes || matches!(answer, Err(Error::Host)));
        }
    }
}
