//! A model checker for the shipped core: every order in which a few things can happen to a few
//! nodes, tried out.
//!
//! Not a model of [`Raft`](crate::raft::Raft) is explored but `Raft` itself, with a disk and a
//! state machine. In a world of [`Model::voters`] nodes any message under way may arrive, arrive
//! twice or never; writes become durable in order but whenever they like; a node may crash and
//! start again from any prefix of the writes it asked for; clocks go as they please. How often each
//! of these happens is bounded by [`Bounds`]; within the bounds nothing is left out, and the first
//! violation found has a shortest trace.
//!
//! # What is left out
//!
//! * *Time* is whether somebody has waited long enough. A follower may campaign at any moment, and
//!   whoever gets a request for a vote has heard no leader lately: that it turns a candidate down
//!   because it does is for what follows the same as if the request was lost. Nobody's disk stalls.
//! * *A message equal to one under way* is not sent a second time: that it arrives twice is what
//!   [`Bounds::duplicates`] is for.
//! * *A node that is down* is one that nothing happens to, so crash and restart are one event.
//! * Leases, wiped directories, other versions, priorities and the forming of a cluster.
//!
//! # What is checked
//!
//! After every step I1 to I9 of the standing invariants: one leader a term (I1), equal entries mean
//! equal prefixes (I2), later leaders have what was committed (I3), nobody commits anything else
//! at the same index (I4), commit index and applied index never fall (I5), nor do term and vote, on
//! disk or in memory (I6), what is committed is on the disks of a quorum and no message promises
//! what is not durable (I7), at most one configuration is not committed and consecutive ones
//! overlap (I8), a read sees what was committed when it began (I9). Besides, what the core asserts
//! itself.
//!
//! # Example
//!
//! ```
//! use raft_core::testing::{Bounds, Model, Sight};
//!
//! let bounds = Bounds { campaigns: 1, commands: 1, crashes: 1, messages: 3, ..Bounds::none() };
//! let model = Model { voters: 2, bounds, must_see: vec![Sight::Recovery], ..Model::default() };
//! let report = model.explore().expect("no invariant breaks");
//! assert!(report.complete && report.states > 100);
//! ```

mod atlas;
mod event;
mod facts;
mod node;
mod record;
mod replay;
mod search;
mod symmetry;
mod trace;
mod world;

pub use facts::Sight;

use crate::raft::{Config, Loaded};
use crate::types::{
    Change, ClusterId, Identity, Incarnation, Member, Membership, NodeId, SnapshotMeta,
};
use node::Setting;
use search::Search;
use std::fmt;

/// How often things happen, at most; less than 64 times each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How many terms begin after the first; see [`Model::led`].
    pub terms: u64,
    /// Messages under way at once. What would send more is not done.
    pub messages: usize,
    /// Election timeouts that end in a campaign.
    pub campaigns: u8,
    /// Crashes, each with a restart.
    pub crashes: u8,
    /// Messages that arrive once more.
    pub duplicates: u8,
    /// Messages that are lost in time to make room for others; any that never arrives is lost, too.
    pub losses: u8,
    /// Ticks of leaders, or waits for a shortest election timeout.
    pub beats: u8,
    /// Leaders that hear nobody for an election timeout.
    pub step_downs: u8,
    /// Commands proposed.
    pub commands: u8,
    /// Reads begun.
    pub reads: u8,
    /// Membership changes and hand-overs asked for.
    pub changes: u8,
    /// Checkpoints of state machines, which let logs be compacted.
    pub checkpoints: u8,
    /// Whether leadership is handed over on request.
    pub transfers: bool,
}

impl Bounds {
    /// Nothing happens, in no later term.
    pub const fn none() -> Self {
        Self {
            terms: 1,
            messages: 8,
            campaigns: 0,
            crashes: 0,
            duplicates: 0,
            losses: 0,
            beats: 0,
            step_downs: 0,
            commands: 0,
            reads: 0,
            changes: 0,
            checkpoints: 0,
            transfers: false,
        }
    }
}

