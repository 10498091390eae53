//! Parses a request into an endpoint of the specification.
//!
//! A repository's name may contain any word of the endpoints' paths, so the parser reads a path from
//! its end: `/v2/blobs/uploads/tags/list` lists the tags of `blobs/uploads`. The parser is pure: its
//! only inputs are the method, the path and the query.

use std::borrow::Cow;

use axum::http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::error::Error;
use crate::{
    gate::Right,
    oci::{Algorithm, Digest, ErrorCode, Reference, RepositoryName, Tag},
    registry::UploadId,
    telemetry::requests::Handler,
};

/// The most `tag` parameters of one push. The specification demands support for at least ten. Each
/// tag becomes a header of the response, and clients accept a hundred headers.
const MAX_TAGS: usize = 64;

/// One operation of the API, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the parameters in the paths")]
pub enum Endpoint {
    /// `PATCH /v2/<name>/blobs/uploads/<id>` (end-5)
    AppendUpload { name: RepositoryName, id: UploadId },
    /// `GET /v2/` (end-1)
    Base,
    /// `DELETE /v2/<name>/blobs/uploads/<id>` (end-14)
    CancelUpload { name: RepositoryName, id: UploadId },
    /// `GET /v2/_catalog` (registry:2)
    Catalog { page: PageQuery },
    /// `DELETE /v2/<name>/blobs/<digest>` (end-10)
    DeleteBlob { name: RepositoryName, digest: Digest },
    /// `DELETE /v2/<name>/manifests/<reference>` (end-9)
    DeleteManifest { name: RepositoryName, reference: Reference },
    /// `DELETE /v2/<name>/` (ours)
    DeleteRepository { name: RepositoryName },
    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=` (end-6)
    FinishUpload { name: RepositoryName, id: UploadId, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/?mount=&from=` (end-11)
    MountBlob { name: RepositoryName, digest: Digest, from: Option<RepositoryName> },
    /// `POST /v2/<name>/blobs/uploads/?digest=` (end-4b)
    PutBlob { name: RepositoryName, digest: Digest },
    /// `PUT /v2/<name>/manifests/<reference>?tag=` (end-7)
    PutManifest { name: RepositoryName, reference: Reference, tags: Vec<Tag> },
    /// `GET` or `HEAD /v2/<name>/blobs/<digest>` (end-2)
    ReadBlob { name: RepositoryName, digest: Digest },
    /// `GET` or `HEAD /v2/<name>/manifests/<reference>` (end-3)
    ReadManifest { name: RepositoryName, reference: Reference },
    /// `GET /v2/<name>/referrers/<digest>` (end-12)
    Referrers { name: RepositoryName, query: ReferrersQuery },
    /// `GET /v1/search` (Docker Registry v1, for `docker search`). `term` has neither a tag nor a digest.
    Search { term: String, size: Option<usize>, page: Option<usize> },
    /// `POST /v2/<name>/blobs/uploads/` (end-4a, end-4c)
    StartUpload { name: RepositoryName, algorithm: Algorithm },
    /// `GET /v2/<name>/tags/list` (end-8)
    Tags { name: RepositoryName, page: PageQuery },
    /// `GET /v2/<name>/blobs/uploads/<id>` (end-13)
    UploadStatus { name: RepositoryName, id: UploadId },
}

/// The requested page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// `n`: the largest number of items.
    pub size: Option<usize>,
    /// `last`: the item after which the page begins.
    pub last: Option<String>,
}

/// The requested page of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersQuery {
    /// The digest of the manifest that they refer to.
    pub subject: Digest,
    /// `artifactType`: the filter.
    pub artifact_type: Option<String>,
    /// `last`: the referrer after which the page begins.
    pub last: Option<Digest>,
}

impl Endpoint {
    /// The handler by registry:2's names, under which the metrics count requests.
    #[must_use]
    pub const fn handler(&self) -> Handler {
        match self {
            Self::Base => Handler::Base,
            Self::ReadManifest { .. } | Self::PutManifest { .. } | Self::DeleteManifest { .. } => {
                Handler::Manifest
            }
            Self::Tags { .. } => Handler::Tags,
            Self::ReadBlob { .. } | Self::DeleteBlob { .. } => Handler::Blob,
            Self::StartUpload { .. } | Self::PutBlob { .. } | Self::MountBlob { .. } => {
                Handler::BlobUpload
            }
            Self::UploadStatus { .. }
            | Self::AppendUpload { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. } => Handler::BlobUploadChunk,
            Self::Catalog { .. } => Handler::Catalog,
            Self::Referrers { .. } => Handler::Referrers,
            Self::Search { .. } => Handler::Search,
            Self::DeleteRepository { .. } => Handler::Repository,
        }
    }

