//! The whole boundary of the core: what goes in by `step`, what comes out by `take_output`.
//!
//! *Everything in an [`Output`] may be done at once and in any order; within one list in order, and
//! from one output to the next as well; report completion.* The core itself holds back every
//! message that promises something not yet durable.

use super::config::ConfigError;
use super::message::Envelope;
use crate::types::{
    GroupId, HardState, Identity, Index, LogId, NodeId, ReadId, Run, SnapshotMeta, WriteSeq,
};

/// An event for [`Raft::step`](super::Raft::step).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// One tick of the driver's clock has passed.
    Tick,
    /// A message has arrived.
    Message(Envelope),
    /// Every write up to this one is durable.
    Persisted(WriteSeq),
    /// The state machine now is this snapshot, durably.
    Restored(SnapshotMeta),
    /// This snapshot could not be restored: it arrived damaged. The state machine is as before.
    NotRestored(SnapshotMeta),
    /// The state machine is durable up to here: the log below may be compacted.
    Flushed(SnapshotMeta),
    /// A snapshot was handed over, or could not be.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// What it covered.
        meta: SnapshotMeta,
        /// Whether the receiver has all its bytes.
        ok: bool,
    },
    /// The answer to [`Output::probe`]: nobody listens where this node did. Only a hint, it may be
    /// wrong at any time; a follower of that node that is not bound by a lease waits no longer to
    /// elect another.
    Refused(NodeId),
}

/// Work for the driver.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Send these; any may be lost.
    pub messages: Vec<Envelope>,
    /// Make this durable, then step `Input::Persisted(write.seq)`.
    pub write: Option<Write>,
    /// Work for the state machine, in order.
    pub apply: Vec<Apply>,
    /// Batches of reads that are linearizable once the state machine has applied the index.
    pub reads: Vec<(ReadId, Index)>,
    /// Peers that need a snapshot; report with `Input::SnapshotSent`.
    pub send_snapshot: Vec<NodeId>,
    /// Find out, if that can be told, whether anybody still listens where this node does, and
    /// report with `Input::Refused` if nobody does. It leads, and was not heard for a while.
    pub probe: Option<NodeId>,
}

/// One item of state machine work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Apply {
    /// Apply these committed entries.
    Entries(Run),
    /// Replace the state by this snapshot, then step `Input::Restored`.
    Restore(SnapshotMeta),
}

/// One atomic, ordered write to the log store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Write {
    /// Its number, for `Input::Persisted`.
    pub seq: WriteSeq,
    /// What to write, in order.
    pub ops: Vec<LogOp>,
}

/// One operation on the durable log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogOp {
    /// Bind the log to a cluster, node and life; once, as the first operation.
    Identity(Identity),
    /// Replace term and vote.
    HardState(HardState),
    /// Append these entries after dropping every entry at or above the first of them.
    Append(Run),
    /// Drop the entries up to and including `last`; the snapshot boundary moves there.
    Compact(SnapshotMeta),
    /// Drop the whole log; it starts anew after this boundary.
    Reset(SnapshotMeta),
}

/// A [`LogOp`] with the group it is for. A batch of these is one durable commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOp {
    /// Whose log.
    pub group: GroupId,
    /// What to do to it.
    pub op: LogOp,
}

/// What a log store holds of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Whom the log belongs to; `None` if nothing was ever written.
    pub identity: Option<Identity>,
    /// Term and vote.
    pub hard_state: HardState,
    /// The boundary the log starts after.
    pub snapshot: SnapshotMeta,
    /// The entries from `snapshot.last.index + 1` on, without a gap.
    pub entries: Vec<Run>,
}

impl Loaded {
    /// Applies `op` to this state: what a store must hold after `op` was written. Stores may use it
    /// to replay their records, tests to model them.
    ///
    /// # Errors
    /// If the entries of an append do not continue the log; the state is then unchanged.
    pub fn apply(&mut self, op: &LogOp) -> Result<(), LogGap> {
        match op {
            LogOp::Identity(identity) => self.identity = Some(*identity),
            LogOp::HardState(hard_state) => self.hard_state = *hard_state,
            LogOp::Append(run) => self.append(run)?,
            LogOp::Compact(meta) => self.compact(meta),
            LogOp::Reset(meta) => {
                self.snapshot = meta.clone();
                self.entries.clear();
            }
        }
        Ok(())
    }

    /// Index of the last entry, or of the boundary.
    pub fn last_index(&self) -> Index {
        self.entries.last().map_or(self.snapshot.last.index, |run| run.last().index)
    }

    fn append(&mut self, run: &Run) -> Result<(), LogGap> {
        let first = run.first().index;
        if first <= self.snapshot.last.index || first > self.last_index().next() {
            return Err(LogGap {
                first,
                boundary: self.snapshot.last.index,
                last: self.last_index(),
            });
        }
        while let Some(tail) = self.entries.pop() {
            if let Some(kept) = tail.slice(Index(1), first.previous()) {
                self.entries.push(kept);
                break;
            }
        }
        self.entries.push(run.clone());
        Ok(())
    }

    fn compact(&mut self, meta: &SnapshotMeta) {
        let keep = |run: &Run| run.slice(meta.last.index.next(), run.last().index);
        self.entries = self.entries.iter().filter_map(keep).collect();
        self.snapshot = meta.clone();
    }
}

/// An append that does not continue the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("entry {first} does not continue a log that starts after {boundary} and ends at {last}")]
pub struct LogGap {
    /// The first entry to append.
    pub first: Index,
    /// The snapshot boundary.
    pub boundary: Index,
    /// The last entry.
    pub last: Index,
}

/// Why a core cannot start from what was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Entries between the state machine and the log are missing: one of the two lost data.
    #[error("the state machine has applied up to {applied}, but the log starts after {log_start}")]
    StateBehindLog {
        /// What the state machine has applied.
        applied: LogId,
        /// The boundary of the log.
        log_start: LogId,
    },
}
