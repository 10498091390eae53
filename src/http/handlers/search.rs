//! `docker search HOST/TERM`: the search of Docker Registry v1, the only one that docker calls.

use std::sync::Arc;

use axum::{body::Body, http::Response};
use serde_json::{Value, json};

use crate::{
    http::{Error, middleware::Authorised, response::json as json_response, seen::Seen},
    oci::RepositoryName,
    registry::{CatalogQuery, Lists},
};

/// The number of results on a page without `n`.
const PAGE: usize = 25;

/// The most results on a page.
const MAX_PAGE: usize = 100;

/// The most repositories that a search finds; a term that matches more is too unspecific.
const MAX_FOUND: usize = 1000;

/// The handler of searches.
#[derive(Debug)]
pub(super) struct SearchHandler {
    pub(super) lists: Arc<Lists>,
}

impl SearchHandler {
    /// Finds the repositories that the caller may pull and whose name contains a term, up to a thousand; `num_results` is their
    /// number. They have no descriptions and no stars, but docker requires the fields.
    pub(super) async fn search(
        &self,
        request: &Authorised,
        term: &str,
        size: Option<usize>,
        page: Option<usize>,
    ) -> Result<Response<Body>, Error> {
        let size = size.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let page = page.unwrap_or(1).max(1);
        let first = (page - 1).saturating_mul(size);
        let term = term.to_lowercase();
        let query = CatalogQuery { after: "", term: &term, limit: MAX_FOUND };
        let seen = Seen::by(&request.permit);
        let names = self.lists.repositories(query, seen.shown()).await?;
        let found = names.items.len();
        let results: Vec<Value> = names.items.iter().skip(first).take(size).map(result).collect();
        let body = json!({
            "num_results": found,
            "num_pages": found.div_ceil(size),
            "page": page,
            "page_size": size,
            "query": term,
            "results": results,
        });
        Ok(json_response(&request.head.method, body.to_string()))
    }
}

fn result(name: &RepositoryName) -> Value {
    json!({
        "name": name.as_str(),
        "description": "",
        "is_official": false,
        "is_automated": false,
        "star_count": 0,
    })
}
