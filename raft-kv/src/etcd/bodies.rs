//! Bodies whose bytes are held in the memory of their connection: those of requests while they come
//! and until they are answered, those of answers until the connection has sent them.

use super::error::{TOO_MANY_REQUESTS, TOO_SLOW};
use super::kind::Kind;
use super::memory::{Held, Memory};
use super::objects::Objects;
use bytes::Bytes;
use http::{Extensions, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

/// Bytes of the longest message that is decoded: those of a command, and what etcd allows beside.
pub(super) const DECODED_BYTES_MAX: usize = crate::api::REQUEST_BYTES_MAX + 512 * 1024;
/// Bytes before each message of gRPC: one, and its length.
pub(super) const PREFIX: usize = 5;
/// How long a request, or a message of a stream, may take to come once it has begun; and the first
/// message of a stream in JSON from the beginning.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer that is given whatever room there is: less than its request takes meanwhile.
const SMALL: usize = 16 * 1024;

impl Memory {
    /// A body whose bytes are held until what is returned beside it is dropped or, of one that
    /// streams, until each message is there.
    pub(super) fn receive(&self, body: Body, kind: Kind) -> (Body, Arc<Mutex<Held>>) {
        let held = Arc::new(Mutex::new(self.hold()));
        let received = Received {
            body,
            held: Arc::clone(&held),
            messages: Progress::of(kind),
            streams: matches!(kind, Kind::Stream | Kind::Lines),
            met: false,
            patience: None,
        };
        (Body::new(received), held)
    }

    /// An answer whose bytes are held until the connection has sent them. What there is of it
    /// already is held in the place of what was set aside for it; if nothing was and there is no
    /// room, the answer is that.
    pub(super) async fn send(&self, response: Response<Body>, kind: Kind) -> Response<Body> {
        let (mut parts, mut body) = response.into_parts();
        let mut first = std::future::poll_fn(|context| {
            Poll::Ready(match Pin::new(&mut body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => None,
            })
        })
        .await;
        if let Some(Ok(frame)) = first.as_mut()
            && let Some(data) = frame.data_mut()
        {
            let Some(held) = self.hold_answer(data.len(), &mut parts.extensions) else {
                return kind.refuse(TOO_MANY_REQUESTS);
            };
            *data = owned(std::mem::take(data), held);
        }
        let sent = Sent { memory: self.clone(), first, body };
        Response::from_parts(parts, Body::new(sent))
    }

    fn hold_answer(&self, bytes: usize, extensions: &mut Extensions) -> Option<Held> {
        let set_aside = extensions.remove::<SetAside>().and_then(|SetAside(held)| {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.take()
        });
        let mut held = match set_aside {
            Some(held) => held,
            None if bytes <= SMALL => self.hold(),
            None => {
                let mut held = self.hold();
                return held.take(bytes).then_some(held);
            }
        };
        held.resize(bytes);
        Some(held)
    }
}

/// Bytes that were held for an answer before it was put together; goes with it.
#[derive(Clone)]
struct SetAside(Arc<Mutex<Option<Held>>>);

/// An answer for which bytes have been held.
pub(super) fn set_aside<T>(answer: T, held: Held) -> tonic::Response<T> {
    let mut response = tonic::Response::new(answer);
    response.extensions_mut().insert(SetAside(Arc::new(Mutex::new(Some(held)))));
    response
}

/// The same bytes, held until the last part of them is dropped.
fn owned(bytes: Bytes, held: Held) -> Bytes {
    struct Owned(Bytes, #[expect(dead_code, reason = "dropped with the bytes")] Held);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owned(bytes, held))
}

/// The body of a request.
struct Received {
    body: Body,
    held: Arc<Mutex<Held>>,
    messages: Progress,
    streams: bool,
    /// Whether the first message of those that come one after the other is there.
    met: bool,
    /// While something has begun that has not ended.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Received {
    /// Holds what has come, or is to come now; false if there is no room.
    fn hold(&mut self, data: &[u8]) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, unfinished) = match &mut self.messages {
            Progress::Unknown => return held.take(data.len()),
            Progress::Announced(messages) => {
                let announced = messages.read(data);
                if !self.streams {
                    return held.take(announced);
                }
                (std::mem::take(&mut messages.ended), messages.unfinished)
            }
            Progress::Objects(objects) => (objects.read_all(data), objects.unfinished),
        };
        if ended {
            // What has begun after it has its own time.
            self.patience = None;
            self.met = true;
        }
        held.fit(unfinished)
    }

    /// Whether the client is in the middle of something.
    const fn has_begun(&self) -> bool {
        match &self.messages {
            Progress::Announced(messages) if self.streams => messages.begun > 0,
            // Nobody opens one ahead that is over HTTP/1.1 in most cases, and nothing is answered
            // before the first message.
            Progress::Objects(objects) => objects.unfinished > 0 || !self.met,
            Progress::Unknown | Progress::Announced(_) => true,
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            if self.has_begun() {
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(patience.as_mut().poll(context));
                return Poll::Ready(Some(Err(TOO_SLOW.into())));
            }
            return Poll::Pending;
        };
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let fits = frame.data_ref().is_none_or(|data| self.hold(data));
        Poll::Ready(Some(if fits { Ok(frame) } else { Err(TOO_MANY_REQUESTS.into()) }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How far a body has come.
enum Progress {
    /// Nobody says how long it is.
    Unknown,
    Announced(Messages),
    Objects(Objects),
}

impl Progress {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Http => Self::Unknown,
            Kind::Lines => Self::Objects(Objects::default()),
            Kind::Call | Kind::Stream => Self::Announced(Messages::default()),
        }
    }
}

/// How far the messages of a body have come.
#[derive(Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of the last one's prefix that have come.
    begun: usize,
    /// Bytes of it that are still to come, once the prefix is there.
    left: usize,
    /// Bytes that are reserved for it until its end.
    unfinished: usize,
    /// Whether one has ended since this was last looked at.
    ended: bool,
}

impl Messages {
    /// Goes on by these bytes. Returns how many the messages take that have been announced in them.
    fn read(&mut self, mut data: &[u8]) -> usize {
        let mut announced = 0;
        while !data.is_empty() {
            if self.begun < PREFIX {
                self.prefix[self.begun] = data[0];
                self.begun += 1;
                data = &data[1..];
                if self.begun == PREFIX {
                    announced += self.announced();
                }
            } else {
                let here = self.left.min(data.len());
                self.left -= here;
                data = &data[here..];
            }
            if self.begun == PREFIX && self.left == 0 {
                (self.begun, self.unfinished, self.ended) = (0, 0, true);
            }
        }
        announced
    }

    /// Bytes of the message whose prefix is there now. For one that is too long none are reserved:
    /// the decoder refuses it.
    fn announced(&mut self) -> usize {
        let [_, length @ ..] = self.prefix;
        self.left = u32::from_be_bytes(length) as usize;
        let bytes = if self.left > DECODED_BYTES_MAX { 0 } else { self.left };
        self.unfinished = PREFIX + bytes;
        self.unfinished
    }
}

/// How far the messages in `bytes` have come, if so many come at a time: what they announce, what
/// is reserved in the end, whether one has ended. For fuzz targets.
#[cfg(feature = "testing")]
pub(super) fn boundaries(bytes: &[u8], piece: usize) -> (usize, usize, bool) {
    let mut messages = Messages::default();
    let announced = bytes.chunks(piece.max(1)).map(|data| messages.read(data)).sum();
    (announced, messages.unfinished, messages.ended)
}

/// The body of an answer.
struct Sent {
    memory: Memory,
    /// What there was of it at once.
    first: Option<Result<Frame<Bytes>, Status>>,
    body: Body,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = frame.as_mut()
            && let Some(data) = frame.data_mut()
        {
            let mut held = self.memory.hold();
            held.resize(data.len());
            *data = owned(std::mem::take(data), held);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        let (first, rest) = (first.map_or(0, |data| data.len() as u64), self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_take_what_they_announce_until_they_end() {
        let mut messages = Messages::default();
        assert_eq!((messages.read(&[0, 0, 0]), messages.unfinished), (0, 0));
        assert_eq!((messages.read(&[0, 3, 1, 1]), messages.unfinished), (8, 8));
        assert_eq!((messages.read(&[1, 0]), messages.unfinished), (0, 0));
        assert_eq!((messages.read(&[0, 0, 0, 0]), messages.unfinished), (5, 0));
        assert_eq!(
            (messages.read(&[0, 0, 0, 0, 1, 7, 0, 0, 0, 1, 0]), messages.unfinished),
            (267, 261)
        );
        let mut messages = Messages::default();
        assert_eq!(messages.read(&[0, 255, 255, 255, 255, 1]), 5, "nobody decodes it");
    }

    /// The first part of a request, and no more of it.
    struct Begun(Option<Bytes>);

    impl HttpBody for Begun {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_has_to_end_in_time() {
        let memory = Memory::of(1000);
        let ends = async |kind, begun: &'static [u8]| {
            let body = Body::new(Begun(Some(Bytes::from_static(begun))));
            let (mut body, _held) = memory.receive(body, kind);
            let mut frame = async || {
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            };
            assert!(matches!(frame().await, Some(Ok(_))));
            let end = tokio::time::timeout(2 * PATIENCE, frame()).await;
            end.ok().and_then(|end| end?.err()).map(|error| error.code())
        };
        let late = Some(TOO_SLOW.0);
        assert_eq!(ends(Kind::Http, b"{").await, late);
        assert_eq!(ends(Kind::Lines, b"{} {").await, late);
        assert_eq!(ends(Kind::Lines, b"{} ").await, None, "it says nothing now");
        assert_eq!(ends(Kind::Lines, b"").await, late, "it has never said anything");
        assert_eq!(ends(Kind::Lines, b" \n").await, late, "nor has this");
        assert_eq!(ends(Kind::Stream, b"").await, None, "a stream may be opened ahead");
        assert_eq!(ends(Kind::Call, &[0, 0, 0, 0, 9]).await, late);
        assert_eq!(ends(Kind::Stream, &[0, 0, 0, 0, 1, 7, 0]).await, late);
        assert_eq!(ends(Kind::Stream, &[0, 0, 0, 0, 1, 7]).await, None, "it says nothing now");
        assert!(memory.hold().take(500), "nothing is held any more");
    }

    /// Parts of a request, each some time after the one before.
    struct Parts(Vec<&'static [u8]>, Duration, Pin<Box<Sleep>>);

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            ready!(self.2.as_mut().poll(context));
            self.2 = Box::pin(sleep(self.1));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.0.remove(0))))))
        }
    }

    /// However often something comes, what has begun has only so long; and no less for what came
    /// before it.
    #[tokio::test(start_paused = true)]
    async fn time_is_given_once_to_each_message() {
        let ends = async |kind, parts: Vec<&'static [u8]>| {
            let pause = PATIENCE / 5 * 4;
            let body = Body::new(Parts(parts, pause, Box::pin(sleep(pause))));
            let (mut body, _held) = Memory::of(1000).receive(body, kind);
            loop {
                let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
                match frame.await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(error.code()),
                    None => return None,
                }
            }
        };
        let late = Some(TOO_SLOW.0);
        let prefix: Vec<&[u8]> = vec![&[0]; 5];
        for kind in [Kind::Call, Kind::Stream] {
            assert_eq!(ends(kind, prefix.clone()).await, late, "{kind:?}");
        }
        assert_eq!(ends(Kind::Http, vec![b"{"; 9]).await, late);
        assert_eq!(ends(Kind::Lines, vec![b"{"; 9]).await, late);
        assert_eq!(ends(Kind::Lines, vec![b"}{"; 9]).await, late, "the first takes too long");
        let parts = [&b"{}{"[..]].into_iter().chain([&b"}{"[..]; 8]).collect();
        assert_eq!(ends(Kind::Lines, parts).await, None);
        let overlapping: Vec<&[u8]> = vec![&[0, 0], &[0, 0, 1, 7, 0], &[0, 0, 0, 1, 7, 0, 0]];
        let overlapping = [overlapping, vec![&[0, 0, 0], &[0, 0, 0, 0, 0, 0, 0], &[0, 0, 0]]];
        assert_eq!(ends(Kind::Stream, overlapping.concat()).await, None);
    }
}
