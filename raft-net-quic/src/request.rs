//! Requests and replies, multiplexed by id on one long-lived stream: both sides.
//!
//! The calling side ([`Calls`]) encodes everything that waits into one buffer and writes it in one
//! go; so does the answering side ([`answer`]) with replies. Requests run concurrently and are
//! answered in any order. A request is never sent twice, and never reported as not sent once a
//! byte of it may have left.

use crate::config::Limits;
use crate::error::{ProtocolError, printable};
use crate::frame::{self, FrameReader};
use crate::shared::Shared;
use bytes::{Buf, Bytes, BytesMut};
use quinn::{Connection, SendStream};
use raft_core::transport::{BoxFuture, CallError, Caller, Service};
use raft_core::types::GroupId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// Bytes after which a buffer is written before more is encoded.
const WRITE_BYTES: usize = 256 * 1024;

/// Replies above this travel on a stream of their own, so that small ones do not wait for them.
const LARGE_REPLY_BYTES: usize = 256 * 1024;

/// Bytes of a request or reply frame besides the request or reply itself.
pub(crate) const OVERHEAD: usize = 16;

type Outcome = Result<Bytes, CallError>;

/// The calling side of one connection.
pub(crate) struct Calls {
    state: Mutex<CallState>,
    wake: Notify,
    calls_max: usize,
    bytes_max: usize,
    request_bytes_max: usize,
    reply_bytes_max: usize,
}

#[derive(Default)]
struct CallState {
    /// Why the connection is gone.
    closed: Option<String>,
    next_id: u64,
    queue: VecDeque<(u64, GroupId, Bytes)>,
    queue_bytes: usize,
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
}

impl Calls {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            wake: Notify::new(),
            calls_max: limits.calls_max,
            bytes_max: limits.call_bytes_max,
            request_bytes_max: limits.request_bytes_max,
            reply_bytes_max: limits.reply_bytes_max,
        })
    }

    /// Queues a request; the future waits for the reply.
    pub(crate) fn call(self: &Arc<Self>, group: GroupId, request: Bytes) -> BoxFuture<Outcome> {
        match self.enqueue(group, request) {
            Err(reason) => not_sent(reason),
            Ok((id, reply)) => {
                let waiting = Waiting { calls: Arc::clone(self), id };
                Box::pin(async move {
                    let outcome = reply.await;
                    drop(waiting);
                    outcome.unwrap_or_else(|_| Err(CallError::Lost("the connection broke".into())))
                })
            }
        }
    }

    fn enqueue(
        &self,
        group: GroupId,
        request: Bytes,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), String> {
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        let (size, most) = (request.len(), self.request_bytes_max);
        if size > most {
            return Err(format!("a request of {size} bytes exceeds the limit of {most}"));
        }
        if state.waiting.len() >= self.calls_max || state.queue_bytes + size > self.bytes_max {
            return Err(format!("too many requests waiting ({})", state.waiting.len()));
        }
        let id = state.next_id;
        state.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(id, sender);
        state.queue_bytes += size;
        state.queue.push_back((id, group, request));
        let first = state.queue.len() == 1;
        drop(state);
        if first {
            self.wake.notify_one();
        }
        Ok((id, receiver))
    }

    /// Writes requests until the stream breaks.
    pub(crate) async fn write(&self, send: &mut SendStream) -> Result<(), ProtocolError> {
        loop {
            let buffer = self.encode();
            if buffer.is_empty() {
                self.wake.notified().await;
            } else {
                send.write_chunk(buffer.freeze()).await?;
            }
        }
    }

    fn encode(&self) -> BytesMut {
        let mut state = self.lock();
        let mut buffer = BytesMut::new();
        while buffer.len() < WRITE_BYTES
            && let Some((id, group, request)) = state.queue.pop_front()
        {
            state.queue_bytes -= request.len();
            // Whoever gave up waiting before it was sent does not want it sent.
            if state.waiting.contains_key(&id) {
                frame::put_request(&mut buffer, id, group, &request);
            }
        }
        buffer
    }

    /// Reads replies until the stream ends or breaks.
    pub(crate) async fn read(&self, reader: &mut FrameReader) -> Result<(), ProtocolError> {
        reader.limit(self.reply_bytes_max.saturating_add(OVERHEAD));
        loop {
            while let Some(frame) = reader.pop() {
                self.receive(frame)?;
            }
            if !reader.fill().await? {
                return Ok(());
            }
        }
    }

    /// Takes large replies, each on a stream of its own, until the connection breaks.
    pub(crate) async fn read_large(self: Arc<Self>, connection: &Connection) -> ProtocolError {
        let mut streams: JoinSet<Result<(), ProtocolError>> = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_uni() => match stream {
                    Ok(recv) => {
                        let calls = Arc::clone(&self);
                        streams.spawn(async move {
                            calls.read(&mut FrameReader::new(recv, 0)).await
                        });
                    }
                    Err(error) => return error.into(),
                },
                Some(Ok(Err(error))) = streams.join_next() => return error,
            }
        }
    }

    pub(crate) fn receive(&self, frame: frame::Frame) -> Result<(), ProtocolError> {
        let frame::Frame { kind, mut body } = frame;
        if body.len() < 8 {
            return Err(ProtocolError::Malformed("reply"));
        }
        let id = body.get_u64_le();
        let outcome = match kind {
            frame::REPLY => Ok(body),
            frame::FAILURE if !body.is_empty() => Err(match body.get_u8() {
                0 => CallError::NotSent(printable(&body)),
                _ => CallError::Lost(printable(&body)),
            }),
            frame::FAILURE => return Err(ProtocolError::Malformed("failure")),
            other => return Err(ProtocolError::Kind(other)),
        };
        let waiting = self.lock().waiting.remove(&id);
        if let Some(sender) = waiting {
            // Fails if the caller gave up just now, which is its right.
            let _ = sender.send(outcome);
        }
        Ok(())
    }

    /// Ends all calls: what was not written yet was certainly not sent.
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(reason.into());
        let mut waiting = std::mem::take(&mut state.waiting);
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for (id, ..) in queue {
            if let Some(sender) = waiting.remove(&id) {
                let _ = sender.send(Err(CallError::NotSent(reason.into())));
            }
        }
        for sender in waiting.into_values() {
            let _ = sender.send(Err(CallError::Lost(reason.into())));
        }
    }

    fn lock(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that failed before it began.
pub(crate) fn not_sent<T: Send + 'static>(reason: String) -> BoxFuture<Result<T, CallError>> {
    Box::pin(std::future::ready(Err(CallError::NotSent(reason))))
}

