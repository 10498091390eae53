//! Bodies whose bytes are held back to the rate of an account. While they are, the server waits for itself
//! and not for the client: neither body counts as idle or stalled meanwhile.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{Account, Direction};

/// The most bytes of a response that pass at once: the steps in which the connections of one account take
/// turns.
const STEP: usize = 32 * 1024;

/// The body of a response.
pub(in crate::http) struct Paced {
    body: Body,
    account: Account,
    /// What the account has not been asked about yet, behind the next `granted` bytes.
    rest: Bytes,
    granted: usize,
    /// Until when the granted bytes are held back.
    hold: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// Holds back the bytes of a response, unless the account has no limit for them.
    pub(in crate::http) fn body(body: Body, account: Account) -> Body {
        if !account.limits(Direction::Download) || hyper::body::Body::is_end_stream(&body) {
            return body;
        }
        Body::new(Self { body, account, rest: Bytes::new(), granted: 0, hold: None })
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx))
                .map(|next| next.map(Frame::into_data))
            {
                Some(Ok(Ok(data))) if !data.is_empty() => this.rest = data,
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        if this.granted == 0 {
            this.granted = this.rest.len().min(STEP);
            let time = this.account.bytes(Direction::Download, this.granted);
            this.hold = (!time.is_zero()).then(|| Box::pin(sleep(time)));
        }
        if let Some(hold) = &mut this.hold {
            ready!(hold.as_mut().poll(cx));
            this.hold = None;
        }
        let step = this.rest.split_to(std::mem::take(&mut this.granted));
        Poll::Ready(Some(Ok(Frame::data(step))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}

/// The bytes that a caller sends, at the rate of its account.
#[derive(Clone, Debug)]
pub(in crate::http) struct Upload(Account);

impl Upload {
    /// `None` where the account has no limit for them.
    pub(in crate::http) fn of(account: &Account) -> Option<Self> {
        account.limits(Direction::Upload).then(|| Self(account.clone()))
    }

    /// Holds back a piece that has arrived: until this returns, the server reads no further.
    pub(in crate::http) async fn hold_back(&self, length: usize) {
        let time = self.0.bytes(Direction::Upload, length);
        if !time.is_zero() {
            sleep(time).await;
        }
    }
}
