//! Rebuilds the state of all groups from the rows.
//!
//! Replay never repairs: a row that is damaged, missing or out of its chain, an entry that is
//! missing, or a log that ends before what was acknowledged is corruption, and is told apart from a
//! log that simply ends.

use crate::index::{Group, LiveIndex, Rows};
use crate::record::{Change, Record};
use crate::row::{Header, Place, RowError, RowReader};
use crate::side_file::Acknowledged;
use crate::tail::{Gathered, Image};
use raft_core::raft::Loaded;
use raft_core::types::{Entry, GroupId, HardState, Identity, Index, Run, SnapshotMeta};
use std::collections::BTreeMap;

/// Entries in one run of a loaded log. A run is freed as a whole, so one for the whole log would
/// keep every compacted entry in memory.
const RUN_ENTRIES_MAX: usize = 256;

/// What the rows say that makes the log unusable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("group {group}: entry {index} is missing")]
    Entry { group: GroupId, index: Index },
    #[error("row {acknowledged} was acknowledged, but the log ends at row {last}")]
    Short { acknowledged: u64, last: u64 },
    #[error("row {0} is not the one that was acknowledged")]
    Replaced(u64),
}

/// Checks, while rows are read in order, that the log holds what was acknowledged.
#[derive(Debug)]
pub(crate) struct Verifier {
    reader: RowReader,
    acknowledged: Acknowledged,
}

impl Verifier {
    pub(crate) fn new(acknowledged: Acknowledged) -> Self {
        Self { reader: RowReader::default(), acknowledged }
    }

    /// Checks the next row and hands on its records.
    pub(crate) fn read(
        &mut self,
        seq: u64,
        row: &[u8],
        visit: impl FnMut(Place, Record),
    ) -> Result<Header, ReplayError> {
        let header = self.reader.read(seq, row, visit)?;
        if seq == self.acknowledged.row && header.checksum != self.acknowledged.checksum {
            return Err(ReplayError::Replaced(seq));
        }
        Ok(header)
    }

    /// The rows in the tail that follow those read so far.
    pub(crate) fn rows_in(&self, tail: &Image) -> Result<Gathered, ReplayError> {
        Ok(tail.rows_after(self.reader.last().map_or(0, |(seq, _)| seq))?)
    }

    /// Checks what can only be told at the end.
    pub(crate) fn finish(&self) -> Result<(), ReplayError> {
        self.reader.finish()?;
        let last = self.reader.last().map_or(0, |(seq, _)| seq);
        let acknowledged = self.acknowledged.row;
        if last < acknowledged {
            return Err(ReplayError::Short { acknowledged, last });
        }
        Ok(())
    }
}

/// A replay under way.
#[derive(Debug)]
pub(crate) struct Replay {
    verifier: Verifier,
    groups: BTreeMap<GroupId, Facts>,
    rows: Vec<(u64, usize, u32, bool)>,
    in_tail: Gathered,
    /// Only this group is wanted.
    only: Option<GroupId>,
}

/// What a finished replay has found.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// Where everything stands.
    pub(crate) index: LiveIndex,
    /// The state of every group.
    pub(crate) groups: BTreeMap<GroupId, Loaded>,
    /// The last row and its checksum; zeros if the log is empty.
    pub(crate) last: Acknowledged,
    /// The rows that are in the tail and not in the database.
    pub(crate) in_tail: Gathered,
}

/// The facts of one group so far. Once rows have been purged the entries may have gaps until their
/// carried records turn up; only at the end must there be none.
#[derive(Debug, Default)]
struct Facts {
    identity: Option<(Identity, Place)>,
    hard_state: Option<(HardState, Place)>,
    boundary: Option<(SnapshotMeta, Place)>,
    entries: BTreeMap<Index, (Entry, Place)>,
}

impl Replay {
    /// A replay of a log that must hold what was acknowledged. With `only`, the facts of other
    /// groups are checked and left out.
    pub(crate) fn new(acknowledged: Acknowledged, only: Option<GroupId>) -> Self {
        let verifier = Verifier::new(acknowledged);
        let (groups, rows, in_tail) = (BTreeMap::new(), Vec::new(), Gathered::default());
        Self { verifier, groups, rows, in_tail, only }
    }

    /// The next row.
    pub(crate) fn row(&mut self, seq: u64, row: &[u8]) -> Result<(), ReplayError> {
        let (groups, only) = (&mut self.groups, self.only);
        let Header { checksum, continued, .. } =
            self.verifier.read(seq, row, |place, record| {
                if let Record::Group(group, change) = record
                    && only.is_none_or(|only| only == group)
                {
                    groups.entry(group).or_default().change(change, place);
                }
            })?;
        self.rows.push((seq, row.len(), checksum, continued));
        Ok(())
    }

