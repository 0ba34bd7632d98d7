//! Commands of version 1, as older programs have put them into logs, and the replies to them.
//!
//! While a cluster is upgraded, nodes of both versions apply such commands and keep the replies in
//! the sessions. So that these stay alike, a reply to a command of version 1 is kept as version 1
//! has encoded it; whoever gets it again is given it in the present version.

use crate::api::{
    self, ActionReply, CommandReply, Keys, KvError, Operator, RequestId, Revision, SessionId,
};
use crate::codec::{self, WireError, bounded};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The first byte of the commands and replies that are read here.
pub(super) const VERSION: u8 = 1;

/// Reads a command of version 1, which must be all of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<api::Command, WireError> {
    let command: Command = take(bytes)?;
    Ok(api::Command { request: command.request, fence: None, action: command.action.into() })
}

/// The bytes of `reply` in version 1; `None` if no command of that version is answered so.
pub(super) fn encode_reply(reply: &CommandReply) -> Option<Bytes> {
    let reply: Reply = match reply {
        Ok(reply) => Ok(ReplyBody::of(reply)?),
        Err(error) => Err(Error::of(error)?),
    };
    let mut out = BytesMut::from(&[VERSION][..]);
    raft_core::codec::put(&reply, &mut out);
    Some(out.freeze())
}

/// A reply that a session has kept, in the present version.
pub(super) fn present_reply(kept: Bytes) -> Bytes {
    let Ok(reply) = take::<Reply>(&kept) else { return kept };
    codec::encode::<CommandReply>(&reply.map(ReplyBody::present).map_err(Error::present))
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let mut rest = match bytes {
        [VERSION, rest @ ..] => rest,
        [version, ..] => return Err(WireError::Version(*version)),
        [] => return Err(WireError::Malformed),
    };
    let value = raft_core::codec::take(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Malformed) }
}

#[derive(Deserialize)]
struct Command {
    request: Option<RequestId>,
    action: Action,
}

#[derive(Deserialize)]
enum Action {
    OpenSession,
    Op(Op),
    Txn(Txn),
}

#[derive(Deserialize)]
struct Txn {
    #[serde(deserialize_with = "bounded")]
    compares: Vec<Compare>,
    #[serde(deserialize_with = "bounded")]
    success: Vec<Op>,
    #[serde(deserialize_with = "bounded")]
    failure: Vec<Op>,
}

#[derive(Deserialize)]
struct Compare {
    key: Bytes,
    operator: Operator,
    target: Target,
}

#[derive(Deserialize)]
enum Target {
    Version(u64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
}

#[derive(Deserialize)]
enum Op {
    Put { key: Bytes, value: Bytes, prev_kv: bool },
    Delete { keys: Keys, prev_kv: bool },
    Range(Range),
}

#[derive(Deserialize)]
struct Range {
    keys: Keys,
    limit: u64,
    revision: Option<Revision>,
    keys_only: bool,
    count_only: bool,
    count_all: bool,
}

impl From<Action> for api::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::OpenSession => Self::OpenSession,
            Action::Op(op) => Self::Op(op.into()),
            Action::Txn(Txn { compares, success, failure }) => Self::Txn(api::Txn {
                compares: compares.into_iter().map(Into::into).collect(),
                success: success.into_iter().map(Into::into).collect(),
                failure: failure.into_iter().map(Into::into).collect(),
            }),
        }
    }
}

impl From<Compare> for api::Compare {
    fn from(Compare { key, operator, target }: Compare) -> Self {
        let target = match target {
            Target::Version(version) => api::Target::Version(version),
            Target::CreateRevision(revision) => api::Target::CreateRevision(revision),
            Target::ModRevision(revision) => api::Target::ModRevision(revision),
            Target::Value(value) => api::Target::Value(value),
        };
        Self { keys: Keys::One(key), operator, target }
    }
}

impl From<Op> for api::Op {
    fn from(op: Op) -> Self {
        match op {
            Op::Put { key, value, prev_kv } => {
                Self::Put(api::Put { prev_kv, ..api::Put::new(key, value) })
            }
            Op::Delete { keys, prev_kv } => Self::Delete { keys, prev_kv },
            Op::Range(range) => Self::Range(api::Range {
                limit: range.limit,
                revision: range.revision,
                keys_only: range.keys_only,
                count_only: range.count_only,
                count_all: range.count_all,
                ..api::Range::of(range.keys)
            }),
        }
    }
}

type Reply = Result<ReplyBody, Error>;

#[derive(Serialize, Deserialize)]
enum ReplyBody {
    Session(SessionId),
    Op { revision: Revision, reply: OpReply },
    Txn(TxnReply),
}

#[derive(Serialize, Deserialize)]
struct TxnReply {
    revision: Revision,
    succeeded: bool,
    replies: Vec<OpReply>,
}

#[derive(Serialize, Deserialize)]
enum OpReply {
    Put { prev_kv: Option<KeyValue> },
    Delete { deleted: u64, prev_kvs: Vec<KeyValue> },
    Range { revision: Revision, kvs: Vec<KeyValue>, more: bool, count: u64 },
}

