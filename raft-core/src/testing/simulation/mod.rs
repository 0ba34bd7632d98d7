//! A cluster of the user's own state machine and log store under random faults, in one thread, by
//! one seed.
//!
//! [`Simulation`] lets clients ask things through any node, while messages are lost, doubled,
//! reordered and held up, links fail in many shapes, nodes crash, pause and start again, clocks
//! differ, disks fail and rot, logs are compacted, snapshots sent, leaders and members changed:
//! see [`Event`]. Each seed has a set of them of its own. After every event the invariants of the
//! cluster are checked, and that state machines that have applied equally far are equal. When the
//! faults end, the cluster must recover in a bounded time: [`Recovery`]. What clients ask, and what
//! is to be made of their answers, is the [`Workload`]'s; [`Cells`] is one that is ready for use.
//!
//! A run is decided by its seed: the same seed gives the same run, event for event, as
//! [`Simulation::trace_hash`] shows. That holds for state machines, stores and workloads that do
//! not ask a clock, a random number generator or the order of a hash map.
//!
//! [`examine`] runs a seed, and makes of a failure the few events it takes, their trace, and a
//! [`Script`](super::Script) that does the same; [`sweep`] does so for many seeds on all cores.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::state_machine::Journal;
//! use raft_core::testing::{Ask, Machines, Outcome, Random, Workload};
//! use raft_core::testing::{Simulation, SimulationConfig};
//!
//! /// Clients that write to a journal, and know the reply to every write that is answered.
//! #[derive(Default)]
//! struct Writers(Vec<u64>);
//!
//! impl Workload<Journal> for Writers {
//!     fn ask(&mut self, client: u64, _: &mut Random) -> Option<Ask> {
//!         Some(Ask::Command(Bytes::from(format!("client {client}"))))
//!     }
//!
//!     fn answer(&mut self, _: u64, outcome: Outcome<Bytes>) {
//!         if let Outcome::Done(reply) = outcome {
//!             self.0.push(u64::from_be_bytes(reply[..].try_into().unwrap()));
//!         }
//!     }
//! }
//!
//! let machines = Machines::in_memory(|_, _| Journal::new());
//! let mut simulation = Simulation::new(machines, Writers::default(), SimulationConfig::of(1));
//! simulation.run();
//! let mut answered = simulation.workload().0.clone();
//! let count = answered.len();
//! answered.sort_unstable();
//! answered.dedup();
//! assert!(count > 0 && answered.len() == count, "no place in the journal is given away twice");
//! ```
//!
//! # A log store of one's own
//!
//! Whenever a node starts, its store is opened again. What it loads must be exactly what its writes
//! returned for.
//!
//! ```
//! use raft_core::log_store::{LogStore, MemoryLog, StorageError};
//! use raft_core::raft::{GroupOp, Loaded};
//! use raft_core::testing::{CellClients, Cells, Simulation, SimulationConfig, Stores};
//! use raft_core::types::GroupId;
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! /// A log on a disk that outlives the process.
//! struct Shelf(Arc<Mutex<MemoryLog>>);
//!
//! impl LogStore for Shelf {
//!     fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
//!         self.0.lock().unwrap().load(group)
//!     }
//!
//!     fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
//!         self.0.lock().unwrap().write(ops)
//!     }
//! }
//!
//! let disks: Mutex<BTreeMap<_, Arc<Mutex<MemoryLog>>>> = Mutex::default();
//! let stores = Stores::opened_by(move |node, life| {
//!     let disk = Arc::clone(disks.lock().unwrap().entry((node, life)).or_default());
//!     Ok(Shelf(disk))
//! });
//! let config = SimulationConfig { events: 2_000, ..SimulationConfig::of(3) };
//! let clients = CellClients::new(config.clients);
//! let mut simulation = Simulation::with_stores(Cells::machines(), stores, clients, config);
//! simulation.run();
//! simulation.workload().judge().unwrap();
//! ```

