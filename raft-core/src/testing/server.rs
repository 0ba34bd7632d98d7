//! One node of a [`Cluster`](super::Cluster): a core, its disk, its state machine.
//!
//! A model of what a driver keeps for a node. It holds no protocol of its own.

use super::machine::{Digest, Machine};
use super::store::{Loading, Store, Stores};
use crate::raft::{Config, Loaded, LogOp, Raft, Write};
use crate::types::{
    ClusterId, Identity, Incarnation, Index, Member, Membership, NodeId, Payload, ReadId, Run,
    Sender, SnapshotMeta, Term, Version, WriteSeq,
};
use std::collections::{BTreeMap, VecDeque};

/// A core with its disk and its state machine.
#[derive(Debug)]
pub struct Server<M = Digest> {
    config: Config,
    seed: u64,
    starts: u64,
    /// How often its directory was wiped.
    lives: u64,
    /// `None` while it is down.
    pub(super) raft: Option<Raft>,
    /// The configuration in force.
    pub(super) membership: Membership,
    /// What the disk holds.
    pub(super) disk: Loaded,
    /// Where the user keeps it, if anywhere.
    pub(super) store: Store,
    /// Whether the disk will turn out corrupt when it is next read.
    damaged: bool,
    /// What it has been asked to write.
    pub(super) writes: VecDeque<Write>,
    pub(super) machine: M,
    /// The snapshot the state machine was asked to restore.
    pub(super) restoring: Option<SnapshotMeta>,
    /// Peers the core asked a snapshot for, and the term it led in.
    pub(super) asked: BTreeMap<NodeId, Term>,
    /// Reads without an answer, and how far the cluster had committed when they began.
    pub(super) reads: BTreeMap<ReadId, Index>,
    /// Reads that may be answered once so much is applied.
    pub(super) answered: Vec<(ReadId, Index)>,
}

impl<M: Machine> Server<M> {
    pub(super) fn new(
        config: Config,
        membership: &Membership,
        seed: u64,
        machine: M,
        stores: Stores,
    ) -> Self {
        let snapshot = SnapshotMeta { membership: membership.clone(), ..SnapshotMeta::default() };
        let identity = identity(config.id, 0);
        let store = Store::new(stores, config.id);
        let mut server = Self {
            config,
            seed,
            starts: 0,
            raft: None,
            membership: Membership::default(),
            store,
            damaged: false,
            disk: Loaded { identity, snapshot, ..Loaded::default() },
            lives: 0,
            writes: VecDeque::new(),
            machine,
            restoring: None,
            asked: BTreeMap::new(),
            reads: BTreeMap::new(),
            answered: Vec::new(),
        };
        server.store.begin(&server.disk, 0);
        server.start();
        server
    }

    /// The core; `None` while the node is down.
    pub const fn raft(&self) -> Option<&Raft> {
        self.raft.as_ref()
    }

    /// What the disk holds.
    pub const fn disk(&self) -> &Loaded {
        &self.disk
    }

    /// Writes asked for and not complete, oldest first.
    pub const fn writes(&self) -> &VecDeque<Write> {
        &self.writes
    }

    /// The state machine.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The snapshot the state machine is busy restoring.
    pub const fn restoring(&self) -> Option<&SnapshotMeta> {
        self.restoring.as_ref()
    }

    /// Peers the core asked a snapshot for that was not sent yet.
    pub fn asked(&self) -> impl Iterator<Item = NodeId> {
        self.asked.keys().copied()
    }

    /// Who it is to the others.
    pub(super) fn sender(&self) -> Sender {
        let incarnation =
            self.disk.identity.map_or(Incarnation(0), |identity| identity.incarnation);
        Sender { incarnation, version: self.config.version }
    }

    /// Every configuration that is in its log, in memory or on disk.
    pub fn memberships(&self) -> Vec<Membership> {
        let logged = self.disk.entries.iter().flat_map(memberships_in);
        let in_memory = self.raft.as_ref().map(|raft| raft.membership().clone());
        let boundary = self.disk.snapshot.membership.clone();
        logged.chain(in_memory).chain([boundary]).collect()
    }

    /// How often it has started.
    pub(super) const fn starts(&self) -> u64 {
        self.starts
    }

    /// How many reads wait for their index.
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Whether its disk was damaged, and it has not found out yet.
    pub const fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Something that was acknowledged rots; whoever reads it next finds out.
    pub(super) const fn damage(&mut self) {
        self.damaged = true;
    }

    /// The oldest write reaches the disk, which takes it; its number.
    pub(super) fn take_in(&mut self) -> Option<WriteSeq> {
        let write = self.writes.pop_front()?;
        self.put(&write);
        Some(write.seq)
    }

    /// The disk takes in `write`.
    pub(super) fn put(&mut self, write: &Write) {
        for op in &write.ops {
            self.disk.apply(op).expect("the core writes what continues its log");
        }
    }

    /// Reads the disk before a start.
    pub(super) fn load(&mut self) -> Loading {
        if self.damaged { Loading::Corrupt } else { self.store.load(&self.disk, self.lives) }
    }

    /// Loses its directory: what starts again is another life. Returns the disk of the old one.
    pub(super) fn wipe(&mut self) -> Loaded {
        self.crash();
        self.lives += 1;
        self.machine.wipe();
        self.damaged = false;
        let identity = identity(self.config.id, self.lives);
        let disk = Loaded { identity, ..Loaded::default() };
        self.store.begin(&disk, self.lives);
        std::mem::replace(&mut self.disk, disk)
    }

    /// From its next start on it is of another version.
    pub(super) fn set_version(&mut self, version: Version) {
        self.config.version = version;
    }

    /// Forgets all that is not durable.
    pub(super) fn crash(&mut self) {
        self.raft = None;
        self.store.close();
        self.writes.clear();
        self.restoring = None;
        self.asked.clear();
        self.reads.clear();
        self.answered.clear();
        self.machine.crash();
    }

    pub(super) fn start(&mut self) {
        self.starts += 1;
        // Another seed for every start, and the same one whenever the run is repeated.
        let seed = self.seed ^ (self.config.id.0 << 48) ^ (self.starts << 32);
        let applied = self.machine.applied().clone();
        let raft = Raft::new(self.config.clone(), self.disk.clone(), applied, seed);
        let raft = raft.expect("a node starts from what it wrote");
        self.membership = raft.membership().clone();
        self.raft = Some(raft);
    }
}

/// The runs of entries a write appends.
pub(super) fn appended(write: &Write) -> impl Iterator<Item = &Run> {
    write.ops.iter().filter_map(|op| match op {
        LogOp::Append(run) => Some(run),
        _ => None,
    })
}

/// Voters `n1` to `n<nodes>`, each bound to its first life.
pub(super) fn initial(nodes: u64) -> Membership {
    let member = |id| {
        let incarnation = identity(id, 0).map(|identity| identity.incarnation);
        (id, Member { incarnation, ..Member::default() })
    };
    Membership::of_voters((1..=nodes).map(NodeId).map(member).collect())
}

/// The configurations among the entries of a run.
pub(super) fn memberships_in(run: &Run) -> impl Iterator<Item = Membership> + '_ {
    run.entries().iter().filter_map(|entry| match &entry.payload {
        Payload::Membership(membership) => Some((**membership).clone()),
        _ => None,
    })
}

/// Who the node is in one of its lives.
fn identity(node: NodeId, lives: u64) -> Option<Identity> {
    let incarnation = Incarnation((lives << 8) + node.0);
    Some(Identity { cluster: ClusterId(0), node, incarnation })
}
