//! The errors of the interface and their responses.
//!
//! Every error becomes a response in this file and nowhere else: a status, and the specification's
//! JSON body with a code. A client error names its cause. A server error says "internal error" and
//! the request's id; the log has the whole chain of causes under that id, once.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, header},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{RequestId, limits::Limited, range};
use crate::{
    chain::Chain,
    gate::{Denied, NoRandomness, Refusal},
    oci::{ErrorCode, RepositoryName},
    registry::{self, BlobTooLarge, BodyError, QuotaExceeded, TagImmutable, Unacceptable},
    storage,
};

/// The most missing blobs of a manifest, or manifests that reference a blob, that a response lists:
/// more than people read, and little beside the manifest.
const MAX_REPORTED: usize = 100;

/// Why a request is refused, or has failed.
#[derive(Debug)]
pub enum Error {
    /// An address that may not use the registry (`http.clients`).
    Address,
    /// The policy denies a caller with a name what the request asks for.
    Denied(Box<Denied>),
    /// A form at `/auth/token` that asks for no password grant.
    Grant(Grant),
    /// No `Host`, several, or a malformed one (RFC 9112 §3.2).
    Host,
    /// The caller has to authenticate in another way: with the right password, or with a token that covers
    /// more.
    Challenged {
        /// What is wrong, which clients show.
        message: String,
        /// As for `Unauthenticated`.
        challenge: Option<String>,
    },
    /// More requests than the account of the caller allows.
    Limited(Box<Limited>),
    /// A host that the registry does not answer for.
    Misdirected(String),
    /// A method that the endpoint does not have.
    MethodNotAllowed(&'static [Method]),
    /// No endpoint has this path.
    NotFound,
    /// Refused before the core was called.
    Refused(Refused),
    /// A handler or a layer panicked. The panic hook has logged the place.
    Panicked,
    /// An error of the core.
    Registry(registry::Error),
    /// No token was issued, since the system has no randomness.
    Randomness(NoRandomness),
    /// The gate did not authenticate the caller.
    Unauthenticated {
        /// The gate's reason.
        refusal: Refusal,
        /// The challenge for `WWW-Authenticate` (RFC 9110 §11.6.1); `None` where the gate has no realm.
        challenge: Option<String>,
    },
}

/// The cause that the log names for a panic.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a handler panicked")]
struct Panicked;

/// A code with its status, and a detail for the client.
#[derive(Debug)]
pub struct Refused {
    code: ErrorCode,
    status: StatusCode,
    detail: Option<Value>,
}

impl Error {
    /// A refusal with the usual status of a code.
    pub(super) const fn refused(code: ErrorCode) -> Self {
        Self::Refused(Refused { code, status: status(code), detail: None })
    }

    /// Adds the reason to a refusal.
    pub(super) fn because(self, why: impl ToString) -> Self {
        self.with_detail(json!(why.to_string()))
    }

    /// Adds a detail to a refusal.
    pub(super) fn with_detail(self, detail: Value) -> Self {
        match self {
            Self::Refused(refused) => Self::Refused(Refused { detail: Some(detail), ..refused }),
            other => other,
        }
    }

