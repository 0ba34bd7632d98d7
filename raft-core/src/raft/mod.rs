//! The pure core: Raft without clock, randomness, socket, disk, thread or runtime.
//!
//! Events go in by [`Raft::step`], requests by named methods that answer at once, work comes out by
//! [`Raft::take_output`]. Nothing in here waits or fails. `receive` applies the rules common to all
//! roles, once; the role files hold what is theirs; `Raft::enter` alone changes role.

mod absence;
mod by_node;
mod candidate;
mod config;
mod contacts;
mod follower;
mod formation;
mod invariants;
mod io;
mod leader;
mod log;
mod message;
mod notation;
mod persist;
mod progress;
mod read;
#[cfg(any(test, feature = "testing"))]
mod rebase;
mod rng;
mod state;
mod status;
mod vote;

pub use config::{Config, ConfigError};
pub use invariants::{Moment, check, check_change};
pub use io::{Apply, GroupOp, Input, LoadError, Loaded, LogGap, LogOp, Output, Write};
pub use message::{AppendEntries, AppendOutcome, Envelope, Message, ReadRequestId};
pub use status::{PeerProgress, PeerStatus, RoleName, Status};

use crate::types::{
    Change, Incarnation, Index, InvalidChange, LogId, Member, Membership, NodeId, ReadId, Sender,
    SnapshotMeta, Term,
};
use bytes::Bytes;
use candidate::Candidate;
use follower::Follower;
use leader::Leader;
use log::Log;
use state::State;
use std::collections::BTreeMap;
use vote::VoteRequest;

/// One node's part in the consensus of one group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft {
    state: State,
    role: Role,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// The transition a role handler wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Stay,
    Follower {
        term: Term,
        leader: Option<NodeId>,
    },
    Candidate {
        pre_vote: bool,
        transfer: bool,
    },
    Leader,
    /// Leads a cluster that is founded by it.
    Founder,
}

/// Why a proposal was refused. None of these has any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This node does not lead. Ask `leader`.
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// A limit of the log is reached, or leadership is being handed over. Try again later.
    Overloaded,
    /// The command is too large, ever.
    TooLarge {
        /// Bytes of the command.
        size: usize,
        /// Most bytes a command may have.
        limit: usize,
    },
}

/// Why a membership change was refused. None of these has any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// This node does not lead. Ask `leader`.
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// The leader has not committed anything in its term yet (thesis §4.1); it soon will have.
    /// Try again later.
    NotReady,
    /// Another change is under way: one at a time (§6). Try again later.
    Pending {
        /// The entry that has to be committed first.
        index: Index,
    },
    /// Leadership is being handed over. Try again later.
    HandingOver,
    /// Some member is of a version that does not know membership changes.
    TooOld,
    /// A node is to vote that does not hold the configuration yet. Try again later.
    Behind {
        /// The node.
        node: NodeId,
    },
    /// Too few voters of the new configuration were heard of lately: it might never commit
    /// anything. Start those that are away, or leave them out first.
    NoQuorum,
    /// The change makes no sense for the configuration in force.
    Invalid(InvalidChange),
}

/// Until when reads need no confirmation by a quorum (thesis §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A read that has applied up to here is linearizable.
    pub index: Index,
    /// The tick, counted from the start of this node, at which what a quorum has acknowledged was
    /// sent at the latest. The lease lasts for [`Lease::ticks`] from when that tick began.
    pub since: u64,
    /// How long the lease lasts: the shortest election timeout, less the drift of the clocks.
    pub ticks: u64,
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferRefusal {
    /// This node does not lead. Ask `leader`.
    NotLeader {
        /// The leader this node knows.
        leader: Option<NodeId>,
    },
    /// No other voter was heard of lately.
    NoTarget,
    /// The target is not another voter.
    NotVoter {
        /// The target.
        to: NodeId,
    },
}

