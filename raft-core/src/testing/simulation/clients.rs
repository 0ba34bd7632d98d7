//! What clients ask of a simulated cluster, and what becomes of it.

use super::Simulation;
use crate::raft::{Lease, Raft};
use crate::state_machine::StateMachine;
use crate::testing::linear::Outcome;
use crate::testing::random::Random;
use crate::types::{Entry, Index, LogId, NodeId, Payload, ReadId};
use bytes::Bytes;
use std::hash::Hash;

/// What a client asks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// That this command is put through the log.
    Command(Bytes),
    /// That this query is answered, linearizably, by any node.
    Query(Bytes),
}

/// What the clients of a simulated cluster do, and what is made of it. Everything is told in the
/// order in which it happens, so a [`History`](crate::testing::linear::History) that is kept of
/// [`Workload::ask`] and [`Workload::answer`] is one that
/// [`linear::check`](crate::testing::linear::check) may judge.
pub trait Workload<M: StateMachine> {
    /// What `client`, who has the answer to everything it asked before, asks now; `None` if
    /// nothing.
    fn ask(&mut self, client: u64, random: &mut Random) -> Option<Ask>;

    /// What came of what `client` asked last. What is unknown may still be done later.
    fn answer(&mut self, client: u64, outcome: Outcome<Bytes>);

    /// `entry` was applied for the first time on any node, and answered so. Every entry comes once,
    /// in the order of the log.
    fn applied(&mut self, _entry: &Entry, _reply: &Bytes) {}

    /// It is later: a clock has ticked. `ticks` are those of the fastest clock there could be, so
    /// between any two moments it ticks at least as often as the clock of any node.
    fn tick(&mut self, _ticks: u64) {}

    /// What the leader itself proposes, asked at each tick of its clock. `ticks` are those of this
    /// life of the node, and tell no other node anything.
    fn lead(&mut self, _node: NodeId, _ticks: u64, _machine: &M) -> Option<Bytes> {
        None
    }
}

/// A client: what it waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    waits: Option<Waits>,
}

#[derive(Clone, Debug)]
struct Waits {
    node: NodeId,
    /// Which start of the node has taken it.
    start: u64,
    since: u64,
    /// Whether it was asked after the faults had ended.
    closing: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A command, and the entry it was given.
    Write(LogId, Bytes),
    Read(ReadId, Bytes),
    /// A read that is to be answered once so much is applied.
    Confirmed(Index, Bytes),
    /// The same, if the node still has a lease then.
    Leased(Index, Bytes),
}

impl Client {
    /// Whether it has asked something and not been answered.
    pub(super) const fn waits(&self) -> bool {
        self.waits.is_some()
    }
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// A client asks something, or gives up on what it asked.
    pub(super) fn client(&mut self, any: NodeId) -> bool {
        if self.clients.is_empty() {
            return false;
        }
        let client = self.random.below(self.clients.len() as u64);
        if let Some(waits) = &self.clients[client as usize].waits {
            let patient = self.ticks < waits.since + self.config.patience_ticks;
            let lost = !patient || self.cluster.server(waits.node).raft().is_none();
            if lost {
                self.end(client, Outcome::Unknown);
            }
            return lost;
        }
        if self.condition(any).paused {
            return false;
        }
        let Some(ask) = self.workload.ask(client, &mut self.random) else { return false };
        // Writes mostly go to the leader, or few would be taken; reads go anywhere.
        let leader = self.cluster.leader().filter(|_| self.random.below(8) > 0);
        let leader = leader.filter(|leader| !self.condition(*leader).paused);
        let node = match ask {
            Ask::Command(_) => leader.unwrap_or(any),
            Ask::Query(_) => any,
        };
        self.put(client, node, ask);
        true
    }

    /// `client` asks `node`, which takes it in or does not.
    pub(super) fn put(&mut self, client: u64, node: NodeId, ask: Ask) {
        ask.hash(&mut self.trace);
        let what = match ask {
            Ask::Command(command) => {
                let taken = self.cluster.propose(node, std::slice::from_ref(&command)).pop();
                taken.and_then(Result::ok).map(|id| What::Write(id, command))
            }
            Ask::Query(query) => self.read(node, query),
        };
        let Some(what) = what else { return self.end(client, Outcome::NotDone) };
        self.taken += 1;
        let (start, since) = (self.cluster.server(node).starts(), self.ticks);
        let at_once = matches!(what, What::Leased(..));
        let waits = Waits { node, start, since, closing: self.closing.is_some(), what };
        self.clients[client as usize].waits = Some(waits);
        if at_once {
            self.answer_reads(node);
        }
    }

    /// How `node` goes about answering `query`: by its lease if it has one, else by a quorum. After
    /// the faults always by a quorum.
    fn read(&mut self, node: NodeId, query: Bytes) -> Option<What> {
        let by_lease = self.closing.is_none() && self.random.once_in(2);
        let lease = self.lease(node).filter(|_| by_lease);
        match lease {
            Some(lease) => Some(What::Leased(lease.index, query)),
            None => self.cluster.read(node).map(|read| What::Read(read, query)),
        }
    }

