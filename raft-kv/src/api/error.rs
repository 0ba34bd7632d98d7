//! Why a request is not answered as asked.

use super::{AlarmKind, AuthError, LeaseId, NoQuorum, Revision, SessionId};
use serde::{Deserialize, Serialize};

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
    /// No effect: what was at that revision has been compacted.
    #[error("revision {requested} has been compacted; the oldest there is is {compacted}")]
    Compacted {
        /// What was asked.
        requested: Revision,
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// No effect: the key would have to exist, to keep its value or its lease.
    #[error("key not found: {0}")]
    KeyNotFound(String),
    /// No effect: there is no such lease; it may have expired.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// No effect: a lease with this id lives already.
    #[error("lease {0} exists already")]
    LeaseExists(LeaseId),
    /// No effect: a lease cannot be granted for so long.
    #[error("a lease of {}, over the limit of {}", written(*ttl_ms), written(*limit_ms))]
    LeaseTooLong {
        /// What was asked, in milliseconds.
        ttl_ms: u64,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// No effect: the author does not hold the lock any more.
    #[error("the lock of token {token} is not held any more: the write came too late")]
    Fenced {
        /// The token of the write.
        token: Revision,
    },
    /// No effect: the store is full. Deletes and compactions are still taken, and make room.
    #[error("the store is full: {bytes} bytes of {quota}; delete keys and compact")]
    Full {
        /// Bytes of all versions of all keys.
        bytes: u64,
        /// The quota in bytes.
        quota: u64,
    },
    /// No effect: a transaction holds others too deeply within each other.
    #[error("transactions {0} deep within each other, over the limit")]
    TooDeep(u64),
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
    /// No effect: there are too many leases. Revoke some, or wait until some expire.
    #[error("there are {limit} leases, the limit: revoke some")]
    TooManyLeases {
        /// The limit.
        limit: u64,
    },
    /// No effect: it would go through too many keys, in one step that everybody waits for.
    #[error("the request goes through {count} keys or more, over the limit of {limit}: split it")]
    TooManyKeys {
        /// How many.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// No effect: whoever asks may not, or users and roles cannot be changed so.
    #[error(transparent)]
    Auth(AuthError),
    /// No effect: an alarm is raised. It lasts until somebody clears it.
    #[error("an alarm is raised: {}", match .0 {
        AlarmKind::NoSpace => "there is no room; make some and clear it",
        AlarmKind::Corrupt => "data is not to be trusted",
    })]
    Alarmed(AlarmKind),
    /// No effect: there are too many alarms. Clear some.
    #[error("there are {limit} alarms, the limit: clear some")]
    TooManyAlarms {
        /// The limit.
        limit: u64,
    },
}

impl From<AuthError> for KvError {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
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

/// A time in milliseconds as times are written everywhere, such as `1d 12h`: all of it, so that two
/// that differ look different.
fn written(mut ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut parts = Vec::new();
    for (unit, name) in units {
        if ms >= unit {
            parts.push(format!("{}{name}", ms / unit));
            ms %= unit;
        }
    }
    if parts.is_empty() { "0ms".into() } else { parts.join(" ") }
}
