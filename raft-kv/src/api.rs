//! What clients and servers of the store say to each other, and what the log carries.
//!
//! The data model is etcd's: one global [`Revision`], keys with create and mod revision and
//! version, ranges `[key, range_end)`, transactions that take one revision. All of it is encoded
//! with postcard; [`VERSION`] goes in front of every request and every command in the log.

mod alarm;
mod auth;
mod backup;
mod cluster;
mod command;
mod data;
mod error;
mod integrity;
mod lease;
mod watch;

pub use alarm::{ALARMS_MAX, AlarmChange, AlarmKind, MemberAlarm};
pub(crate) use auth::SIGNED_BYTES_MAX;
pub(crate) use auth::span_of;
pub use auth::{
    AUTH_BYTES_MAX, Access, AuthAnswer, AuthChange, AuthError, AuthQuestion, AuthStatus, Authority,
    NAME_BYTES_MAX, PASSWORD_BYTES_MAX, Password, Permission, ROOT, Secret, Token,
};
pub use backup::BackupBegun;
pub(crate) use cluster::changes;
pub use cluster::{
    ADDRESS_BYTES_MAX, Absence, Absent, CHANGES_MAX, Health, MemberRole, Members, NoQuorum,
    PeerHealth, Published, Space, validate_changes,
};

pub use command::{Action, ActionReply, Advance, Command, CommandReply, Fence, RequestId};
pub use data::{
    Attach, Compare, Filter, KeyValue, Keys, Op, OpReply, Operator, Order, OrderBy, Put, Range,
    RangeReply, SEQUENCE_DIGITS, Target, Txn, TxnReply,
};
pub use error::KvError;
pub use integrity::{
    Alarm, CHUNK_BYTES_MAX, CHUNK_KEYS_MAX, Chunk, ChunkDigest, Divergence, Finding, HASHES_MAX,
    Hashes, INTEGRITY_VERSION, Inquiry, Integrity, Moment, Place, Point, ROLL_ENTRIES_MAX, Roll,
    RollDigest, RollPart,
};
pub use lease::{KEEP_ALIVE_MAX, LEASE_TTL_MAX_MS, LEASE_TTL_MIN_MS, LeaseId, LeaseStatus};
pub use watch::{Event, EventKind, StreamRequest, Watch, WatchId, WatchReply, WatchRequest};

use bytes::Bytes;
use raft_core::types::{Change, ClusterId, Incarnation, Index, LogId, NodeId, Term};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Version of requests, replies and commands; the first byte of each.
pub const VERSION: u8 = 2;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most compares and operations of a transaction and of all those within it, in all branches.
pub const TXN_OPS_MAX: usize = 1024;
/// Most transactions within each other, the outermost counted.
pub const TXN_DEPTH_MAX: usize = 8;
/// What the compares and operations of one transaction may look at together, besides every key
/// once, in keys: so that no small request keeps every node busy.
pub const KEYS_SEEN_MAX: u64 = 1 << 20;
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

/// A question to the state machine, answered from what the node has applied.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Read, all at once however many keys that goes through; the answer is a [`RangeAnswer`].
    Range(Range),
    /// Describe the state; the answer is a [`Summary`].
    Summary,
    /// Describe a lease; the answer is a [`LeaseAnswer`].
    Lease {
        /// Which.
        id: LeaseId,
        /// Name its keys too.
        keys: bool,
    },
    /// Which leases there are; the answer is a list of [`LeaseId`], in order.
    Leases,
    /// Tell the state's hashes at these indexes; the answer is a [`Hashes`].
    Hashes(#[serde(deserialize_with = "crate::codec::bounded")] Vec<Index>),
    /// Tell what some keys are like; the answer is a [`ChunkAnswer`].
    Chunk(Chunk),
    /// Tell what some leases or sessions are like; the answer is a [`RollAnswer`].
    Roll(RollPart),
    /// Go on with a read that was begun at the store's handle; the answer is empty as long as there
    /// is more to go through, and then a [`RangeAnswer`].
    Scan(u64),
}

/// What [`Query::Chunk`] answers.
pub type ChunkAnswer = Result<ChunkDigest, KvError>;

/// What [`Query::Roll`] answers.
pub type RollAnswer = Result<RollDigest, KvError>;

/// What [`Query::Lease`] answers; `None` if there is no such lease.
pub type LeaseAnswer = Option<LeaseStatus>;

