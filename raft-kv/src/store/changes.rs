//! The changes in the checkpoint file: the rows they are in, and which of them are useless.
//!
//! A change that was purged stays in its row until half of the row is useless; then the row is
//! written again without it. Until then the file says that it is useless: of a key that was deleted
//! and purged, the deletion may go from the file before the values that it has ended, which would
//! come back with nothing after them. The layout is described in [`crate::store`].

use super::checkpoint::{Failure, Meta, damaged};
use super::format::{Check, LENGTH, ROW_BYTES, checksum, front, pack, sealed, unpack, unsealed};
use super::mvcc::Dropped;
use super::record::{Position, Record};
use super::rows::{Row, Rows};
use redb::{OwnedRange, ReadTransaction, Table, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

pub(super) const CHANGES: TableDefinition<Position, &[u8]> = TableDefinition::new("changes");
/// Of a row of changes, those that are useless, if there are any.
const USELESS: TableDefinition<Position, &[u8]> = TableDefinition::new("useless");

/// The useless changes as the header of the file has them; since version 3.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Useless {
    /// How many.
    pub(super) changes: u64,
    /// All checksums of the table, combined by exclusive or.
    digest: u64,
}

/// The changes as a checkpoint writes them.
pub(super) struct ChangesWriter<'a> {
    changes: Table<'a, Position, &'static [u8]>,
    useless: Table<'a, Position, &'static [u8]>,
    rows: &'a mut Rows,
    meta: &'a mut Meta,
}

impl<'a> ChangesWriter<'a> {
    pub(super) fn new(
        transaction: &'a WriteTransaction,
        rows: &'a mut Rows,
        meta: &'a mut Meta,
    ) -> Result<Self, Failure> {
        let (changes, useless) =
            (transaction.open_table(CHANGES)?, transaction.open_table(USELESS)?);
        Ok(Self { changes, useless, rows, meta })
    }

    /// Appends `records`, and takes out what is of no use, be it one of them or in a row.
    pub(super) fn write(&mut self, records: &[Record], dropped: &[Dropped]) -> Result<(), Failure> {
        let mut dropped = dropped.to_vec();
        dropped.sort_unstable();
        let first_new = records.first().map_or((u64::MAX, 0), Record::position);
        let (old, new) =
            dropped.split_at(dropped.partition_point(|dropped| dropped.position < first_new));
        self.bury(old)?;
        if new.is_empty() {
            return self.append(records);
        }
        let is_dropped = |record: &&Record| {
            new.binary_search_by_key(&record.position(), |dropped| dropped.position).is_ok()
        };
        let kept: Vec<_> = records.iter().filter(|record| !is_dropped(record)).cloned().collect();
        self.append(&kept)
    }

    fn append(&mut self, mut records: &[Record]) -> Result<(), Failure> {
        self.meta.header.records += records.len() as u64;
        let mut row = Vec::new();
        while let Some(position) = pack(&mut records, &mut row) {
            self.changes.insert(position, &row[..])?;
            self.meta.changes_digest ^= checksum(&row);
            self.rows.insert(position, Row::of(row.len()));
        }
        Ok(())
    }

    /// Says of changes in rows that they are useless, and writes the rows again that are worth it.
    fn bury(&mut self, dropped: &[Dropped]) -> Result<(), Failure> {
        let touched = self.rows.bury(dropped, LENGTH);
        for position in &touched {
            let merged = self.rows.mergeable(*position, ROW_BYTES);
            if !merged.is_empty() {
                self.rewrite(&merged)?;
            }
        }
        for position in touched {
            self.mark(position)?;
        }
        Ok(())
    }

    /// Writes neighbouring rows as one, without what is of no use.
    fn rewrite(&mut self, positions: &[Position]) -> Result<(), Failure> {
        let mut live = Vec::new();
        for position in positions {
            self.unmark(*position)?;
            let row = self.changes.remove(*position)?;
            let row = row.ok_or_else(|| damaged("a row of changes is missing"))?;
            let records = unpack(row.value())?;
            self.meta.changes_digest ^= checksum(row.value());
            self.meta.header.records -= records.len() as u64;
            let mut dead = self.rows.remove(*position).dead;
            dead.sort_unstable();
            let is_live = |record: &Record| dead.binary_search(&record.position()).is_err();
            live.extend(records.into_iter().filter(is_live));
        }
        self.append(&live)
    }

    /// Writes down which changes of the row are useless.
    fn mark(&mut self, position: Position) -> Result<(), Failure> {
        self.unmark(position)?;
        let dead = self.rows.dead(position);
        if dead.is_empty() {
            return Ok(());
        }
        let row = sealed(&front_of(position), &dead);
        self.useless.insert(position, &row[..])?;
        self.meta.useless.changes += dead.len() as u64;
        self.meta.useless.digest ^= checksum(&row);
        Ok(())
    }