    /// The repository that the path names.
    #[must_use]
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog { .. } | Self::Search { .. } => None,
            Self::ReadManifest { name, .. }
            | Self::PutManifest { name, .. }
            | Self::DeleteManifest { name, .. }
            | Self::DeleteRepository { name }
            | Self::Tags { name, .. }
            | Self::ReadBlob { name, .. }
            | Self::DeleteBlob { name, .. }
            | Self::StartUpload { name, .. }
            | Self::PutBlob { name, .. }
            | Self::MountBlob { name, .. }
            | Self::UploadStatus { name, .. }
            | Self::AppendUpload { name, .. }
            | Self::FinishUpload { name, .. }
            | Self::CancelUpload { name, .. }
            | Self::Referrers { name, .. } => Some(name),
        }
    }

    /// Parses a request. `path` is the path below the prefix, percent-encoded as the client sent it;
    /// `query` follows the question mark.
    ///
    /// # Errors
    ///
    /// When no endpoint has this path, the endpoint does not have the method, or a parameter violates
    /// the specification's grammar.
    pub fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Error> {
        let query = Query(query);
        if is_search(path) {
            require(method, &[Method::GET, Method::HEAD])?;
            let text = query.first("q").unwrap_or_default();
            return Ok(Self::Search {
                term: repository_part(&text).to_owned(),
                size: query.number("n")?,
                page: query.number("page")?,
            });
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return Err(Error::NotFound);
        };
        let segments: Vec<Cow<'_, str>> =
            rest.split('/').map(|s| percent_decode_str(s).decode_utf8_lossy()).collect();
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        match segments.as_slice() {
            [""] => require(method, &[Method::GET, Method::HEAD]).map(|()| Self::Base),
            ["_catalog"] => {
                require(method, &[Method::GET, Method::HEAD])?;
                Ok(Self::Catalog { page: query.page()? })
            }
            [name @ .., "tags", "list"] => {
                require(method, &[Method::GET, Method::HEAD])?;
                Ok(Self::Tags { name: repository(name)?, page: query.page()? })
            }
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                require(method, &[Method::POST])?;
                Self::start(repository(name)?, &query)
            }
            // The name of a blob, manifest or upload is never empty, so the path names a repository.
            [name @ .., ""] if *method == Method::DELETE => {
                Ok(Self::DeleteRepository { name: repository(name)? })
            }
            [name @ .., "blobs", "uploads", id] => Self::upload(method, name, id, &query),
            [name @ .., "blobs", text] => {
                require(method, &[Method::GET, Method::HEAD, Method::DELETE])?;
                let name = repository(name)?;
                let digest = digest(text)?;
                Ok(match *method {
                    Method::DELETE => Self::DeleteBlob { name, digest },
                    _ => Self::ReadBlob { name, digest },
                })
            }
            [name @ .., "manifests", text] => Self::manifest(method, name, text, &query),
            [name @ .., "referrers", text] => {
                require(method, &[Method::GET, Method::HEAD])?;
                let name = repository(name)?;
                let query = ReferrersQuery {
                    subject: digest(text)?,
                    artifact_type: query.first("artifactType").map(Cow::into_owned),
                    last: query.first("last").map(|text| digest(&text)).transpose()?,
                };
                Ok(Self::Referrers { name, query })
            }
            // Without a slash at its end, a path names a repository if no arm above matches.
            name if *method == Method::DELETE => {
                Ok(Self::DeleteRepository { name: repository(name)? })
            }
            _ => Err(Error::NotFound),
        }
    }

    fn start(name: RepositoryName, query: &Query<'_>) -> Result<Self, Error> {
        if let Some(text) = query.first("digest") {
            return Ok(Self::PutBlob { name, digest: digest(&text)? });
        }
        // A mount that is impossible for any reason becomes an upload (end-11).
        if let Some(digest) = query.first("mount").and_then(|text| text.parse().ok()) {
            match query.first("from").map(|text| text.parse()) {
                None => {
                    return Ok(Self::MountBlob { name, digest, from: None });
                }
                Some(Ok(from)) => {
                    return Ok(Self::MountBlob { name, digest, from: Some(from) });
                }
                Some(Err(_)) => {}
            }
        }
        let algorithm = match query.first("digest-algorithm") {
            None => Algorithm::default(),
            Some(text) => text.parse().map_err(|why| invalid(ErrorCode::DigestInvalid, why))?,
        };
        Ok(Self::StartUpload { name, algorithm })
    }

    fn upload(method: &Method, name: &[&str], id: &str, query: &Query<'_>) -> Result<Self, Error> {
        require(method, &[Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE])?;
        let name = repository(name)?;
        let id = id.parse().map_err(|why| invalid(ErrorCode::BlobUploadUnknown, why))?;
        Ok(match *method {
            Method::PATCH => Self::AppendUpload { name, id },
            Method::DELETE => Self::CancelUpload { name, id },
            Method::PUT => match query.first("digest") {
                Some(text) => Self::FinishUpload { name, id, digest: digest(&text)? },
                None => return Err(invalid(ErrorCode::DigestInvalid, "the digest is missing")),
            },
            _ => Self::UploadStatus { name, id },
        })
    }

    fn manifest(
        method: &Method,
        name: &[&str],
        text: &str,
        query: &Query<'_>,
    ) -> Result<Self, Error> {
        require(method, &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE])?;
        let name = repository(name)?;
        let reference = if text.contains(':') {
            Reference::Digest(digest(text)?)
        } else {
            // No manifest can have a malformed tag, so a read or a deletion gets MANIFEST_UNKNOWN;
            // only a push gets an error about the grammar.
            let code = match *method {
                Method::PUT => ErrorCode::TagInvalid,
                _ => ErrorCode::ManifestUnknown,
            };
            Reference::Tag(text.parse().map_err(|why| invalid(code, why))?)
        };
        Ok(match *method {
            Method::DELETE => Self::DeleteManifest { name, reference },
            Method::PUT => {
                let tags = match reference {
                    Reference::Digest(_) if query.all("tag").count() > MAX_TAGS => {
                        let why = format!("more than {MAX_TAGS} tags at once");
                        let refused = Error::refused(ErrorCode::TagInvalid).because(why);
                        return Err(refused.with_status(StatusCode::URI_TOO_LONG));
                    }
                    Reference::Digest(_) => query
                        .all("tag")
                        .map(|tag| tag.parse().map_err(|why| invalid(ErrorCode::TagInvalid, why)))
                        .collect::<Result<_, _>>()?,
                    // `?tag=` belongs to a push by digest.
                    Reference::Tag(_) => Vec::new(),
                };
                Self::PutManifest { name, reference, tags }
            }
            _ => Self::ReadManifest { name, reference },
        })
    }

    /// The right that a caller needs; `None` where every authenticated caller may do this. A mount
    /// reads from another repository only as far as its caller may; a put of a manifest moves tags only
    /// for a caller who may push.
    pub(super) const fn right(&self) -> Option<Right<'_>> {
        match self {
            Self::Base => None,
            Self::Catalog { .. } | Self::Search { .. } => Some(Right::List),
            Self::ReadBlob { name, .. }
            | Self::ReadManifest { name, .. }
            | Self::Referrers { name, .. }
            | Self::Tags { name, .. } => Some(Right::Pull(name)),
            Self::AppendUpload { name, .. }
            | Self::CancelUpload { name, .. }
            | Self::FinishUpload { name, .. }
            | Self::MountBlob { name, .. }
            | Self::PutBlob { name, .. }
            | Self::PutManifest { name, .. }
            | Self::StartUpload { name, .. }
            | Self::UploadStatus { name, .. } => Some(Right::Create(name)),
            Self::DeleteBlob { name, .. }
            | Self::DeleteManifest { name, .. }
            | Self::DeleteRepository { name } => Some(Right::Delete(name)),
        }
    }

    /// Whether a caller without a name may call this where a rule gives it the right. `/v2/` is where
    /// clients check passwords and learn what to send. Clients ask lists without the credentials that they
    /// have, and take an answer for complete: podman the search, regctl and pages in browsers the catalog.
    pub(super) const fn admits_anonymous(&self) -> bool {
        !matches!(self, Self::Base | Self::Catalog { .. } | Self::Search { .. })
    }

    /// The same for a caller without a name who has a session token: `/v2/`, where clients try it, and the
    /// catalog.
    pub(super) const fn admits_anonymous_token(&self) -> bool {
        self.admits_anonymous() || matches!(self, Self::Base | Self::Catalog { .. })
    }
}

