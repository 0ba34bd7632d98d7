//! What a simulated node applies entries to.

use super::random::StableHasher;
use crate::types::{Entry, LogId, NodeId, Payload, Run, SnapshotMeta};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// The state machine of a node of a [`Cluster`](super::Cluster), with the disk it has for itself.
/// [`Digest`] is the smallest one; [`Replica`](super::Replica) runs the user's own
/// [`StateMachine`](crate::state_machine::StateMachine).
pub trait Machine {
    /// What machines are made from.
    type Source: Clone + Debug;
    /// What one node sends to another in place of its log.
    type Snapshot: Clone + Debug;

    /// The machine of `node`, with a blank disk.
    fn open(source: &Self::Source, node: NodeId) -> Self;

    /// What was applied.
    fn applied(&self) -> &SnapshotMeta;

    /// Applies entries; tells `each` the id of every one and a digest of what came of it, which
    /// must be the same on all nodes.
    fn apply(&mut self, run: &Run, each: impl FnMut(LogId, u64));

    /// A digest of the whole state as it is, if there is a way to tell.
    fn state_hash(&self) -> Option<u64>;

    /// Begins to make durable what was applied so far; [`Machine::flush`] ends it.
    fn freeze(&mut self);

    /// Makes durable what was frozen, or else all that was applied; what is durable now, if that is
    /// new.
    fn flush(&mut self) -> Option<SnapshotMeta>;

    /// What is durable, for another node; `None` if that is nothing.
    fn snapshot(&self) -> Option<(SnapshotMeta, Self::Snapshot)>;

    /// Becomes the snapshot of another node, durably.
    fn restore(&mut self, meta: SnapshotMeta, snapshot: &Self::Snapshot);

    /// Is given a damaged snapshot; must stay as it was.
    fn refuse(&mut self, meta: SnapshotMeta, snapshot: &Self::Snapshot);

    /// Forgets all that is not durable.
    fn crash(&mut self);

    /// Loses its disk.
    fn wipe(&mut self);
}

/// A state machine that is the digest of everything applied.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    applied: SnapshotMeta,
    digest: u64,
    /// A checkpoint under way.
    frozen: Option<(SnapshotMeta, u64)>,
    durable: (SnapshotMeta, u64),
}

impl Digest {
    fn apply_entry(&mut self, entry: &Entry) -> u64 {
        let expected = self.applied.last.index.next();
        assert!(entry.id.index == expected, "{} is applied where {expected} is due", entry.id);
        let mut hasher = StableHasher::new();
        (self.digest, entry).hash(&mut hasher);
        self.digest = hasher.finish();
        self.applied.last = entry.id;
        if let Payload::Membership(membership) = &entry.payload {
            self.applied.membership = (**membership).clone();
        }
        self.digest
    }
}

impl Machine for Digest {
    type Source = ();
    type Snapshot = u64;

    fn open((): &(), _: NodeId) -> Self {
        // It gets to know the members through the log, as any state machine does.
        Self::default()
    }

    fn applied(&self) -> &SnapshotMeta {
        &self.applied
    }

    fn apply(&mut self, run: &Run, mut each: impl FnMut(LogId, u64)) {
        for entry in run.entries() {
            let digest = self.apply_entry(entry);
            each(entry.id, digest);
        }
    }

    fn state_hash(&self) -> Option<u64> {
        // That of the last entry says it already.
        None
    }

    fn freeze(&mut self) {
        self.frozen.get_or_insert_with(|| (self.applied.clone(), self.digest));
    }

    fn flush(&mut self) -> Option<SnapshotMeta> {
        self.freeze();
        let frozen = self.frozen.take()?;
        if self.durable == frozen {
            return None;
        }
        self.durable = frozen;
        Some(self.durable.0.clone())
    }

    fn snapshot(&self) -> Option<(SnapshotMeta, u64)> {
        Some(self.durable.clone())
    }

    fn restore(&mut self, meta: SnapshotMeta, snapshot: &u64) {
        self.applied = meta;
        self.digest = *snapshot;
        self.frozen = None;
        self.durable = (self.applied.clone(), self.digest);
    }

    fn refuse(&mut self, _: SnapshotMeta, _: &u64) {}

    fn crash(&mut self) {
        self.frozen = None;
        (self.applied, self.digest) = self.durable.clone();
    }

    fn wipe(&mut self) {
        *self = Self::default();
    }
}
