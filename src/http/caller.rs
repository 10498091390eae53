//! The caller of a request, as the core takes it.

use std::sync::Arc;

use axum::http::header;

use super::{base_url::BaseUrls, call::Head, middleware::Authorised};
use crate::{
    gate::{Identity, Permit},
    registry::{Action, Caller, Events, Request},
};

/// Describes the callers of operations to the core.
#[derive(Debug)]
pub(super) struct Callers {
    events: Events,
    base_urls: Arc<BaseUrls>,
}

impl Callers {
    /// Describes callers for the receiver of `events`. URLs in events begin with one of `base_urls`.
    pub(super) fn new(events: Events, base_urls: Arc<BaseUrls>) -> Self {
        Self { events, base_urls }
    }

    /// Whether a notification endpoint wants events of an action.
    pub(super) fn wants_events(&self, action: Action) -> bool {
        self.events.wants(action)
    }

    /// The caller of an operation. It describes the request only if a notification endpoint wants
    /// events of the action.
    pub(super) fn of(&self, request: &Authorised, action: Action) -> Caller {
        let is_wanted = self.wants_events(action);
        Caller {
            actor: actor(&request.permit),
            request: is_wanted.then(|| Arc::new(self.described(&request.head))),
            job: None,
        }
    }

    fn described(&self, head: &Head) -> Request {
        let authority = head.uri.authority().map(|authority| authority.as_str());
        let host = authority.or_else(|| head.header(header::HOST));
        let agent = head.headers.get(header::USER_AGENT);
        Request {
            id: head.id.to_string(),
            // The port of a client behind a proxy is not known.
            addr: match head.client().filter(|client| Some(*client) != head.connection.peer.ip()) {
                Some(client) => client.to_string(),
                None => head.connection.peer.to_string(),
            },
            host: host.unwrap_or_default().to_owned(),
            method: head.method.to_string(),
            user_agent: agent
                .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
                .unwrap_or_default(),
            base_url: self.base_urls.of(head).address(""),
        }
    }
}

/// The owner of the uploads that a caller begins: its identity, by whatever credentials it is proved.
/// `None` for an anonymous caller.
pub(super) fn owner(permit: &Permit) -> Option<Arc<str>> {
    match &permit.caller().identity {
        Identity::Anonymous => None,
        // A user's name has no colon, so it is no other identity's text.
        Identity::User(name) => Some(Arc::clone(name)),
        identity => Some(identity.to_string().into()),
    }
}

/// The name that the caller has proved, without its kind; `None` for an anonymous caller.
fn actor(permit: &Permit) -> Option<Arc<str>> {
    permit.caller().identity.name().cloned()
}
