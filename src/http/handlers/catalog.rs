//! The catalog: the names of the repositories, in pages (registry:2).

use axum::{body::Body, http::Response};
use serde_json::json;

use super::Handlers;
use crate::{
    http::{Error, endpoint::PageQuery, middleware::Authorised, response::json as json_response},
    oci::{ErrorCode, RepositoryName},
};

/// How many repositories a page has when the client does not say how many.
const CATALOG_PAGE: usize = 100;

impl Handlers {
    pub(super) async fn catalog(
        &self,
        request: &Authorised,
        PageQuery { size, last }: PageQuery,
    ) -> Result<Response<Body>, Error> {
        let largest = self.catalog.maxentries;
        let wanted = size.unwrap_or_else(|| CATALOG_PAGE.min(largest));
        if wanted > largest {
            let detail = json!({ "n": wanted, "largest": largest });
            return Err(Error::refused(ErrorCode::PaginationNumberInvalid).with_detail(detail));
        }
        let page = self.registry.lists().repositories(last.as_deref(), "", wanted).await?;
        let names: Vec<&str> = page.items.iter().map(RepositoryName::as_str).collect();
        let mut response =
            json_response(&request.head.method, json!({ "repositories": names }).to_string());
        if let (true, Some(last), true) = (page.more, page.items.last(), wanted > 0) {
            let last = last.as_str().replace('/', "%2F");
            self.link_next(&mut response, &format!("/v2/_catalog?last={last}&n={wanted}"));
        }
        Ok(response)
    }
}
