//! The records in a row: what they say, their bytes, and how they print.

use bytes::{BufMut, Bytes, BytesMut};
use raft_core::codec::{self, CodecError};
use raft_core::types::{
    Entry, GroupId, HardState, Identity, Membership, Payload, SnapshotMeta, Version,
};
use std::fmt;

const PURGED: u8 = 1;
const IDENTITY: u8 = 2;
const HARD_STATE: u8 = 3;
const APPEND: u8 = 4;
const CARRY: u8 = 5;
const COMPACT: u8 = 6;
const RESET: u8 = 7;

/// One fact in the log, as it stands in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Record {
    /// Every row up to `row`, whose checksum was this, has been purged.
    Purged {
        /// Sequence number of the last purged row.
        row: u64,
        /// Its checksum, to which the first row that is left is chained.
        checksum: u32,
    },
    /// Something about one group.
    Group(GroupId, Change),
}

/// What a [`Record`] changes in its group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// The log is bound to this identity.
    Identity(Identity),
    /// Term and vote.
    HardState(HardState),
    /// This entry was appended, and every entry at or above it dropped before.
    Append(Entry),
    /// This entry was in the log already and is repeated before its old row is purged. It drops
    /// nothing: entries above it may stand in rows before this one.
    Carry(Entry),
    /// The entries up to here were dropped; the log starts after this boundary.
    Compact(SnapshotMeta),
    /// All entries were dropped; the log starts anew after this boundary.
    Reset(SnapshotMeta),
}

// Each of these returns the oldest version that knows what it has written.

/// Writes a purge point.
pub(crate) fn put_purged(row: u64, checksum: u32, out: &mut BytesMut) -> Version {
    codec::put(&(PURGED, row, checksum), out);
    Version::OLDEST
}

/// Writes an identity.
pub(crate) fn put_identity(group: GroupId, identity: &Identity, out: &mut BytesMut) -> Version {
    codec::put(&(IDENTITY, group, identity), out);
    Version::OLDEST
}

/// Writes term and vote.
pub(crate) fn put_hard_state(group: GroupId, state: &HardState, out: &mut BytesMut) -> Version {
    codec::put(&(HARD_STATE, group, state), out);
    Version::OLDEST
}

/// Writes an appended entry.
pub(crate) fn put_append(group: GroupId, entry: &Entry, out: &mut BytesMut) -> Version {
    codec::put(&(APPEND, group), out);
    codec::encode_entry(entry, out);
    version_of(entry)
}

/// Writes `entry`, whose record, appended or carried, is `bytes`, as a carried one.
pub(crate) fn put_carry(entry: &Entry, bytes: &[u8], out: &mut BytesMut) -> Version {
    out.put_u8(CARRY);
    out.extend_from_slice(&bytes[1..]);
    version_of(entry)
}

/// Writes a compaction, which is also how a boundary is carried forward.
pub(crate) fn put_compact(group: GroupId, boundary: &SnapshotMeta, out: &mut BytesMut) -> Version {
    codec::put(&(COMPACT, group, boundary), out);
    boundary.membership.version()
}

/// Writes a reset.
pub(crate) fn put_reset(group: GroupId, boundary: &SnapshotMeta, out: &mut BytesMut) -> Version {
    codec::put(&(RESET, group, boundary), out);
    boundary.membership.version()
}

const fn version_of(entry: &Entry) -> Version {
    match &entry.payload {
        Payload::Membership(membership) => membership.version(),
        Payload::Noop | Payload::Command(_) => Version::OLDEST,
    }
}

impl Record {
    /// The records in `frame`, each with its bytes; an error is the position of a bad one, and the
    /// last item.
    pub(crate) fn take_all(
        frame: &Bytes,
    ) -> impl Iterator<Item = Result<(&[u8], Self), usize>> + '_ {
        let mut rest: &[u8] = frame;
        let mut position = 0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let before = rest;
            let Ok(record) = Self::take(frame, &mut rest) else {
                rest = &[];
                return Some(Err(position));
            };
            position += 1;
            Some(Ok((&before[..before.len() - rest.len()], record)))
        })
    }

    /// Takes one record off the front of `rest`, a part of `frame`; payloads share `frame`.
    fn take(frame: &Bytes, rest: &mut &[u8]) -> Result<Self, CodecError> {
        let kind: u8 = codec::take(rest)?;
        if kind == PURGED {
            let (row, checksum) = codec::take(rest)?;
            return Ok(Self::Purged { row, checksum });
        }
        let group = codec::take(rest)?;
        let change = match kind {
            IDENTITY => Change::Identity(codec::take(rest)?),
            HARD_STATE => Change::HardState(codec::take(rest)?),
            APPEND => Change::Append(codec::decode_entry(frame, rest)?),
            CARRY => Change::Carry(codec::decode_entry(frame, rest)?),
            COMPACT => Change::Compact(codec::take(rest)?),
            RESET => Change::Reset(codec::take(rest)?),
            _ => return Err(CodecError::Malformed),
        };
        Ok(Self::Group(group, change))
    }
}

impl fmt::Display for Record {
    /// `g0 append 2@1 command 5 bytes`, `g0 hard_state term=2 vote=n1`, `purged up to row 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Purged { row, .. } => write!(f, "purged up to row {row}"),
            Self::Group(group, change) => write!(f, "{group} {change}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(Identity { cluster, node, incarnation }) => {
                write!(f, "identity cluster={cluster} node={node} incarnation={incarnation}")
            }
            Self::HardState(HardState { term, vote: Some(vote) }) => {
                write!(f, "hard_state term={term} vote={vote}")
            }
            Self::HardState(HardState { term, vote: None }) => {
                write!(f, "hard_state term={term} vote=none")
            }
            Self::Append(entry) => write!(f, "append {}", EntryText(entry)),
            Self::Carry(entry) => write!(f, "carry {}", EntryText(entry)),
            Self::Compact(meta) => write!(f, "compact {}", BoundaryText(meta)),
            Self::Reset(meta) => write!(f, "reset {}", BoundaryText(meta)),
        }
    }
}

struct EntryText<'a>(&'a Entry);

impl fmt::Display for EntryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { id, payload } = self.0;
        match payload {
            Payload::Noop => write!(f, "{id} noop"),
            Payload::Command(command) => write!(f, "{id} command {} bytes", command.len()),
            Payload::Membership(membership) => {
                write!(f, "{id} membership {}", MembershipText(membership))
            }
        }
    }
}

struct BoundaryText<'a>(&'a SnapshotMeta);

impl fmt::Display for BoundaryText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotMeta { last, membership } = self.0;
        match membership.is_empty() {
            true => write!(f, "{last}"),
            false => write!(f, "{last} {}", MembershipText(membership)),
        }
    }
}

/// `voters=[n1, n2] learners=[n3] version=2 epoch=1`: the notation of the core, and what it leaves
/// out where it is not that of version 1.
struct MembershipText<'a>(&'a Membership);

impl fmt::Display for MembershipText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let membership = self.0;
        write!(f, "{membership}")?;
        if membership.version() > Version::OLDEST {
            write!(f, " version={}", membership.version().0)?;
        }
        if membership.epoch() > 0 {
            write!(f, " epoch={}", membership.epoch())?;
        }
        Ok(())
    }
}
