//! The log in memory: the snapshot boundary, the entries after it as shared runs, and the
//! configurations they contain.
//!
//! It knows nothing of durability: `persist` tracks what the disk has.

use crate::types::{Entry, Index, LogId, Membership, Payload, Run, SnapshotMeta, Term};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// Entries that the tail keeps room for, so that it need not grow anew every turn.
const TAIL_KEPT: usize = 1024;

/// Runs that a log keeps room for, however few it has.
const RUNS_KEPT: usize = 1024;

/// What is kept behind a compaction, at most.
#[derive(Clone, Copy)]
pub(super) struct Trailing {
    pub(super) bytes: usize,
    pub(super) entries: usize,
}

/// Invariants: runs follow each other without a gap from `start.last.index + 1`; `tail` follows the
/// last run; `memberships` ascends and its first element is the boundary's.
#[derive(Clone, Debug)]
pub(super) struct Log {
    start: SnapshotMeta,
    runs: VecDeque<Run>,
    /// Proposals of this turn, sealed into one run when output is taken.
    tail: Vec<Entry>,
    /// Bytes of all entries, as `Entry::size` counts.
    bytes: usize,
    last: LogId,
    memberships: Vec<(Index, Membership)>,
}

impl Log {
    /// A log that starts after `start` and holds `runs`.
    pub(super) fn new(start: SnapshotMeta, runs: Vec<Run>) -> Self {
        let mut log = Self {
            last: start.last,
            memberships: vec![(start.last.index, start.membership.clone())],
            start,
            runs: VecDeque::new(),
            tail: Vec::new(),
            bytes: 0,
        };
        for run in runs {
            log.append(run);
        }
        log
    }

    /// The entry the log starts after.
    pub(super) const fn start(&self) -> LogId {
        self.start.last
    }

    /// The last entry, or the boundary.
    pub(super) const fn last(&self) -> LogId {
        self.last
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the sealed entries from `from` to `to`, both included.
    pub(super) fn bytes_between(&self, from: Index, to: Index) -> usize {
        self.slices(from, to).map(|run| run.size()).sum()
    }

    /// The configuration in force: the latest in the log, committed or not (§6).
    pub(super) fn membership(&self) -> &Membership {
        &self.memberships.last().expect("the boundary has one").1
    }

    /// Where the configuration in force stands.
    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().expect("the boundary has one").0
    }

    /// The configurations that may be the cluster's, as far as a node knows that has committed up
    /// to `commit`: the one in force there, and those after it.
    pub(super) fn memberships_from(&self, commit: Index) -> impl Iterator<Item = &Membership> {
        let after = self.memberships.partition_point(|(at, _)| *at <= commit);
        self.memberships[after.max(1) - 1..].iter().map(|(_, membership)| membership)
    }

    /// The configuration as of `index`, which is not below the boundary.
    fn membership_at(&self, index: Index) -> &Membership {
        let after = self.memberships.partition_point(|(at, _)| *at <= index);
        &self.memberships[after.max(1) - 1].1
    }

