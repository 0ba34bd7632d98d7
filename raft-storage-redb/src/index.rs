//! Where the live facts stand: identity, term and vote, boundary and entries of every group, by
//! row, and how much of every row is still live.
//!
//! It holds no payload; the core keeps the log in memory already. It changes as records are
//! encoded, before they are durable, so whoever fails to write them must not use it again.

use crate::row::Place;
use raft_core::raft::LogGap;
use raft_core::types::{GroupId, HardState, Identity, Index, SnapshotMeta};
use std::collections::{BTreeMap, VecDeque};

/// The live facts of all groups.
#[derive(Debug, Default)]
pub(crate) struct LiveIndex {
    /// The groups that were ever written.
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// The rows of the log.
    pub(crate) rows: Rows,
}

/// The live facts of one group. A fact that was never written has no place.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) identity: Option<(Identity, Place)>,
    pub(crate) hard_state: Option<(HardState, Place)>,
    pub(crate) boundary: Option<(SnapshotMeta, Place)>,
    /// The entries after the boundary, in order.
    pub(crate) entries: VecDeque<Place>,
}

impl Group {
    /// The boundary the log starts after.
    pub(crate) fn boundary_index(&self) -> Index {
        self.boundary.as_ref().map_or(Index::ZERO, |(meta, _)| meta.last.index)
    }

    /// Index of the last entry, or of the boundary.
    pub(crate) fn last_index(&self) -> Index {
        Index(self.boundary_index().0 + self.entries.len() as u64)
    }

    /// Where the entry `index` stands, if it is live.
    pub(crate) fn entry(&mut self, index: Index) -> Option<&mut Place> {
        let offset = index.0.checked_sub(self.boundary_index().0)?.checked_sub(1)?;
        self.entries.get_mut(usize::try_from(offset).ok()?)
    }

    /// Sets a fact that replaces its former value.
    pub(crate) fn replace<T>(fact: &mut Option<(T, Place)>, value: T, at: Place, rows: &mut Rows) {
        rows.gain(at);
        if let Some((_, old)) = fact.replace((value, at)) {
            rows.lose(old);
        }
    }

    /// Makes room for entries from `first` on: those at or above it are dropped.
    pub(crate) fn truncate(&mut self, first: Index, rows: &mut Rows) -> Result<(), LogGap> {
        let (boundary, last) = (self.boundary_index(), self.last_index());
        if first <= boundary || first > last.next() {
            return Err(LogGap { first, boundary, last });
        }
        let kept = (first.0 - boundary.0 - 1) as usize;
        self.entries.drain(kept..).for_each(|place| rows.lose(place));
        Ok(())
    }

    /// Appends one entry.
    pub(crate) fn push(&mut self, at: Place, rows: &mut Rows) {
        rows.gain(at);
        self.entries.push_back(at);
    }

    /// Drops the entries up to the boundary `meta` and sets it. False if that would move the
    /// boundary back, which nothing may ask for.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta, at: Place, rows: &mut Rows) -> bool {
        let Some(dropped) = meta.last.index.0.checked_sub(self.boundary_index().0) else {
            return false;
        };
        let dropped = usize::try_from(dropped).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..dropped).for_each(|place| rows.lose(place));
        Self::replace(&mut self.boundary, meta, at, rows);
        true
    }

    /// Drops all entries and sets the boundary.
    pub(crate) fn reset(&mut self, meta: SnapshotMeta, at: Place, rows: &mut Rows) {
        self.entries.drain(..).for_each(|place| rows.lose(place));
        Self::replace(&mut self.boundary, meta, at, rows);
    }
}

/// The rows of the log and how much of each is live.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Sequence number of `rows[0]`.
    first: u64,
    rows: VecDeque<RowUse>,
    bytes: u64,
    live: u64,
}

/// What is known of one row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowUse {
    /// Its length.
    pub(crate) bytes: u32,
    /// Bytes of the live records that begin in it; over all rows they span, so it may be larger
    /// than `bytes`.
    pub(crate) live: u32,
    /// Its checksum.
    pub(crate) checksum: u32,
    /// Whether it continues the record of the row before, and so lives and dies with that one.
    pub(crate) continued: bool,
}

impl Default for Rows {
    fn default() -> Self {
        Self::starting_at(1)
    }
}

impl Rows {
    /// No rows; the next one will be `first`.
    pub(crate) const fn starting_at(first: u64) -> Self {
        Self { first, rows: VecDeque::new(), bytes: 0, live: 0 }
    }

    /// Sequence number of the oldest row, or of the next one if there is none.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of all rows.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of all live records.
    pub(crate) const fn live(&self) -> u64 {
        self.live
    }

    /// What is known of `row`.
    pub(crate) fn get(&self, row: u64) -> Option<RowUse> {
        self.rows.get(usize::try_from(row.checked_sub(self.first)?).ok()?).copied()
    }

    /// Enters a row that has been written or read.
    pub(crate) fn enter(&mut self, row: u64, bytes: usize, checksum: u32, continued: bool) {
        let bytes = u32::try_from(bytes).expect("a row is far smaller than 4 GiB");
        self.bytes += u64::from(bytes);
        let entered = self.row(row);
        *entered = RowUse { bytes, live: entered.live, checksum, continued };
    }

    /// Forgets the oldest row, which must be dead.
    pub(crate) fn pop(&mut self) {
        if let Some(row) = self.rows.pop_front() {
            assert_eq!(row.live, 0, "row {} is purged while facts live in it", self.first);
            self.bytes -= u64::from(row.bytes);
            self.first += 1;
        }
    }

    /// A record has become live.
    pub(crate) fn gain(&mut self, at: Place) {
        self.live += u64::from(at.bytes);
        self.row(at.row).live += at.bytes;
    }

    /// A record is dead.
    pub(crate) fn lose(&mut self, at: Place) {
        self.live -= u64::from(at.bytes);
        self.row(at.row).live -= at.bytes;
    }

    fn row(&mut self, row: u64) -> &mut RowUse {
        let position = (row - self.first) as usize;
        if position >= self.rows.len() {
            self.rows.resize(position + 1, RowUse::default());
        }
        &mut self.rows[position]
    }
}