/// What [`Query::Range`] answers; also to a query that cannot be decoded.
pub type RangeAnswer = Result<RangeReply, KvError>;

/// The applied state in numbers: what [`Query::Summary`] answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The store's revision.
    pub revision: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Rolling hash of everything applied; equal on nodes at equal `last_applied`.
    pub state_hash: u64,
    /// The last entry applied.
    pub last_applied: Index,
    /// Reads below this revision are refused; 0 if nothing was compacted.
    pub compacted: Revision,
    /// Bytes of all versions of all keys, as quotas count them: of each its key and value and some
    /// hundred more. While compacted versions are being purged it may differ between members.
    pub bytes: u64,
    /// Leases that live.
    pub leases: u64,
    /// How late it is, in milliseconds since the store began; see [`Advance`].
    pub time_ms: u64,
    /// The last [`Advance`] that had an effect; 0 if there was none.
    pub stamped: Index,
    /// Client sessions that live.
    pub sessions: u64,
    /// Whether users and roles count.
    pub auth_enabled: bool,
    /// Counts the changes of users and roles, from 1.
    pub auth_revision: u64,
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

/// `EPOCH:REVISION`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.revision)
    }
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
    /// Keep leases alive, [`KEEP_ALIVE_MAX`] at most.
    KeepAlive(#[serde(deserialize_with = "crate::codec::bounded")] Vec<LeaseId>),
    /// Describe a lease: linearizable.
    Lease {
        /// Which.
        id: LeaseId,
        /// Name its keys too.
        keys: bool,
    },
    /// Tell which leases there are: linearizable.
    Leases,
    /// Tell about this node's state, for others to compare theirs with; answered by a node whose
    /// state is not to be trusted, too.
    Integrity(Inquiry),
    /// Tell what this node says of itself to clients of other interfaces than this one.
    Published,
    /// Log a user in; the answer is a token.
    Authenticate {
        /// Who.
        name: String,
        /// With what password.
        password: Password,
    },
    /// Tell about users and roles.
    Auth(AuthQuestion),
    /// A request of somebody who has logged in.
    Signed {
        /// The token that was given out.
        token: Token,
        /// What is asked, but nothing that is signed itself.
        #[serde(deserialize_with = "crate::codec::nested")]
        body: Box<Self>,
    },
}

impl RequestBody {
    /// Whether answering it may take long: as long as it takes to go through all keys there are.
    #[cfg(feature = "client")]
    pub(crate) fn takes_long(&self) -> bool {
        match self {
            Self::Read { range, .. } | Self::DatedRead { range, .. } => {
                matches!(range.keys, Keys::Range { .. }) && range.visits_all()
            }
            _ => false,
        }
    }

    /// Whether it has no effect, however often it is asked.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::Status
            | Self::DatedRead { .. }
            | Self::Members
            | Self::Health
            | Self::Lease { .. }
            | Self::Leases
            | Self::Integrity(_)
            | Self::Published
            | Self::Authenticate { .. }
            | Self::Auth(_) => true,
            Self::Signed { body, .. } => match **body {
                // Nothing is signed twice.
                Self::Signed { .. } => false,
                ref body => body.is_read(),
            },
            Self::Write(_)
            | Self::TransferLeadership { .. }
            | Self::ChangeMembers(_)
            | Self::KeepAlive(_) => false,
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
    /// To `KeepAlive`: how long each lease lives now, in milliseconds; 0 of one that is gone.
    KeptAlive(Vec<u64>),
    /// To `Lease`; `None` if it is gone.
    Lease(Option<Box<LeaseStatus>>),
    /// To `Leases`, in order.
    Leases(Vec<LeaseId>),
    /// To `Integrity`.
    Integrity(Finding),
    /// To `Published`; `None` if it serves no other interface.
    Published(Option<Box<Published>>),
    /// To `Authenticate`: a token, to be sent with every request.
    Token(Token),
    /// To `Auth`.
    Auth(AuthAnswer),
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
    /// Reads below this revision are refused; 0 if nothing was compacted.
    pub compacted: Revision,
    /// How full the store is.
    pub space: Space,
    /// Leases that live.
    pub leases: u64,
    /// Client sessions that live.
    pub sessions: u64,
    /// How late it is, in milliseconds since the store began; see [`Advance`].
    pub time_ms: u64,
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