/// Forgets a call whose future is dropped.
struct Waiting {
    calls: Arc<Calls>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.calls.lock().waiting.remove(&self.id);
    }
}

/// What one connection may have running, over all its streams: a permit is a unit of bytes, and
/// every request takes at least one, which bounds both their bytes and their number.
#[derive(Clone)]
pub(crate) struct InFlight {
    permits: Arc<Semaphore>,
    unit: usize,
    most: u32,
}

impl InFlight {
    /// Of a node.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self::of(limits, limits.requests_in_flight_max)
    }

    /// Of a client.
    pub(crate) fn of_client(limits: &Limits) -> Self {
        Self::of(limits, limits.client_requests_in_flight_max)
    }

    fn of(limits: &Limits, requests_max: usize) -> Self {
        let bytes = limits.request_bytes_in_flight_max.max(limits.request_bytes_max);
        let most = requests_max.clamp(1, 1 << 20);
        let unit = bytes.div_ceil(most).max(1);
        let permits = Arc::new(Semaphore::new(most));
        Self { permits, unit, most: most as u32 }
    }

    async fn admit(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(bytes.div_ceil(self.unit)).unwrap_or(self.most);
        let permits = Arc::clone(&self.permits).acquire_many_owned(units.clamp(1, self.most));
        permits.await.expect("never closed")
    }
}

/// Answers the requests of one stream until it ends or breaks; what still runs then is dropped.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    connection: &Connection,
    caller: Caller,
    in_flight: &InFlight,
    reader: &mut FrameReader,
    send: &mut SendStream,
) -> Result<(), ProtocolError> {
    let replies = Arc::new(Replies::default());
    reader.limit(shared.limits().request_bytes_max + OVERHEAD);
    reader.hurry(shared.limits().frame_timeout);
    tokio::select! {
        result = run(shared, caller, in_flight, reader, &replies) => result,
        result = write_replies(shared.limits(), connection, send, &replies) => result,
    }
}

async fn run(
    shared: &Arc<Shared>,
    caller: Caller,
    in_flight: &InFlight,
    reader: &mut FrameReader,
    replies: &Arc<Replies>,
) -> Result<(), ProtocolError> {
    let mut running: JoinSet<()> = JoinSet::new();
    loop {
        while let Some(frame::Frame { kind, mut body }) = reader.pop() {
            if kind != frame::REQUEST {
                return Err(ProtocolError::Kind(kind));
            }
            if body.len() < OVERHEAD {
                return Err(ProtocolError::Malformed("request"));
            }
            let (id, group) = (body.get_u64_le(), GroupId(body.get_u64_le()));
            // Waiting here stops the reading, and that the sender.
            let permit = in_flight.admit(body.len()).await;
            shared.counters.requests();
            let reply = ReplySlot { id, permit: Some(permit), replies: Arc::clone(replies) };
            match shared.service(group) {
                Some(service) => start(&mut running, &service, caller, body, reply),
                None => reply.fail(false, format!("group {group} is not served there")),
            }
        }
        while running.try_join_next().is_some() {}
        if !reader.fill().await? {
            // The caller sends no more but still waits: the writer ends when all is written.
            while running.join_next().await.is_some() {}
            replies.lock().ended = true;
            replies.wake.notify_one();
            return std::future::pending().await;
        }
    }
}

