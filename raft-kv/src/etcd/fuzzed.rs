//! What the door reads of clients before it asks anybody, for fuzz targets: messages in both of
//! their forms, what becomes of them, and where each ends. It does nothing but look.

use super::bodies::boundaries;
use super::convert;
use super::gateway::{Requests, one_message};
use super::proto::{authpb, etcdserverpb as pb, v3electionpb, v3lockpb};
use crate::api::{Action, Command, Op, TXN_DEPTH_MAX};
use crate::codec;
use crate::store::validate;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tonic::body::Body;

/// In which form a message comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Protobuf,
    Json,
    /// Several, one after the other.
    Stream,
}

/// Reads a message as protobuf, and what becomes of it; `what` says which message. Whether it is
/// one, and what it asks for can be done.
pub(crate) fn protobuf(what: u8, bytes: &[u8]) -> bool {
    take(Form::Protobuf, what, bytes)
}

/// The same as JSON, as it comes over HTTP.
pub(crate) fn json(what: u8, bytes: &[u8]) -> bool {
    take(if what == u8::MAX { Form::Stream } else { Form::Json }, what, bytes)
}

/// What is announced in a body whose bytes come so many at a time, what is held of it in the end,
/// and whether any message ended.
pub(crate) fn framed(bytes: &[u8], piece: usize) -> (usize, usize, bool) {
    boundaries(bytes, piece)
}

fn take(form: Form, what: u8, bytes: &[u8]) -> bool {
    match what {
        0 => read(form, bytes).is_some_and(range),
        1 => read(form, bytes).is_some_and(put),
        2 => read(form, bytes).is_some_and(delete),
        3 => read(form, bytes).is_some_and(txn),
        4 => read::<pb::CompactionRequest>(form, bytes).is_some(),
        5 => read::<pb::LeaseGrantRequest>(form, bytes).is_some(),
        6 => read::<pb::LeaseTimeToLiveRequest>(form, bytes).is_some(),
        7 => read::<pb::LeaseKeepAliveRequest>(form, bytes).is_some(),
        8 | u8::MAX => read::<pb::WatchRequest>(form, bytes).is_some(),
        9 => read::<pb::MemberAddRequest>(form, bytes).is_some(),
        10 => read::<pb::MemberUpdateRequest>(form, bytes).is_some(),
        11 => read::<pb::AlarmRequest>(form, bytes).is_some(),
        12 => read::<pb::HashKvRequest>(form, bytes).is_some(),
        13 => read::<pb::AuthUserAddRequest>(form, bytes).is_some(),
        14 => read::<pb::AuthenticateRequest>(form, bytes).is_some(),
        15 => read::<pb::AuthRoleGrantPermissionRequest>(form, bytes).is_some(),
        16 => read::<authpb::Permission>(form, bytes).is_some(),
        17 => read::<v3lockpb::LockRequest>(form, bytes).is_some(),
        18 => read::<v3electionpb::CampaignRequest>(form, bytes).is_some(),
        19 => read::<v3electionpb::ProclaimRequest>(form, bytes).is_some(),
        _ => false,
    }
}

/// The message; in both of its forms it is the same when it is told again.
fn read<Q>(form: Form, bytes: &[u8]) -> Option<Q>
where
    Q: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let found = match form {
        Form::Protobuf => Q::decode(bytes).ok()?,
        Form::Json => one_message::<Q>(bytes).ok()?,
        Form::Stream => last::<Q>(bytes)?,
    };
    let again = Q::decode(&found.encode_to_vec()[..]);
    // Where it is nested more deeply than any decoder goes, nobody else reads it either.
    if form == Form::Protobuf || again.is_ok() {
        assert_eq!(again.as_ref(), Ok(&found));
    }
    // A number that names no order, kind or type has no form in JSON.
    if let Ok(text) = serde_json::to_vec(&found)
        && let Ok(again) = one_message::<Q>(&text)
    {
        assert_eq!(again, found);
    }
    Some(found)
}

/// The last of the messages in the body of a request, which all has come.
fn last<Q: DeserializeOwned>(bytes: &[u8]) -> Option<Q> {
    let whole = Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {});
    let reading = async {
        let mut requests = Requests::<Q>::begin(Body::new(whole)).await.ok()?;
        let mut last = None;
        while let Some(message) = requests.next().await.ok()? {
            last = Some(message);
        }
        last
    };
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(last) => last,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

fn range(request: pb::RangeRequest) -> bool {
    convert::range(request).is_ok_and(|(range, _)| is_sound(Action::Op(Op::Range(range))))
}

fn put(request: pb::PutRequest) -> bool {
    convert::put(request).is_ok_and(|put| is_sound(Action::Op(Op::Put(put))))
}

fn delete(request: pb::DeleteRangeRequest) -> bool {
    convert::delete(request).is_ok_and(|op| is_sound(Action::Op(op)))
}

fn txn(request: pb::TxnRequest) -> bool {
    convert::txn(request).is_ok_and(|txn| is_sound(Action::Txn(txn)))
}

/// What was understood can be put into the log, and be found there again, if its form is right.
fn is_sound(action: Action) -> bool {
    let checked = validate(&action);
    let command = Command { request: None, fence: None, action };
    if checked.is_ok() {
        assert_eq!(codec::decode::<Command>(&codec::encode(&command)).as_ref(), Ok(&command));
        let Action::Txn(txn) = &command.action else { return true };
        assert!(depth(&txn.success).max(depth(&txn.failure)) < TXN_DEPTH_MAX);
    }
    checked.is_ok()
}

fn depth(ops: &[Op]) -> usize {
    let within = ops.iter().map(|op| match op {
        Op::Txn(txn) => 1 + depth(&txn.success).max(depth(&txn.failure)),
        _ => 0,
    });
    within.max().unwrap_or(0)
}
