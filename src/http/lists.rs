//! Lists: tags (end-8), the catalog, referrers (end-12).

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Response, header},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{
    Api, Call, Error,
    endpoint::{PageQuery, ReferrersQuery},
    json as json_response, response, value,
};
use crate::{
    gate::Permit,
    oci::{ErrorCode, MediaType, RepositoryName, Tag},
    registry::{self, Registry},
};

/// How many repositories a page has when nobody says how many.
const CATALOG_PAGE: usize = 100;

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Api {
    pub(super) async fn tags(
        &self,
        _: &Permit,
        name: &RepositoryName,
        PageQuery { size, last }: PageQuery,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let largest = self.limits.tags.maxtags;
        let wanted = size.unwrap_or(largest).min(largest);
        let unknown = || {
            let detail = json!({ "name": name.as_str() });
            Error::refused(ErrorCode::NameUnknown).with_detail(detail)
        };
        let page = self.registry.tags(name, last.as_deref(), wanted).await?.ok_or_else(unknown)?;
        if size.is_none() && page.more {
            // All of them were asked for, and they are more than a page: send one page behind the
            // other, so that memory holds one.
            let pages =
                AllTags { registry: self.registry.clone(), name: name.clone(), size: wanted };
            return Ok(pages.respond(page, &call.method));
        }
        let mut response = json_response(
            &call.method,
            json!({ "name": name.as_str(), "tags": texts(&page.items) }).to_string(),
        );
        if let (true, Some(last), true) = (page.more, page.items.last(), wanted > 0) {
            let next = format!("/v2/{name}/tags/list?last={last}&n={wanted}");
            self.link_next(&mut response, &next);
        }
        Ok(response)
    }

    pub(super) async fn catalog(
        &self,
        _: &Permit,
        PageQuery { size, last }: PageQuery,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let largest = self.limits.catalog.maxentries;
        let wanted = size.unwrap_or_else(|| CATALOG_PAGE.min(largest));
        if wanted > largest {
            let detail = json!({ "n": wanted, "largest": largest });
            return Err(Error::refused(ErrorCode::PaginationNumberInvalid).with_detail(detail));
        }
        let page = self.registry.repositories(last.as_deref(), "", wanted).await?;
        let names: Vec<&str> = page.items.iter().map(RepositoryName::as_str).collect();
        let mut response =
            json_response(&call.method, json!({ "repositories": names }).to_string());
        if let (true, Some(last), true) = (page.more, page.items.last(), wanted > 0) {
            let last = last.as_str().replace('/', "%2F");
            self.link_next(&mut response, &format!("/v2/_catalog?last={last}&n={wanted}"));
        }
        Ok(response)
    }

    pub(super) async fn referrers(
        &self,
        _: &Permit,
        name: &RepositoryName,
        ReferrersQuery { subject, artifact_type, last }: ReferrersQuery,
        call: &Call,
    ) -> Result<Response<Body>, Error> {
        let page = self
            .registry
            .referrers(name, &subject, artifact_type.as_deref(), last.as_ref())
            .await?;
        let body = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[{}]}}",
            MediaType::OciIndex,
            page.descriptors.join(",")
        );
        let mut response = json_response(&call.method, body);
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

    /// Says where the next page is (RFC 8288), relative to this one.
    fn link_next(&self, response: &mut Response<Body>, path: &str) {
        let link = format!("<{}{path}>; rel=\"next\"", self.prefix);
        response.headers_mut().insert(header::LINK, value(&link));
    }
}

/// A list of all tags of a repository, sent page by page.
struct AllTags {
    registry: Registry,
    name: RepositoryName,
    size: usize,
}

impl AllTags {
    fn respond(self, first: registry::Page<Tag>, method: &Method) -> Response<Body> {
        let head = format!("{{\"name\":\"{}\",\"tags\":[", self.name);
        let first_piece = format!("{head}{}", items(&first.items));
        let rest = stream::try_unfold(Some((self, first)), |state| async {
            let Some((list, page)) = state else {
                return Ok(None);
            };
            let last = page.items.last().map(Tag::as_str).filter(|_| page.more);
            let next = match last {
                Some(last) => list.registry.tags(&list.name, Some(last), list.size).await?,
                None => None,
            };
            match next {
                Some(page) if !page.items.is_empty() => {
                    let piece = Bytes::from(format!(",{}", items(&page.items)));
                    Ok::<_, registry::Error>(Some((piece, Some((list, page)))))
                }
                _ => Ok(Some((Bytes::from_static(b"]}"), None))),
            }
        });
        let body = match *method {
            Method::HEAD => Body::empty(),
            _ => Body::from_stream(stream::iter([Ok(Bytes::from(first_piece))]).chain(rest)),
        };
        let mut response = response(body);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// Tags as the inside of a JSON list. A tag has no character that JSON would escape.
fn items(tags: &[Tag]) -> String {
    let quoted: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
    quoted.join(",")
}

fn texts(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}
