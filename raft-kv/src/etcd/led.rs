//! Answers to those who want none of a node without a leader: whatever is streamed to them ends
//! once the node has known of no leader for three election timeouts, as with etcd.

use super::core::Core;
use super::error::NO_LEADER;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// The same answer, which ends when there is no leader.
pub(super) fn while_led(core: Arc<Core>, response: Response<Body>) -> Response<Body> {
    let unled = Box::pin(async move { core.until_unled().await });
    response.map(|body| Body::new(WhileLed { body: Some(body), unled }))
}

struct WhileLed {
    /// Nothing once it has ended: whoever makes the answers is told by that.
    body: Option<Body>,
    unled: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for WhileLed {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        // What there is to say is said first.
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.unled.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.body = None;
        let mut trailers = HeaderMap::new();
        // It is a plain text: that can stand in a header.
        let _ = Status::from(NO_LEADER).add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
