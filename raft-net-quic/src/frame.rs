//! Frames: how bytes on a stream become messages, requests and replies, and back.
//!
//! Owns the byte layout given in the crate's documentation. Never allocates for bytes that have
//! not arrived, and never copies a payload once it is in the receive buffer.

use crate::error::ProtocolError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::RecvStream;
use raft_core::types::GroupId;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of a frame before its body: length and kind.
pub(crate) const HEADER: usize = 5;

/// First frame of a connection, both ways.
pub(crate) const HELLO: u8 = 1;
/// First frame of every further stream of a peer connection: what the stream is for.
pub(crate) const OPEN: u8 = 2;
/// One Raft message.
pub(crate) const MESSAGE: u8 = 3;
/// One request.
pub(crate) const REQUEST: u8 = 4;
/// The reply to a request.
pub(crate) const REPLY: u8 = 5;
/// Why a request has no reply.
pub(crate) const FAILURE: u8 = 6;
/// Head of a snapshot.
pub(crate) const SNAPSHOT: u8 = 7;
/// A part of a snapshot's bytes.
pub(crate) const CHUNK: u8 = 8;
/// End of a snapshot: length and checksum.
pub(crate) const END: u8 = 9;
/// The snapshot arrived whole and was handed over.
pub(crate) const RECEIVED: u8 = 10;

/// Head of a snapshot that can be continued over another stream.
pub(crate) const OFFER: u8 = 11;
/// How much of an offered snapshot is there.
pub(crate) const PROGRESS: u8 = 12;
/// An offered snapshot cannot be taken at present.
pub(crate) const BUSY: u8 = 13;

/// First frame of a service's stream: the group, and what the stream is for.
pub(crate) const STREAM: u8 = 14;
/// The answer to [`STREAM`]: the service has it.
pub(crate) const ACCEPTED: u8 = 15;
/// A frame of a service's stream.
pub(crate) const DATA: u8 = 16;

/// Between messages: asks for nothing but that the other end is there.
pub(crate) const PROBE: u8 = 17;

/// Body of [`OPEN`]: the stream carries appends.
pub(crate) const STREAM_BULK: u8 = 1;
/// Body of [`OPEN`]: the stream carries forwarded requests.
pub(crate) const STREAM_REQUESTS: u8 = 2;

/// One frame as it arrived. The body shares the receive buffer.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// Appends a frame of `kind` whose body `write` appends. Returns the bytes of the body.
pub(crate) fn put(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) -> usize {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    write(out);
    let body = out.len() - start - HEADER;
    let length = u32::try_from(body + 1).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    body
}

/// Appends the head of a frame whose body, of `length` bytes, is written after it.
pub(crate) fn put_head(out: &mut BytesMut, kind: u8, length: usize) {
    let length = u32::try_from(1 + length).unwrap_or(u32::MAX);
    out.put_u32_le(length);
    out.put_u8(kind);
}

/// Appends a request.
pub(crate) fn put_request(out: &mut BytesMut, id: u64, group: GroupId, request: &[u8]) {
    put(out, REQUEST, |out| {
        out.put_u64_le(id);
        out.put_u64_le(group.0);
        out.put_slice(request);
    });
}

/// Appends a reply.
pub(crate) fn put_reply(out: &mut BytesMut, id: u64, reply: &[u8]) {
    put(out, REPLY, |out| {
        out.put_u64_le(id);
        out.put_slice(reply);
    });
}

/// Appends the head of a reply whose `length` bytes are written after it.
pub(crate) fn put_reply_head(out: &mut BytesMut, id: u64, length: usize) {
    put_head(out, REPLY, 8 + length);
    out.put_u64_le(id);
}

/// Appends why request `id` has no reply, and whether it may have run.
pub(crate) fn put_failure(out: &mut BytesMut, id: u64, may_have_run: bool, text: &str) {
    put(out, FAILURE, |out| {
        out.put_u64_le(id);
        out.put_u8(u8::from(may_have_run));
        out.put_slice(text.as_bytes());
    });
}

/// Chunks taken from the stream in one go: at a packet each, 46 KB, and 200 if they are large.
const CHUNKS: usize = 32;

const LATE: ProtocolError = ProtocolError::Malformed("stream: the rest of a frame does not come");

