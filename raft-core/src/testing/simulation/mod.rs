//! A cluster of the user's own state machine under random faults, in one thread, by one seed.
//!
//! [`Simulation`] lets clients ask things through any node, while messages are lost, doubled,
//! reordered and held up, nodes crash, pause, restart, compact their logs and send each other
//! snapshots, leaders change, members come and go. After every event the invariants of the cluster
//! are checked, and that state machines that have applied equally far are equal. What clients ask,
//! and what is to be made of their answers, is the [`Workload`]'s.
//!
//! A run is decided by its seed: the same seed gives the same run, event for event, as
//! [`Simulation::trace_hash`] shows. That holds for state machines and workloads that do not ask a
//! clock, a random number generator or the order of a hash map.
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

mod clients;
mod config;
mod faults;

pub use super::linear::Outcome;
pub use clients::{Ask, Workload};
pub use config::{Event, SimulationConfig};

use super::cluster::Cluster;
use super::random::Random;
use super::replica::{Applied, Machines, Replica};
use crate::state_machine::StateMachine;
use crate::types::{Index, LogId, NodeId};
use clients::Client;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Ticks within which a cluster must be whole again once faults end.
const RECOVERY_TICKS_MAX: u64 = 1000;

/// A cluster, its clients, and what happens to them.
pub struct Simulation<M: StateMachine, W> {
    cluster: Cluster<Replica<M>>,
    workload: W,
    config: SimulationConfig,
    random: Random,
    /// A node that stands still: its clock, its disk and what was sent to it wait.
    paused: Option<NodeId>,
    clients: Vec<Client>,
    /// Ticks of the fastest clocks.
    ticks: u64,
    /// How far some node has applied, and the workload been told.
    applied: Index,
    happened: BTreeMap<Event, u64>,
    trace: DefaultHasher,
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// Nodes with `machines`, and clients with `workload`. Nothing has happened yet.
    pub fn new(machines: Machines<M>, workload: W, config: SimulationConfig) -> Self {
        let mut cluster =
            Cluster::with(machines, config.nodes, &config.raft, config.seed, config.traced);
        for id in config.nodes + 1..=config.nodes + config.spares {
            cluster.add_server(NodeId(id));
        }
        Self {
            cluster,
            workload,
            random: Random::new(config.seed),
            paused: None,
            clients: (0..config.clients).map(|_| Client::default()).collect(),
            config,
            ticks: 0,
            applied: Index(0),
            happened: BTreeMap::new(),
            trace: DefaultHasher::new(),
        }
    }

    /// All events, then the recovery from them.
    ///
    /// # Panics
    /// If an invariant is broken, or the cluster does not recover.
    pub fn run(&mut self) {
        for _ in 0..self.config.events {
            self.step();
        }
        self.recover();
    }

    /// One event.
    pub fn step(&mut self) {
        let total: u64 = self.config.weights.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.random.below(total);
        let chosen = self.config.weights.iter().find(|(_, weight)| {
            let here = rest < *weight;
            rest = rest.saturating_sub(*weight);
            here
        });
        let event = chosen.expect("the weights add up").0;
        let id = NodeId(1 + self.random.below(self.config.nodes + self.config.spares));
        if self.happens(event, id) {
            *self.happened.entry(event).or_default() += 1;
        }
        (event, id, self.cluster.pool().len(), self.cluster.leader()).hash(&mut self.trace);
        self.tell();
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

    /// What happened last, a line per event, if the configuration asks for a trace.
    pub fn take_trace(&mut self) -> String {
        self.cluster.take_trace()
    }

    /// A digest of everything that has happened.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// How often each event has happened and did something.
    pub const fn happened(&self) -> &BTreeMap<Event, u64> {
        &self.happened
    }

    /// Ticks so far.
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Tells the workload what was applied, and clients what was answered.
    fn tell(&mut self) {
        for id in self.ids() {
            for applied in self.cluster.machine_mut(id).take_applied() {
                self.tell_applied(id, &applied);
            }
            self.answer_reads(id);
        }
    }

    fn tell_applied(&mut self, id: NodeId, applied: &Applied) {
        let Applied { entry, reply } = applied;
        if entry.id.index > self.applied {
            self.applied = entry.id.index;
            (entry.id, reply).hash(&mut self.trace);
            self.workload.applied(entry, reply);
        }
        self.answer_writes(id, entry.id, reply);
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<M, W> {
        (1..=self.config.nodes + self.config.spares).map(NodeId)
    }

    /// The faults end: within a bounded time there is a leader, every client has its answer, a
    /// command goes through, and all members have applied all of it.
    fn recover(&mut self) {
        self.paused = None;
        self.cluster.heal();
        for id in self.ids() {
            self.cluster.restart(id);
        }
        let mut last: Option<LogId> = None;
        for _ in 0..RECOVERY_TICKS_MAX {
            self.calm_turn();
            self.tick_all();
            self.tell();
            self.give_up();
            if self.clients.iter().any(Client::waits) {
                continue;
            }
            let leader = self.cluster.leader();
            let raft = leader.and_then(|leader| self.cluster.server(leader).raft());
            let committed = raft.map(|raft| (raft.last_log(), raft.commit_index()));
            let (lowest, highest) = self.cluster.applied();
            last = last.filter(|last| committed.is_some_and(|(log, _)| log >= *last));
            match (last, committed) {
                (None, Some((log, _))) if log.index > Index(0) => last = Some(log),
                (Some(last), Some((_, commit)))
                    if commit >= last.index && lowest == highest && lowest >= last.index =>
                {
                    return;
                }
                _ => {}
            }
        }
        panic!("no recovery within {RECOVERY_TICKS_MAX} ticks: seed {}", self.config.seed);
    }

    fn calm_turn(&mut self) {
        for id in self.ids() {
            self.cluster.persist(id, None);
            self.send_snapshots(id, true);
            self.cluster.restore(id);
            self.cluster.flush(id);
        }
        for _ in 0..self.cluster.pool().len() {
            self.cluster.deliver(0);
        }
    }
}
