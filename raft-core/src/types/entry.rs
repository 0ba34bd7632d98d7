//! Log entries and runs of them.

use super::{Index, LogId, Membership, Term};
use bytes::Bytes;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One entry of the replicated log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Where it stands and which leader's term made it.
    pub id: LogId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Payload {
    /// Nothing: appended by a new leader so that it can commit what came before it (§5.4.2, §8).
    Noop,
    /// A command for the state machine, opaque to Raft. A clone shares the bytes.
    Command(Bytes),
    /// A new membership; in force from the moment it is appended (§6). Boxed, because it is large
    /// and rare, and every other entry would be as large.
    Membership(Box<Membership>),
}

impl Entry {
    /// Bytes an entry counts besides its payload, wherever sizes are limited.
    pub const OVERHEAD: usize = 64;

    /// Bytes this entry counts against limits: its payload and a fixed overhead.
    pub fn size(&self) -> usize {
        Self::OVERHEAD
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(command) => command.len(),
                Payload::Membership(membership) => membership.size(),
            }
    }
}

/// A run of consecutive entries: immutable, shared, cheap to clone and to slice (one reference
/// count for the whole run). The leader's log, every message and the followers' logs share it.
///
/// Never empty; indexes are consecutive and terms do not fall.
#[derive(Clone)]
pub struct Run {
    block: Arc<[Entry]>,
    /// Half as wide as a `usize`, because a log has a run for every few entries.
    start: u32,
    end: u32,
    /// What the entries count together, so that nobody need look at them all again.
    size: usize,
}

impl Run {
    /// A run of `entries`, or `None` if there are none.
    ///
    /// # Panics
    /// If indexes are not consecutive or a term falls: such a run would break Log Matching, so
    /// whoever reads entries from outside checks them first (`codec`). If there are 2^32 entries.
    pub fn new(mut entries: Vec<Entry>) -> Option<Self> {
        Self::of(&mut entries)
    }

    /// The same, of entries that are taken out of a vector which keeps its room.
    pub(crate) fn of(entries: &mut Vec<Entry>) -> Option<Self> {
        if entries.is_empty() {
            return None;
        }
        for pair in entries.windows(2) {
            assert!(
                follows(pair[0].id, pair[1].id),
                "entry {} does not follow {}",
                pair[1].id,
                pair[0].id
            );
        }
        let end = u32::try_from(entries.len()).expect("fewer than 2^32 entries");
        let size = size_of(entries);
        Some(Self { block: entries.drain(..).collect(), start: 0, end, size })
    }

    /// Whether `entries` may form a run: consecutive indexes, terms that do not fall.
    pub fn is_consecutive(entries: &[Entry]) -> bool {
        entries.windows(2).all(|pair| follows(pair[0].id, pair[1].id))
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.block[self.start as usize..self.end as usize]
    }

    /// How many entries; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Id of the first entry.
    pub fn first(&self) -> LogId {
        self.block[self.start as usize].id
    }

    /// Id of the last entry.
    pub fn last(&self) -> LogId {
        self.block[self.end as usize - 1].id
    }

    /// Bytes it counts against limits; see [`Entry::size`].
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The entry at `index`, if it is in this run.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first().index.0)?;
        self.entries().get(usize::try_from(offset).ok()?)
    }

    /// The term of the entry at `index`, if it is in this run.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.get(index).map(|entry| entry.id.term)
    }

    /// The part of this run from `from` to `to`, both included, sharing the entries. `None` if no
    /// entry lies between.
    pub fn slice(&self, from: Index, to: Index) -> Option<Self> {
        let first = self.first().index;
        let last = self.last().index;
        if from <= first && to >= last {
            return Some(self.clone());
        }
        let (from, to) = (from.max(first), to.min(last));
        if from > to {
            return None;
        }
        let start = self.start + (from.0 - first.0) as u32;
        let end = start + (to.0 - from.0) as u32 + 1;
        let size = size_of(&self.block[start as usize..end as usize]);
        Some(Self { block: Arc::clone(&self.block), start, end, size })
    }
}

fn size_of(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size).sum()
}

fn follows(a: LogId, b: LogId) -> bool {
    b.index.0.checked_sub(1) == Some(a.index.0) && b.term >= a.term
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Run {}

impl Hash for Run {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries().hash(state);
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl fmt::Display for Run {
    /// `[2@1 3@1]`; long runs as `[2@1 .. 9@1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() > 4 {
            return write!(f, "[{} .. {}]", self.first(), self.last());
        }
        f.write_str("[")?;
        for (position, entry) in self.entries().iter().enumerate() {
            write!(f, "{}{}", if position == 0 { "" } else { " " }, entry.id)?;
        }
        f.write_str("]")
    }
}
