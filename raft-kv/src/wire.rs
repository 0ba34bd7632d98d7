//! The bytes of requests, replies, commands and queries: [`VERSION`], then postcard.
//!
//! Large parts are not decoded where they only pass through: a command is sliced out of its
//! request, a reply out of its frame, a deadline is exchanged in front of a request that is
//! forwarded. Decoding never panics and takes whole buffers only: bytes left over are an error.

#[cfg(all(test, feature = "client", feature = "service"))]
mod tests;

use crate::api::{
    Consistency, KvError, NodeStatus, Range, RangeReply, Reply, ReplyBody, Request, RequestBody,
    VERSION,
};
use bytes::{BufMut, Bytes, BytesMut};
use raft_core::codec;
use raft_core::types::NodeId;
use serde::{Deserialize, Serialize};

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Another version than [`VERSION`].
    #[error("version {0}, where version {VERSION} is spoken")]
    Version(u8),
    /// The bytes end early, go on too long, or hold a value out of its range.
    #[error("malformed bytes")]
    Malformed,
}

impl From<codec::CodecError> for WireError {
    fn from(_: codec::CodecError) -> Self {
        Self::Malformed
    }
}

/// The bytes of `value`: a [`Command`](crate::api::Command), its
/// [`CommandReply`](crate::api::CommandReply), a [`Query`](crate::api::Query) or its answer.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    encode_into(value, &mut out);
    out.freeze()
}

/// The value that [`encode`] made `bytes` of.
///
/// # Errors
/// See [`WireError`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let mut rest = versioned(bytes)?;
    let value = codec::take(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Malformed) }
}

/// The bytes of a request.
pub fn encode_request(request: &Request) -> Bytes {
    encode(&WireRequest {
        deadline_ms: request.deadline_ms,
        body: match &request.body {
            RequestBody::Write(command) => WireRequestBody::Write(command),
            RequestBody::Read { range, consistency } => {
                WireRequestBody::Read { range: range.clone(), consistency: *consistency }
            }
            RequestBody::Status => WireRequestBody::Status,
            RequestBody::TransferLeadership { to } => {
                WireRequestBody::TransferLeadership { to: *to }
            }
        },
    })
}

/// The request in `frame`; a command in it shares `frame`.
///
/// # Errors
/// See [`WireError`].
pub fn decode_request(frame: &Bytes) -> Result<Request, WireError> {
    let WireRequest { deadline_ms, body } = decode(frame)?;
    let body = match body {
        WireRequestBody::Write(command) => RequestBody::Write(frame.slice_ref(command)),
        WireRequestBody::Read { range, consistency } => RequestBody::Read { range, consistency },
        WireRequestBody::Status => RequestBody::Status,
        WireRequestBody::TransferLeadership { to } => RequestBody::TransferLeadership { to },
    };
    Ok(Request { deadline_ms, body })
}

#[cfg(any(feature = "client", feature = "service"))]
/// The same request with another deadline.
///
/// # Errors
/// If `frame` does not begin like a request.
pub(crate) fn with_deadline(frame: &Bytes, deadline_ms: u32) -> Result<Bytes, WireError> {
    let mut rest = versioned(frame)?;
    let _: u32 = codec::take(&mut rest)?;
    let mut out = BytesMut::with_capacity(rest.len() + 6);
    encode_into(&deadline_ms, &mut out);
    out.extend_from_slice(rest);
    Ok(out.freeze())
}

/// The bytes of a reply.
pub fn encode_reply(reply: &Reply) -> Bytes {
    match reply {
        Ok(ReplyBody::Write(reply)) => {
            let mut out = BytesMut::with_capacity(reply.len() + 16);
            encode_into(&Ok::<_, KvError>(WireReplyBody::Write(reply)), &mut out);
            out.freeze()
        }
        // Only a command's reply has another form on the wire than serde's own, and that only for
        // its speed: the bytes are the same.
        other => encode(other),
    }
}

/// The reply in `frame`; the reply to a command shares `frame`.
///
/// # Errors
/// See [`WireError`].
pub fn decode_reply(frame: &Bytes) -> Result<Reply, WireError> {
    let reply: Result<WireReplyBody<'_>, KvError> = decode(frame)?;
    Ok(reply.map(|body| match body {
        WireReplyBody::Write(reply) => ReplyBody::Write(frame.slice_ref(reply)),
        WireReplyBody::Range(reply) => ReplyBody::Range(reply),
        WireReplyBody::Status(status) => ReplyBody::Status(status),
        WireReplyBody::Transferred => ReplyBody::Transferred,
    }))
}

/// Appends the bytes of `value` to `out`.
pub(crate) fn encode_into<T: Serialize>(value: &T, out: &mut BytesMut) {
    out.put_u8(VERSION);
    codec::put(value, out);
}

/// What follows the version.
///
/// # Errors
/// If there is none, or another one.
pub(crate) const fn versioned(bytes: &[u8]) -> Result<&[u8], WireError> {
    match bytes {
        [VERSION, rest @ ..] => Ok(rest),
        [version, ..] => Err(WireError::Version(*version)),
        [] => Err(WireError::Malformed),
    }
}

/// [`Request`] with its command borrowed.
#[derive(Serialize, Deserialize)]
struct WireRequest<'a> {
    deadline_ms: u32,
    #[serde(borrow)]
    body: WireRequestBody<'a>,
}

#[derive(Serialize, Deserialize)]
enum WireRequestBody<'a> {
    Write(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Read { range: Range, consistency: Consistency },
    Status,
    TransferLeadership { to: Option<NodeId> },
}

/// [`ReplyBody`] with the command's reply borrowed.
#[derive(Serialize, Deserialize)]
enum WireReplyBody<'a> {
    Write(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Range(RangeReply),
    Status(Box<NodeStatus>),
    Transferred,
}