    /// Gives a refusal another status than its code has.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        match self {
            Self::Refused(refused) => Self::Refused(Refused { status, ..refused }),
            other => other,
        }
    }

    /// Whether the caller has not passed authentication.
    pub(super) const fn is_challenge(&self) -> bool {
        matches!(self, Self::Challenged { .. } | Self::Unauthenticated { .. })
    }

    /// Makes the response, and logs the causes of a server error, which the response lacks.
    pub(super) fn into_response(self, id: RequestId) -> Response<Body> {
        match self {
            Self::Address => foreign(),
            Self::Denied(denied) => denied_to(&denied),
            Self::MethodNotAllowed(allowed) => {
                let mut response = Refused::of(ErrorCode::Unsupported).respond();
                set(&mut response, header::ALLOW, &list(allowed));
                response
            }
            Self::Host => {
                plain(StatusCode::BAD_REQUEST, "a request needs one Host header, of one host\n")
            }
            Self::Misdirected(host) => plain(
                StatusCode::MISDIRECTED_REQUEST,
                format!("this is not the server of {host}\n"),
            ),
            Self::Panicked => internal(StatusCode::INTERNAL_SERVER_ERROR, &Panicked, id),
            Self::Limited(limited) => over_the_rate(&limited),
            Self::NotFound => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
            Self::Refused(refused) => refused.respond(),
            Self::Unauthenticated { refusal: Refusal::Unauthenticated, challenge } => {
                unauthorized(ErrorCode::Unauthorized.message(), challenge)
            }
            Self::Unauthenticated { refusal: refusal @ Refusal::InvalidToken, challenge } => {
                unauthorized(&refusal.to_string(), challenge)
            }
            Self::Challenged { message, challenge } => unauthorized(&message, challenge),
            Self::Grant(grant) => grant.respond(),
            Self::Randomness(error) => internal(StatusCode::INTERNAL_SERVER_ERROR, &error, id),
            // Clients show the message.
            Self::Unauthenticated {
                refusal: refusal @ Refusal::TokenExpired { .. },
                challenge,
            } => unauthorized(&refusal.to_string(), challenge),
            Self::Unauthenticated {
                refusal:
                    ref refusal @ (Refusal::Busy { retry_after } | Refusal::Throttled { retry_after }),
                ..
            } => {
                let refused = Self::refused(ErrorCode::TooManyRequests).because(refusal);
                let mut response = refused.into_response(id);
                set(&mut response, header::RETRY_AFTER, &in_seconds(retry_after));
                response
            }
            Self::Registry(error) => from_registry(&error, id),
        }
    }
}

impl Refused {
    const fn of(code: ErrorCode) -> Self {
        Self { code, status: status(code), detail: None }
    }

    fn respond(self) -> Response<Body> {
        respond(self.status, &[(self.code, self.detail)])
    }
}

impl From<Box<Limited>> for Error {
    fn from(limited: Box<Limited>) -> Self {
        Self::Limited(limited)
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(error)
    }
}

/// Why a form at `/auth/token` is refused (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It has no `grant_type`.
    Missing,
    /// It asks for another grant.
    Unsupported,
    /// It has no `username` or no `password`.
    Incomplete,
}

impl Grant {
    fn respond(self) -> Response<Body> {
        let (error, message) = match self {
            Self::Missing => ("invalid_request", "the form has no grant_type"),
            Self::Unsupported => {
                ("unsupported_grant_type", "the only grant_type is `password`: log in again")
            }
            Self::Incomplete => ("invalid_request", "the form needs a username and a password"),
        };
        let entry = json!({ "code": ErrorCode::Unsupported.as_str(), "message": message });
        json_response(StatusCode::BAD_REQUEST, &json!({ "error": error, "errors": [entry] }))
    }
}

/// A `401` with the challenge of the scheme by which the client can authenticate.
fn unauthorized(message: &str, challenge: Option<String>) -> Response<Body> {
    let entry = json!({ "code": ErrorCode::Unauthorized.as_str(), "message": message });
    let mut response = json_response(StatusCode::UNAUTHORIZED, &json!({ "errors": [entry] }));
    if let Some(challenge) = challenge {
        set(&mut response, header::WWW_AUTHENTICATE, &challenge);
    }
    response
}