mod cells;
mod clients;
mod condition;
mod config;
mod event;
mod failure;
mod faults;
mod network;
mod recovery;
mod sweep;

pub use super::linear::Outcome;
pub use cells::{CellClients, Cells};
pub use clients::{Ask, Workload};
pub use config::SimulationConfig;
pub use event::{Event, Step};
pub use failure::{Failure, examine};
pub use recovery::Recovery;
pub use sweep::{Sweep, seeds, sweep};

use super::cluster::Cluster;
use super::random::{Random, StableHasher};
use super::replica::{Applied, Machines, Replica};
use super::store::Stores;
use crate::state_machine::StateMachine;
use crate::types::{Index, NodeId};
use clients::Client;
use condition::Condition;
use network::Network;
use recovery::Closing;
use std::hash::{Hash, Hasher};

/// A cluster, its clients, and what happens to them.
pub struct Simulation<M: StateMachine, W> {
    cluster: Cluster<Replica<M>>,
    workload: W,
    config: SimulationConfig,
    /// Decides what happens.
    chance: Random,
    /// Decides how, anew for each event: so that an event is the same without those before it.
    random: Random,
    /// Of node `id` at `id - 1`.
    conditions: Vec<Condition>,
    network: Network,
    clients: Vec<Client>,
    /// What clients have asked so far and a node has taken in.
    taken: u64,
    /// Ticks of the fastest clocks.
    ticks: u64,
    /// How far some node has applied, and the workload been told.
    applied: Index,
    /// How far each node had when its clients were last answered; of node `id` at `id - 1`.
    answered: Vec<Index>,
    /// What was chosen to happen so far, and whether it did anything.
    steps: Vec<(Step, bool)>,
    /// How much of it did.
    events: usize,
    /// How often each event has, by its number.
    happened: Vec<u64>,
    /// What is asked once the faults have ended; `None` before.
    closing: Option<Closing>,
    recovery: Option<Recovery>,
    trace: StableHasher,
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// Nodes with `machines`, whose logs are simulated too, and clients with `workload`. Nothing
    /// has happened yet.
    pub fn new(machines: Machines<M>, workload: W, config: SimulationConfig) -> Self {
        Self::with_stores(machines, Stores::simulated(), workload, config)
    }

    /// The same with logs in `stores`.
    pub fn with_stores(
        machines: Machines<M>,
        stores: Stores,
        workload: W,
        config: SimulationConfig,
    ) -> Self {
        let SimulationConfig { nodes, spares, seed, traced, .. } = config;
        let mut cluster = Cluster::with(machines, stores, nodes, &config.raft(), seed, traced);
        for id in nodes + 1..=nodes + spares {
            cluster.add_server(NodeId(id));
        }
        Self {
            cluster,
            workload,
            chance: Random::new(seed),
            random: Random::new(seed),
            conditions: vec![Condition::default(); (nodes + spares) as usize],
            network: Network::new(&config.weights),
            clients: (0..config.clients).map(|_| Client::default()).collect(),
            taken: 0,
            config,
            ticks: 0,
            applied: Index(0),
            answered: vec![Index(0); (nodes + spares) as usize],
            steps: Vec::new(),
            events: 0,
            happened: vec![0; Event::ALL.len()],
            closing: None,
            recovery: None,
            trace: StableHasher::new(),
        }
    }

    /// All events, then the recovery from them.
    ///
    /// # Panics
    /// If an invariant is broken, or the cluster does not recover.
    pub fn run(&mut self) {
        let SimulationConfig { events, operations, .. } = self.config;
        while self.events < events || self.taken < operations && self.events < 4 * events {
            self.step();
        }
        self.recover();
    }

    /// One event, which may turn out to do nothing.
    pub fn step(&mut self) {
        let step = self.choose();
        self.take(step);
    }

