//! What is to happen in a run.

use crate::raft::Config;
use crate::testing::random::Random;
use crate::types::NodeId;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// The oldest message arrives.
    Deliver,
    /// Any message arrives.
    Reorder,
    /// A message is lost.
    Drop,
    /// A message arrives twice.
    Duplicate,
    /// The clock of one node ticks.
    Tick,
    /// Every clock ticks.
    TickAll,
    /// A disk completes some writes.
    Persist,
    /// A client asks something, sends it again, or gives up.
    Client,
    /// A node stops; some of its unreported writes may be on disk.
    Crash,
    /// A node that is down starts.
    Restart,
    /// A link carries nothing any more in one direction.
    Cut,
    /// A node is cut off.
    Isolate,
    /// A node stands still.
    Pause,
    /// Everything works again.
    Heal,
    /// Leadership is handed over.
    Transfer,
    /// A node campaigns.
    Campaign,
    /// A state machine begins a checkpoint.
    Freeze,
    /// A checkpoint is done.
    Flush,
    /// A node sends the snapshots that are due, or fails to.
    Snapshot,
    /// A state machine restores the snapshot it was sent.
    Restore,
    /// A state machine is given a damaged snapshot.
    Damage,
    /// The membership changes.
    Change,
}

/// The greatest weight of each event; those of the first group are never left out.
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
const SOMETIMES: [(Event, u64); 13] = [
    (Event::Reorder, 300),
    (Event::Drop, 20),
    (Event::Duplicate, 30),
    (Event::Tick, 20),
    (Event::Crash, 5),
    (Event::Cut, 4),
    (Event::Isolate, 3),
    (Event::Pause, 3),
    (Event::Transfer, 6),
    (Event::Campaign, 2),
    (Event::Freeze, 20),
    (Event::Damage, 20),
    (Event::Change, 4),
];

/// What a run is like.
#[derive(Clone, Debug)]
pub struct SimulationConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Voters in the beginning.
    pub nodes: u64,
    /// Blank nodes that may be added.
    pub spares: u64,
    /// Clients, each of which asks one thing at a time.
    pub clients: u64,
    /// Events before the faults end.
    pub events: usize,
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
    /// faults, logs that are short so that snapshots are needed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let raft = Config {
            id: NodeId(1),
            election_ticks_min: 10,
            election_ticks_max: 20,
            heartbeat_ticks: 3,
            message_bytes_max: *random.choose(&[500, 2000, 20_000]),
            in_flight_max: *random.choose(&[1, 2, 8]),
            log_bytes_max: 60_000,
            log_trailing_bytes: *random.choose(&[0, 500, 10_000]),
            uncommitted_bytes_max: 30_000,
            command_bytes_max: 8_000,
            disk_stall_ticks: *random.choose(&[5, 50]),
            ..Config::default()
        };
        let mut weights = ALWAYS.to_vec();
        for (event, weight) in &mut weights {
            // Some clusters are mended soon, and some nodes left far behind.
            if matches!(event, Event::Restart | Event::Heal) {
                *weight = 2 + random.below(*weight);
            }
        }
        for (event, greatest) in SOMETIMES {
            if random.below(3) > 0 {
                weights.push((event, 1 + random.below(greatest)));
            }
        }
        Self {
            seed,
            nodes: *random.choose(&[3, 3, 3, 5, 1]),
            spares: random.below(2),
            clients: *random.choose(&[1, 4, 8, 32]),
            events: 5_000,
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
}
