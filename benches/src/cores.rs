//! Clusters of cores without I/O, on one thread.

use bytes::Bytes;
use raft_core::raft::{Apply, Config, Input, Loaded, Output, Raft, Write};
use raft_core::types::{LogId, Member, Membership, NodeId, SnapshotMeta};

struct Core {
    raft: Raft,
    /// What it last wanted written, and done: their lists are used again.
    write: Write,
    output: Output,
    /// Whether it was given something since its output was taken.
    stepped: bool,
}

/// Cores of one cluster driven by one thread: every write is durable at once, every message arrives
/// at once. What remains is what the core itself costs.
pub struct Cores {
    cores: Vec<Core>,
    /// The last entry that the leader has handed out.
    applied: LogId,
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
                // Others keep nothing either of what they are told to drop.
                log_trailing_bytes: 0,
                log_trailing_entries: 0,
                ..Config::default()
            };
            let snapshot = SnapshotMeta { last: LogId::ZERO, membership: membership.clone() };
            let loaded = Loaded { snapshot, ..Loaded::default() };
            let raft = Raft::new(config, loaded, SnapshotMeta::default(), id.0);
            let raft = raft.expect("a valid configuration");
            Core { raft, write: Write::default(), output: Output::default(), stepped: true }
        };
        let mut cores = Self { cores: ids.map(core).collect(), applied: LogId::ZERO };
        cores.cores[0].raft.campaign();
        cores.settle();
        assert!(cores.cores[0].raft.is_leader(), "nobody else campaigns");
        cores
    }

    /// Proposes `commands` and works until all of them are applied on the leader.
    pub fn commit(&mut self, commands: impl IntoIterator<Item = Bytes>) {
        let mut last = 0;
        for command in commands {
            last = self.cores[0].raft.propose(command).expect("the first core leads").index.0;
        }
        self.cores[0].stepped = true;
        while self.applied.index.0 < last {
            self.turn();
        }
    }

    /// Compacts every log up to what the leader has applied, as checkpoints do.
    pub fn compact(&mut self) {
        for core in &mut self.cores {
            let meta = SnapshotMeta { last: self.applied, membership: Membership::default() };
            core.step(Input::Flushed(meta));
        }
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    /// Carries out what every core that was given something wants done; whether there was any.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.cores.len() {
            if std::mem::take(&mut self.cores[position].stepped) {
                busy = true;
                self.carry_out(position);
            }
        }
        busy
    }

    fn carry_out(&mut self, position: usize) {
        let (before, rest) = self.cores.split_at_mut(position);
        let Some((core, after)) = rest.split_first_mut() else { return };
        let output = core.take_output();
        if let Some(Apply::Entries(run)) = output.apply.last()
            && position == 0
        {
            self.applied = run.last();
        }
        for envelope in output.messages.drain(..) {
            let to = envelope.to.0 as usize - 1;
            let receiver = match to < position {
                true => &mut before[to],
                false => &mut after[to - position - 1],
            };
            receiver.step(Input::Message(envelope));
        }
    }
}

impl Core {
    fn step(&mut self, input: Input) {
        self.raft.step(input);
        self.stepped = true;
    }

    /// What is to be done besides writing: that is done at once.
    fn take_output(&mut self) -> &mut Output {
        while self.raft.take_write_into(&mut self.write) {
            self.raft.step(Input::Persisted(self.write.seq));
        }
        self.raft.take_output_into(&mut self.output);
        &mut self.output
    }
}