/// The status of a code, as in registry:2.
const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::DigestInvalid
        | ErrorCode::ManifestBlobUnknown
        | ErrorCode::ManifestInvalid
        | ErrorCode::NameInvalid
        | ErrorCode::PaginationNumberInvalid
        | ErrorCode::SizeInvalid
        | ErrorCode::TagInvalid => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Denied => StatusCode::FORBIDDEN,
        ErrorCode::BlobUnknown
        | ErrorCode::BlobUploadInvalid
        | ErrorCode::BlobUploadUnknown
        | ErrorCode::ManifestUnknown
        | ErrorCode::NameUnknown => StatusCode::NOT_FOUND,
        ErrorCode::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn from_registry(error: &registry::Error, id: RequestId) -> Response<Body> {
    use registry::Error as E;
    let refused = |code, detail: Value| respond(status(code), &[(code, Some(detail))]);
    let reason = || json!(error.to_string());
    match error {
        E::BlobTooLarge(excess) => too_large(excess),
        E::QuotaExceeded(excess) => over_quota(excess),
        E::BlobNeeded(manifests) => needed(NEEDED, manifests),
        E::BlobMayBeNeeded(manifests) => needed(MAY_BE_NEEDED, manifests),
        E::Body(BodyError::Gone(_)) => refused(ErrorCode::SizeInvalid, reason()),
        E::Body(BodyError::Stalled(_)) => {
            respond(StatusCode::REQUEST_TIMEOUT, &[(ErrorCode::SizeInvalid, Some(reason()))])
        }
        E::DigestMismatch { .. } => refused(ErrorCode::DigestInvalid, reason()),
        E::ManifestBlobUnknown(missing) => {
            let errors: Vec<_> = missing
                .iter()
                .take(MAX_REPORTED)
                .map(|digest| {
                    let detail = json!({ "digest": digest });
                    (ErrorCode::ManifestBlobUnknown, Some(detail))
                })
                .collect();
            respond(status(ErrorCode::ManifestBlobUnknown), &errors)
        }
        E::ManifestInvalid(_) => refused(ErrorCode::ManifestInvalid, reason()),
        E::ManifestRefused(Unacceptable::Url { .. }) => {
            refused(ErrorCode::ManifestInvalid, reason())
        }
        E::ManifestRefused(Unacceptable::Class { .. }) => refused(ErrorCode::Denied, reason()),
        E::RangeInvalid { offset } => {
            let mut response = refused(ErrorCode::RangeInvalid, reason());
            set(&mut response, header::RANGE, &range::received(*offset));
            response
        }
        E::SizeInvalid { .. } => refused(ErrorCode::SizeInvalid, reason()),
        E::TagExists(_) => refused(ErrorCode::Denied, reason()),
        E::TagImmutable(moved) => immutable(moved),
        E::TooManyBegun { retry_after, .. } => {
            let mut response = refused(ErrorCode::TooManyRequests, reason());
            set(&mut response, header::RETRY_AFTER, &in_seconds(*retry_after));
            response
        }
        E::TooManyUploads { .. } => refused(ErrorCode::TooManyRequests, reason()),
        E::UploadBusy => {
            respond(StatusCode::CONFLICT, &[(ErrorCode::BlobUploadInvalid, Some(reason()))])
        }
        E::UploadUnknown => refused(ErrorCode::BlobUploadUnknown, reason()),
        E::Storage(cause) => {
            let status = match cause.kind() {
                storage::ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
                storage::ErrorKind::TooManyFiles => StatusCode::SERVICE_UNAVAILABLE,
                storage::ErrorKind::TooLong | storage::ErrorKind::Other => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            internal(status, error, id)
        }
        E::Overtaken => internal(StatusCode::SERVICE_UNAVAILABLE, error, id),
        E::ClockWentBack | E::Panicked(_) => internal(StatusCode::INTERNAL_SERVER_ERROR, error, id),
    }
}

/// The response to a caller whom the policy denies something. Clients show the message, so it says who
/// may not do what, and where. It does not name a rule: rules name groups.
fn denied_to(denied: &Denied) -> Response<Body> {
    let repository = denied.repository.as_ref().map(RepositoryName::as_str);
    let entry = json!({
        "code": ErrorCode::Denied.as_str(),
        "message": denied.to_string(),
        "detail": { "action": denied.action().as_str(), "repository": repository },
    });
    json_response(status(ErrorCode::Denied), &json!({ "errors": [entry] }))
}

/// The response to a client whose address may not use the registry.
fn foreign() -> Response<Body> {
    let message = "this address may not use the registry";
    let entry = json!({ "code": ErrorCode::Denied.as_str(), "message": message });
    json_response(status(ErrorCode::Denied), &json!({ "errors": [entry] }))
}

/// The response to a caller that sends more requests than it may. Clients show the message.
fn over_the_rate(limited: &Limited) -> Response<Body> {
    let message = limited.to_string();
    let code = ErrorCode::TooManyRequests;
    let entry = json!({ "code": code.as_str(), "message": message });
    let mut response = json_response(status(code), &json!({ "errors": [entry] }));
    set(&mut response, header::RETRY_AFTER, &in_seconds(limited.retry_after));
    response
}

/// The response to a push that would move an immutable tag. docker shows the message only, and the
/// standard message of the code would suggest that the tag is malformed.
fn immutable(moved: &TagImmutable) -> Response<Body> {
    let TagImmutable { repository, tag, digest, rule } = moved;
    let detail = json!({
        "name": repository.as_str(), "tag": tag.as_str(), "digest": digest, "rule": rule,
    });
    let code = ErrorCode::TagInvalid.as_str();
    let entry = json!({ "code": code, "message": moved.to_string(), "detail": detail });
    json_response(StatusCode::CONFLICT, &json!({ "errors": [entry] }))
}

/// The response to a blob over the limit. Clients show the message. With another code than `DENIED`
/// docker would send the blob six times (docs/ARCHITECTURE.md, "What clients show of a refused push").
fn too_large(excess: &BlobTooLarge) -> Response<Body> {
    let BlobTooLarge { most, bytes } = excess;
    let entry = json!({
        "code": ErrorCode::Denied.as_str(),
        "message": excess.to_string(),
        "detail": { "limit": most.get(), "bytes": bytes },
    });
    json_response(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "errors": [entry] }))
}

