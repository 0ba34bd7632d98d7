//! Streams of a service: each is one QUIC stream, in both directions.
//!
//! QUIC's own flow control is the back-pressure, its end of a stream the clean end, its reset the
//! broken one. A remote end that breaks the protocol loses its connection. No more streams of one
//! connection are open than leave room in its window for everything else.

use crate::config::Limits;
use crate::error::{ProtocolError, close, printable};
use crate::frame::{self, FrameReader, HEADER};
use crate::request::not_sent;
use crate::shared::Shared;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{Connection, SendStream, VarInt};
use raft_core::transport::{
    BorrowedFuture, BoxFuture, CallError, Caller, Duplex, FrameSink, FrameSource, StreamError,
};
use raft_core::types::GroupId;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Behind requests, replies and messages.
const PRIORITY: i32 = -1;

/// What a stream is reset with when its sender is dropped.
const GIVEN_UP: u32 = 1;

/// Bytes of a stream's first frame besides what it is for.
const FIRST_OVERHEAD: usize = 8;

/// A body up to this is copied behind its head, to be written with it.
const SMALL: usize = 4096;

/// The streams that this side opens on one connection.
pub(crate) struct Streams {
    connection: Connection,
    /// One for each that may still be opened. `None`: the other end knows no streams.
    permits: Option<Arc<Semaphore>>,
    limits: Limits,
}

impl Streams {
    /// `known`: whether the other end knows streams.
    pub(crate) fn new(connection: Connection, known: bool, limits: &Limits) -> Self {
        let permits = known.then(|| Arc::new(Semaphore::new(limits.streams_max)));
        Self { connection, permits, limits: limits.clone() }
    }

    /// Opens a stream and waits until the other end has taken it.
    pub(crate) fn open(
        &self,
        group: GroupId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        let Some(permits) = &self.permits else {
            return not_sent("the node there is of an earlier version, without streams".into());
        };
        let (size, most) = (first.len(), self.limits.stream_frame_bytes_max);
        if size > most {
            return not_sent(format!("a frame of {size} bytes exceeds the limit of {most}"));
        }
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            return not_sent(format!("too many streams are open ({})", self.limits.streams_max));
        };
        Box::pin(open(self.connection.clone(), self.limits.clone(), permit, group, first))
    }
}

async fn open(
    connection: Connection,
    limits: Limits,
    permit: OwnedSemaphorePermit,
    group: GroupId,
    first: Bytes,
) -> Result<Duplex, CallError> {
    let unopened = |error: ProtocolError| CallError::NotSent(format!("connection lost: {error}"));
    let lost = |error: ProtocolError| CallError::Lost(format!("connection lost: {error}"));
    let (send, recv) = connection.open_bi().await.map_err(|error| unopened(error.into()))?;
    let reader = FrameReader::new(recv, 0);
    let (mut sink, mut source) = halves(connection, &limits, None, (send, reader), permit);
    let mut head = BytesMut::new();
    frame::put(&mut head, frame::STREAM, |out| {
        out.put_u64_le(group.0);
        out.put_slice(&first);
    });
    sink.pending.push_back(head.freeze());
    sink.flush().await.map_err(lost)?;
    match source.next().await.map_err(lost)? {
        Some(frame::Frame { kind: frame::ACCEPTED, body }) if body.is_empty() => {}
        Some(frame::Frame { kind: frame::FAILURE, body }) if body.len() > FIRST_OVERHEAD => {
            let text = printable(&body[FIRST_OVERHEAD + 1..]);
            return Err(match body[FIRST_OVERHEAD] {
                0 => CallError::NotSent(text),
                _ => CallError::Lost(text),
            });
        }
        Some(frame) => return Err(lost(source.violated(ProtocolError::Kind(frame.kind)))),
        None => return Err(lost(ProtocolError::Truncated)),
    }
    Ok(Duplex { sink: Box::new(sink), source: Box::new(source) })
}

/// Takes a stream that the other end has opened, whose first frame had this body, and hands it to
/// the service.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    connection: Connection,
    caller: Caller,
    mut first: Bytes,
    ends: (SendStream, FrameReader),
    permit: OwnedSemaphorePermit,
) -> Result<(), ProtocolError> {
    if first.len() < FIRST_OVERHEAD {
        return Err(ProtocolError::Malformed("stream head"));
    }
    let group = GroupId(first.get_u64_le());
    let (mut sink, source) = halves(connection, shared.limits(), Some(shared), ends, permit);
    let mut answer = BytesMut::new();
    let Some(service) = shared.service(group) else {
        let text = format!("group {group} is not served there");
        frame::put_failure(&mut answer, 0, false, &text);
        sink.pending.push_back(answer.freeze());
        // It breaks only with the connection.
        let _ = Box::new(sink).finish().await;
        return Ok(());
    };
    frame::put(&mut answer, frame::ACCEPTED, |_| {});
    sink.pending.push_back(answer.freeze());
    if sink.flush().await.is_ok() {
        shared.counters.streams();
        let stream = Duplex { sink: Box::new(sink), source: Box::new(source) };
        service.serve_stream(caller, first, stream);
    }
    Ok(())
}

