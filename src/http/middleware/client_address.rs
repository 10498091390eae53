//! Sets the address of the client: the peer's, or the one that trusted proxies forward
//! (`proxies.rs`).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service, layer::layer_fn};

use crate::http::{Call, proxies::Proxies};

/// Passes every call on, with the address of the client by `proxies`.
pub(super) fn layer<S>(
    proxies: &Arc<Proxies>,
) -> impl Layer<S, Service = SetClientAddress<S>> + use<S> {
    let proxies = Arc::clone(proxies);
    layer_fn(move |inner| SetClientAddress { inner, proxies: Arc::clone(&proxies) })
}

#[derive(Clone, Debug)]
pub(super) struct SetClientAddress<S> {
    inner: S,
    proxies: Arc<Proxies>,
}

impl<S: Service<Call>> Service<Call> for SetClientAddress<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> S::Future {
        let client = self.proxies.client(&call.head.headers, call.head.connection.peer);
        call.head.set_client(client);
        self.inner.call(call)
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::http::middleware::testing::{PEER, call, echo};

    #[tokio::test]
    async fn address_is_the_peers_unless_a_trusted_proxy_forwards_another() {
        for (trusted, address) in
            [("192.0.2.1/32", PEER.ip()), ("127.0.0.0/8", [10, 1, 2, 3].into())]
        {
            let proxies = Arc::new(Proxies::new(&[trusted.parse().unwrap()]));
            let service = layer(&proxies).layer(service_fn(echo));
            let call = call("GET", "/", &[("x-forwarded-for", "10.1.2.3")]);
            let passed = service.oneshot(call).await.unwrap();
            assert_eq!(passed.head.client(), Some(address), "{trusted}");
        }
    }
}