    fn unmark(&mut self, position: Position) -> Result<(), Failure> {
        if let Some(row) = self.useless.remove(position)? {
            let dead = useless_of(position, row.value())?;
            self.meta.useless.changes -= dead.len() as u64;
            self.meta.useless.digest ^= checksum(row.value());
        }
        Ok(())
    }
}

/// The changes of a checkpoint, row by row, without the useless ones.
pub(super) struct ChangesReader {
    changes: OwnedRange<Position, &'static [u8]>,
    /// `None` in a file of before version 3.
    useless: Option<OwnedRange<Position, &'static [u8]>>,
    /// The next of `useless`.
    next_useless: Option<(Position, Vec<Position>)>,
    /// The digest of the header less the rows seen: 0 at the end.
    changes_left: u64,
    /// Alike, and how many.
    useless_left: Useless,
    /// The rows seen.
    rows: Rows,
}

impl ChangesReader {
    pub(super) fn new(transaction: &ReadTransaction, meta: &Meta) -> Result<Self, Failure> {
        let useless = match transaction.open_table(USELESS) {
            Ok(table) => Some(table.range_owned::<Position>(..)?),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let mut reader = Self {
            changes: transaction.open_table(CHANGES)?.range_owned::<Position>(..)?,
            useless,
            next_useless: None,
            changes_left: meta.changes_digest,
            useless_left: meta.useless.clone(),
            rows: Rows::default(),
        };
        reader.advance()?;
        Ok(reader)
    }

    /// Reads the next row that has something of use, and only that of it, into `out`, which is
    /// empty; `each` gets its changes. Returns whether there was one.
    pub(super) fn next(
        &mut self,
        check: &mut Check,
        out: &mut Vec<u8>,
        mut each: impl FnMut(Record),
    ) -> Result<bool, Failure> {
        while let Some(row) = self.changes.next() {
            let (position, row) = row?;
            let (position, row) = (position.value(), row.value());
            let useless = self.useless_in(position)?;
            let (mut live, mut dead_bytes, mut dead) = (Vec::new(), 0, 0);
            let found = check.row(row, |record| {
                if useless.binary_search(&record.position()).is_ok() {
                    dead_bytes += LENGTH + record.bytes().len();
                    dead += 1;
                    return;
                }
                if !useless.is_empty() {
                    live.push(record.clone());
                }
                each(record);
            })?;
            if found != position || dead != useless.len() {
                return Err(damaged("a row of changes is in another's place"));
            }
            self.changes_left ^= checksum(row);
            let untouched = useless.is_empty();
            self.rows.insert(position, Row { bytes: row.len(), dead: useless, dead_bytes });
            if untouched {
                out.extend_from_slice(row);
                return Ok(true);
            }
            if pack(&mut &live[..], out).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// After the last row: whether all was there.
    pub(super) fn is_complete(&self) -> bool {
        let Useless { changes, digest } = self.useless_left;
        (self.changes_left, changes, digest) == (0, 0, 0) && self.next_useless.is_none()
    }

    /// The rows seen.
    pub(super) fn into_rows(self) -> Rows {
        self.rows
    }

    /// The useless changes of the row at `position`, in order.
    fn useless_in(&mut self, position: Position) -> Result<Vec<Position>, Failure> {
        match self.next_useless.take() {
            Some((at, mut dead)) if at == position => {
                self.advance()?;
                dead.sort_unstable();
                Ok(dead)
            }
            other => {
                self.next_useless = other;
                Ok(Vec::new())
            }
        }
    }

    /// Reads the next of `useless`.
    fn advance(&mut self) -> Result<(), Failure> {
        let Some(row) = self.useless.as_mut().and_then(Iterator::next) else { return Ok(()) };
        let (position, row) = row?;
        let (position, row) = (position.value(), row.value());
        let dead = useless_of(position, row)?;
        let left = &mut self.useless_left;
        left.digest ^= checksum(row);
        left.changes = left.changes.wrapping_sub(dead.len() as u64);
        self.next_useless = Some((position, dead));
        Ok(())
    }
}

/// What the row of `useless` at `position` says.
fn useless_of(position: Position, row: &[u8]) -> Result<Vec<Position>, Failure> {
    let expected = front_of(position);
    let dead = front(row).filter(|front| *front == expected).and_then(|_| unsealed(row, &expected));
    dead.ok_or_else(|| damaged("a list of useless changes is damaged"))
}

/// What a row of `useless` begins with.
fn front_of((revision, sub): Position) -> [u8; 12] {
    let mut front = [0; 12];
    front[..8].copy_from_slice(&revision.to_le_bytes());
    front[8..].copy_from_slice(&sub.to_le_bytes());
    front
}
