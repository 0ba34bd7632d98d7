//! Which rows of changes the checkpoint file has, and how much of each is of no use any more.
//!
//! A change that was purged stays in its row until half of the row is useless; then the row is
//! written again without it. So the file is at most about twice as large as what is in use, and
//! what is in use is copied at most about once for as much that goes. The useless changes in the
//! file are known to nobody after a restart, but loading finds the same ones again.

use super::mvcc::Dropped;
use super::record::Position;
use std::collections::BTreeMap;

/// The rows, by the position of their first change.
#[derive(Default)]
pub(super) struct Rows {
    rows: BTreeMap<Position, Row>,
}

#[derive(Default)]
struct Row {
    bytes: usize,
    /// The changes in it that are of no use.
    dead: Vec<Position>,
    dead_bytes: usize,
}

impl Row {
    const fn live_bytes(&self) -> usize {
        self.bytes.saturating_sub(self.dead_bytes)
    }

    const fn is_wasteful(&self) -> bool {
        self.dead_bytes * 2 >= self.bytes
    }
}

impl Rows {
    /// There is a row of `bytes` at `position`.
    pub(super) fn insert(&mut self, position: Position, bytes: usize) {
        self.rows.insert(position, Row { bytes, ..Row::default() });
    }

    /// The row at `position` is gone; the changes in it that were of no use.
    pub(super) fn remove(&mut self, position: Position) -> Vec<Position> {
        self.rows.remove(&position).map(|row| row.dead).unwrap_or_default()
    }

    /// These changes, which are in the rows, are of no use any more. Returns the rows that are to
    /// be written again for that, in order.
    pub(super) fn bury(&mut self, dropped: &[Dropped], overhead: usize) -> Vec<Position> {
        let mut wasteful = Vec::new();
        for Dropped { position, bytes } in dropped {
            let Some((first, row)) = self.rows.range_mut(..=*position).next_back() else {
                continue;
            };
            let was_wasteful = row.is_wasteful();
            row.dead.push(*position);
            row.dead_bytes += *bytes as usize + overhead;
            if row.is_wasteful() && !was_wasteful {
                wasteful.push(*first);
            }
        }
        wasteful.sort_unstable();
        wasteful
    }

    /// The rows to be made one with that at `position`, which is among them, in order: neighbours
    /// less than half full, as long as what is live in all of them is at most `most` bytes. None if
    /// the row is gone.
    pub(super) fn mergeable(&self, position: Position, most: usize) -> Vec<Position> {
        let Some(row) = self.rows.get(&position) else { return Vec::new() };
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