    /// The lease of `node`, if it has one that lasts by its clock.
    fn lease(&self, node: NodeId) -> Option<Lease> {
        let lease = self.cluster.server(node).raft()?.lease()?;
        self.condition(node).holds(&lease).then_some(lease)
    }

    pub(super) fn has_lease(&self, node: NodeId) -> bool {
        self.lease(node).is_some()
    }

    /// Clients that have waited for too long give up, after the faults: but nobody gives up what a
    /// node still owes an answer to.
    pub(super) fn give_up(&mut self) {
        for client in 0..self.clients.len() {
            let waits = self.clients[client].waits.as_ref();
            let patience = self.config.patience_ticks;
            let over = |waits: &&Waits| self.ticks >= waits.since + patience;
            if waits.filter(over).is_some_and(|waits| !self.is_owed(waits)) {
                self.end(client as u64, Outcome::Unknown);
            }
        }
    }

    /// Whether an answer must come, now that nothing is lost any more: of a member that has been up
    /// since it was asked; of a command, as long as its entry is in the log.
    fn is_owed(&self, waits: &Waits) -> bool {
        let server = self.cluster.server(waits.node);
        let Some(raft) = server.raft().filter(|_| server.starts() == waits.start) else {
            return false;
        };
        let is_there = match &waits.what {
            What::Write(id, _) => raft.log_id_at(id.index) == Some(*id),
            _ => true,
        };
        is_there && self.cluster.membership().contains(waits.node)
    }

    fn end(&mut self, client: u64, outcome: Outcome<Bytes>) {
        let waits = self.clients[client as usize].waits.take();
        let waits = waits.filter(|it| it.closing && matches!(outcome, Outcome::Done(_)));
        if let (Some(closing), Some(waits)) = (&mut self.closing, waits) {
            closing.note(waits.node, matches!(waits.what, What::Write(..)));
        }
        (client, &outcome).hash(&mut self.trace);
        self.workload.answer(client, outcome);
    }

    /// The answer reaches the client, or is lost, but for after the faults.
    fn reply(&mut self, client: u64, reply: Bytes) {
        let lost = self.config.answer_lost_once_in;
        let lost = lost > 0 && self.closing.is_none() && self.random.once_in(lost);
        self.end(client, if lost { Outcome::Unknown } else { Outcome::Done(reply) });
    }

    /// `node` has applied `entry`.
    pub(super) fn answer_writes(&mut self, node: NodeId, entry: &Entry, reply: &Bytes) {
        for client in 0..self.clients.len() {
            let Some(waits) = &self.clients[client].waits else { continue };
            let What::Write(proposed, command) = &waits.what else { continue };
            if waits.node != node || proposed.index != entry.id.index {
                continue;
            }
            // A founder that crashes before it has founded durably founds anew, in the same term,
            // and gives another command the id of one that nobody has any more.
            let same = matches!(&entry.payload, Payload::Command(it) if it == command);
            if *proposed == entry.id && same {
                self.reply(client as u64, reply.clone());
            } else {
                // Something else has been put in its place, for ever.
                self.end(client as u64, Outcome::NotDone);
            }
        }
    }

    /// Answers the reads of `node` that may be answered by now.
    pub(super) fn answer_reads(&mut self, node: NodeId) {
        let confirmed = self.cluster.take_answered(node);
        let leased = self.has_lease(node);
        let server = self.cluster.server(node);
        let applied = server.machine().applied_index();
        let mut outcomes = Vec::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let Some(waits) = client.waits.as_mut().filter(|waits| waits.node == node) else {
                continue;
            };
            if let What::Read(read, query) = &waits.what
                && let Some((_, index)) = confirmed.iter().find(|(it, _)| it == read)
            {
                waits.what = What::Confirmed(*index, query.clone());
            }
            let (index, query, holds) = match &waits.what {
                What::Confirmed(index, query) => (index, query, true),
                What::Leased(index, query) => (index, query, leased),
                _ => continue,
            };
            if *index <= applied && server.raft().is_some() {
                let reply = holds.then(|| server.machine().machine().query(query));
                outcomes.push((number as u64, reply));
            }
        }
        for (client, reply) in outcomes {
            match reply {
                Some(reply) => self.reply(client, reply),
                None => self.end(client, Outcome::NotDone),
            }
        }
    }

    /// The clock of `id` ticks; if it leads, it may propose something of its own.
    pub(super) fn tick(&mut self, id: NodeId) {
        if self.cluster.server(id).raft().is_none() {
            return;
        }
        self.cluster.tick(id);
        self.condition_mut(id).ticked();
        let server = self.cluster.server(id);
        let Some(raft) = server.raft().filter(|raft| raft.is_leader()) else { return };
        let (ticks, machine) = (Raft::ticks(raft), server.machine().machine());
        if let Some(command) = self.workload.lead(id, ticks, machine) {
            command.hash(&mut self.trace);
            self.cluster.propose(id, &[command]);
        }
    }
}