impl Raft {
    /// Starts from what the log store and the state machine hold. `seed` replays every random
    /// choice.
    ///
    /// If the state machine is ahead of the log, or applied something the log does not have (a
    /// crash between restoring a snapshot and resetting the log), the log starts anew there.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn new(
        config: Config,
        loaded: Loaded,
        applied: SnapshotMeta,
        seed: u64,
    ) -> Result<Self, LoadError> {
        config.validate()?;
        let log = Log::new(loaded.snapshot, loaded.entries);
        if applied.last.index < log.start().index {
            let log_start = log.start();
            return Err(LoadError::StateBehindLog { applied: applied.last, log_start });
        }
        let incarnation = loaded.identity.map_or(Incarnation(0), |identity| identity.incarnation);
        let mut state = State::new(config, incarnation, loaded.hard_state, log, seed);
        if state.log.term_at(applied.last.index) == Some(applied.last.term) {
            state.resume_at(applied.last.index);
        } else {
            // The crash may also have come before the term of that snapshot was durable.
            let term = applied.last.term;
            if term > state.term() {
                state.set_hard_state(term, None);
            }
            state.reset_log(applied);
        }
        Ok(Self { state, role: Role::Follower(Follower) })
    }

    /// Takes in one event.
    pub fn step(&mut self, mut input: Input) {
        let next = match input {
            Input::Tick => self.on_tick(),
            // Messages are large: they are not moved, only what is kept of them.
            Input::Message(ref mut envelope) => self.receive(envelope),
            Input::Persisted(seq) => {
                self.state.persisted(seq);
                self.on_persisted()
            }
            Input::Restored(meta) => self.on_restored(meta),
            Input::NotRestored(meta) => self.on_not_restored(&meta),
            Input::Flushed(meta) => self.on_flushed(&meta),
            Input::SnapshotSent { to, meta, ok } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_snapshot_sent(&self.state, to, &meta, ok);
                }
                Next::Stay
            }
            Input::Refused(node) => self.state.on_refused(node),
        };
        if next != Next::Stay {
            self.enter(next);
        }
    }

    /// Appends a command to the leader's log (§5.3). It is replicated when output is next taken;
    /// it is committed if and when an entry with this id is handed to the state machine.
    ///
    /// # Errors
    /// See [`Refusal`]; the command then has no effect.
    pub fn propose(&mut self, command: Bytes) -> Result<LogId, Refusal> {
        match &mut self.role {
            Role::Leader(leader) => leader.propose(&mut self.state, command),
            _ => Err(Refusal::NotLeader { leader: self.state.leader }),
        }
    }

    /// Asks for an index at which a read is linearizable (thesis §6.4), on any node. The answer is
    /// in a later [`Output::reads`]; it comes once there is a leader that a quorum follows, and
    /// never fails. Calls between two outputs may share a batch.
    pub fn read(&mut self) -> ReadId {
        self.state.reads.join()
    }

    /// Hands leadership to `to`, or to the voter that should lead: by priority among
    /// those that have everything committed, else by log (thesis §3.10). Until
    /// it is done, or given up after the shortest election timeout, proposals are refused.
    ///
    /// # Errors
    /// See [`TransferRefusal`].
    pub fn transfer_leadership(&mut self, to: Option<NodeId>) -> Result<NodeId, TransferRefusal> {
        match &mut self.role {
            Role::Leader(leader) => leader.transfer(&self.state, to),
            _ => Err(TransferRefusal::NotLeader { leader: self.state.leader }),
        }
    }

    /// Changes who is in the cluster (§6): all of `changes` at once, by joint consensus if the
    /// voters change. Takes effect when appended; the joint configuration is left by itself. The
    /// change is done once the entry with the returned id, and of a joint one that which leaves
    /// it, are committed.
    ///
    /// # Errors
    /// See [`ChangeRefusal`].
    pub fn change_membership(&mut self, changes: &[Change]) -> Result<LogId, ChangeRefusal> {
        match &mut self.role {
            Role::Leader(leader) => leader.change_membership(&mut self.state, changes),
            _ => Err(ChangeRefusal::NotLeader { leader: self.state.leader }),
        }
    }

    /// The lease of a leader, if it has one. It counts ticks: whoever serves a read by it checks
    /// the real time that has passed since [`Lease::since`], after reading too.
    pub fn lease(&self) -> Option<Lease> {
        match &self.role {
            Role::Leader(leader) => leader.lease(&self.state),
            _ => None,
        }
    }

    /// The tick, counted from the start of this node, at which it last heard a leader lead; of a
    /// leader, at which a quorum last answered. `None` if it never did, or restores a snapshot.
    pub fn contact(&self) -> Option<u64> {
        match &self.role {
            Role::Leader(leader) => Some(leader.quorum_heard(&self.state)),
            // What is here is about to be replaced by something far newer.
            _ if self.state.restoring.is_some() => None,
            _ => self.state.leader_heard_at(),
        }
    }

    /// Ticks since the start of this node.
    pub const fn ticks(&self) -> u64 {
        self.state.now
    }

    /// How many of the next ticks will find nothing to do, unless something else is stepped in
    /// before: whoever counts them may sleep through as many, and step them in afterwards. What a
    /// leader looks after beside replication, as its own quorum, may be put off by that to its next
    /// heartbeat.
    pub fn idle_ticks(&self) -> u64 {
        let next = match &self.role {
            Role::Follower(_) if self.state.is_waiting() => return 0,
            Role::Follower(_) => self.state.follower_due(),
            Role::Candidate(_) => self.state.election_due,
            Role::Leader(leader) => leader.next_due(&self.state),
        };
        next.saturating_sub(self.state.now + 1)
    }

    /// Campaigns at once, without waiting for the election timer: for tests and tools that count no
    /// ticks. Does nothing on a leader or a node that may not be elected.
    pub fn campaign(&mut self) {
        let free = self.state.may_vote() && !self.state.hears_leader();
        if self.state.may_campaign() && free && !matches!(self.role, Role::Leader(_)) {
            self.enter(Next::Candidate { pre_vote: true, transfer: false });
        }
    }

    /// Takes everything there is to do. Replication messages are built here, so that all proposals
    /// since the last call become one write and one message per follower.
    pub fn take_output(&mut self) -> Output {
        let mut output = Output::default();
        self.take_output_into(&mut output);
        output
    }

    /// The same, in the place of an earlier output: what is left of that is dropped, and the room
    /// of its lists is used again. Who empties those instead of consuming them allocates none.
    pub fn take_output_into(&mut self, output: &mut Output) {
        match &mut self.role {
            Role::Leader(leader) => leader.flush(&mut self.state),
            Role::Follower(_) => self.state.ask_leader(),
            Role::Candidate(_) => {}
        }
        self.state.take_output(output);
    }

    /// Takes only what is to be written, in the place of an earlier write; whether it is anything,
    /// else that is left empty.
    /// For drivers whose writes are durable as soon as they are made: they take and report writes
    /// until there is none, and what would have waited for these is in the output taken then.
    pub fn take_write_into(&mut self, write: &mut Write) -> bool {
        self.state.seal();
        self.state.take_write(write)
    }

    fn on_tick(&mut self) -> Next {
        self.state.now += 1;
        match &mut self.role {
            Role::Follower(follower) => follower.on_tick(&mut self.state),
            Role::Candidate(candidate) => candidate.on_tick(&self.state),
            Role::Leader(leader) => leader.on_tick(&mut self.state),
        }
    }

    fn on_persisted(&mut self) -> Next {
        match &mut self.role {
            Role::Follower(_) => {}
            Role::Candidate(candidate) => return candidate.on_persisted(&self.state),
            Role::Leader(leader) => leader.on_persisted(&mut self.state),
        }
        Next::Stay
    }

    /// Applies the rules common to all roles, in this order, then asks the role.
    fn receive(&mut self, envelope: &mut Envelope) -> Next {
        let Envelope { from, to, term, sender, .. } = *envelope;
        if to != self.state.id() || from == self.state.id() || !envelope.is_consistent() {
            return Next::Stay;
        }
        // Before there is a cluster there are no terms to speak of.
        if let Message::Hello { members, seen } = &envelope.message {
            self.state.contacts.note_caller(self.state.log.membership(), from, sender);
            self.state.on_hello(from, sender, members, *seen);
            return Next::Stay;
        }
        let answers = matches!(envelope.message, Message::AppendEntriesResponse { .. });
        let answers = answers && term == self.state.term();
        let counts = self.state.note_heard(from, sender, answers);
        // A stale term is answered with ours (§5.1).
        if term < self.state.term() {
            self.state.refuse_stale(envelope);
            return Next::Stay;
        }
        // A vote request while a leader is alive is refused before its term is looked at
        // (thesis §4.2.3).
        let request = VoteRequest::of(envelope);
        let leads = matches!(self.role, Role::Leader(_));
        if let Some(request) = request.filter(|request| self.state.is_disruptive(*request, leads)) {
            self.state.refuse_vote(request);
            self.state.note_doubt(request, term);
            return Next::Stay;
        }
        // A newer term is adopted (§5.1), and the leader of this term followed (§5.2).
        if term > self.state.term() {
            self.enter(Next::Follower { term, leader: None });
        }
        if envelope.message.is_of_leader() {
            if self.state.has_greeted_another_life(from, sender) {
                return Next::Stay;
            }
            self.follow(from);
        }
        if let Some(request) = request {
            let _ = self.state.on_request_vote(request);
            return Next::Stay;
        }
        self.dispatch(from, sender, counts, &mut envelope.message)
    }

    /// Follows the leader of this term.
    fn follow(&mut self, leader: NodeId) {
        let term = self.state.term();
        let known = self.state.leader;
        assert!(
            known.is_none_or(|known| known == leader),
            "two leaders in term {term}: {known:?} and {leader}"
        );
        if known.is_none() || !matches!(self.role, Role::Follower(_)) {
            self.enter(Next::Follower { term, leader: Some(leader) });
        }
        self.state.note_leader();
    }

    /// Gives the message to whom it concerns. What is counted - votes, acknowledgements - counts
    /// only of the life that the configuration in force is about: of `sender`, if it `counts`.
    fn dispatch(
        &mut self,
        from: NodeId,
        sender: Sender,
        counts: bool,
        message: &mut Message,
    ) -> Next {
        let state = &mut self.state;
        match (&mut self.role, message) {
            (Role::Follower(follower), Message::AppendEntries(append)) => {
                state.note_promise(sender, append.read_seq);
                follower.on_append_entries(state, from, append);
            }
            (Role::Follower(follower), Message::Commit { entry }) => {
                follower.on_commit(state, *entry);
            }
            (Role::Follower(follower), Message::InstallSnapshot { meta }) => {
                follower.on_install_snapshot(state, from, std::mem::take(&mut **meta));
            }
            (Role::Follower(follower), Message::TimeoutNow) => {
                return follower.on_timeout_now(state);
            }
            (Role::Follower(_), Message::ReadIndexResponse { request, index }) => {
                state.on_read_index_response(*request, *index);
            }
            (Role::Candidate(candidate), Message::RequestVoteResponse { granted, pre_vote })
                if counts =>
            {
                return candidate.on_request_vote_response(state, from, *granted, *pre_vote);
            }
            (
                Role::Leader(leader),
                Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks },
            ) if counts || leader.parts_with(from) => {
                state.contacts.note_stall(from, *stalled_ticks);
                leader.on_append_entries_response(state, from, sender, *outcome, *read_seq);
            }
            (Role::Leader(leader), Message::ReadIndex { request }) => {
                leader.on_read_index(from, *request);
            }
            // Late, doubled or misdirected: the sender's role or ours has moved on.
            _ => {}
        }
        Next::Stay
    }

    fn on_restored(&mut self, meta: SnapshotMeta) -> Next {
        if self.state.restoring.as_ref() == Some(&meta) {
            self.state.restoring = None;
            self.state.reset_log(meta);
            let leader = self.state.leader;
            if let Role::Follower(follower) = &self.role {
                follower.on_restored(&mut self.state, leader);
            }
        }
        Next::Stay
    }

    /// The snapshot was no good; the state machine is as before, and so is the log.
    fn on_not_restored(&mut self, meta: &SnapshotMeta) -> Next {
        if self.state.restoring.as_ref() == Some(meta) {
            self.state.restoring = None;
        }
        Next::Stay
    }

    /// Compacts what the state machine no longer needs, but for a margin that spares slow followers
    /// a snapshot, and not past what a snapshot under way or a follower that is there will need.
    fn on_flushed(&mut self, flushed: &SnapshotMeta) -> Next {
        let state = &mut self.state;
        state.note_flushed(flushed.last.index);
        let floor = match &self.role {
            // Until the log is full, when `make_room` takes precedence.
            Role::Leader(leader) => leader.needed_from(state),
            _ => None,
        };
        state.compact(floor.unwrap_or(Index(u64::MAX)));
        Next::Stay
    }

    /// Changes role: the only place that does. One transition may bring about the next.
    fn enter(&mut self, mut next: Next) {
        while next != Next::Stay {
            if let Role::Leader(leader) = &mut self.role {
                leader.leave_office(&mut self.state);
            }
            next = self.enter_one(next);
        }
    }

    fn enter_one(&mut self, next: Next) -> Next {
        let state = &mut self.state;
        state.reads.ask_again();
        match next {
            Next::Stay => {}
            Next::Follower { term, leader } => {
                if term > state.term() {
                    state.set_hard_state(term, None);
                }
                state.leader = leader;
                if !matches!(self.role, Role::Follower(_)) {
                    state.reset_election_timer();
                }
                self.role = Role::Follower(Follower);
            }
            Next::Candidate { pre_vote, transfer } => {
                let candidate = Candidate::campaign(state, pre_vote, transfer);
                let next = candidate.tally(state);
                self.role = Role::Candidate(candidate);
                return next;
            }
            Next::Leader => self.role = Role::Leader(Box::new(Leader::take_office(state))),
            Next::Founder => {
                if let Some(membership) = state.to_found() {
                    state.set_hard_state(state.term().next(), Some(state.id()));
                    self.role = Role::Leader(Box::new(Leader::found(state, membership)));
                }
            }
        }
        Next::Stay
    }

    /// Highest entry known committed (§5.3).
    pub const fn commit_index(&self) -> Index {
        self.state.commit_index()
    }

    /// Bytes of entries held in memory.
    pub const fn log_bytes(&self) -> usize {
        self.state.log.bytes()
    }

    /// Whether this node leads.
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The configuration in force: the latest in the log, committed or not (§6). Empty as long as
    /// this node belongs to no cluster.
    pub fn membership(&self) -> &Membership {
        self.state.log.membership()
    }

    /// Where the configuration in force stands in the log, or the boundary that it is as of. It is
    /// committed if the commit index is not below.
    pub fn membership_index(&self) -> Index {
        self.state.log.membership_index()
    }

    /// The others, and where they are reached: the members; those that just were, as long as they
    /// are to be told; before there is a cluster, those it is to be formed with.
    pub fn directory(&self) -> BTreeMap<NodeId, &Member> {
        let members = match self.state.is_formed() {
            true => self.membership().members(),
            false => &self.state.config.initial,
        };
        let mut directory: BTreeMap<NodeId, &Member> =
            members.iter().map(|(node, member)| (*node, member)).collect();
        if let Role::Leader(leader) = &self.role {
            directory.extend(leader.partings());
        }
        directory.remove(&self.state.id());
        directory
    }

    /// The current term.
    pub const fn term(&self) -> Term {
        self.state.term()
    }

    /// The leader of the current term, once known.
    pub const fn leader(&self) -> Option<NodeId> {
        self.state.leader
    }
}
