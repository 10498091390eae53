//! Deletion of a whole repository. The specification has no endpoint for it; registry:2 has the
//! event.

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use futures_util::FutureExt as _;
use serde_json::json;

use super::Handlers;
use crate::{
    http::{Error, events::EventEmitter, middleware::Authorised, response::status},
    notify::Action,
    oci::{ErrorCode, RepositoryName},
};

impl Handlers {
    pub(super) async fn delete_repository(
        &self,
        request: &Authorised,
        name: &RepositoryName,
    ) -> Result<Response<Body>, Error> {
        self.deletion_allowed()?;
        let change = {
            let (registry, name) = (self.registry.clone(), name.clone());
            async move { registry.delete_repository(&name).await }
        };
        let emitter = self.events.emitter(Action::Delete, request, name);
        let emit = |emitter: EventEmitter, deleted: &bool| {
            let deleted = *deleted;
            async move {
                if deleted {
                    emitter.repository_gone().await;
                }
            }
            .boxed()
        };
        if !self.events.with_event(emitter, change, emit).await? {
            let detail = json!({ "name": name.as_str() });
            return Err(Error::refused(ErrorCode::NameUnknown).with_detail(detail));
        }
        Ok(status(StatusCode::ACCEPTED))
    }
}
