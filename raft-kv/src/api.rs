//! What clients and servers of the store say to each other, and what the log carries.
//!
//! The data model is etcd's: one global [`Revision`], keys with create and mod revision and
//! version, ranges `[key, range_end)`, transactions that take one revision. All of it is encoded
//! with postcard; [`VERSION`] goes in front of every request and every command in the log.

mod cluster;

pub(crate) use cluster::changes;
pub use cluster::{
    ADDRESS_BYTES_MAX, Absence, Absent, CHANGES_MAX, Health, MemberRole, Members, NoQuorum,
    PeerHealth, validate_changes,
};

use bytes::Bytes;
use raft_core::types::{Change, ClusterId, Incarnation, Index, LogId, NodeId, Term};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Version of requests, replies and commands; the first byte of each.
pub const VERSION: u8 = 1;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most operations, and most compares, in one transaction.
pub const TXN_OPS_MAX: usize = 128;
/// Most bytes of one encoded request.
pub const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024 / 2;
/// Most bytes of pairs in the ranges of one reply; keys and values count, and
/// [`PAIR_OVERHEAD_BYTES`] each. A range returns at least one pair, whatever its size.
pub const RANGE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of previous pairs in one reply, counted alike. Previous pairs cannot be cut short, so
/// a request that asks for more is refused.
pub const PREVIOUS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes a pair counts besides key and value wherever replies are limited: at least its encoding.
pub const PAIR_OVERHEAD_BYTES: usize = 48;
/// No encoded reply is longer, in bytes: ranges, one long pair, previous pairs, what frames them.
pub const REPLY_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Most requests one session may have unanswered.
pub const SESSION_WINDOW_MAX: u64 = 16 * 1024;

/// The store's clock: 1 when empty, one more with every write request that changes something.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A client session: within it every request runs exactly once, however often it is sent.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct SessionId(pub u64);

/// A key with its value and history, as of the revision read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// The value; empty in a keys-only read.
    pub value: Bytes,
    /// Revision at which the key was last created.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// Changes since creation, from 1.
    pub version: u64,
}

/// Which keys: one, or a range.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Keys {
    /// Just this key.
    One(Bytes),
    /// Every key `>= start` and, if there is an end, `< end`.
    Range {
        /// First key included.
        start: Bytes,
        /// First key excluded; `None` for no end.
        end: Option<Bytes>,
    },
}

impl Keys {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self::Range { start, end: Some(end.into()) };
            }
        }
        Self::Range { start, end: None }
    }

    /// Every key.
    pub const fn all() -> Self {
        Self::Range { start: Bytes::new(), end: None }
    }
}

/// A read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// Most pairs to return; 0 for no limit.
    pub limit: u64,
    /// Read as of this revision; `None`: as it is now.
    pub revision: Option<Revision>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return only the count.
    pub count_only: bool,
    /// Count all keys in the range even if fewer are returned: visits them all.
    pub count_all: bool,
}

impl Range {
    /// A read of `keys` as of now, without a limit; keys beyond those returned are not counted.
    pub const fn of(keys: Keys) -> Self {
        Self {
            keys,
            limit: 0,
            revision: None,
            keys_only: false,
            count_only: false,
            count_all: false,
        }
    }
}

/// What a [`Range`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RangeReply {
    /// The store's revision when the read ran.
    pub revision: Revision,
    /// The pairs, in key order.
    pub kvs: Vec<KeyValue>,
    /// Whether more keys were in the range than returned: by the limit, or because a reply holds at
    /// most [`RANGE_BYTES_MAX`]. Go on from the last key; in a transaction, where the ranges share
    /// the bytes, there may be none.
    pub more: bool,
    /// All keys in the range if `count_only` or `count_all`, else the pairs returned.
    pub count: u64,
}

/// One condition of a transaction. A missing key has version and revisions 0, and no value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub target: Target,
}

/// How a compare compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Operator {
    /// The key's value equals the given one.
    Equal,
    /// It does not.
    NotEqual,
    /// It is greater.
    Greater,
    /// It is less.
    Less,
}

/// What a compare looks at.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Target {
    /// Changes since creation; 0 if the key does not exist.
    Version(u64),
    /// Create revision; 0 if the key does not exist.
    CreateRevision(Revision),
    /// Mod revision; 0 if the key does not exist.
    ModRevision(Revision),
    /// The value; on a missing key every operator is false.
    Value(Bytes),
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Set a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// Return what was there.
        prev_kv: bool,
    },
    /// Delete keys.
    Delete {
        /// Which.
        keys: Keys,
        /// Return what was there.
        prev_kv: bool,
    },
    /// Read; sees the writes before it in the same transaction.
    Range(Range),
}

