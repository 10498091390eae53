//! The body of a request as it arrives.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;

use crate::registry::{self, BodyError};

/// The bytes of a body for the core, which ends with an error when none come for as long as
/// `patience`.
pub(super) fn bytes(body: Body, patience: Duration) -> registry::Body {
    // A body that is told to end is not asked again, as streams may not be.
    stream::unfold(Some(body.into_data_stream()), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(patience, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(BodyError::Gone(error.into())), None)),
            Err(_) => Some((Err(BodyError::Stalled(patience)), None)),
        }
    })
    .boxed()
}

/// A whole body of at most `limit` bytes, within `patience`; `None` for a longer one.
pub(super) async fn whole(
    body: Body,
    limit: usize,
    patience: Duration,
) -> Result<Option<Bytes>, BodyError> {
    let limited = Body::new(http_body_util::Limited::new(body, limit));
    match tokio::time::timeout(patience, limited.collect()).await {
        Ok(Ok(collected)) => Ok(Some(collected.to_bytes())),
        Ok(Err(error)) if is_length_limit(&error) => Ok(None),
        Ok(Err(error)) => Err(BodyError::Gone(error.into())),
        Err(_) => Err(BodyError::Stalled(patience)),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        next = cause.source();
    }
    false
}
