//! Clusters of cores without I/O, on one thread.

use bytes::Bytes;
use raft_core::raft::{Config, Input, Loaded, Raft};
use raft_core::types::{LogId, Member, Membership, NodeId, SnapshotMeta};

/// Cores of one cluster driven by one thread: every write is durable at once, every message arrives
/// at once. What remains is what the core itself costs.
pub struct Cores {
    cores: Vec<Raft>,
    /// Which cores were given something since their output was taken.
    stepped: Vec<bool>,
    committed: u64,
    applied: Option<SnapshotMeta>,
}

impl Cores {
    /// `count` cores, the first of which leads.
    pub fn new(count: u64) -> Self {
        let ids = (1..=count).map(NodeId);
        let membership =
            Membership::of_voters(ids.clone().map(|id| (id, Member::default())).collect());
        let core = |id: NodeId| {
            let config = Config {
                id,
                message_bytes_max: 1024 * 1024,
                log_trailing_bytes: 4 * 1024 * 1024,
                ..Config::default()
            };
            let snapshot = SnapshotMeta { last: LogId::ZERO, membership: membership.clone() };
            let loaded = Loaded { snapshot, ..Loaded::default() };
            Raft::new(config, loaded, SnapshotMeta::default(), id.0).expect("a valid configuration")
        };
        let mut cores = Self {
            cores: ids.map(core).collect(),
            stepped: vec![true; count as usize],
            committed: 0,
            applied: None,
        };
        cores.cores[0].campaign();
        cores.settle();
        assert!(cores.cores[0].is_leader(), "nobody else campaigns");
        cores
    }

    /// Proposes `commands` and works until all of them are applied on the leader.
    pub fn commit(&mut self, commands: impl IntoIterator<Item = Bytes>) {
        let mut last = 0;
        for command in commands {
            last = self.cores[0].propose(command).expect("the first core leads").index.0;
        }
        self.stepped[0] = true;
        while self.committed < last {
            self.turn();
        }
    }

    /// Compacts every log up to what the leader has applied, as checkpoints do.
    pub fn compact(&mut self) {
        if let Some(meta) = self.applied.take() {
            for position in 0..self.cores.len() {
                self.step(position, Input::Flushed(meta.clone()));
            }
        }
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    fn step(&mut self, position: usize, input: Input) {
        self.cores[position].step(input);
        self.stepped[position] = true;
    }

    /// Carries out what every core that was given something wants done; whether there was any.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.cores.len() {
            if !std::mem::take(&mut self.stepped[position]) {
                continue;
            }
            busy = true;
            let output = self.cores[position].take_output();
            if let Some(write) = output.write {
                self.step(position, Input::Persisted(write.seq));
            }
            for envelope in output.messages {
                self.step(envelope.to.0 as usize - 1, Input::Message(envelope));
            }
            if position == 0 {
                self.note_applied(&output.apply);
            }
        }
        busy
    }

    fn note_applied(&mut self, apply: &[raft_core::raft::Apply]) {
        if let Some(raft_core::raft::Apply::Entries(run)) = apply.last() {
            self.committed = run.last().index.0;
            let membership = Membership::default();
            self.applied = Some(SnapshotMeta { last: run.last(), membership });
        }
    }
}
