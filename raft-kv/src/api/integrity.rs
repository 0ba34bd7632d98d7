//! What members ask each other to find out whether their states are equal, and what comes of it.
//!
//! Only values; who asks whom, and what a member does that differs, is for the service.

use super::{LeaseId, Revision, SessionId};
use bytes::Bytes;
use raft_core::types::{Index, NodeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of [`Finding`]s. What another version has found is not compared: it may count otherwise.
///
/// Version 1 saw only the newest version of each key, and neither leases nor sessions.
pub const INTEGRITY_VERSION: u16 = 2;
/// Most indexes in one request for hashes.
pub const HASHES_MAX: usize = 256;
/// Most keys in one chunk.
pub const CHUNK_KEYS_MAX: u32 = 1024;
/// Bytes of versions after which a chunk is closed, counted as by a quota; the last version may be
/// longer. Bytes of leases or sessions after which a part of a roll is closed, alike.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Most leases or sessions in a part of a roll that is asked for without an end.
pub const ROLL_ENTRIES_MAX: usize = 1024;

/// What is asked of a member about its state. None of it changes anything.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Inquiry {
    /// Which hashes it keeps, and those at these indexes, [`HASHES_MAX`] at most.
    Hashes(#[serde(deserialize_with = "crate::codec::bounded")] Vec<Index>),
    /// What a part of its keys is like, once it has applied this entry.
    Chunk(Chunk, Index),
    /// Look at all data now, and not only when it is time; answered at once, with
    /// [`Finding::Begun`]. If that is under way already, it goes on, faster.
    Scrub,
    /// What some of its leases or sessions are like, once it has applied this entry.
    Roll(RollPart, Index),
}

/// Some keys with all their versions that can be read at a revision or before: from `start` on, up
/// to whatever comes first of `end`, `keys` keys and [`CHUNK_BYTES_MAX`] bytes of versions.
///
/// What can be read follows from the log, not from how much of what is compacted a member has
/// purged: every version above `floor`, deletions too, and the one in force at `floor`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// The revision; `None` for the current one.
    pub revision: Option<Revision>,
    /// The revision that counts as compacted: the one up to which the member that asks has
    /// compacted. A member that has gone further cannot answer. `None` for its own.
    pub floor: Option<Revision>,
    /// Where it begins.
    pub start: Point,
    /// Where it ends, this not included; `None` for no end.
    pub end: Option<Point>,
    /// How many keys at most; [`CHUNK_KEYS_MAX`] at most, and 1 at least.
    pub keys: u32,
}

/// A place in the order of keys and, of each, of its versions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// Behind all smaller keys.
    pub key: Bytes,
    /// And behind all versions of this key that are older than this change: its revision, and its
    /// number within that; `None` for none.
    pub change: Option<(Revision, u32)>,
}

impl Point {
    /// Before all versions of `key`.
    pub const fn before(key: Bytes) -> Self {
        Self { key, change: None }
    }
}

/// What is kept beside the keys, each under a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Roll {
    /// Leases: for how long each was granted, and when it ends.
    Leases,
    /// Sessions: the last request of each, and the replies that are kept.
    Sessions,
    /// What there is one of: all users and roles under the number 0, all alarms under 1.
    Single,
}

/// When a member has answered, as the log counts it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Moment {
    /// What it had applied.
    pub applied: Index,
    /// How late it was, in milliseconds since the store began.
    pub now_ms: u64,
}

/// Some leases or sessions, in order of their numbers: from `start` on, up to `end`, or, if there
/// is none, at most [`ROLL_ENTRIES_MAX`] and [`CHUNK_BYTES_MAX`] bytes of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RollPart {
    /// Of which.
    pub of: Roll,
    /// The first number.
    pub start: u64,
    /// The number after the last; `None` for no end.
    pub end: Option<u64>,
    /// When the member that asks has looked at its own; `None` if it does just that. What has
    /// changed since cannot be compared.
    pub since: Option<Moment>,
}

/// What a member answers to an [`Inquiry`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Finding {
    /// To `Hashes`.
    Hashes(Hashes),
    /// To `Chunk`.
    Chunk(ChunkDigest),
    /// To `Scrub`.
    Begun,
    /// To `Roll`.
    Roll(RollDigest),
}

/// The hashes of a member's state that it keeps: of the entries applied last each, of those before
/// a few.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hashes {
    /// [`INTEGRITY_VERSION`] of the member.
    pub version: u16,
    /// Whether it trusts its own data.
    pub sound: bool,
    /// The first index with a hash; 0 if nothing was applied yet.
    pub oldest: Index,
    /// From here on, each index has one.
    pub dense: Index,
    /// The last index with a hash: the last entry applied.
    pub newest: Index,
    /// The hashes asked for, in the order asked; `None` of what is not kept.
    pub at: Vec<Option<u64>>,
}

