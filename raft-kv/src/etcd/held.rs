//! Bounds on the bytes of requests that have come and are not answered yet: of one connection, and
//! of all of them. A request that would go beyond is refused, and none waits for another: whoever
//! sends the first halves of many requests holds up nobody.

use super::error::TOO_MANY_REQUESTS;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

/// Bytes of all connections.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of one connection.
const CONNECTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes before each message of gRPC: one, and its length.
const PREFIX: usize = 5;

/// What is left of both bounds. A clone is of the same connection.
#[derive(Clone)]
pub(super) struct Bounds {
    all: Arc<Semaphore>,
    connection: Arc<Semaphore>,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self::of(BYTES_MAX, CONNECTION_BYTES_MAX)
    }

    fn of(all: usize, connection: usize) -> Self {
        let [all, connection] = [all, connection].map(|bytes| Arc::new(Semaphore::new(bytes)));
        Self { all, connection }
    }

    /// Those of another connection.
    pub(super) fn of_connection(&self) -> Self {
        let connection = Arc::new(Semaphore::new(CONNECTION_BYTES_MAX));
        Self { all: Arc::clone(&self.all), connection }
    }

    /// A body whose bytes count: until what is returned beside it is dropped, or, of a body that
    /// `streams` messages, until each of them is there.
    pub(super) fn body(&self, body: Body, streams: bool) -> (Body, Arc<Held>) {
        let held = Arc::new(Held { bounds: self.clone(), permits: Mutex::default() });
        let message = streams.then(Message::default);
        let counted = Counted { body, held: Arc::clone(&held), message };
        (Body::new(counted), held)
    }
}

/// Bytes that count.
pub(super) struct Held {
    bounds: Bounds,
    permits: Mutex<Option<[OwnedSemaphorePermit; 2]>>,
}

impl Held {
    /// Takes more; false if there are no more.
    fn take(&self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(bytes).ok();
        let Some(connection) = take(&self.bounds.connection) else { return false };
        let Some(all) = take(&self.bounds.all) else { return false };
        // Every statement leaves it consistent.
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *permits {
            None => *permits = Some([connection, all]),
            Some([held_connection, held_all]) => {
                held_connection.merge(connection);
                held_all.merge(all);
            }
        }
        true
    }

    fn give_back(&self) {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

struct Counted {
    body: Body,
    held: Arc<Held>,
    message: Option<Message>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            if self.message.as_mut().is_some_and(|message| message.ends_in(data)) {
                self.held.give_back();
            }
            if !self.held.take(data.len()) {
                return Poll::Ready(Some(Err(TOO_MANY_REQUESTS.into())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How far a message of gRPC has come.
#[derive(Default)]
struct Message {
    prefix: [u8; PREFIX],
    /// Bytes of it that have come.
    begun: usize,
    /// Bytes that are still to come, once the prefix is there.
    left: usize,
}

impl Message {
    /// Whether a message ends in these bytes: what was held of it is needed no more.
    fn ends_in(&mut self, mut data: &[u8]) -> bool {
        let mut ends = false;
        while !data.is_empty() {
            if self.begun < PREFIX {
                self.prefix[self.begun] = data[0];
                self.begun += 1;
                data = &data[1..];
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            } else {
                let here = self.left.min(data.len());
                self.left -= here;
                data = &data[here..];
            }
            if self.begun == PREFIX && self.left == 0 {
                self.begun = 0;
                ends = true;
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_length_says() {
        let mut message = Message::default();
        assert!(!message.ends_in(&[0, 0, 0]));
        assert!(!message.ends_in(&[0, 3, 1, 1]));
        assert!(message.ends_in(&[1, 0]));
        assert!(message.ends_in(&[0, 0, 0, 0]), "an empty one");
        assert!(!message.ends_in(&[0, 255, 255, 255, 255, 1]));
    }

    #[test]
    fn what_goes_beyond_a_bound_is_refused_until_something_is_given_back() {
        let bounds = Bounds::of(100, 60);
        let other = Bounds { connection: Arc::new(Semaphore::new(60)), ..bounds.clone() };
        let held = |bounds: &Bounds| bounds.body(Body::empty(), false).1;
        let [first, second, third] = [held(&bounds), held(&bounds), held(&other)];
        assert!(first.take(40) && second.take(20));
        assert!(!second.take(1), "the connection has no more");
        assert!(third.take(40));
        assert!(!third.take(1), "nobody has any more");
        drop(first);
        assert!(third.take(20) && second.take(20));
        third.give_back();
        assert!(second.take(20) && !second.take(1));
    }
}
