//! Refuses clients whose address may not use the registry (`http.clients`) with 403, before any other answer
//! tells them something. The server has closed the connections of those that it knew at accept.

use std::sync::Arc;

use tower::Layer;

use super::check::{self, Check, Checked};
use crate::{
    http::{Error, call::Head},
    network::Clients,
};

/// Passes on the calls of `clients` that may use the registry.
pub(super) fn layer<S>(
    clients: &Arc<Clients>,
) -> impl Layer<S, Service = Checked<S, impl Check + use<S>>> + use<S> {
    let clients = Arc::clone(clients);
    check::layer(move |head: &Head| match clients.refuses(head.client()) {
        true => Err(Error::Address),
        false => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::{
        http::middleware::testing::{call, echo},
        network::{ClientsOptions, Source},
    };

    #[tokio::test]
    async fn call_passes_unless_the_address_of_its_client_is_refused() {
        let deny = vec![Source::try_from("192.0.2.0/24".to_owned()).unwrap()];
        let clients = Arc::new(Clients::new(&ClientsOptions { deny, ..Default::default() }));
        for (address, passes) in [("192.0.2.1", false), ("198.51.100.1", true)] {
            let service = layer(&clients).layer(service_fn(echo));
            let call = call("GET", "/", &[]);
            call.head.set_client(Some(address.parse().unwrap()));
            let answer = service.oneshot(call).await;
            assert_eq!(answer.is_ok(), passes, "{address}");
            assert!(passes || matches!(answer, Err(Error::Address)));
        }
    }
}