/// What some keys of a member are like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChunkDigest {
    /// [`INTEGRITY_VERSION`] of the member.
    pub version: u16,
    /// The revision it was taken at.
    pub revision: Revision,
    /// The revision that counted as compacted.
    pub floor: Revision,
    /// Of how many keys it covers a version; those that are deleted may have some.
    pub keys: u32,
    /// XXH3-64 of these versions: keys, values, revisions, versions, leases.
    pub digest: u64,
    /// Where it ends: the place to go on from. What was asked for, if that came first; `None` if
    /// there are no more keys.
    pub end: Option<Point>,
}

/// What some leases or sessions of a member are like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RollDigest {
    /// [`INTEGRITY_VERSION`] of the member.
    pub version: u16,
    /// When it was taken.
    pub at: Moment,
    /// Each one's number and XXH3-64, in order, but for those that have changed since what was
    /// asked for.
    pub entries: Vec<(u64, u64)>,
    /// The numbers of those that have.
    pub changed: Vec<u64>,
    /// Where it ends: the number to go on from. What was asked for, if there was an end; `None` if
    /// there are no more.
    pub end: Option<u64>,
}

/// What a member knows of its own data and the others'.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Integrity {
    /// What is wrong; nothing as far as is known, if there is nothing.
    pub alarm: Option<Alarm>,
    /// Up to this entry, every voter that answered had the same; 0 before the first comparison.
    pub compared: Index,
    /// Other members that differ from a majority, by id.
    pub divergent: Vec<NodeId>,
    /// How often all data was looked at since the start, each part of it compared by a quorum.
    pub scrubs: u64,
    /// How often it was since the last one of those, but for parts that fewer than a quorum could
    /// be asked for.
    pub scrubs_incomplete: u64,
    /// How far the look at all data has come that is under way: keys seen.
    pub scrubbing: Option<u64>,
}

/// Why a member's data, or that of all, is not to be trusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Alarm {
    /// This member differs from a majority: it serves nothing until its data was replaced.
    Divergent(Divergence),
    /// Members differ, and there is no majority to tell who is right; or this member's own data is
    /// damaged, and no majority of others has it. The text says what and where.
    Corrupt(String),
}

/// How a member differs from the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Divergence {
    /// Where.
    pub place: Place,
    /// The voters that agree with each other, by id: a quorum.
    pub agreeing: Vec<NodeId>,
}

/// Where data differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// The state is another one after this entry.
    Entry {
        /// The first entry known to have made a difference.
        first: Index,
        /// The last one known to have made none, if any is known; if it is the one before `first`,
        /// that is exactly where it began.
        after: Option<Index>,
    },
    /// Some keys have other contents.
    Keys {
        /// The revision at which they were compared.
        revision: Revision,
        /// The first key.
        start: Bytes,
        /// The key after the last; `None` for no end.
        end: Option<Bytes>,
    },
    /// The checkpoint file cannot be read back; the text says why.
    File(String),
    /// A lease is another one, or lives to another time.
    Lease(LeaseId),
    /// A session has had other requests, or keeps other replies.
    Session(SessionId),
    /// Users or roles are other ones.
    Auth,
    /// Other alarms are raised.
    Alarms,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<String> = self.agreeing.iter().map(ToString::to_string).collect();
        let others = others.join(", ");
        match &self.place {
            Place::File(_) => write!(f, "{}; {others} have the data", self.place),
            _ => write!(f, "its state differs from that of {others} {}", self.place),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { first, after: Some(after) } if after.next() == *first => {
                write!(f, "from entry {first} on")
            }
            Self::Entry { first, after: Some(after) } => {
                write!(f, "since some entry after {after}, at the latest {first}")
            }
            Self::Entry { first, after: None } => write!(f, "since entry {first} or earlier"),
            Self::Keys { revision, start, end } => {
                write!(f, "at revision {revision} in the keys from {}", printed(start))?;
                match end {
                    Some(end) => write!(f, " up to, not including, {}", printed(end)),
                    None => f.write_str(" to the last"),
                }
            }
            Self::File(why) => write!(f, "its checkpoint is damaged: {why}"),
            Self::Lease(id) => write!(f, "in lease {id}"),
            Self::Session(id) => write!(f, "in session {}", id.0),
            Self::Auth => f.write_str("in users and roles"),
            Self::Alarms => f.write_str("in alarms"),
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Divergent(divergence) => divergence.fmt(f),
            Self::Corrupt(text) => write!(f, "CORRUPT: {text}"),
        }
    }
}

/// A key for people: quoted, what cannot be printed escaped, the middle of a long one left out.
fn printed(key: &[u8]) -> String {
    const PART: usize = 48;
    if key.len() <= 2 * PART {
        return format!("\"{}\"", key.escape_ascii());
    }
    let (head, tail) = (&key[..PART], &key[key.len() - PART..]);
    format!("\"{}...{}\" ({} bytes)", head.escape_ascii(), tail.escape_ascii(), key.len())
}