/// The response to a blob for which its repository has no room, as for [a blob over the limit](too_large).
fn over_quota(excess: &QuotaExceeded) -> Response<Body> {
    let QuotaExceeded { repository, most, used, reserved, bytes } = excess;
    let entry = json!({
        "code": ErrorCode::Denied.as_str(),
        "message": excess.to_string(),
        "detail": {
            "repository": repository.as_str(), "quota": most.get(), "used": used,
            "reserved": reserved, "bytes": bytes,
        },
    });
    json_response(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "errors": [entry] }))
}

const NEEDED: &str = "manifests of this repository need the blob; delete them first, or set \
                      storage.delete.blobs: force";

const MAY_BE_NEEDED: &str = "manifests of this repository cannot be read and may need the blob; push \
                             them again or delete them first, or set storage.delete.blobs: force";

/// The response to a deletion that would break images, or might. Clients show the message, so it says
/// what to do.
fn needed(message: &str, manifests: &[impl Serialize]) -> Response<Body> {
    let listed = &manifests[..manifests.len().min(MAX_REPORTED)];
    let entry = json!({
        "code": ErrorCode::Denied.as_str(),
        "message": message,
        "detail": { "manifests": listed },
    });
    json_response(StatusCode::CONFLICT, &json!({ "errors": [entry] }))
}

/// The response to a server error. Logs the error with its causes.
fn internal(status: StatusCode, error: &dyn std::error::Error, id: RequestId) -> Response<Body> {
    tracing::error!(request = %id, error = %Chain(error), "a request failed");
    let detail = json!({ "request": id.to_string() });
    let message = match status {
        StatusCode::INSUFFICIENT_STORAGE => "no space left in the registry",
        _ => "internal error",
    };
    let code = match status {
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Unavailable,
        _ => ErrorCode::Unknown,
    };
    let entry = json!({ "code": code.as_str(), "message": message, "detail": detail });
    json_response(status, &json!({ "errors": [entry] }))
}

/// Methods in the syntax of `Allow`.
pub(super) fn list(methods: &[Method]) -> String {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.join(", ")
}

/// A response with the body of distribution-spec, "Error Codes".
fn respond(status: StatusCode, errors: &[(ErrorCode, Option<Value>)]) -> Response<Body> {
    let errors: Vec<Value> = errors
        .iter()
        .map(|(code, detail)| {
            let mut entry = json!({ "code": code.as_str(), "message": code.message() });
            if let Some(detail) = detail {
                entry["detail"] = detail.clone();
            }
            entry
        })
        .collect();
    json_response(status, &json!({ "errors": errors }))
}

fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/json");
    response
}

/// A duration in the syntax of `Retry-After`, rounded up so that a client that waits for so long is
/// not too early.
fn in_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).max(1).to_string()
}

/// A plain-text response, to a request outside of the specification.
fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

/// Sets a header. A value that a header cannot have is omitted.
fn set(response: &mut Response<Body>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