/// Starts one request. Most reads are answered at once and need no task.
fn start(
    running: &mut JoinSet<()>,
    service: &Arc<dyn Service>,
    caller: Caller,
    request: Bytes,
    reply: ReplySlot,
) {
    let mut future = service.call(caller, request);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(bytes) => reply.send(bytes),
        Poll::Pending => {
            running.spawn(async move { reply.send(future.await) });
        }
    }
}

/// Replies on their way out.
#[derive(Default)]
struct Replies {
    state: Mutex<ReplyState>,
    wake: Notify,
}

#[derive(Default)]
struct ReplyState {
    queue: VecDeque<Reply>,
    /// No more will come.
    ended: bool,
}

struct Reply {
    id: u64,
    outcome: Result<Bytes, (bool, String)>,
    /// Held until the reply is written: a caller that does not read is not read from.
    _permit: OwnedSemaphorePermit,
}

impl Replies {
    fn lock(&self) -> MutexGuard<'_, ReplyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The promise of one reply: if the service panics, the caller is told.
struct ReplySlot {
    id: u64,
    permit: Option<OwnedSemaphorePermit>,
    replies: Arc<Replies>,
}

impl ReplySlot {
    fn send(mut self, reply: Bytes) {
        self.put(Ok(reply));
    }

    fn fail(mut self, may_have_run: bool, text: String) {
        self.put(Err((may_have_run, text)));
    }

    fn put(&mut self, outcome: Result<Bytes, (bool, String)>) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.replies.lock();
        state.queue.push_back(Reply { id: self.id, outcome, _permit: permit });
        let first = state.queue.len() == 1;
        drop(state);
        if first {
            self.replies.wake.notify_one();
        }
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        self.put(Err((true, "the service gave no reply".into())));
    }
}

async fn write_replies(
    limits: &Limits,
    connection: &Connection,
    send: &mut SendStream,
    replies: &Replies,
) -> Result<(), ProtocolError> {
    let mut large: JoinSet<()> = JoinSet::new();
    loop {
        let (mut batch, ended) = {
            let mut state = replies.lock();
            (std::mem::take(&mut state.queue), state.ended)
        };
        if batch.is_empty() && ended && large.is_empty() {
            // Fails only if the stream is closed already.
            let _ = send.finish();
            return Ok(());
        }
        if batch.is_empty() {
            tokio::select! {
                () = replies.wake.notified() => {}
                Some(_) = large.join_next() => {}
            }
            continue;
        }
        while !batch.is_empty() {
            let mut buffer = BytesMut::new();
            // Permits are given back when their replies are written.
            let mut written = Vec::new();
            while buffer.len() < WRITE_BYTES
                && let Some(reply) = batch.pop_front()
            {
                if reply.outcome.as_ref().is_ok_and(|bytes| is_large(bytes, limits)) {
                    large.spawn(write_large(connection.clone(), reply));
                } else {
                    encode_reply(&mut buffer, &reply, limits);
                    written.push(reply);
                }
            }
            if !buffer.is_empty() {
                send.write_chunk(buffer.freeze()).await?;
            }
        }
    }
}

const fn is_large(reply: &Bytes, limits: &Limits) -> bool {
    reply.len() > LARGE_REPLY_BYTES && reply.len() <= limits.reply_bytes_max
}

fn encode_reply(buffer: &mut BytesMut, reply: &Reply, limits: &Limits) {
    match &reply.outcome {
        Ok(bytes) if bytes.len() > limits.reply_bytes_max => {
            let (size, most) = (bytes.len(), limits.reply_bytes_max);
            let text = format!("the reply of {size} bytes exceeds the limit of {most}");
            frame::put_failure(buffer, reply.id, true, &text);
        }
        Ok(bytes) => frame::put_reply(buffer, reply.id, bytes),
        Err((may_have_run, text)) => frame::put_failure(buffer, reply.id, *may_have_run, text),
    }
}

/// Writes one large reply on a stream of its own, behind everything small.
async fn write_large(connection: Connection, reply: Reply) {
    let Ok(bytes) = &reply.outcome else { return };
    let mut head = BytesMut::with_capacity(frame::HEADER + 8);
    frame::put_reply_head(&mut head, reply.id, bytes.len());
    let written = async {
        let mut send = connection.open_uni().await?;
        // Fails only on a closed stream, and then so does the write.
        let _ = send.set_priority(-1);
        send.write_all_chunks(&mut [head.freeze(), bytes.clone()]).await?;
        let _ = send.finish();
        Ok::<_, ProtocolError>(())
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "a reply was not written");
    }
}
