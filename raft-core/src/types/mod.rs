//! The vocabulary shared by every module: identifiers, entries, runs of entries, membership.
//!
//! Nothing here does anything; these are values. Field order is meaningful where `Ord` is derived.

mod entry;
mod membership;

pub use entry::{Entry, Payload, Run};
pub use membership::{Change, InvalidChange, InvalidMembership, Member, Membership};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares a `u64` newtype with the derives every identifier has.
macro_rules! id {
    ($(#[$attribute:meta])* $name:ident, $format:literal) => {
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        $(#[$attribute])*
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A node of the cluster, printed `n1`. Unique within a cluster; 0 is never used.
    NodeId,
    "n{}"
);
id!(
    /// An election epoch: at most one leader each (§5.1). 0 is the term before the first election.
    #[serde(try_from = "u64")]
    Term,
    "{}"
);
id!(
    /// A position in the log, counted from 1; 0 is the place before the first entry.
    #[serde(try_from = "u64")]
    Index,
    "{}"
);
id!(
    /// One Raft group of a process. Every wire frame and stored record carries it.
    GroupId,
    "g{}"
);
id!(
    /// A cluster, printed in hexadecimal. Nodes of different clusters refuse each other.
    ClusterId,
    "{:016x}"
);
id!(
    /// One life of a node's data directory, drawn at random when the directory is made. A wiped
    /// node comes back with another one, so that promises of the earlier life do not count.
    Incarnation,
    "{:016x}"
);
id!(
    /// The number of a write to the log store. Writes complete in this order, so a completion is
    /// a watermark: every write up to it is durable.
    WriteSeq,
    "#{}"
);
id!(
    /// A batch of linearizable reads as the driver knows it; unique within one process start.
    ReadId,
    "r{}"
);

/// A version of the protocol and of the formats. Two nodes speak the older one of theirs; what is
/// newer than the oldest member understands is not put into the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Version(pub u16);

impl Version {
    /// The oldest version this crate still speaks and reads.
    pub const OLDEST: Self = Self(1);
    /// The version of this crate.
    pub const CURRENT: Self = Self(4);
}

impl Default for Version {
    fn default() -> Self {
        Self::OLDEST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Who speaks, as the transport has verified it: what a message cannot claim of itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sender {
    /// The life of the sender's data directory.
    pub incarnation: Incarnation,
    /// The newest version the sender understands.
    pub version: Version,
}

/// A term or index read from bytes lies so high that no cluster can have got there: counting on
/// from it might overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("beyond 2^62")]
pub struct OutOfRange;

/// Largest term or index accepted from bytes.
const COUNT_MAX: u64 = 1 << 62;

impl TryFrom<u64> for Term {
    type Error = OutOfRange;

    fn try_from(term: u64) -> Result<Self, OutOfRange> {
        if term <= COUNT_MAX { Ok(Self(term)) } else { Err(OutOfRange) }
    }
}

impl TryFrom<u64> for Index {
    type Error = OutOfRange;

    fn try_from(index: u64) -> Result<Self, OutOfRange> {
        if index <= COUNT_MAX { Ok(Self(index)) } else { Err(OutOfRange) }
    }
}

impl Term {
    /// The next term. Panics when 2^64 elections have been held.
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("terms do not run out"))
    }
}

impl Index {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The following position.
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("indexes do not run out"))
    }

    /// The preceding position; that of 0 is 0.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl WriteSeq {
    /// The number of the following write.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// (term, index), printed `index@term`. Equal ids mean equal prefixes (§5.3, Log Matching), and the
/// derived order is "at least as up-to-date as" (§5.4.1): later term first, then longer log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogId {
    /// Term of the leader that made the entry.
    pub term: Term,
    /// Position in the log.
    pub index: Index,
}

impl LogId {
    /// The id before the first entry: index 0 of term 0.
    pub const ZERO: Self = Self { term: Term(0), index: Index(0) };

    /// The id of entry `index` of term `term`.
    pub const fn new(index: u64, term: u64) -> Self {
        Self { term: Term(term), index: Index(index) }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Term and vote: durable before they are told to anyone (§5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term this node has seen. Never falls.
    pub term: Term,
    /// The candidate that got this node's vote in `term`. Unchanged within a term once set.
    pub vote: Option<NodeId>,
}

/// Who a data directory belongs to. Bound to it at its first write and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of this data directory.
    pub incarnation: Incarnation,
}

/// What a snapshot covers: everything up to `last`, and the membership in force there (§7).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry covered.
    pub last: LogId,
    /// The membership as of `last`.
    pub membership: Membership,
}