#[derive(Serialize, Deserialize)]
struct KeyValue {
    key: Bytes,
    value: Bytes,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
}

/// What a command that ran could be refused with, and what was numbered in between.
#[derive(Serialize, Deserialize)]
enum Error {
    KeyEmpty,
    TooLarge { what: String, size: u64, limit: u64 },
    TooManyOps { count: u64, limit: u64 },
    DuplicateKey(String),
    FutureRevision { requested: Revision, current: Revision },
    SessionUnknown(SessionId),
    AnsweredBefore(u64),
    Malformed(String),
}

impl ReplyBody {
    fn of(reply: &ActionReply) -> Option<Self> {
        Some(match reply {
            ActionReply::Session(id) => Self::Session(*id),
            ActionReply::Op { revision, reply } => {
                Self::Op { revision: *revision, reply: OpReply::of(reply)? }
            }
            ActionReply::Txn(api::TxnReply { revision, succeeded, replies }) => {
                let replies = replies.iter().map(OpReply::of).collect::<Option<_>>()?;
                Self::Txn(TxnReply { revision: *revision, succeeded: *succeeded, replies })
            }
            _ => return None,
        })
    }

    fn present(self) -> ActionReply {
        match self {
            Self::Session(id) => ActionReply::Session(id),
            Self::Op { revision, reply } => ActionReply::Op { revision, reply: reply.present() },
            Self::Txn(TxnReply { revision, succeeded, replies }) => {
                let replies = replies.into_iter().map(OpReply::present).collect();
                ActionReply::Txn(api::TxnReply { revision, succeeded, replies })
            }
        }
    }
}

impl OpReply {
    fn of(reply: &api::OpReply) -> Option<Self> {
        let pairs = |kvs: &[api::KeyValue]| kvs.iter().map(KeyValue::of).collect();
        Some(match reply {
            api::OpReply::Put { prev_kv, .. } => {
                Self::Put { prev_kv: prev_kv.as_ref().map(KeyValue::of) }
            }
            api::OpReply::Delete { deleted, prev_kvs } => {
                Self::Delete { deleted: *deleted, prev_kvs: pairs(prev_kvs) }
            }
            api::OpReply::Range(api::RangeReply { revision, kvs, more, count }) => {
                Self::Range { revision: *revision, kvs: pairs(kvs), more: *more, count: *count }
            }
            api::OpReply::Txn(_) => return None,
        })
    }

    fn present(self) -> api::OpReply {
        let pairs = |kvs: Vec<KeyValue>| kvs.into_iter().map(KeyValue::present).collect();
        match self {
            Self::Put { prev_kv } => {
                api::OpReply::Put { prev_kv: prev_kv.map(KeyValue::present), key: None }
            }
            Self::Delete { deleted, prev_kvs } => {
                api::OpReply::Delete { deleted, prev_kvs: pairs(prev_kvs) }
            }
            Self::Range { revision, kvs, more, count } => {
                api::OpReply::Range(api::RangeReply { revision, kvs: pairs(kvs), more, count })
            }
        }
    }
}

impl KeyValue {
    fn of(kv: &api::KeyValue) -> Self {
        let api::KeyValue { create_revision, mod_revision, version, .. } = *kv;
        let (key, value) = (kv.key.clone(), kv.value.clone());
        Self { key, value, create_revision, mod_revision, version }
    }

    fn present(self) -> api::KeyValue {
        let Self { key, value, create_revision, mod_revision, version } = self;
        api::KeyValue { key, value, create_revision, mod_revision, version, lease: None }
    }
}

impl Error {
    fn of(error: &KvError) -> Option<Self> {
        Some(match error.clone() {
            KvError::KeyEmpty => Self::KeyEmpty,
            KvError::TooLarge { what, size, limit } => Self::TooLarge { what, size, limit },
            KvError::TooManyOps { count, limit } => Self::TooManyOps { count, limit },
            KvError::DuplicateKey(key) => Self::DuplicateKey(key),
            KvError::FutureRevision { requested, current } => {
                Self::FutureRevision { requested, current }
            }
            KvError::Malformed(text) => Self::Malformed(text),
            _ => return None,
        })
    }

    fn present(self) -> KvError {
        match self {
            Self::KeyEmpty => KvError::KeyEmpty,
            Self::TooLarge { what, size, limit } => KvError::TooLarge { what, size, limit },
            Self::TooManyOps { count, limit } => KvError::TooManyOps { count, limit },
            Self::DuplicateKey(key) => KvError::DuplicateKey(key),
            Self::FutureRevision { requested, current } => {
                KvError::FutureRevision { requested, current }
            }
            Self::SessionUnknown(id) => KvError::SessionUnknown(id),
            Self::AnsweredBefore(seq) => KvError::AnsweredBefore(seq),
            Self::Malformed(text) => KvError::Malformed(text),
        }
    }
}
