//! What a run is like, and which of all faults it has: each seed draws its own set.

use super::Event;
use crate::raft::Config;
use crate::testing::random::Random;
use crate::types::{Member, NodeId, Version};

/// The greatest weight of each event of the first group, which are never left out: they are how a
/// cluster works, and how faults end.
const ALWAYS: [(Event, u64); 9] = [
    (Event::Deliver, 1200),
    (Event::TickAll, 120),
    (Event::Persist, 400),
    (Event::Client, 400),
    (Event::Restart, 30),
    (Event::Heal, 30),
    (Event::Flush, 20),
    (Event::Snapshot, 40),
    (Event::Restore, 40),
];
const SOMETIMES: [(Event, u64); 35] = [
    (Event::Reorder, 300),
    (Event::Drop, 20),
    (Event::Duplicate, 30),
    (Event::Delay, 20),
    (Event::Clog, 4),
    (Event::Cut, 4),
    (Event::Isolate, 3),
    (Event::Halves, 2),
    (Event::OneWay, 2),
    (Event::Bridge, 2),
    (Event::Ring, 2),
    (Event::Pair, 2),
    (Event::Flapping, 2),
    (Event::Crash, 6),
    (Event::CrashInRecovery, 8),
    (Event::Blackout, 1),
    (Event::Pause, 3),
    (Event::Slow, 3),
    (Event::Skew, 3),
    (Event::Tick, 20),
    (Event::Jump, 3),
    (Event::FailedWrite, 2),
    (Event::FailedRead, 1),
    (Event::Full, 1),
    (Event::BitRot, 2),
    (Event::SlowDisk, 3),
    (Event::Transfer, 6),
    (Event::Campaign, 2),
    (Event::Freeze, 20),
    (Event::Damage, 20),
    (Event::SnapshotLost, 10),
    (Event::Change, 4),
    (Event::Wipe, 1),
    (Event::Version, 2),
    (Event::LateVote, 10),
];

/// What a run is like.
#[derive(Clone, Debug)]
pub struct SimulationConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Voters in the beginning.
    pub nodes: u64,
    /// Whether the nodes are blank, and have to form a cluster first.
    pub blank: bool,
    /// Blank nodes that may be added.
    pub spares: u64,
    /// Clients, each of which asks one thing at a time.
    pub clients: u64,
    /// Events before the faults end, at least; only those that do something count.
    pub events: usize,
    /// Client operations before the faults end, at least; only those that a node takes in count.
    /// If clients ask too little, the faults end after four times as many events.
    pub operations: u64,
    /// Ticks after which a client takes its question for lost.
    pub patience_ticks: u64,
    /// Of so many answers one is lost on its way to the client; 0 for none.
    pub answer_lost_once_in: u64,
    /// What may happen, and how often, compared with each other.
    pub weights: Vec<(Event, u64)>,
    /// The configuration of every node, but for its id.
    pub raft: Config,
    /// Whether what happens is written down.
    pub traced: bool,
}

impl SimulationConfig {
    /// A run as `seed` will have it: three nodes mostly, a random set of the events that are
    /// faults, logs that are short so that snapshots are needed. Where leaders hold leases, clocks
    /// differ by no more than leases allow for.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let nodes = *random.choose(&[3, 3, 3, 3, 5, 5, 4, 2, 1]);
        let raft = raft(&mut random);
        let mut weights = ALWAYS.to_vec();
        for (event, weight) in &mut weights {
            // Some clusters are mended soon, and some nodes left far behind.
            if matches!(event, Event::Restart | Event::Heal) {
                *weight = 2 + random.below(*weight);
            }
        }
        for (event, greatest) in SOMETIMES {
            let faithless = matches!(event, Event::Tick | Event::Jump);
            let weight = 1 + random.below(greatest);
            if random.below(3) > 0 && !(raft.lease_reads && faithless) {
                weights.push((event, weight));
            }
        }
        // Drawn apart, so that the seeds without are the runs they were.
        let mut hints = Random::new(seed ^ 0x4175);
        if hints.once_in(2) {
            weights.push((Event::Refused, 1 + hints.below(10)));
        }
        if raft.lease_reads {
            weights.push((Event::LeaseRead, 40));
            weights.push((Event::LateAnswers, 1));
        }
        Self {
            seed,
            nodes,
            blank: random.once_in(8),
            spares: random.below(3),
            clients: *random.choose(&[4, 8, 16, 32]),
            events: 10_000,
            operations: 200,
            patience_ticks: 50 + random.below(100),
            answer_lost_once_in: *random.choose(&[0, 10, 100]),
            weights,
            raft,
            traced: false,
        }
    }

    /// The same without these events.
    #[must_use]
    pub fn without(mut self, events: &[Event]) -> Self {
        self.weights.retain(|(event, _)| !events.contains(event));
        self
    }

    /// The configuration of the nodes, which are to form a cluster if they are blank.
    pub(super) fn raft(&self) -> Config {
        let founders = if self.blank { self.nodes } else { 0 };
        let initial = (1..=founders).map(|id| (NodeId(id), Member::default())).collect();
        Config { initial, ..self.raft.clone() }
    }

    /// The slowest a clock may be, in percent of the fastest.
    pub(super) fn slowest_percent(&self) -> u64 {
        match self.raft.lease_reads {
            true => 100 - u64::from(self.raft.clock_drift_percent),
            false => 50,
        }
    }
}

fn raft(random: &mut Random) -> Config {
    Config {
        id: NodeId(1),
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        version: *random.choose(&[Version::CURRENT, Version::CURRENT, Version(2), Version(1)]),
        message_bytes_max: *random.choose(&[100, 500, 2000, 20_000]),
        in_flight_max: *random.choose(&[1, 2, 8]),
        log_bytes_max: *random.choose(&[20_000, 60_000]),
        log_trailing_bytes: *random.choose(&[0, 500, 10_000]),
        uncommitted_bytes_max: *random.choose(&[10_000, 30_000]),
        command_bytes_max: 8_000,
        disk_stall_ticks: *random.choose(&[5, 50]),
        lease_reads: random.once_in(3),
        ..Config::default()
    }
}