/// A small world, and how far it is explored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    /// Nodes `n1` to `n<voters>` vote at the start.
    pub voters: u64,
    /// So many more are learners at the start; only with [`Model::led`].
    pub learners: u64,
    /// So many more are blank, and wait to be added.
    pub spares: u64,
    /// Whether `n1` leads term 1 at the start, with its first entry committed everywhere. Else
    /// everything begins in term 0, with empty logs.
    pub led: bool,
    /// Who has led a term since, one after the other, was heard by nobody once elected, and stepped
    /// down: each holds an entry that no other node has.
    pub unheard: Vec<NodeId>,
    /// Whether an append carries one entry at most, which needs more messages for the same.
    pub single_entries: bool,
    /// What may be asked for; each is one change of several parts.
    pub changes: Vec<Vec<Change>>,
    /// How often things happen.
    pub bounds: Bounds,
    /// Exploration ends once so many worlds were told apart.
    pub states_max: usize,
    /// Whether only what they hold tells worlds apart for [`Model::states_max`], not which part of
    /// the bounds they have spent. [`Report::contents`] is then counted, in a second table.
    pub by_content: bool,
    /// Whether messages that can mean nothing any more stay under way, beyond the bound on
    /// messages. That takes more worlds and must find nothing else.
    pub keeps_spent: bool,
    /// What the exploration must have come across, or it fails.
    pub must_see: Vec<Sight>,
}

impl Default for Model {
    /// Three voters, of which the first leads, that nothing happens to.
    fn default() -> Self {
        Self {
            voters: 3,
            learners: 0,
            spares: 0,
            led: true,
            unheard: Vec::new(),
            single_entries: false,
            changes: Vec::new(),
            bounds: Bounds::none(),
            states_max: usize::MAX,
            by_content: false,
            keeps_spent: false,
            must_see: Vec::new(),
        }
    }
}

impl Model {
    /// Explores this world.
    ///
    /// # Errors
    /// The first violation of an invariant, with its trace; or that something that had to be
    /// come across never was.
    ///
    /// # Panics
    /// If there are no voters, more than eight nodes, or a bound of 64 or more; or if somebody who
    /// is no voter is to have led.
    pub fn explore(&self) -> Result<Report, Box<Violation>> {
        assert!(self.voters > 0, "somebody has to vote");
        assert!(self.nodes() <= world::NODES_MAX as u64, "too many nodes");
        let votes = |node: &NodeId| (1..=self.voters).contains(&node.0);
        assert!(self.unheard.iter().all(votes), "only voters lead");
        let (search, world) = Search::new(self);
        search.run(world)
    }

    const fn nodes(&self) -> u64 {
        self.voters + self.learners + self.spares
    }

    fn last_term(&self) -> crate::types::Term {
        let begun = u64::from(self.led) + self.unheard.len() as u64;
        crate::types::Term(self.bounds.terms + begun)
    }

    /// The same world without bounds, to set it up.
    fn unbounded(&self) -> Self {
        let bounds = Bounds { terms: u64::from(u32::MAX), messages: usize::MAX, ..self.bounds };
        Self { bounds, ..self.clone() }
    }

    fn setting(&self) -> Setting {
        let defaults = Config::default();
        let config = Config {
            // One entry always fits.
            message_bytes_max: if self.single_entries { 1 } else { defaults.message_bytes_max },
            heartbeat_ticks: 1,
            election_ticks_min: 2,
            election_ticks_max: 3,
            disk_stall_ticks: u32::MAX,
            in_flight_max: 2,
            log_trailing_bytes: 0,
            log_trailing_entries: 0,
            readmit: false,
            ..defaults
        };
        let learners = self.voters + 1..=self.voters + self.learners;
        let observe = |id| {
            let (node, address) = (NodeId(id), NodeId(id).to_string());
            vec![Change::Add { node, address, promote: false }]
        };
        let changes = self.changes.iter().cloned().chain(learners.map(observe)).collect();
        Setting { config, changes, reads: self.bounds.reads > 0 }
    }

