//! Repositories as a whole: one is deleted. The specification has no endpoint for it; registry:2 has
//! the event.

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use futures_util::FutureExt as _;
use serde_json::json;

use super::super::{Api, Call, Error, events::Teller, status};
use crate::{
    gate::Permit,
    notify::Action,
    oci::{ErrorCode, RepositoryName},
};

impl Api {
    pub(super) async fn delete_repository(
        &self,
        permit: &Permit,
        name: &RepositoryName,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        self.deletion_allowed()?;
        let change = {
            let (registry, name) = (self.registry.clone(), name.clone());
            async move { registry.delete_repository(&name).await }
        };
        let teller = self.teller(Action::Delete, permit, name, call);
        let tell = |teller: Teller, deleted: &bool| {
            let deleted = *deleted;
            async move {
                if deleted {
                    teller.repository_gone().await;
                }
            }
            .boxed()
        };
        if !self.told(teller, change, tell).await? {
            let detail = json!({ "name": name.as_str() });
            return Err(Error::refused(ErrorCode::NameUnknown).with_detail(detail));
        }
        Ok(status(StatusCode::ACCEPTED))
    }
}
