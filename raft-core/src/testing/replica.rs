//! The user's own state machine on a simulated node.
//!
//! A crash drops it; what starts again is what the user's function opens. What it promised to be
//! durable must be there then, and nothing beyond what was applied.

use super::machine::Machine;
use super::random::StableHasher;
use crate::log_store::StorageError;
use crate::state_machine::{CheckpointJob, Snapshot, StateMachine};
use crate::types::{Entry, Index, LogId, NodeId, Payload, Run, SnapshotMeta};
use bytes::Bytes;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::Cursor;
use std::rc::Rc;

type Open<M> = dyn Fn(NodeId, u64) -> M;
type StateHash<M> = dyn Fn(&M) -> u64;

/// How the state machines of a simulated cluster are opened.
pub struct Machines<M> {
    open: Rc<Open<M>>,
    state_hash: Option<Rc<StateHash<M>>>,
    kept: bool,
}

impl<M: StateMachine> Machines<M> {
    /// State machines that have a disk: `open` opens that of a node, in the state of its last
    /// checkpoint or restore; the second argument counts how often the node lost its directory.
    pub fn durable(open: impl Fn(NodeId, u64) -> M + 'static) -> Self {
        Self { open: Rc::new(open), state_hash: None, kept: false }
    }

    /// State machines that live in memory: `open` makes an empty one. What they tell as a snapshot
    /// when they are to make a checkpoint is kept for them, and restored after a crash.
    pub fn in_memory(open: impl Fn(NodeId, u64) -> M + 'static) -> Self {
        Self { open: Rc::new(open), state_hash: None, kept: true }
    }

    /// A digest by which states are told apart. It is compared between all nodes wherever they have
    /// applied equally far.
    #[must_use]
    pub fn hashed_by(mut self, state_hash: impl Fn(&M) -> u64 + 'static) -> Self {
        self.state_hash = Some(Rc::new(state_hash));
        self
    }
}

impl<M> Clone for Machines<M> {
    fn clone(&self) -> Self {
        let (open, state_hash) = (Rc::clone(&self.open), self.state_hash.clone());
        Self { open, state_hash, kept: self.kept }
    }
}

impl<M> fmt::Debug for Machines<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// An entry that a [`Replica`] applied, and what its machine answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The entry.
    pub entry: Entry,
    /// The reply.
    pub reply: Bytes,
}

/// A [`StateMachine`] as a node of a [`Cluster`](super::Cluster) runs it.
pub struct Replica<M> {
    source: Machines<M>,
    node: NodeId,
    wipes: u64,
    /// `None` only while it is opened again: two must never have one disk.
    machine: Option<M>,
    applied: SnapshotMeta,
    /// A checkpoint under way.
    frozen: Option<Frozen>,
    /// The newest checkpoint of a machine that lives in memory.
    kept: Option<(SnapshotMeta, Bytes)>,
    /// What was applied and not taken yet.
    news: Vec<Applied>,
}

enum Frozen {
    Job(CheckpointJob),
    Kept(SnapshotMeta, Bytes),
}

impl<M: StateMachine> Replica<M> {
    /// The state machine.
    pub fn machine(&self) -> &M {
        self.machine.as_ref().expect("it is only gone within a call")
    }

    /// How far it has applied.
    pub const fn applied_index(&self) -> Index {
        self.applied.last.index
    }

    /// Whether anything was applied that was not taken yet.
    pub(super) fn has_applied(&self) -> bool {
        !self.news.is_empty()
    }

    /// What was applied since the last call.
    pub fn take_applied(&mut self) -> Vec<Applied> {
        std::mem::take(&mut self.news)
    }

    fn machine_mut(&mut self) -> &mut M {
        self.machine.as_mut().expect("it is only gone within a call")
    }

    /// Opens the machine again, from what is durable. What was applied before stays news: others
    /// may have seen it.
    fn reopen(&mut self) {
        self.frozen = None;
        self.machine = None;
        let mut machine = (self.source.open)(self.node, self.wipes);
        if let Some((meta, data)) = &self.kept {
            let snapshot = stream(meta.clone(), data.clone());
            machine.restore(snapshot).expect("a state machine restores its own snapshot");
        }
        self.applied = match &self.kept {
            Some((meta, _)) => meta.clone(),
            None => machine.applied(),
        };
        self.machine = Some(machine);
    }

