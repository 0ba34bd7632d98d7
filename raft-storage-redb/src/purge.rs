//! Keeps the file bounded: drops old rows, after carrying what still lives in them forward.
//!
//! The table is a circle of sorts: new rows at the end, old ones dropped at the front. Dead rows at
//! the front are dropped as they come. A row at the front with something live in it is copied to
//! the end once the table is more than twice as large as what lives in it: then a full turn frees
//! as much as it copies, so that an entry is rewritten about once for every byte appended, however
//! idle its group is. Work is done a little with every few thousand rows and in proportion to what
//! was appended, so that no commit stalls.

use crate::index::LiveIndex;
use crate::record::{self, Change, Record};
use crate::row::{self, Batch, Place, RowError};
use bytes::{Bytes, BytesMut};
use raft_core::types::GroupId;

/// Bytes appended between two steps.
const STEP_BYTES: u64 = 512 << 10;
/// Rows appended between two steps.
const STEP_ROWS: u64 = 2048;
/// Rows that a step may drop.
const DROPPED_ROWS_MAX: u64 = 4 * STEP_ROWS;
/// A step looks at this many bytes of old rows for every byte appended since the last one. More
/// than two, so that the table comes back to its bound after it was exceeded.
const PACE: u64 = 3;
/// Bytes that may be dead in a table however little lives in it.
const SLACK_BYTES: u64 = 1 << 20;

/// When the next step is due.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes: u64,
    rows: u64,
}

/// How far a step has come: rows up to `row`, whose checksum is given, are to be dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PurgePoint {
    pub(crate) row: u64,
    pub(crate) checksum: u32,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Engine(#[from] redb::StorageError),
}

impl Default for Pace {
    /// A step is due at once: a process that is restarted again and again before it has written
    /// much must purge too.
    fn default() -> Self {
        Self { bytes: STEP_BYTES, rows: 0 }
    }
}

impl Pace {
    /// A row was appended.
    pub(crate) const fn appended(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.rows += 1;
    }

    /// Whether it is time for a step.
    pub(crate) const fn is_due(&self) -> bool {
        self.bytes >= STEP_BYTES || self.rows >= STEP_ROWS
    }
}

/// Takes a step: carries forward into `batch` what lives in the oldest rows, which `read` returns,
/// and says which rows are dead now. Those are gone from the index when it returns.
pub(crate) fn step(
    pace: &mut Pace,
    index: &mut LiveIndex,
    batch: &mut Batch,
    read: impl Fn(u64) -> Result<Option<Vec<u8>>, redb::StorageError>,
) -> Result<Option<PurgePoint>, CarryError> {
    let mut bytes_left = (PACE * pace.bytes).cast_signed();
    let mut rows_left = DROPPED_ROWS_MAX.cast_signed();
    *pace = Pace { bytes: 0, rows: 0 };
    let mut point = None;
    while bytes_left > 0 && rows_left > 0 && index.rows.first() < batch.first() {
        let oldest = index.rows.first();
        let Some(usage) = index.rows.get(oldest) else { break };
        if usage.live > 0 {
            if index.rows.bytes() <= 2 * index.rows.live() + SLACK_BYTES {
                break;
            }
            batch.allow_large_rows();
            carry(index, batch, oldest, &read)?;
        }
        // The rows of one record go together: a log cannot begin in the middle of one.
        let mut row = oldest;
        while let Some(usage) = index.rows.get(row).filter(|u| row == oldest || u.continued) {
            index.rows.pop();
            point = Some(PurgePoint { row, checksum: usage.checksum });
            bytes_left -= i64::from(usage.bytes);
            rows_left -= 1;
            row += 1;
        }
    }
    if let Some(PurgePoint { row, checksum }) = point {
        batch.add(|out| record::put_purged(row, checksum, out));
    }
    Ok(point)
}

/// Repeats at the end what lives in the row `seq` and those its record goes on in.
fn carry(
    index: &mut LiveIndex,
    batch: &mut Batch,
    seq: u64,
    read: &impl Fn(u64) -> Result<Option<Vec<u8>>, redb::StorageError>,
) -> Result<(), CarryError> {
    let mut bytes = BytesMut::new();
    let mut row = seq;
    loop {
        let raw = read(row)?.ok_or(RowError::Missing(row))?;
        let (header, body) = row::open(row, &raw)?;
        bytes.extend_from_slice(body);
        if !header.continues {
            break;
        }
        row += 1;
    }
    let frame: Bytes = bytes.freeze();
    let records = Record::take_all(&frame).collect::<Result<Vec<_>, _>>();
    let records = records.map_err(|position| RowError::Record { seq, position })?;
    // Backwards: of two records of one fact in this row the later one counts, and once that is
    // carried, the fact no longer lives in this row.
    for (bytes, record) in records.iter().rev() {
        if let Record::Group(group, change) = record {
            carry_record(index, batch, seq, *group, change, bytes);
        }
    }
    Ok(())
}

/// Repeats one record of the row `seq` if its fact lives there.
fn carry_record(
    index: &mut LiveIndex,
    batch: &mut Batch,
    seq: u64,
    group: GroupId,
    change: &Change,
    bytes: &[u8],
) {
    let LiveIndex { groups, rows } = index;
    let Some(live) = groups.get_mut(&group) else { return };
    let here = |at: &&mut Place| at.row == seq;
    let place = match change {
        Change::Identity(_) => live.identity.as_mut().map(|(_, at)| at).filter(here),
        Change::HardState(_) => live.hard_state.as_mut().map(|(_, at)| at).filter(here),
        Change::Append(entry) | Change::Carry(entry) => live.entry(entry.id.index).filter(here),
        Change::Compact(_) | Change::Reset(_) => {
            live.boundary.as_mut().map(|(_, at)| at).filter(here)
        }
    };
    let Some(place) = place else { return };
    rows.lose(*place);
    *place = batch.add(|out| match change {
        Change::Append(entry) | Change::Carry(entry) => record::put_carry(entry, bytes, out),
        // A reset that is repeated would drop the entries appended since; where nothing lies at or
        // below the boundary a compaction drops nothing.
        Change::Compact(meta) | Change::Reset(meta) => record::put_compact(group, meta, out),
        Change::Identity(identity) => record::put_identity(group, identity, out),
        Change::HardState(hard_state) => record::put_hard_state(group, hard_state, out),
    });
    rows.gain(*place);
}