/// If all compares hold, run `success`, else `failure`: atomically, at one revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Txn {
    /// The conditions.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub compares: Vec<Compare>,
    /// Run if all of them hold.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub success: Vec<Op>,
    /// Run otherwise.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub failure: Vec<Op>,
}

/// The answer to one [`Op`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OpReply {
    /// To [`Op::Put`].
    Put {
        /// What was there, if asked for.
        prev_kv: Option<KeyValue>,
    },
    /// To [`Op::Delete`].
    Delete {
        /// How many keys were deleted.
        deleted: u64,
        /// What was there, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To [`Op::Range`].
    Range(RangeReply),
}

/// The answer to a [`Txn`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TxnReply {
    /// The revision the transaction took, or the current one if it changed nothing.
    pub revision: Revision,
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer per operation run.
    pub replies: Vec<OpReply>,
}

/// What a command in the log does.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Open a session; its id comes back.
    OpenSession,
    /// A single put or delete outside a transaction, or a read that must go through the log.
    Op(Op),
    /// A transaction.
    Txn(Txn),
}

/// Names a request within a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId {
    /// The session.
    pub session: SessionId,
    /// Counts the requests of the session, from 1.
    pub seq: u64,
    /// Every request below this has its answer: their replies may be forgotten.
    pub unanswered_from: u64,
}

/// What a log entry's command carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Names the request, so that a retry is answered and not run again. `None` only for
    /// `OpenSession` and for callers who accept that a retry may run twice.
    pub request: Option<RequestId>,
    /// What to do.
    pub action: Action,
}

/// The state machine's reply to a [`Command`].
pub type CommandReply = Result<ActionReply, KvError>;

/// What an [`Action`] answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ActionReply {
    /// To `OpenSession`.
    Session(SessionId),
    /// To `Op`.
    Op {
        /// The store's revision after it.
        revision: Revision,
        /// Its answer.
        reply: OpReply,
    },
    /// To `Txn`.
    Txn(TxnReply),
}

/// A question to the state machine, answered from what the node has applied.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Read; the answer is a [`RangeAnswer`].
    Range(Range),
    /// Describe the state; the answer is a [`Summary`].
    Summary,
}

/// What [`Query::Range`] answers; also to a query that cannot be decoded.
pub type RangeAnswer = Result<RangeReply, KvError>;

/// The applied state in numbers: what [`Query::Summary`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The store's revision.
    pub revision: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Rolling hash of everything applied; equal on nodes at equal `last_applied`.
    pub state_hash: u64,
    /// The last entry applied.
    pub last_applied: Index,
}

/// How fresh a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write answered before it began, on any node (thesis §6.4).
    #[default]
    Linearizable,
    /// What the node has applied: fast, works without a quorum, may be old.
    Serializable,
    /// Not older than this, on any node and without a quorum: waits until the node has come so far.
    AtLeast(Position),
}

/// How far a history of the store has come: what a read has seen, or a write has done. It is the
/// token of causal reads; see [`Consistency::AtLeast`]. Positions of one history are in order.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The history epoch: how often the cluster was made anew from what survived of it. A position
    /// of another history is refused.
    pub epoch: u64,
    /// The revision. That of an own write, in the history of an earlier answer, is a position too.
    pub revision: Revision,
}

/// How fresh an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Freshness {
    /// The history epoch it belongs to; see [`Position::epoch`].
    pub epoch: u64,
    /// How old it may be: how long ago the node last heard of a leader, or a leader of a quorum;
    /// `None` if it never did. 0 of a linearizable read.
    pub staleness: Option<Duration>,
}

/// A request to a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// How long the caller waits, in milliseconds; the node answers before.
    pub deadline_ms: u32,
    /// What is asked.
    pub body: RequestBody,
}

/// What is asked of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RequestBody {
    /// Put a command through the log. The bytes are an encoded [`Command`], forwarded as they are.
    Write(Bytes),
    /// Read.
    Read {
        /// What.
        range: Range,
        /// How fresh.
        consistency: Consistency,
    },
    /// Describe this node.
    Status,
    /// Hand leadership to a node, or to the best follower.
    TransferLeadership {
        /// To whom.
        to: Option<NodeId>,
    },
    /// As `Read`, and the answer says how fresh it is.
    DatedRead {
        /// What.
        range: Range,
        /// How fresh.
        consistency: Consistency,
    },
    /// Tell who is in the cluster: sees every change answered before it began.
    Members,
    /// Change who is in the cluster: all of it or nothing. [`CHANGES_MAX`] at most.
    ChangeMembers(#[serde(with = "changes")] Vec<Change>),
    /// Tell what may be wrong with this node or the cluster; needs no quorum.
    Health,
}