/// Cuts a stream into frames.
///
/// What arrives in one go is copied once, out of the datagrams, into a buffer of just that size;
/// frames are slices of it. A payload that is kept thereby pins what arrived together with it, not
/// more.
pub(crate) struct FrameReader {
    recv: RecvStream,
    body_bytes_max: usize,
    /// Time for the rest of a frame that has begun; `None` for as long as the connection lives.
    frame_timeout: Option<Duration>,
    /// Whole frames, not yet taken.
    ready: Bytes,
    /// The beginning of a frame whose rest has not arrived.
    partial: BytesMut,
}

impl FrameReader {
    /// Reads frames of at most `body_bytes_max` bytes of body.
    pub(crate) fn new(recv: RecvStream, body_bytes_max: usize) -> Self {
        let (ready, partial) = (Bytes::new(), BytesMut::new());
        Self { recv, body_bytes_max, frame_timeout: None, ready, partial }
    }

    /// Bounds the time for the rest of a frame that has begun: what has arrived of it is memory
    /// that nobody else can use.
    pub(crate) const fn hurry(&mut self, frame_timeout: Duration) {
        self.frame_timeout = Some(frame_timeout);
    }

    /// Changes the limit, once it is known what the stream is for.
    pub(crate) const fn limit(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame if it is here already.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        pop(&mut self.ready)
    }

    /// Waits until a frame is here. False at the end of the stream. Can be cancelled.
    pub(crate) async fn fill(&mut self) -> Result<bool, ProtocolError> {
        let mut deadline = None;
        // What has arrived with frames that were taken may be whole by a limit that has changed.
        while !self.find_whole()? {
            // Only waiting for the remote end counts, not the time between two calls.
            if let Some(frame_timeout) = self.frame_timeout
                && !self.partial.is_empty()
                && deadline.is_none()
            {
                deadline = Some(Instant::now() + frame_timeout);
            }
            let mut chunks = [const { Bytes::new() }; CHUNKS];
            let reading = self.recv.read_chunks(&mut chunks);
            let read = match deadline {
                Some(deadline) => timeout_at(deadline, reading).await.map_err(|_| LATE)?,
                None => reading.await,
            };
            let Some(count) = read? else {
                let clean = self.partial.is_empty();
                return if clean { Ok(false) } else { Err(ProtocolError::Truncated) };
            };
            let chunks = &chunks[..count];
            if self.partial.is_empty() {
                self.partial = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
            }
            for chunk in chunks {
                self.partial.extend_from_slice(chunk);
            }
        }
        Ok(true)
    }

    /// Sets apart what is whole of what has arrived; whether there is any.
    fn find_whole(&mut self) -> Result<bool, ProtocolError> {
        if self.ready.is_empty() {
            let whole = whole_frames(&self.partial, self.body_bytes_max)?;
            if whole > 0 {
                let rest = BytesMut::from(&self.partial[whole..]);
                let mut buffer = std::mem::replace(&mut self.partial, rest);
                buffer.truncate(whole);
                self.ready = buffer.freeze();
            }
        }
        Ok(!self.ready.is_empty())
    }

    /// The next frame, or `None` at the end of the stream. Can be cancelled.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        if self.ready.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        Ok(self.pop())
    }
}

/// Takes the first frame out of `whole` frames.
pub(crate) fn pop(whole: &mut Bytes) -> Option<Frame> {
    if whole.is_empty() {
        return None;
    }
    let length = whole.get_u32_le() as usize;
    let mut body = whole.split_to(length);
    let kind = body.get_u8();
    Some(Frame { kind, body })
}

/// Bytes of the whole frames at the front of `buffer`. The length of the first is checked as soon
/// as it is here. A later one may be too long: what comes before it may say that it is not.
pub(crate) fn whole_frames(buffer: &[u8], body_bytes_max: usize) -> Result<usize, ProtocolError> {
    let mut whole = 0;
    while let Some(prefix) = buffer[whole..].first_chunk::<4>() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if length == 0 || length - 1 > body_bytes_max {
            if whole > 0 {
                break;
            }
            return Err(ProtocolError::Length { length, most: body_bytes_max + 1 });
        }
        if buffer.len() - whole - 4 < length {
            break;
        }
        whole += 4 + length;
    }
    Ok(whole)
}
