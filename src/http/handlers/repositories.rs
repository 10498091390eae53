//! Deletion of a whole repository. The specification has no endpoint for it; registry:2 has the
//! event.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use serde_json::json;

use crate::{
    http::{DeleteOptions, Error, caller::Callers, middleware::Authorised, response::status},
    oci::{ErrorCode, RepositoryName},
    registry::{Action, Registry},
};

/// The handler of whole repositories: an operation on all parts of the registry.
#[derive(Debug)]
pub(super) struct RepositoryHandlers {
    pub(super) registry: Registry,
    pub(super) callers: Arc<Callers>,
    pub(super) delete: DeleteOptions,
}

impl RepositoryHandlers {
    pub(super) async fn delete(
        &self,
        request: &Authorised,
        name: &RepositoryName,
    ) -> Result<Response<Body>, Error> {
        self.delete.check()?;
        let caller = self.callers.of(request, Action::Delete);
        if !self.registry.delete_repository(&caller, name).await? {
            let detail = json!({ "name": name.as_str() });
            return Err(Error::refused(ErrorCode::NameUnknown).with_detail(detail));
        }
        Ok(status(StatusCode::ACCEPTED))
    }
}