    fn read_snapshot(&self) -> Option<(SnapshotMeta, Bytes)> {
        let Snapshot { meta, mut data } = self.machine().snapshot().ok()?;
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("a snapshot can be read to its end");
        Some((meta, bytes.into()))
    }
}

impl<M: StateMachine> Machine for Replica<M> {
    type Source = Machines<M>;
    type Snapshot = Bytes;

    fn open(source: &Machines<M>, node: NodeId) -> Self {
        let mut replica = Self {
            source: source.clone(),
            node,
            wipes: 0,
            machine: None,
            applied: SnapshotMeta::default(),
            frozen: None,
            kept: None,
            news: Vec::new(),
        };
        replica.reopen();
        replica
    }

    fn applied(&self) -> &SnapshotMeta {
        &self.applied
    }

    fn apply(&mut self, run: &Run, mut each: impl FnMut(LogId, u64)) {
        let expected = self.applied.last.index.next();
        assert!(run.first().index == expected, "{run} is applied where {expected} is due");
        let replies = self.machine_mut().apply(run);
        assert!(replies.len() == run.len(), "{} replies to {} entries", replies.len(), run.len());
        for (entry, reply) in run.entries().iter().zip(replies) {
            let mut hasher = StableHasher::new();
            (entry.id, &reply).hash(&mut hasher);
            each(entry.id, hasher.finish());
            if let Payload::Membership(membership) = &entry.payload {
                self.applied.membership = (**membership).clone();
            }
            self.news.push(Applied { entry: entry.clone(), reply });
        }
        self.applied.last = run.last();
    }

    fn state_hash(&self) -> Option<u64> {
        self.source.state_hash.as_ref().map(|state_hash| state_hash(self.machine()))
    }

    fn freeze(&mut self) {
        if self.frozen.is_some() {
            return;
        }
        self.frozen = match self.source.kept {
            false => self.machine_mut().checkpoint().map(Frozen::Job),
            true => self.read_snapshot().map(|(meta, data)| Frozen::Kept(meta, data)),
        };
    }

    fn flush(&mut self) -> Option<SnapshotMeta> {
        self.freeze();
        match self.frozen.take()? {
            Frozen::Job(job) => Some(job().expect("the disk of a simulated node works")),
            Frozen::Kept(meta, data) => {
                let known = self.kept.as_ref().map(|(kept, _)| kept.clone()).unwrap_or_default();
                let new = known != meta;
                self.kept = Some((meta.clone(), data));
                new.then_some(meta)
            }
        }
    }

    fn snapshot(&self) -> Option<(SnapshotMeta, Bytes)> {
        if self.source.kept { self.kept.clone() } else { self.read_snapshot() }
    }

    fn restore(&mut self, meta: SnapshotMeta, snapshot: &Bytes) {
        self.frozen = None;
        let restored = self.machine_mut().restore(stream(meta.clone(), snapshot.clone()));
        restored.expect("a state machine restores the snapshot of another");
        if self.source.kept {
            self.kept = Some((meta.clone(), snapshot.clone()));
        }
        self.applied = meta;
    }

    fn refuse(&mut self, meta: SnapshotMeta, snapshot: &Bytes) {
        let before = self.state_hash();
        // Any place will do, as long as it is the same one whenever the run is repeated.
        let cut = meta.last.index.0 as usize % snapshot.len().max(1);
        let refused = self.machine_mut().restore(stream(meta, snapshot.slice(..cut)));
        assert!(
            matches!(refused, Err(StorageError::Stream(_))),
            "a snapshot cut at {cut} of {} is restored as {refused:?}",
            snapshot.len()
        );
        assert!(self.state_hash() == before, "a refused snapshot changes the state");
    }

    fn crash(&mut self) {
        self.reopen();
    }

    fn wipe(&mut self) {
        self.wipes += 1;
        self.kept = None;
        self.reopen();
    }
}

fn stream(meta: SnapshotMeta, data: Bytes) -> Snapshot {
    Snapshot { meta, data: Box::new(Cursor::new(data)) }
}
