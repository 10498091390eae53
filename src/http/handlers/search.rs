//! `docker search HOST/TERM`: the search of Docker Registry v1, which is all that docker speaks.

use axum::{body::Body, http::Response};
use serde_json::{Value, json};

use super::super::{Api, Call, Error, json as json_response};
use crate::{gate::Permit, oci::RepositoryName};

/// Results on a page when nobody says how many, and at most.
const PAGE: usize = 25;
const LARGEST_PAGE: usize = 100;

/// The most repositories that are found: who has more of them has a term that says too little.
const MOST: usize = 1000;

impl Api {
    /// Finds the repositories whose name contains a term: the first thousand, of which `num_results`
    /// says how many there are. They have no descriptions and no stars; docker wants the fields all
    /// the same.
    pub(super) async fn search(
        &self,
        _: &Permit,
        term: &str,
        (size, page): (Option<usize>, Option<usize>),
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let size = size.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
        let page = page.unwrap_or(1).max(1);
        let first = (page - 1).saturating_mul(size);
        let term = term.to_lowercase();
        let names = self.registry.lists().repositories(None, &term, MOST).await?;
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
        Ok(json_response(&call.method, body.to_string()))
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
