//! Deletion of a whole repository. The specification has no endpoint for it; registry:2 has the
//! event.

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use serde_json::json;

use super::Handlers;
use crate::{
    http::{Error, middleware::Authorised, response::status},
    oci::{ErrorCode, RepositoryName},
    registry::Action,
};

impl Handlers {
    pub(super) async fn delete_repository(
        &self,
        request: &Authorised,
        name: &RepositoryName,
    ) -> Result<Response<Body>, Error> {
        self.deletion_allowed()?;
        let caller = self.caller(Action::Delete, request);
        if !self.registry.delete_repository(&caller, name).await? {
            let detail = json!({ "name": name.as_str() });
            return Err(Error::refused(ErrorCode::NameUnknown).with_detail(detail));
        }
        Ok(status(StatusCode::ACCEPTED))
    }
}