impl RequestBody {
    /// Whether it has no effect, however often it is asked.
    pub const fn is_read(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::Status
            | Self::DatedRead { .. }
            | Self::Members
            | Self::Health => true,
            Self::Write(_) | Self::TransferLeadership { .. } | Self::ChangeMembers(_) => false,
        }
    }
}

/// A node's reply.
pub type Reply = Result<ReplyBody, KvError>;

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReplyBody {
    /// To a write: the encoded [`CommandReply`].
    Write(Bytes),
    /// To a read.
    Range(RangeReply),
    /// To `Status`.
    Status(Box<NodeStatus>),
    /// Leadership was handed over.
    Transferred,
    /// To a dated read.
    Dated(Freshness, RangeReply),
    /// To `Members`; to `ChangeMembers` once that is complete.
    Members(Box<Members>),
    /// To `Health`.
    Health(Box<Health>),
}

/// A node as it sees itself and its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub id: NodeId,
    /// The life of its data directory.
    pub incarnation: Incarnation,
    /// Version of the program.
    pub version: String,
    /// Follower, pre-candidate, candidate or leader.
    pub role: String,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// Highest entry applied.
    pub last_applied: Index,
    /// Its last entry.
    pub last_log: LogId,
    /// Bytes of entries in memory.
    pub log_bytes: u64,
    /// The store's revision.
    pub revision: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Rolling hash of everything applied; equal on nodes at equal `last_applied`.
    pub state_hash: u64,
    /// Every member, this node included.
    pub members: Vec<MemberStatus>,
}

/// A member as the answering node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The node.
    pub id: NodeId,
    /// Where it listens.
    pub address: String,
    /// Whether it counts toward a quorum.
    pub voter: bool,
    /// Milliseconds since a message came from it; `None` if none ever did. 0 for the node itself.
    pub heard_ms: Option<u64>,
    /// A leader's view: known replicated up to here.
    pub match_index: Option<Index>,
    /// A leader's view: probe, replicate or snapshot.
    pub flow: Option<String>,
}

/// Why a request was not answered as asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// No effect: a key is empty.
    #[error("key is empty")]
    KeyEmpty,
    /// No effect: over a limit.
    #[error("{what} is {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// What: key, value, request.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No effect: too many operations in a transaction.
    #[error("{count} operations in one transaction, over the limit of {limit}")]
    TooManyOps {
        /// How many.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// No effect: a transaction would write one key twice.
    #[error("duplicate key in transaction: {0}")]
    DuplicateKey(String),
    /// No effect: the revision lies ahead.
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision {
        /// What was asked.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// No effect: the session is unknown or has expired; open another one.
    #[error("session {0:?} is unknown or has expired")]
    SessionUnknown(SessionId),
    /// The answer to this request was given and forgotten: it ran, once.
    #[error("request {0} was answered before")]
    AnsweredBefore(u64),
    /// No effect: the request makes no sense.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// No effect: the node has no room for more requests; try again later.
    #[error("overloaded")]
    Overloaded,
    /// No effect: there is no leader, or none that has a quorum. The text says why.
    #[error("{0}")]
    Unavailable(String),
    /// May take effect: the node cannot tell. The text says why.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// There is no quorum. Whether the request may take effect once there is one again is told.
    #[error("{}{why}", if *.may_have_run { "outcome unknown: " } else { "" })]
    NoQuorum {
        /// Whether it may take effect; if not, it has none.
        may_have_run: bool,
        /// Who is missing, and why.
        why: Box<NoQuorum>,
    },
    /// No effect: the position belongs to another history of the cluster, which was made anew of
    /// what survived: what was read there may not be part of this one. Read anew.
    #[error("the position is of history {asked}, this is history {current}: read anew")]
    OtherHistory {
        /// The epoch of the position.
        asked: u64,
        /// The epoch of the cluster.
        current: u64,
    },
    /// No effect: the members cannot be changed so, as they are now.
    #[error("{reason}")]
    ChangeRefused {
        /// Why.
        reason: String,
        /// What to do instead.
        advice: String,
    },
}

impl KvError {
    /// Whether the request may have taken, or may yet take, effect.
    pub const fn may_have_run(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::AnsweredBefore(_) | Self::NoQuorum { may_have_run: true, .. }
        )
    }
}