    /// Lets `step` happen: see [`Simulation::steps`].
    pub fn take(&mut self, step: Step) {
        let Step { event, node, salt } = step;
        self.random = Random::new(salt);
        // Until it is known, it did: it may break something.
        self.steps.push((step, true));
        if self.happens(event, node) {
            if !event.strikes_later() {
                self.strikes(event);
            }
            self.events += 1;
        } else if let Some((_, did)) = self.steps.last_mut() {
            *did = false;
        }
        self.keep_requests();
        self.lose_the_oldest();
        (event as u8, node, self.cluster.pool().len()).hash(&mut self.trace);
        self.tell();
    }

    /// `event` shows, be it that it was prepared long ago.
    fn strikes(&mut self, event: Event) {
        self.happened[event as usize] += 1;
    }

    fn choose(&mut self) -> Step {
        let weights = &self.config.weights;
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.chance.below(total);
        let chosen = weights.iter().find(|(_, weight)| {
            let here = rest < *weight;
            rest = rest.saturating_sub(*weight);
            here
        });
        let event = chosen.expect("the weights add up").0;
        let node = NodeId(1 + self.chance.below(self.conditions.len() as u64));
        Step { event, node, salt: self.chance.next() }
    }

    /// What has become of the workload.
    pub const fn workload(&self) -> &W {
        &self.workload
    }

    /// The same, to be changed.
    pub const fn workload_mut(&mut self) -> &mut W {
        &mut self.workload
    }

    /// The cluster.
    pub const fn cluster(&self) -> &Cluster<Replica<M>> {
        &self.cluster
    }

    /// What it was made of.
    pub const fn config(&self) -> &SimulationConfig {
        &self.config
    }

    /// What happened last, a line per event, if the configuration asks for a trace.
    pub fn take_trace(&mut self) -> String {
        self.cluster.take_trace()
    }

    /// A digest of everything that has happened.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// What was chosen to happen, and whether it did anything. [`Simulation::take`] lets it happen
    /// to another cluster.
    pub fn steps(&self) -> &[(Step, bool)] {
        &self.steps
    }

    /// How many events have done something.
    pub const fn events(&self) -> usize {
        self.events
    }

    /// How often `event` has happened and did something.
    pub fn happened(&self, event: Event) -> u64 {
        self.happened[event as usize]
    }

    /// How often clients have asked something that a node took in.
    pub const fn operations(&self) -> u64 {
        self.taken
    }

    /// How long the recovery took, once it is over.
    pub const fn recovery(&self) -> Option<Recovery> {
        self.recovery
    }

    /// Ticks so far.
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    fn condition(&self, id: NodeId) -> &Condition {
        &self.conditions[id.0 as usize - 1]
    }

    fn condition_mut(&mut self, id: NodeId) -> &mut Condition {
        &mut self.conditions[id.0 as usize - 1]
    }

    /// Tells the workload what was applied, and clients what was answered.
    fn tell(&mut self) {
        for id in self.ids() {
            let machine = self.cluster.server(id).machine();
            let (applied, index) = (machine.has_applied(), machine.applied_index());
            if applied {
                for applied in self.cluster.machine_mut(id).take_applied() {
                    self.tell_applied(id, &applied);
                }
            }
            // A snapshot applies what it covers, too.
            let known = std::mem::replace(&mut self.answered[id.0 as usize - 1], index);
            if known != index || self.cluster.has_answered(id) {
                self.answer_reads(id);
            }
        }
    }

    fn tell_applied(&mut self, id: NodeId, applied: &Applied) {
        let Applied { entry, reply } = applied;
        if entry.id.index > self.applied {
            self.applied = entry.id.index;
            (entry.id, reply).hash(&mut self.trace);
            self.workload.applied(entry, reply);
        }
        self.answer_writes(id, entry, reply);
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<M, W> {
        (1..=self.conditions.len() as u64).map(NodeId)
    }
}