    /// The term of the entry at `index`; also of the boundary. `None` outside.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.last.index {
            return Some(self.start.last.term);
        }
        if index == self.last.index {
            return Some(self.last.term);
        }
        if index > self.sealed_last() {
            let offset = index.0.checked_sub(self.sealed_last().0 + 1)?;
            return self.tail.get(offset as usize).map(|entry| entry.id.term);
        }
        self.runs.get(self.position(index)?)?.term_at(index)
    }

    /// The id of the entry at `index`, if it is known.
    pub(super) fn id_at(&self, index: Index) -> Option<LogId> {
        self.term_at(index).map(|term| LogId { term, index })
    }

    /// Appends one entry of the leader's own term to this turn's tail.
    pub(super) fn push(&mut self, entry: Entry) {
        assert!(
            entry.id.index == self.last.index.next() && entry.id.term >= self.last.term,
            "{} does not follow {}",
            entry.id,
            self.last
        );
        self.last = entry.id;
        self.bytes += entry.size();
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.id.index, (**membership).clone()));
        }
        self.tail.push(entry);
    }

    /// Whether anything was proposed in this turn.
    pub(super) const fn has_tail(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Makes this turn's tail one run, for the disk and for the followers.
    pub(super) fn seal(&mut self) -> Option<Run> {
        let run = Run::of(&mut self.tail)?;
        if self.tail.capacity() > TAIL_KEPT {
            self.tail.shrink_to(TAIL_KEPT);
        }
        self.runs.push_back(run.clone());
        Some(run)
    }

    /// Appends `run` after dropping every entry at or above its first. The caller has checked that
    /// nothing committed is dropped.
    pub(super) fn append(&mut self, run: Run) {
        let first = run.first().index;
        assert!(
            first > self.start.last.index && first <= self.last.index.next(),
            "{run} does not continue a log from {} to {}",
            self.start.last,
            self.last
        );
        self.truncate(first);
        assert!(run.first().term >= self.last.term, "{run} after {}: the term falls", self.last);
        self.last = run.last();
        self.bytes += run.size();
        for entry in run.entries() {
            if let Payload::Membership(membership) = &entry.payload {
                self.memberships.push((entry.id.index, (**membership).clone()));
            }
        }
        self.runs.push_back(run);
    }

    /// Drops every entry at or above `from`, and the configurations they contained (§6).
    fn truncate(&mut self, from: Index) {
        if from > self.last.index {
            return;
        }
        assert!(self.tail.is_empty(), "a leader never overwrites its own entries (§5.3)");
        while let Some(run) = self.runs.pop_back() {
            self.bytes -= run.size();
            if let Some(kept) = run.slice(Index(1), from.previous()) {
                self.bytes += kept.size();
                self.runs.push_back(kept);
                break;
            }
        }
        self.last = self.runs.back().map_or(self.start.last, Run::last);
        self.memberships.retain(|(index, _)| *index < from);
    }

    /// The part of `run` that this log does not hold yet: from the first entry that is missing or
    /// has another term. `None` if all of it is here (§5.3).
    pub(super) fn missing(&self, run: Run) -> Option<Run> {
        if run.first().index > self.last.index {
            return Some(run);
        }
        let differs = |entry: &&Entry| {
            entry.id.index > self.start.last.index
                && self.term_at(entry.id.index) != Some(entry.id.term)
        };
        let first = run.entries().iter().find(differs)?;
        run.slice(first.id.index, run.last().index)
    }

    /// The last entry at or below `index` whose term is at most `term`: where two logs can agree at
    /// the latest if one of them has an entry of `term` at `index` (fast back-off, §5.3).
    pub(super) fn agreement_bound(&self, index: Index, term: Term) -> LogId {
        let mut id = self.last;
        if index < id.index {
            id = self.id_at(index).unwrap_or(self.start.last);
        }
        while id.term > term && id.index > self.start.last.index {
            id = self.before_term_of(id);
        }
        id
    }

    /// The last entry before `id` that has an earlier term.
    fn before_term_of(&self, id: LogId) -> LogId {
        // Terms do not fall along the log, so the first entry of a term is found by bisection.
        let (mut low, mut high) = (self.start.last.index.0, id.index.0);
        while low + 1 < high {
            let middle = Index(low + (high - low) / 2);
            if self.term_at(middle).is_some_and(|term| term < id.term) {
                low = middle.0;
            } else {
                high = middle.0;
            }
        }
        self.id_at(Index(low)).unwrap_or(self.start.last)
    }

    /// Up to `bytes_max` of entries from `from` on, at least one, as one run and its size: a shared
    /// one where a single run has them, else a new one. Only sealed entries.
    pub(super) fn run_from(&self, from: Index, bytes_max: usize) -> Option<(Run, usize)> {
        if from > self.sealed_last() {
            return None;
        }
        let position = self.position(from)?;
        let run = &self.runs[position];
        let (last, size) = limit(run, from, bytes_max)?;
        if last < run.last().index || position + 1 == self.runs.len() {
            return Some((run.slice(from, last)?, size));
        }
        // A follower that lags over many small runs gets them in one message.
        let mut entries = Vec::new();
        let mut bytes = 0;
        for run in self.runs.range(position..) {
            for entry in run.slice(from, Index(u64::MAX))?.entries() {
                if bytes + entry.size() > bytes_max && !entries.is_empty() {
                    return Run::new(entries).map(|run| (run, bytes));
                }
                bytes += entry.size();
                entries.push(entry.clone());
            }
        }
        Run::new(entries).map(|run| (run, bytes))
    }

    /// The sealed entries from `from` to `to`, both included, as shared runs.
    pub(super) fn slices(&self, from: Index, to: Index) -> impl Iterator<Item = Run> {
        let position = self.position(from).unwrap_or(self.runs.len());
        self.runs.range(position..).map_while(move |run| run.slice(from, to))
    }

    /// Whether compaction to `limit` would drop anything and keep what is to trail.
    pub(super) fn can_compact(&self, limit: Index, trailing: Trailing) -> bool {
        let entries = self.last.index.0 - self.start.last.index.0;
        let many = self.bytes > trailing.bytes || entries > trailing.entries as u64;
        limit > self.start.last.index && many
    }

    /// Where the log may be compacted to: at most `limit`, and keeping what is to trail behind it.
    pub(super) fn compaction_point(
        &self,
        limit: Index,
        trailing: Trailing,
    ) -> Option<SnapshotMeta> {
        if !self.can_compact(limit, trailing) {
            return None;
        }
        let last = self.last_droppable(limit, trailing);
        let last = self.id_at(last).filter(|last| last.index > self.start.last.index)?;
        let membership = self.membership_at(last.index).clone();
        Some(SnapshotMeta { last, membership })
    }

    /// The last entry that may be dropped, or the boundary. Of runs that go as a whole the entries
    /// are not looked at: nobody may have touched their memory for long.
    fn last_droppable(&self, limit: Index, trailing: Trailing) -> Index {
        let mut last = self.start.last.index;
        let mut bytes = self.bytes;
        // From the front, so that it costs no more than what it drops.
        for run in &self.runs {
            let entries = (self.last.index.0 - last.0) as usize;
            let (left, left_entries) = (bytes - run.size(), entries - run.len());
            let enough = left >= trailing.bytes || left_entries >= trailing.entries;
            let end = Index(last.0 + run.len() as u64);
            if end > limit || !enough {
                return last_droppable_of(run, limit, trailing, bytes, entries).unwrap_or(last);
            }
            (last, bytes) = (end, left);
        }
        last
    }

    /// Drops the entries up to `meta.last`, which becomes the boundary.
    pub(super) fn compact(&mut self, meta: SnapshotMeta) {
        let boundary = meta.last.index;
        assert!(
            self.term_at(boundary) == Some(meta.last.term),
            "no entry {} to compact to",
            meta.last
        );
        let mut dropped = self.start.last.index.0;
        while let Some(run) = self.runs.front()
            && dropped + run.len() as u64 <= boundary.0
        {
            dropped += run.len() as u64;
            self.bytes -= run.size();
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut()
            && let Some(kept) = run.slice(boundary.next(), self.last.index)
        {
            self.bytes -= run.size() - kept.size();
            *run = kept;
        }
        self.give_back_room();
        self.memberships.retain(|(index, _)| *index > boundary);
        self.memberships.insert(0, (boundary, meta.membership.clone()));
        self.start = meta;
    }

    /// Gives back half the room of the runs if not even half of that is needed: a log that was
    /// long once need not be so again. What is left is moved, because allocators join the small
    /// blocks that were freed all over memory when they are asked for a large one.
    fn give_back_room(&mut self) {
        let room = self.runs.capacity() / 2;
        if room >= RUNS_KEPT && self.runs.len() <= room / 2 {
            let mut runs = VecDeque::with_capacity(room);
            runs.append(&mut self.runs);
            self.runs = runs;
        }
    }

    /// Drops everything; the log starts anew after `meta.last`.
    pub(super) fn reset(&mut self, meta: SnapshotMeta) {
        *self = Self::new(meta, Vec::new());
    }

    const fn sealed_last(&self) -> Index {
        Index(self.last.index.0 - self.tail.len() as u64)
    }

    /// Position of the run that holds `index`.
    fn position(&self, index: Index) -> Option<usize> {
        if index <= self.start.last.index || index > self.sealed_last() {
            return None;
        }
        // Nearly every look-up is near the end, most are in the last run.
        let behind = (self.sealed_last().0 - index.0) as usize;
        if self.runs.back().is_some_and(|run| behind < run.len()) {
            return Some(self.runs.len() - 1);
        }
        // No run is empty, so as many runs as there are entries on either side of `index` are the
        // most that can lie there.
        let before = (index.0 - self.start.last.index.0 - 1) as usize;
        let mut low = self.runs.len().saturating_sub(behind + 1);
        let mut high = before.min(self.runs.len() - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.runs[middle].last().index < index {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.runs.iter().flat_map(|run| run.entries()).chain(&self.tail)
    }
}

/// The last of the entries of `run` that may be dropped one by one, where the log has `bytes` and
/// `entries` from its first on.
fn last_droppable_of(
    run: &Run,
    limit: Index,
    trailing: Trailing,
    mut bytes: usize,
    mut entries: usize,
) -> Option<Index> {
    let droppable = |entry: &&Entry| {
        let many = bytes > trailing.bytes || entries > trailing.entries;
        bytes -= entry.size();
        entries -= 1;
        entry.id.index <= limit && many
    };
    run.entries().iter().take_while(droppable).last().map(|entry| entry.id.index)
}

/// The last of the entries of `run` from `from` on that fit in `bytes_max`, at least one, and the
/// size of them all. `None` if `run` ends before.
fn limit(run: &Run, from: Index, bytes_max: usize) -> Option<(Index, usize)> {
    if from == run.first().index && run.size() <= bytes_max {
        return Some((run.last().index, run.size()));
    }
    let skipped = from.0.saturating_sub(run.first().index.0) as usize;
    let mut fits: Option<(Index, usize)> = None;
    for entry in run.entries().get(skipped..)? {
        let bytes = fits.map_or(0, |(_, bytes)| bytes) + entry.size();
        if bytes > bytes_max && fits.is_some() {
            break;
        }
        fits = Some((entry.id.index, bytes));
    }
    fits
}

/// Equal content: how entries are grouped into runs does not matter.
impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.start == other.start && self.last == other.last && self.entries().eq(other.entries())
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.start.hash(state);
        for entry in self.entries() {
            entry.hash(state);
        }
    }
}
