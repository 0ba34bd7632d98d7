//! Which rows of changes the checkpoint file has, and how much of each is of no use any more: when
//! to write which of them again. It knows no disk.
//!
//! A row is written again once half of it is useless. So the file is at most about twice as large
//! as what is in use, and what is in use is copied at most about once for as much that goes.

use super::mvcc::Dropped;
use super::record::Position;
use std::collections::BTreeMap;

/// The rows, by the position of their first change.
#[derive(Default)]
pub(super) struct Rows {
    rows: BTreeMap<Position, Row>,
}

/// A row.
#[derive(Default)]
pub(super) struct Row {
    pub(super) bytes: usize,
    /// The changes in it that are of no use.
    pub(super) dead: Vec<Position>,
    pub(super) dead_bytes: usize,
}

impl Row {
    /// A row of `bytes`, all of them of use.
    pub(super) const fn of(bytes: usize) -> Self {
        Self { bytes, dead: Vec::new(), dead_bytes: 0 }
    }

    const fn live_bytes(&self) -> usize {
        self.bytes.saturating_sub(self.dead_bytes)
    }

    const fn is_wasteful(&self) -> bool {
        self.dead_bytes * 2 >= self.bytes
    }
}

impl Rows {
    pub(super) fn insert(&mut self, position: Position, row: Row) {
        self.rows.insert(position, row);
    }

    /// Takes out the row at `position`, if there is one.
    pub(super) fn remove(&mut self, position: Position) -> Row {
        self.rows.remove(&position).unwrap_or_default()
    }

    /// The changes of the row at `position` that are of no use.
    pub(super) fn dead(&self, position: Position) -> &[Position] {
        self.rows.get(&position).map_or(&[], |row| &row.dead)
    }

    /// These changes, which are in the rows, in order, are of no use any more; each takes
    /// `overhead` beside its record. Returns the rows they are in, in order.
    pub(super) fn bury(&mut self, dropped: &[Dropped], overhead: usize) -> Vec<Position> {
        let mut touched = Vec::new();
        for Dropped { position, bytes } in dropped {
            let Some((first, row)) = self.rows.range_mut(..=*position).next_back() else {
                continue;
            };
            row.dead.push(*position);
            row.dead_bytes += *bytes as usize + overhead;
            touched.push(*first);
        }
        touched.dedup();
        touched
    }

    /// The rows to be written again as one because that at `position` is half useless: it, and
    /// neighbours less than half full as long as what is live in all of them is at most `most`
    /// bytes. None if it is not worth it.
    pub(super) fn mergeable(&self, position: Position, most: usize) -> Vec<Position> {
        let Some(row) = self.rows.get(&position).filter(|row| row.is_wasteful()) else {
            return Vec::new();
        };
        let mut live = row.live_bytes();
        let mut small = |(_, row): &(&Position, &Row)| {
            let fits = row.live_bytes() < most / 2 && live + row.live_bytes() <= most;
            live += if fits { row.live_bytes() } else { 0 };
            fits
        };
        let before = self.rows.range(..position).rev().take_while(&mut small);
        let mut merged: Vec<Position> = before.map(|(position, _)| *position).collect();
        merged.reverse();
        merged.push(position);
        let after = self.rows.range(position..).skip(1).take_while(&mut small);
        merged.extend(after.map(|(position, _)| *position));
        merged
    }
}
