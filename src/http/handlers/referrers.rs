//! Referrers: end-12.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, header},
};

use crate::{
    http::{
        Error,
        endpoint::ReferrersQuery,
        middleware::Authorised,
        response::{json as json_response, link_next, value},
    },
    oci::{MediaType, RepositoryName},
    registry::Lists,
};

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The handler of referrers.
#[derive(Debug)]
pub(super) struct ReferrersHandler {
    pub(super) lists: Arc<Lists>,
    /// See [`link_next`].
    pub(super) prefix: Arc<str>,
}

impl ReferrersHandler {
    pub(super) async fn list(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        ReferrersQuery { subject, artifact_type, last }: ReferrersQuery,
    ) -> Result<Response<Body>, Error> {
        let page =
            self.lists.referrers(name, &subject, artifact_type.as_deref(), last.as_ref()).await?;
        let body = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{}]}}",
            MediaType::OciIndex,
            page.descriptors.join(",")
        );
        let mut response = json_response(&request.head.method, body);
        response.headers_mut().insert(header::CONTENT_TYPE, value(&MediaType::OciIndex));
        if let Some(last) = page.next {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("last", &last.to_string());
            if let Some(artifact_type) = &artifact_type {
                query.append_pair("artifactType", artifact_type);
            }
            let next = format!("/v2/{name}/referrers/{subject}?{}", query.finish());
            link_next(&mut response, &self.prefix, &next);
        }
        if artifact_type.is_some() {
            let applied = HeaderValue::from_static("artifactType");
            response.headers_mut().insert(OCI_FILTERS_APPLIED, applied);
        }
        Ok(response)
    }
}
