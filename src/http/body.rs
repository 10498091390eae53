//! The body of a request as it arrives.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;

use super::limits::Upload;
use crate::registry::{self, BodyError};

/// A body as the stream that the core reads. When no bytes arrive for `idle_timeout`, the stream ends
/// with an error; the time for which `upload` holds bytes back does not count.
pub(super) fn bytes(body: Body, idle_timeout: Duration, upload: Option<Upload>) -> registry::Body {
    // A stream must not be polled after its end, so the state is `None` after the end or an error.
    let begin = (body.into_data_stream(), upload);
    stream::unfold(Some(begin), move |state| async move {
        let (mut body, upload) = state?;
        match tokio::time::timeout(idle_timeout, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => {
                if let Some(upload) = &upload {
                    upload.hold_back(piece.len()).await;
                }
                Some((Ok(piece), Some((body, upload))))
            }
            Ok(Some(Err(error))) => Some((Err(BodyError::Gone(error.into())), None)),
            Err(_) => Some((Err(BodyError::Stalled(idle_timeout)), None)),
        }
    })
    .boxed()
}

/// A whole body of at most `limit` bytes; `None` for a longer one.
///
/// # Errors
///
/// When the client disconnects, or the whole body has not arrived within `timeout`.
pub(super) async fn whole(
    body: Body,
    limit: usize,
    timeout: Duration,
) -> Result<Option<Bytes>, BodyError> {
    let limited = Body::new(http_body_util::Limited::new(body, limit));
    match tokio::time::timeout(timeout, limited.collect()).await {
        Ok(Ok(collected)) => Ok(Some(collected.to_bytes())),
        Ok(Err(error)) if is_length_limit(&error) => Ok(None),
        Ok(Err(error)) => Err(BodyError::Gone(error.into())),
        Err(_) => Err(BodyError::Stalled(timeout)),
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
