//! What the disk has been asked for and what it has reported: the durability rule.
//!
//! *A message is held until everything it promises is durable: for any message the term and vote it
//! carries, for an acknowledgement the matched prefix too. Nothing else waits.* Writes complete in
//! order, so one sequence number, a watermark, tells everything.

use super::io::{LogOp, Write};
use super::message::Envelope;
#[cfg(any(test, feature = "testing"))]
use super::rebase::{NOW, renumbered};
use crate::types::{HardState, Index, Run, SnapshotMeta, WriteSeq};
use std::collections::VecDeque;

/// Most messages held at once. Further ones are dropped, as a network may: a disk that stalls this
/// long has worse troubles.
const HELD_MAX: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Persistence {
    /// The write being collected.
    collecting: WriteSeq,
    ops: Vec<LogOp>,
    /// Every write up to this one is durable.
    done: WriteSeq,
    /// The last write that carries a hard state.
    hard_state_seq: WriteSeq,
    /// Log ranges of writes not yet reported, in order.
    unreported: VecDeque<Covered>,
    /// Every entry of the present log up to here is durable.
    persisted_index: Index,
    held: Vec<Envelope>,
    /// The write that each of them waits for.
    held_until: Vec<WriteSeq>,
    /// Since when the disk has owed a completion, in ticks: its last one, or the first write after
    /// a time without any.
    waiting_since: Option<u64>,
}

/// A log range that a write puts in place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Covered {
    seq: WriteSeq,
    first: Index,
    last: Index,
}

impl Persistence {
    /// A log that is durable up to `persisted_index`.
    pub(super) const fn new(persisted_index: Index) -> Self {
        Self {
            collecting: WriteSeq(1),
            ops: Vec::new(),
            done: WriteSeq(0),
            hard_state_seq: WriteSeq(0),
            unreported: VecDeque::new(),
            persisted_index,
            held: Vec::new(),
            held_until: Vec::new(),
            waiting_since: None,
        }
    }

    pub(super) const fn persisted_index(&self) -> Index {
        self.persisted_index
    }

    /// The write that the latest hard state is part of.
    pub(super) const fn hard_state_seq(&self) -> WriteSeq {
        self.hard_state_seq
    }

    pub(super) fn hard_state(&mut self, hard_state: HardState) {
        // Within one atomic write only the last one counts.
        self.ops.retain(|op| !matches!(op, LogOp::HardState(_)));
        self.ops.push(LogOp::HardState(hard_state));
        self.hard_state_seq = self.collecting;
    }

    pub(super) fn append(&mut self, run: Run) {
        let (first, last) = (run.first().index, run.last().index);
        self.cover(first, last);
        self.ops.push(LogOp::Append(run));
    }

    pub(super) fn compact(&mut self, meta: SnapshotMeta) {
        self.ops.push(LogOp::Compact(meta));
    }

    pub(super) fn reset(&mut self, meta: SnapshotMeta) {
        self.unreported.clear();
        self.cover(Index::ZERO, meta.last.index);
        self.ops.push(LogOp::Reset(meta));
    }

    fn cover(&mut self, first: Index, last: Index) {
        // What this replaces is no longer part of the log, durable or not.
        self.persisted_index = self.persisted_index.min(first.previous());
        self.unreported.push_back(Covered { seq: self.collecting, first, last });
    }

    /// Notes that every write up to `seq` is durable.
    pub(super) fn persisted(&mut self, seq: WriteSeq, now: u64) {
        assert!(seq < self.collecting, "write {seq} was never asked for");
        self.done = self.done.max(seq);
        self.waiting_since = (self.done.next() < self.collecting).then_some(now);
        while self.unreported.front().is_some_and(|covered| covered.seq <= seq) {
            let covered = self.unreported.pop_front().expect("there is a front");
            self.persisted_index = covered.last;
        }
        // Not past the first index that a later, unreported write replaces.
        for covered in &self.unreported {
            self.persisted_index = self.persisted_index.min(covered.first.previous());
        }
    }

    /// Whether there is anything to write.
    pub(super) const fn has_write(&self) -> bool {
        !self.ops.is_empty()
    }

    /// Puts the collected write, which is not empty, in the place of an earlier one.
    pub(super) fn take_write(&mut self, write: &mut Write, now: u64) {
        self.waiting_since.get_or_insert(now);
        write.seq = self.collecting;
        self.collecting = write.seq.next();
        write.ops.clear();
        std::mem::swap(&mut self.ops, &mut write.ops);
    }

    /// For how long the disk has completed nothing although it owes something, in ticks.
    pub(super) fn waiting_ticks(&self, now: u64) -> u64 {
        self.waiting_since.map_or(0, |since| now - since)
    }

    /// Whether `seq` is durable.
    pub(super) fn is_done(&self, seq: WriteSeq) -> bool {
        seq <= self.done
    }

    /// The write after which a message may go: its term and vote are durable then and, if it
    /// acknowledges a prefix, the log up to `matched`.
    pub(super) fn promised_by(&self, matched: Option<Index>) -> WriteSeq {
        self.hard_state_seq.max(matched.map_or(self.done, |index| self.covers(index)))
    }

    /// Holds `envelope` until the write `until` is durable.
    pub(super) fn hold(&mut self, envelope: Envelope, until: WriteSeq) {
        if self.held.len() < HELD_MAX {
            self.held.push(envelope);
            self.held_until.push(until);
        }
    }

    /// Moves the held messages that may go now to `outbox`, in the order they were made.
    pub(super) fn release(&mut self, outbox: &mut Vec<Envelope>) {
        let done = self.done;
        // Nearly always all of them.
        if self.held_until.iter().all(|until| *until <= done) {
            outbox.append(&mut self.held);
            self.held_until.clear();
            return;
        }
        let mut until = self.held_until.iter();
        let may_go = |_: &mut Envelope| until.next().is_some_and(|until| *until <= done);
        outbox.extend(self.held.extract_if(.., may_go));
        self.held_until.retain(|until| *until > done);
    }

    /// Numbers the writes from the oldest that is not complete; see `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self) -> WriteSeq {
        let done = std::mem::take(&mut self.done);
        self.collecting = renumbered(self.collecting, done);
        self.hard_state_seq = renumbered(self.hard_state_seq, done);
        self.unreported.iter_mut().for_each(|it| it.seq = renumbered(it.seq, done));
        self.held_until.iter_mut().for_each(|it| *it = renumbered(*it, done));
        self.waiting_since = self.waiting_since.map(|_| NOW);
        done
    }

    /// The write after which the present entry at `index` is durable.
    fn covers(&self, index: Index) -> WriteSeq {
        let writes = |covered: &&Covered| covered.first <= index;
        self.unreported.iter().rev().find(writes).map_or(self.done, |covered| covered.seq)
    }
}
