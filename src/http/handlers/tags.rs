//! The list of tags: end-8.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, header},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    http::{
        Error, TagsOptions,
        endpoint::PageQuery,
        middleware::Authorised,
        response::{json as json_response, link_next, response},
    },
    oci::{ErrorCode, RepositoryName, Tag},
    registry::{self, Lists},
};

/// The handler of the list of tags.
#[derive(Debug)]
pub(super) struct TagsHandler {
    pub(super) lists: Arc<Lists>,
    pub(super) options: TagsOptions,
    /// See [`link_next`].
    pub(super) prefix: Arc<str>,
}

impl TagsHandler {
    pub(super) async fn list(
        &self,
        request: &Authorised,
        name: &RepositoryName,
        PageQuery { size, last }: PageQuery,
    ) -> Result<Response<Body>, Error> {
        let largest = self.options.maxtags;
        let wanted = size.unwrap_or(largest).min(largest);
        let unknown = || {
            let detail = json!({ "name": name.as_str() });
            Error::refused(ErrorCode::NameUnknown).with_detail(detail)
        };
        let page = self.lists.tags(name, last.as_deref(), wanted).await?.ok_or_else(unknown)?;
        if size.is_none() && page.more {
            // Without `n` the response has all tags. More tags than a page are sent page by page, so
            // that memory holds one page.
            let pages =
                AllTags { lists: Arc::clone(&self.lists), name: name.clone(), size: wanted };
            return Ok(pages.respond(page, &request.head.method));
        }
        let mut response = json_response(
            &request.head.method,
            json!({ "name": name.as_str(), "tags": texts(&page.items) }).to_string(),
        );
        if let (true, Some(last), true) = (page.more, page.items.last(), wanted > 0) {
            let next = format!("/v2/{name}/tags/list?last={last}&n={wanted}");
            link_next(&mut response, &self.prefix, &next);
        }
        Ok(response)
    }
}

/// A list of all tags of a repository, sent page by page.
struct AllTags {
    lists: Arc<Lists>,
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
                Some(last) => list.lists.tags(&list.name, Some(last), list.size).await?,
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

/// Tags as the elements of a JSON array. A tag has no character that JSON escapes.
fn items(tags: &[Tag]) -> String {
    let quoted: Vec<String> = tags.iter().map(|tag| format!("\"{tag}\"")).collect();
    quoted.join(",")
}

fn texts(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}
