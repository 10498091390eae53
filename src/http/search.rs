//! `docker search HOST/TERM`: the search of Docker Registry v1, which is all that docker speaks.

use axum::{body::Body, http::Response};
use serde_json::{Value, json};

use super::{Api, Call, Error, json as json_response};
use crate::{gate::Permit, oci::RepositoryName};

/// Results on a page when nobody says how many, and at most.
const PAGE: usize = 25;
const LARGEST_PAGE: usize = 100;

/// How many repositories are looked through at a time.
const BATCH: usize = 1000;

impl Api {
    /// Finds the repositories whose name contains a term. They have no descriptions and no stars;
    /// docker wants the fields all the same.
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
        let mut results: Vec<Value> = Vec::new();
        let mut found = 0_usize;
        let mut after: Option<RepositoryName> = None;
        loop {
            let after_name = after.as_ref().map(RepositoryName::as_str);
            let batch = self.registry.repositories(after_name, &term, BATCH).await?;
            for name in &batch.items {
                if found >= first && results.len() < size {
                    results.push(result(name));
                }
                found += 1;
            }
            if !batch.more {
                break;
            }
            after = batch.items.into_iter().next_back();
        }
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