    /// What the disk of a node holds at the start. Every node has a life of the same number, so
    /// that nothing but its name tells it from another.
    fn first_disk(&self, id: u64) -> Loaded {
        let incarnation = Incarnation(1);
        let member = Member { incarnation: Some(incarnation), ..Member::default() };
        let members = (1..=self.voters).map(|id| (NodeId(id), member.clone())).collect();
        let membership = match id <= self.voters {
            true => Membership::of_voters(members),
            false => Membership::default(),
        };
        Loaded {
            identity: Some(Identity { cluster: ClusterId(0), node: NodeId(id), incarnation }),
            snapshot: SnapshotMeta { membership, ..SnapshotMeta::default() },
            ..Loaded::default()
        }
    }
}

/// What was explored, and what was come across.
#[derive(Clone, Debug)]
pub struct Report {
    /// The world.
    pub model: Model,
    /// Worlds told apart. Worlds that differ only in names of nodes, in how entries are grouped, in
    /// clocks, generators and numbers of writes are one; those that have spent another part of the
    /// bounds are not.
    pub states: usize,
    /// The same, but that worlds which differ only in what they have spent are one, too. Counted
    /// if [`Model::by_content`] is set.
    pub contents: Option<usize>,
    /// Steps from the first world to the farthest.
    pub depth: usize,
    /// Whether everything within the bounds was seen.
    pub complete: bool,
    /// How many exchanges of names were taken for the same world.
    pub symmetry: usize,
    /// Steps not gone, because they lead beyond a bound on terms or messages.
    pub beyond: u64,
    /// Distinct nodes, and of these all names.
    pub nodes: usize,
    /// Distinct messages.
    pub messages: usize,
    /// Distinct steps of a node: so often the core itself ran.
    pub node_steps: usize,
    steps: [u64; world::ACTIONS],
    seen: u32,
    /// The sum of the hashes of all nodes of the worlds told apart.
    node_hashes: u64,
}

impl Report {
    /// Whether it has come across `sight`.
    pub const fn has_seen(&self, sight: Sight) -> bool {
        self.seen >> sight as u32 & 1 == 1
    }

    /// Whether `other` has come across the same states of nodes, in whatever worlds.
    pub const fn has_same_nodes(&self, other: &Self) -> bool {
        self.node_hashes == other.node_hashes
    }

    /// All steps gone, into worlds old and new.
    pub fn steps(&self) -> u64 {
        self.steps.iter().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Model { voters, learners, spares, led, unheard, changes, bounds, .. } = &self.model;
        let all = if self.complete { "all" } else { "not all" };
        writeln!(f, "{} states to depth {}, {all} within the bounds", self.states, self.depth)?;
        if let Some(contents) = self.contents {
            writeln!(f, "{contents} of them differ in more than what they have spent")?;
        }
        writeln!(f, "{voters} voters, {learners} learners, {spares} spares, led: {led}")?;
        if !unheard.is_empty() {
            writeln!(f, "unheard leaders: {unheard:?}")?;
        }
        writeln!(f, "{bounds:?}")?;
        if !changes.is_empty() {
            writeln!(f, "changes: {changes:?}")?;
        }
        writeln!(
            f,
            "{} distinct nodes, {} messages, {} steps of a node; symmetry {}",
            self.nodes, self.messages, self.node_steps, self.symmetry
        )?;
        writeln!(f, "{} steps, {} beyond the bounds:", self.steps(), self.beyond)?;
        for (kind, count) in self.steps.iter().enumerate().filter(|(_, count)| **count > 0) {
            writeln!(f, "  {:>12} {}", count, world::name(kind))?;
        }
        let seen: Vec<Sight> =
            Sight::ALL.into_iter().filter(|sight| self.has_seen(*sight)).collect();
        write!(f, "seen: {seen:?}")
    }
}

/// An invariant that does not hold, and how to get there.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What does not hold.
    pub broken: String,
    /// What happened, a line per event.
    pub trace: Vec<String>,
    /// The same as a script, if it could be made to happen in time.
    pub script: Option<String>,
    /// Steps from the first world.
    pub depth: usize,
    /// What was explored up to there.
    pub report: Report,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.trace.join("\n"))?;
        if let Some(script) = &self.script {
            writeln!(f, "\nas a script:\n{script}\n---\n")?;
        }
        writeln!(f, "{}", self.report)?;
        write!(f, "after {} steps: {}", self.depth, self.broken)
    }
}
