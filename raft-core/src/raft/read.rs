//! Linearizable reads on any node (thesis §6.4).
//!
//! Reads that arrive in one turn share a batch. The leader notes its commit index, has a quorum
//! confirm that it still leads, and answers; a follower asks the leader for that index. A batch
//! that cannot be served yet waits; nothing here ever fails. Deadlines are the driver's.

use super::message::{LEASED, Message, ReadRequestId};
use super::state::{State, exchange};
use crate::types::{Index, NodeId, ReadId};
use std::collections::VecDeque;

/// Most questions a follower has under way; reads that arrive meanwhile share the next one.
const ASKED_MAX: usize = 8;

/// Most heartbeat rounds without an answer that a leader with leases remembers.
const ROUNDS_MAX: usize = 64;

/// Most questions of followers a leader keeps; further ones are dropped and asked again.
const REMOTE_MAX: usize = 1024;

/// The batches of this node, whatever its role.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reads {
    /// Drawn at the start: no answer to an earlier process can be taken for one to this.
    nonce: u64,
    /// Questions asked so far.
    tries: u64,
    batches: u64,
    /// Batches that nobody has been asked about. New reads join the last one.
    waiting: Vec<ReadId>,
    /// A follower's questions under way.
    asked: Vec<Asked>,
    answered: Vec<(ReadId, Index)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Asked {
    request: ReadRequestId,
    batches: Vec<ReadId>,
    at: u64,
}

impl Reads {
    pub(super) const fn new(nonce: u64) -> Self {
        Self {
            nonce,
            tries: 0,
            batches: 0,
            waiting: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
        }
    }

    /// Joins the batch that is waiting, or opens one.
    pub(super) fn join(&mut self) -> ReadId {
        if let Some(batch) = self.waiting.last() {
            return *batch;
        }
        self.batches += 1;
        let batch = ReadId(self.batches);
        self.waiting.push(batch);
        batch
    }

    /// Forgets what was asked: the leader or the term changed, so no answer can come.
    pub(super) fn ask_again(&mut self) {
        for asked in self.asked.drain(..) {
            self.waiting.extend(asked.batches);
        }
        self.waiting.sort_unstable();
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self) {
        self.asked.iter_mut().for_each(|asked| asked.at = super::rebase::NOW);
    }

    /// Takes the batches that were answered since this was last called.
    pub(super) fn take_answered(&mut self, reads: &mut Vec<(ReadId, Index)>) {
        exchange(&mut self.answered, reads);
    }
}

impl State {
    /// A follower asks the leader about the waiting batches.
    pub(super) fn ask_leader(&mut self) {
        let Some(leader) = self.leader else { return };
        if self.reads.waiting.is_empty() || self.reads.asked.len() >= ASKED_MAX {
            return;
        }
        self.reads.tries += 1;
        let request = ReadRequestId { nonce: self.reads.nonce, seq: self.reads.tries };
        let batches = std::mem::take(&mut self.reads.waiting);
        self.reads.asked.push(Asked { request, batches, at: self.now });
        self.send(leader, Message::ReadIndex { request });
    }

    /// Questions that got no answer for an election timeout are asked again, under a new id: a late
    /// answer to the old one must not confirm the new one. Sooner would let no answer count where
    /// two round trips take longer.
    /// Whether a tick has something to do at once: a question may be overdue, or there is a cluster
    /// to be formed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_formed() || !self.reads.asked.is_empty() || !self.reads.waiting.is_empty()
    }

    pub(super) fn expire_questions(&mut self) {
        let patience = u64::from(self.config.election_ticks_min);
        let overdue = |asked: &mut Asked| self.now >= asked.at + patience;
        for asked in self.reads.asked.extract_if(.., overdue) {
            self.reads.waiting.extend(asked.batches);
        }
        self.reads.waiting.sort_unstable();
    }

    pub(super) fn on_read_index_response(&mut self, request: ReadRequestId, index: Index) {
        let Some(position) = self.reads.asked.iter().position(|asked| asked.request == request)
        else {
            return;
        };
        let asked = self.reads.asked.remove(position);
        self.reads.answered.extend(asked.batches.into_iter().map(|batch| (batch, index)));
    }
}

/// The batches a leader is having confirmed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Confirmations {
    /// The newest read sequence handed out.
    seq: u64,
    /// Followers' questions not yet given a sequence.
    remote: Vec<(NodeId, ReadRequestId)>,
    pending: VecDeque<Confirmation>,
    /// When each sequence that no quorum has confirmed was sent; only where leases are wanted.
    rounds: VecDeque<(u64, u64)>,
    /// When what a quorum has confirmed was sent, at the latest.
    quorum_since: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Confirmation {
    seq: u64,
    index: Index,
    local: Vec<ReadId>,
    remote: Vec<(NodeId, ReadRequestId)>,
}

impl Confirmations {
    /// Of a leader that holds leases or does not, which the sequence tells.
    pub(super) fn new(leases: bool) -> Self {
        Self { seq: if leases { LEASED } else { 0 }, ..Self::default() }
    }

    /// The sequence that every message to a follower carries.
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    /// Gives the next messages a sequence of their own, sent at `now`, for the lease.
    pub(super) fn open_round(&mut self, now: u64) {
        // Nobody has answered for long: the lease is over anyway.
        if self.rounds.len() >= ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.seq += 1;
        self.rounds.push_back((self.seq, now));
    }

    /// Whether nothing waits to be confirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.rounds.is_empty()
    }

    /// When the lease began, if a quorum has confirmed anything.
    pub(super) const fn quorum_since(&self) -> Option<u64> {
        self.quorum_since
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, request: ReadRequestId) {
        if self.remote.len() < REMOTE_MAX {
            self.remote.push((from, request));
        }
    }

    /// Gives everything that waits one new sequence, to be confirmed for the present commit index;
    /// whether there was anything. Only once an entry of the leader's own term is committed: before
    /// that its commit index may lag behind what an earlier leader answered (thesis §6.4).
    pub(super) fn open(&mut self, state: &mut State) -> bool {
        if state.reads.waiting.is_empty() && self.remote.is_empty() {
            return false;
        }
        self.seq += 1;
        self.pending.push_back(Confirmation {
            seq: self.seq,
            index: state.commit_index(),
            local: std::mem::take(&mut state.reads.waiting),
            remote: std::mem::take(&mut self.remote),
        });
        true
    }

    /// Answers everything up to the sequence a quorum has confirmed; the followers that were
    /// answered, with the index.
    pub(super) fn confirm(&mut self, state: &mut State, confirmed: u64) -> Vec<NodeId> {
        let mut told = Vec::new();
        while let Some((_, at)) = self.rounds.front().filter(|(seq, _)| *seq <= confirmed) {
            self.quorum_since = Some(*at);
            self.rounds.pop_front();
        }
        while self.pending.front().is_some_and(|pending| pending.seq <= confirmed) {
            let Some(confirmation) = self.pending.pop_front() else { break };
            let index = confirmation.index;
            state.reads.answered.extend(confirmation.local.into_iter().map(|id| (id, index)));
            for (to, request) in confirmation.remote {
                state.send(to, Message::ReadIndexResponse { request, index });
                told.push(to);
            }
        }
        told
    }

    /// Gives back this node's own batches when leadership ends; another leader will serve them.
    pub(super) fn give_back(&mut self, state: &mut State) {
        for confirmation in self.pending.drain(..) {
            state.reads.waiting.extend(confirmation.local);
        }
        state.reads.waiting.sort_unstable();
    }
}