/// The parameters of a query.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = Cow<'_, str>> {
        form_urlencoded::parse(self.0.as_bytes())
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value)
    }

    fn first(&self, name: &'static str) -> Option<Cow<'_, str>> {
        self.all(name).next()
    }

    fn number(&self, name: &'static str) -> Result<Option<usize>, Error> {
        // An empty value counts as absent, as in registry:2: scripts expand unset variables.
        let Some(text) = self.first(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            invalid(
                ErrorCode::PaginationNumberInvalid,
                format!("`{name}` must be a non-negative number"),
            )
        })
    }

    fn page(&self) -> Result<PageQuery, Error> {
        let last = self.first("last").filter(|last| !last.is_empty()).map(Cow::into_owned);
        Ok(PageQuery { size: self.number("n")?, last })
    }
}

/// Whether a path is that of searches. Clients of Docker Registry v1 also send it with a slash at the end.
pub(super) fn is_search(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path) == "/v1/search"
}

/// The search term without the tag or the digest that follows it, as in `docker search HOST/app:1.0`. No
/// repository name has a colon or an at sign.
fn repository_part(term: &str) -> &str {
    term.split([':', '@']).next().unwrap_or(term)
}

/// Refuses a method that an endpoint does not have.
fn require(method: &Method, allowed: &'static [Method]) -> Result<(), Error> {
    if allowed.contains(method) { Ok(()) } else { Err(Error::MethodNotAllowed(allowed)) }
}

fn repository(segments: &[&str]) -> Result<RepositoryName, Error> {
    segments.join("/").parse().map_err(|why| invalid(ErrorCode::NameInvalid, why))
}

fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|why| invalid(ErrorCode::DigestInvalid, why))
}

fn invalid(code: ErrorCode, why: impl ToString) -> Error {
    Error::refused(code).because(why)
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
