//! The end of faults: what must then come about, and within what time.

use super::clients::Client;
use super::{Ask, Simulation, Workload};
use crate::raft::Raft;
use crate::state_machine::StateMachine;
use crate::types::{Index, LogId, NodeId};
use std::collections::BTreeSet;

/// Longest election timeouts within which there must be a leader that has committed something of
/// its own term, once faults end. One is enough for most. More pass if votes are split, if the
/// restarted first wait until what they may have promised is over, if the node with the newest log
/// is busy with a snapshot, or if what was held back for long tells of other terms: some 10 were
/// seen among thousands of seeds, and twice that says that something is wrong.
const LEADER_TIMEOUTS_MAX: u64 = 20;
/// Longest election timeouts within which all is as if nothing had ever happened: clients give up
/// within 8 what nobody owes them, a lost snapshot is sent again after some, who lost its directory
/// is taken back by three changes of the membership, and then everybody is asked something. Some 20
/// were seen.
const WHOLE_TIMEOUTS_MAX: u64 = 40;
/// A kind of question that clients have not asked in so many is one that they never ask.
const QUESTIONS_TELLING: u64 = 50;

/// How long it took until all was well, in ticks since faults ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Until a leader had committed something of its own term.
    pub leader_ticks: u64,
    /// Until the configuration had come to rest, the leader had done a command and every member
    /// answered a query, every client had its answer, and all members had applied the same.
    pub whole_ticks: u64,
}

/// What clients ask once the faults have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Closing {
    questions: u64,
    /// Whether any of them was a command, and any a query.
    commands: bool,
    queries: bool,
    /// Whether a command was done, and which nodes have answered a query.
    done: bool,
    answered: BTreeSet<NodeId>,
}

impl Closing {
    /// `node` has answered what was asked after the faults.
    pub(super) fn note(&mut self, node: NodeId, command: bool) {
        if command {
            self.done = true;
        } else {
            self.answered.insert(node);
        }
    }

    /// Those of `members` that a query is still to be asked of.
    fn silent(&self, members: &[NodeId]) -> Vec<NodeId> {
        members.iter().copied().filter(|node| !self.answered.contains(node)).collect()
    }

    /// Whether all was answered that clients ask at all.
    fn is_over(&self, members: &[NodeId]) -> bool {
        let told = self.questions >= QUESTIONS_TELLING;
        (self.done || told && !self.commands)
            && (self.silent(members).is_empty() || told && !self.queries)
    }
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// The faults end: there is a leader, and the configuration comes to rest; then the leader does
    /// a command, and every member answers a query; every client has its answer, what the leader
    /// has is committed, and all members have applied all of it, each within a bounded time.
    pub(super) fn recover(&mut self) {
        self.heal();
        self.closing = Some(Closing::default());
        for id in self.ids() {
            self.start(id);
        }
        self.update();
        let timeout = u64::from(self.config.raft.election_ticks_max);
        let mut leader_ticks = None;
        let mut last: Option<LogId> = None;
        for ticks in 0..WHOLE_TIMEOUTS_MAX * timeout {
            self.calm_turn();
            leader_ticks = leader_ticks.or_else(|| self.leads().then_some(ticks));
            assert!(
                leader_ticks.is_some() || ticks < LEADER_TIMEOUTS_MAX * timeout,
                "no leader within {LEADER_TIMEOUTS_MAX} election timeouts:\n{}",
                self.describe()
            );
            let asked = leader_ticks.is_some() && self.rests() && self.asks_everybody();
            let is_whole = asked && self.is_whole(&mut last);
            if let (Some(leader_ticks), true) = (leader_ticks, is_whole) {
                self.recovery = Some(Recovery { leader_ticks, whole_ticks: ticks });
                return;
            }
        }
        panic!("no recovery within {WHOLE_TIMEOUTS_MAX} election timeouts:\n{}", self.describe());
    }

    /// The leader of the highest term.
    fn leading(&self) -> Option<&Raft> {
        self.cluster.leader().and_then(|leader| self.cluster.server(leader).raft())
    }