    /// The rows in the tail, once those of the database were read.
    pub(crate) fn tail(&mut self, tail: &Image) -> Result<(), ReplayError> {
        let rows = self.verifier.rows_in(tail)?;
        rows.iter().try_for_each(|(seq, row)| self.row(seq, row))?;
        self.in_tail = rows;
        Ok(())
    }

    /// The end of the log.
    pub(crate) fn finish(self) -> Result<Replayed, ReplayError> {
        self.verifier.finish()?;
        let (row, checksum) = self.verifier.reader.last().unwrap_or_default();
        let first = self.verifier.reader.first().unwrap_or(1);
        let mut index = LiveIndex { groups: BTreeMap::new(), rows: Rows::starting_at(first) };
        for (seq, bytes, checksum, continued) in self.rows {
            index.rows.enter(seq, bytes, checksum, continued);
        }
        let mut groups = BTreeMap::new();
        for (group, facts) in self.groups {
            facts.check(group)?;
            let (live, loaded) = facts.split(&mut index.rows);
            index.groups.insert(group, live);
            groups.insert(group, loaded);
        }
        let last = Acknowledged { row, checksum };
        Ok(Replayed { index, groups, last, in_tail: self.in_tail })
    }
}

impl Facts {
    fn change(&mut self, change: Change, at: Place) {
        match change {
            Change::Identity(identity) => self.identity = Some((identity, at)),
            Change::HardState(hard_state) => self.hard_state = Some((hard_state, at)),
            Change::Append(entry) => {
                let index = entry.id.index;
                if self.entries.last_key_value().is_some_and(|(last, _)| *last >= index) {
                    self.entries.split_off(&index);
                }
                self.entries.insert(index, (entry, at));
            }
            Change::Carry(entry) => {
                self.entries.insert(entry.id.index, (entry, at));
            }
            Change::Compact(meta) => {
                self.entries = self.entries.split_off(&Index(meta.last.index.0.saturating_add(1)));
                self.boundary = Some((meta, at));
            }
            Change::Reset(meta) => {
                self.entries.clear();
                self.boundary = Some((meta, at));
            }
        }
    }

    fn check(&self, group: GroupId) -> Result<(), ReplayError> {
        let boundary = self.boundary.as_ref().map_or(0, |(meta, _)| meta.last.index.0);
        let mut expected = boundary.saturating_add(1);
        for index in self.entries.keys() {
            if index.0 != expected {
                return Err(ReplayError::Entry { group, index: Index(expected) });
            }
            expected = expected.saturating_add(1);
        }
        Ok(())
    }

    fn split(self, rows: &mut Rows) -> (Group, Loaded) {
        let small = [
            self.identity.as_ref().map(|(_, at)| *at),
            self.hard_state.as_ref().map(|(_, at)| *at),
            self.boundary.as_ref().map(|(_, at)| *at),
        ];
        small.into_iter().flatten().for_each(|at| rows.gain(at));
        let loaded = Loaded {
            identity: self.identity.map(|(identity, _)| identity),
            hard_state: self.hard_state.map(|(hard_state, _)| hard_state).unwrap_or_default(),
            snapshot: self.boundary.as_ref().map(|(meta, _)| meta.clone()).unwrap_or_default(),
            entries: Vec::new(),
        };
        let mut live = Group {
            identity: self.identity,
            hard_state: self.hard_state,
            boundary: self.boundary,
            entries: [].into(),
        };
        let mut runs = Runs::default();
        for (entry, at) in self.entries.into_values() {
            live.push(at, rows);
            runs.push(entry);
        }
        (live, Loaded { entries: runs.finish(), ..loaded })
    }
}

/// Gathers entries into runs.
#[derive(Default)]
struct Runs {
    done: Vec<Run>,
    open: Vec<Entry>,
}

impl Runs {
    fn push(&mut self, entry: Entry) {
        // Indexes are consecutive here. A term that falls ends the run: whether such a log makes
        // sense is for the core to say.
        let falls = self.open.last().is_some_and(|last| last.id.term > entry.id.term);
        if falls || self.open.len() >= RUN_ENTRIES_MAX {
            self.close();
        }
        self.open.push(entry);
    }

    fn finish(mut self) -> Vec<Run> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        self.done.extend(Run::new(std::mem::take(&mut self.open)));
    }
}
