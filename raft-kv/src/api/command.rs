//! What the log carries, and what the state machine says to it.

use super::{
    AlarmChange, AuthChange, Authority, KvError, LeaseId, Op, OpReply, Revision, SessionId, Txn,
    TxnReply,
};
use bytes::Bytes;
use raft_core::types::Index;
use serde::{Deserialize, Serialize};

/// What a command in the log does.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Action {
    /// Open a session; its id comes back.
    OpenSession,
    /// A single put or delete outside a transaction, or a read that must go through the log.
    Op(Op),
    /// A transaction.
    Txn(Txn),
    /// Forget what was before this revision: reads at it and above stay possible.
    Compact(Revision),
    /// Make a lease.
    Grant {
        /// Its id; `None` to have one made up.
        id: Option<LeaseId>,
        /// How long it lives without being kept alive, in milliseconds; less than
        /// [`LEASE_TTL_MIN_MS`](super::LEASE_TTL_MIN_MS) is raised to that.
        ttl_ms: u64,
    },
    /// End a lease, and delete the keys that end with it, at one revision.
    Revoke(LeaseId),
    /// Let time pass. Leaders propose it; from a client it is refused.
    Advance(Advance),
    /// Change users or roles.
    Auth(AuthChange),
    /// Do it on somebody's authority. Nodes say this where users and roles count; from a client it
    /// is refused, and so is one within another.
    As(Authority, #[serde(deserialize_with = "crate::codec::nested")] Box<Self>),
    /// Raise or clear an alarm. Refused while some member is older than version 4 of the protocol.
    Alarm(AlarmChange),
}

/// How time enters the log. Every time is the sum of what leaders have measured with monotonic
/// clocks, so it never runs faster than real time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Advance {
    /// It is this late, in milliseconds since the store began; time never goes back.
    pub time_ms: u64,
    /// What the leader had applied when it looked at its clock: a lease granted by then begins to
    /// run now at the latest.
    pub seen: Index,
    /// Leases whose holders have asked, before the clock was looked at, to keep them alive.
    #[serde(deserialize_with = "crate::codec::bounded")]
    pub renewed: Vec<LeaseId>,
    /// The last `Advance` before this one, 0 if there is none: the leader has measured from there.
    /// If another one came between, this one has no effect.
    pub since: Index,
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

/// Lets a write run only while its author holds a lock: as long as the key that holds it is the one
/// that was created at the token. Whoever holds the lock next has another key, or the same one
/// created later, so what an earlier holder sends after it lost the lock is refused, however late
/// it comes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fence {
    /// The key that holds the lock.
    pub key: Bytes,
    /// The fencing token: the key's create revision. A later holder's is greater.
    pub token: Revision,
}

/// What a log entry's command carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Names the request, so that a retry is answered and not run again. `None` only for
    /// `OpenSession` and `Advance`, and for callers who accept that a retry may run twice.
    pub request: Option<RequestId>,
    /// Runs only while this holds.
    pub fence: Option<Fence>,
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
    /// To `Compact`: the store's revision.
    Compacted(Revision),
    /// To `Grant`.
    Granted {
        /// The lease.
        id: LeaseId,
        /// How long it lives without being kept alive, in milliseconds.
        ttl_ms: u64,
    },
    /// To `Revoke`.
    Revoked {
        /// The store's revision after it.
        revision: Revision,
        /// How many keys went with the lease.
        deleted: u64,
    },
    /// To `Advance`.
    Advanced {
        /// For each lease to be renewed, how long it lives now, in milliseconds; 0 if there is
        /// none.
        ttls_ms: Vec<u64>,
        /// More has come to its end than one entry ends: the next one is due at once.
        more: bool,
    },
    /// To `Auth`: the revision of users and roles after it.
    Auth(u64),
    /// To `Alarm`: whether it was not so before.
    Alarm(bool),
}
