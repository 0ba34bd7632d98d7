//! The bytes of requests and replies where they are more than plain values of `codec`.
//!
//! Large parts are not decoded where they only pass through: a command is sliced out of its
//! request, a reply out of its frame, a deadline is exchanged in front of a request that is
//! forwarded. Decoding never panics and takes whole buffers only: bytes left over are an error.

#[cfg(all(test, feature = "client", feature = "service"))]
mod tests;

use crate::api::{
    AuthAnswer, AuthQuestion, Consistency, Finding, Freshness, Health, Inquiry, KvError, LeaseId,
    LeaseStatus, Members, NodeStatus, Password, Published, Range, RangeReply, Reply, ReplyBody,
    Request, RequestBody, Token, changes,
};
#[cfg(any(feature = "client", feature = "service"))]
use crate::codec::versioned;
use crate::codec::{WireError, decode, encode, encode_into};
use bytes::{Bytes, BytesMut};
use raft_core::types::{Change, NodeId};
use serde::{Deserialize, Serialize};

/// The bytes of a request.
pub fn encode_request(request: &Request) -> Bytes {
    encode(&WireRequest { deadline_ms: request.deadline_ms, body: borrowed(&request.body) })
}

fn borrowed(body: &RequestBody) -> WireRequestBody<'_> {
    match body {
        RequestBody::Write(command) => WireRequestBody::Write(command),
        RequestBody::Read { range, consistency } => {
            WireRequestBody::Read { range: range.clone(), consistency: *consistency }
        }
        RequestBody::Status => WireRequestBody::Status,
        RequestBody::TransferLeadership { to } => WireRequestBody::TransferLeadership { to: *to },
        RequestBody::DatedRead { range, consistency } => {
            WireRequestBody::DatedRead { range: range.clone(), consistency: *consistency }
        }
        RequestBody::Members => WireRequestBody::Members,
        RequestBody::ChangeMembers(changes) => WireRequestBody::ChangeMembers(changes.clone()),
        RequestBody::Health => WireRequestBody::Health,
        RequestBody::KeepAlive(leases) => WireRequestBody::KeepAlive(leases.clone()),
        RequestBody::Lease { id, keys } => WireRequestBody::Lease { id: *id, keys: *keys },
        RequestBody::Leases => WireRequestBody::Leases,
        RequestBody::Integrity(inquiry) => WireRequestBody::Integrity(inquiry.clone()),
        RequestBody::Published => WireRequestBody::Published,
        RequestBody::Authenticate { name, password } => {
            WireRequestBody::Authenticate { name: name.clone(), password: password.clone() }
        }
        RequestBody::Auth(question) => WireRequestBody::Auth(question.clone()),
        RequestBody::Signed { token, body } => {
            WireRequestBody::Signed { token: &token.0, body: Box::new(borrowed(body)) }
        }
    }
}

/// The request in `frame`; a command in it shares `frame`.
///
/// # Errors
/// See [`WireError`].
pub fn decode_request(frame: &Bytes) -> Result<Request, WireError> {
    let WireRequest { deadline_ms, body } = decode(frame)?;
    Ok(Request { deadline_ms, body: owned(body, frame) })
}

/// The same, sharing `frame`. What is within each other is bounded when it is decoded.
fn owned(body: WireRequestBody<'_>, frame: &Bytes) -> RequestBody {
    match body {
        WireRequestBody::Write(command) => RequestBody::Write(frame.slice_ref(command)),
        WireRequestBody::Read { range, consistency } => RequestBody::Read { range, consistency },
        WireRequestBody::Status => RequestBody::Status,
        WireRequestBody::TransferLeadership { to } => RequestBody::TransferLeadership { to },
        WireRequestBody::DatedRead { range, consistency } => {
            RequestBody::DatedRead { range, consistency }
        }
        WireRequestBody::Members => RequestBody::Members,
        WireRequestBody::ChangeMembers(changes) => RequestBody::ChangeMembers(changes),
        WireRequestBody::Health => RequestBody::Health,
        WireRequestBody::KeepAlive(leases) => RequestBody::KeepAlive(leases),
        WireRequestBody::Lease { id, keys } => RequestBody::Lease { id, keys },
        WireRequestBody::Leases => RequestBody::Leases,
        WireRequestBody::Integrity(inquiry) => RequestBody::Integrity(inquiry),
        WireRequestBody::Published => RequestBody::Published,
        WireRequestBody::Authenticate { name, password } => {
            RequestBody::Authenticate { name, password }
        }
        WireRequestBody::Auth(question) => RequestBody::Auth(question),
        WireRequestBody::Signed { token, body } => {
            RequestBody::Signed { token: token.into(), body: Box::new(owned(*body, frame)) }
        }
    }
}

