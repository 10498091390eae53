//! The catalog: the names of the repositories that the caller may pull, in pages (registry:2).

use std::sync::Arc;

use axum::{body::Body, http::Response};
use serde_json::json;

use crate::{
    http::{
        CatalogOptions, Error,
        endpoint::PageQuery,
        middleware::Authorised,
        response::{json as json_response, link_next},
        seen::Seen,
    },
    oci::{ErrorCode, RepositoryName},
    registry::{CatalogQuery, Lists},
};

/// The number of repositories on a page without `n`.
const CATALOG_PAGE: usize = 100;

/// The handler of the catalog.
#[derive(Debug)]
pub(super) struct CatalogHandler {
    pub(super) lists: Arc<Lists>,
    pub(super) options: CatalogOptions,
    /// See [`link_next`].
    pub(super) prefix: Arc<str>,
}

impl CatalogHandler {
    pub(super) async fn list(
        &self,
        request: &Authorised,
        PageQuery { size, last }: PageQuery,
    ) -> Result<Response<Body>, Error> {
        let largest = self.options.maxentries;
        let wanted = size.unwrap_or_else(|| CATALOG_PAGE.min(largest));
        if wanted > largest {
            let detail = json!({ "n": wanted, "largest": largest });
            return Err(Error::refused(ErrorCode::PaginationNumberInvalid).with_detail(detail));
        }
        let after = last.as_deref().unwrap_or_default();
        let query = CatalogQuery { after, term: "", limit: wanted };
        let seen = Seen::by(&request.permit);
        let page = self.lists.repositories(query, seen.shown()).await?;
        let names: Vec<&str> = page.items.iter().map(RepositoryName::as_str).collect();
        let mut response =
            json_response(&request.head.method, json!({ "repositories": names }).to_string());
        if let (true, Some(last), true) = (page.more, page.items.last(), wanted > 0) {
            let last = last.as_str().replace('/', "%2F");
            link_next(&mut response, &self.prefix, &format!("/v2/_catalog?last={last}&n={wanted}"));
        }
        Ok(response)
    }
}
