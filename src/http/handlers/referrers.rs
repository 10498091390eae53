//! Referrers: end-12.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, header},
};

use super::Handlers;
use crate::{
    http::{
        Error,
        endpoint::ReferrersQuery,
        middleware::Authorised,
        response::{json as json_response, value},
    },
    oci::{MediaType, RepositoryName},
};

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Handlers {
    pub(super) async fn referrers(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        ReferrersQuery { subject, artifact_type, last }: ReferrersQuery,
    ) -> Result<Response<Body>, Error> {
        let page = self
            .registry
            .lists()
            .referrers(name, &subject, artifact_type.as_deref(), last.as_ref())
            .await?;
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
            self.link_next(&mut response, &next);
        }
        if artifact_type.is_some() {
            let applied = HeaderValue::from_static("artifactType");
            response.headers_mut().insert(OCI_FILTERS_APPLIED, applied);
        }
        Ok(response)
    }
}