#[cfg(any(feature = "client", feature = "service"))]
/// The same request with another deadline.
///
/// # Errors
/// If `frame` does not begin like a request.
pub(crate) fn with_deadline(frame: &Bytes, deadline_ms: u32) -> Result<Bytes, WireError> {
    let mut rest = versioned(frame)?;
    let _: u32 = raft_core::codec::take(&mut rest)?;
    let mut out = BytesMut::with_capacity(rest.len() + 6);
    encode_into(&deadline_ms, &mut out);
    out.extend_from_slice(rest);
    Ok(out.freeze())
}

#[cfg(feature = "client")]
/// The same request showing this token, whatever it has shown before.
///
/// # Errors
/// If `frame` does not begin like a request.
pub(crate) fn with_token(frame: &Bytes, token: Option<&str>) -> Result<Bytes, WireError> {
    const SIGNED: u32 = 15;
    let mut rest = versioned(frame)?;
    let deadline_ms: u32 = raft_core::codec::take(&mut rest)?;
    let mut body = rest;
    let tag: u32 = raft_core::codec::take(&mut body)?;
    if tag == SIGNED {
        let _: &str = raft_core::codec::take(&mut body)?;
    } else {
        body = rest;
    }
    let room = token.map_or(0, str::len) + body.len() + 16;
    let mut out = BytesMut::with_capacity(room);
    encode_into(&deadline_ms, &mut out);
    if let Some(token) = token {
        raft_core::codec::put(&(SIGNED, token), &mut out);
    }
    out.extend_from_slice(body);
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
        WireReplyBody::Dated(freshness, range) => ReplyBody::Dated(freshness, range),
        WireReplyBody::Members(members) => ReplyBody::Members(members),
        WireReplyBody::Health(health) => ReplyBody::Health(health),
        WireReplyBody::KeptAlive(ttls) => ReplyBody::KeptAlive(ttls),
        WireReplyBody::Lease(lease) => ReplyBody::Lease(lease),
        WireReplyBody::Leases(leases) => ReplyBody::Leases(leases),
        WireReplyBody::Integrity(finding) => ReplyBody::Integrity(finding),
        WireReplyBody::Published(published) => ReplyBody::Published(published),
        WireReplyBody::Token(token) => ReplyBody::Token(token),
        WireReplyBody::Auth(answer) => ReplyBody::Auth(answer),
    }))
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
    Read {
        range: Range,
        consistency: Consistency,
    },
    Status,
    TransferLeadership {
        to: Option<NodeId>,
    },
    DatedRead {
        range: Range,
        consistency: Consistency,
    },
    Members,
    ChangeMembers(#[serde(with = "changes")] Vec<Change>),
    Health,
    KeepAlive(#[serde(deserialize_with = "crate::codec::bounded")] Vec<LeaseId>),
    Lease {
        id: LeaseId,
        keys: bool,
    },
    Leases,
    Integrity(Inquiry),
    Published,
    Authenticate {
        name: String,
        password: Password,
    },
    Auth(AuthQuestion),
    Signed {
        token: &'a str,
        #[serde(borrow, deserialize_with = "crate::codec::nested")]
        body: Box<Self>,
    },
}

/// [`ReplyBody`] with the command's reply borrowed.
#[derive(Serialize, Deserialize)]
enum WireReplyBody<'a> {
    Write(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Range(RangeReply),
    Status(Box<NodeStatus>),
    Transferred,
    Dated(Freshness, RangeReply),
    Members(Box<Members>),
    Health(Box<Health>),
    KeptAlive(Vec<u64>),
    Lease(Option<Box<LeaseStatus>>),
    Leases(Vec<LeaseId>),
    Integrity(Finding),
    Published(Option<Box<Published>>),
    Token(Token),
    Auth(AuthAnswer),
}