    /// Whether there is a leader that has committed something of its term.
    fn leads(&self) -> bool {
        let own = |raft: &Raft| raft.log_id_at(raft.commit_index());
        self.leading().is_some_and(|raft| own(raft).is_some_and(|id| id.term == raft.term()))
    }

    /// Whether the configuration is one that stays as it is: committed, and nothing is due of what
    /// leaders do to it by themselves. A node that lost its directory is a member as it is now,
    /// whoever is to vote votes, and the newest version that all members know is agreed on.
    fn rests(&self) -> bool {
        let Some(raft) = self.leading() else { return false };
        let membership = raft.membership();
        let members = membership.members();
        let bound = members.iter().all(|(node, member)| {
            let life = self.cluster.server(*node).disk().identity.map(|it| it.incarnation);
            member.incarnation == life
        });
        let version = members.keys().map(|node| self.cluster.server(*node).sender().version).min();
        !membership.is_joint()
            && raft.membership_index() <= raft.commit_index()
            && bound
            && membership.learners().all(|node| !members[&node].promote)
            && Some(membership.version()) == version
    }

    /// Clients that wait for nothing ask again, until the leader has done a command and every
    /// member has answered a query; whether that is so.
    fn asks_everybody(&mut self) -> bool {
        let Some(leader) = self.cluster.leader() else { return false };
        let members: Vec<NodeId> = self.cluster.membership().members().keys().copied().collect();
        for client in 0..self.clients.len() {
            let Some(closing) = self.closing.as_mut().filter(|it| !it.is_over(&members)) else {
                return true;
            };
            if self.clients[client].waits() {
                continue;
            }
            closing.questions += 1;
            let silent = closing.silent(&members);
            match self.workload.ask(client as u64, &mut self.random) {
                Some(ask @ Ask::Command(_)) => {
                    closing.commands = true;
                    self.put(client as u64, leader, ask);
                }
                Some(ask @ Ask::Query(_)) => {
                    closing.queries = true;
                    let node = silent.get(client % silent.len().max(1)).copied();
                    self.put(client as u64, node.unwrap_or(leader), ask);
                }
                None => {}
            }
        }
        self.clients.is_empty()
    }

    /// Whether nobody waits for anything, and everyone has applied `last`, which is what the leader
    /// had when nobody waited any more.
    fn is_whole(&self, last: &mut Option<LogId>) -> bool {
        if self.clients.iter().any(Client::waits) {
            return false;
        }
        let committed = self.leading().map(|raft| (raft.last_log(), raft.commit_index()));
        let (lowest, highest) = self.cluster.applied();
        *last = last.filter(|last| committed.is_some_and(|(log, _)| log >= *last));
        match (*last, committed) {
            (None, Some((log, _))) if log.index > Index(0) => {
                *last = Some(log);
                false
            }
            (Some(last), Some((_, commit))) => {
                commit >= last.index && lowest == highest && lowest >= last.index
            }
            _ => false,
        }
    }

    fn calm_turn(&mut self) {
        for id in self.ids() {
            self.cluster.persist(id, None);
            self.send_snapshots(id, true);
            self.cluster.restore(id);
            self.cluster.flush(id);
            // A store may refuse to open, or fail to write, a few times.
            self.start(id);
        }
        for _ in 0..self.cluster.pool().len() {
            self.cluster.deliver(0);
        }
        self.tick_all();
        self.tell();
        self.give_up();
    }

    fn describe(&self) -> String {
        let line = |id: NodeId| match self.cluster.server(id).raft() {
            Some(raft) => format!("{} members={}\n", raft.status(), raft.membership()),
            None => format!("{id} down\n"),
        };
        let clients = self.clients.iter().filter(|client| client.waits());
        let waiting = clients.map(|client| format!("{client:?} at {}\n", self.ticks));
        self.ids().map(line).chain(waiting).chain([format!("{:?}", self.closing)]).collect()
    }
}