fn halves(
    connection: Connection,
    limits: &Limits,
    shared: Option<&Arc<Shared>>,
    (send, mut reader): (SendStream, FrameReader),
    permit: OwnedSemaphorePermit,
) -> (QuicSink, QuicSource) {
    let permit = Arc::new(permit);
    // Fails only on a closed stream, and then so does the write.
    let _ = send.set_priority(PRIORITY);
    let frame_bytes_max = limits.stream_frame_bytes_max;
    reader.limit(frame_bytes_max);
    reader.hurry(limits.frame_timeout);
    let sink = QuicSink {
        send,
        pending: VecDeque::new(),
        frame_bytes_max,
        finished: false,
        _permit: Arc::clone(&permit),
    };
    (sink, QuicSource { reader, connection, shared: shared.cloned(), _permit: permit })
}

/// The most bytes that the first frame of a stream may have.
pub(crate) const fn first_frame_bytes_max(limits: &Limits) -> usize {
    FIRST_OVERHEAD.saturating_add(limits.stream_frame_bytes_max)
}

struct QuicSink {
    send: SendStream,
    /// What is left of a frame that was being sent: a frame is never sent in part.
    pending: VecDeque<Bytes>,
    frame_bytes_max: usize,
    finished: bool,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl QuicSink {
    async fn flush(&mut self) -> Result<(), ProtocolError> {
        while let Some(chunk) = self.pending.front_mut() {
            if !chunk.is_empty() {
                // Cut to what was not written; dropped while it waits, it has written nothing.
                self.send.write_chunks(std::slice::from_mut(chunk)).await?;
            }
            if chunk.is_empty() {
                self.pending.pop_front();
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, body: Bytes) {
        let is_small = body.len() <= SMALL;
        let mut head = BytesMut::with_capacity(HEADER + if is_small { body.len() } else { 0 });
        frame::put_head(&mut head, frame::DATA, body.len());
        if is_small {
            head.put_slice(&body);
        }
        self.pending.push_back(head.freeze());
        if !is_small {
            self.pending.push_back(body);
        }
    }
}

impl FrameSink for QuicSink {
    fn send(&mut self, frame: Bytes) -> BorrowedFuture<'_, Result<(), StreamError>> {
        let (size, limit) = (frame.len(), self.frame_bytes_max);
        if size > limit {
            return Box::pin(std::future::ready(Err(StreamError::TooLarge { size, limit })));
        }
        Box::pin(async move {
            self.flush().await.map_err(broken)?;
            self.enqueue(frame);
            self.flush().await.map_err(broken)
        })
    }

    fn finish(mut self: Box<Self>) -> BorrowedFuture<'static, Result<(), StreamError>> {
        Box::pin(async move {
            self.flush().await.map_err(broken)?;
            // Fails only if the other end wants no more, which is as good as an end.
            let _ = self.send.finish();
            self.finished = true;
            Ok(())
        })
    }
}

impl Drop for QuicSink {
    fn drop(&mut self) {
        if !self.finished {
            // Fails only on a stream that is closed already.
            let _ = self.send.reset(VarInt::from_u32(GIVEN_UP));
        }
    }
}

struct QuicSource {
    reader: FrameReader,
    connection: Connection,
    /// Where violations are counted.
    shared: Option<Arc<Shared>>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl QuicSource {
    async fn next(&mut self) -> Result<Option<frame::Frame>, ProtocolError> {
        self.reader.next().await.map_err(|error| self.violated(error))
    }

    /// Closes the connection if the other end is to blame.
    fn violated(&self, error: ProtocolError) -> ProtocolError {
        if !matches!(error, ProtocolError::Lost(_)) {
            let reason = error.to_string();
            if let Some(shared) = &self.shared {
                shared.counters.violations();
            }
            let remote = self.connection.remote_address();
            tracing::warn!(%remote, reason, "connection dropped");
            let code = VarInt::from_u32(close::PROTOCOL);
            self.connection.close(code, reason.as_bytes());
        }
        error
    }
}

impl FrameSource for QuicSource {
    fn receive(&mut self) -> BorrowedFuture<'_, Result<Option<Bytes>, StreamError>> {
        Box::pin(async move {
            match self.next().await.map_err(broken)? {
                Some(frame::Frame { kind: frame::DATA, body }) => Ok(Some(body)),
                Some(frame) => Err(broken(self.violated(ProtocolError::Kind(frame.kind)))),
                None => Ok(None),
            }
        })
    }
}

fn broken(error: ProtocolError) -> StreamError {
    StreamError::Broken(error.to_string())
}
