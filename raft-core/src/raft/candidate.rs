//! A candidate: first asks whether it would be elected, then for votes (§5.2; thesis §9.6).

use super::Next;
use super::message::Message;
use super::state::State;
use crate::types::{NodeId, WriteSeq};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Candidate {
    /// Whether this only asks. No term is raised yet, so an isolated node disturbs nobody.
    pub(super) pre_vote: bool,
    /// Who granted, sorted. "Has seen us" and "has granted" are different things: only grants are
    /// kept.
    granted: Vec<NodeId>,
    /// The write that makes our own vote durable; it counts from then on, as anyone's does.
    own_vote: Option<WriteSeq>,
}

impl Candidate {
    /// Starts a campaign: raises the term unless this is a pre-vote, and asks everyone.
    pub(super) fn campaign(state: &mut State, pre_vote: bool, transfer: bool) -> Self {
        state.leader = None;
        state.campaigned = true;
        let due = state.election_due;
        state.reset_election_timer();
        if pre_vote && due > state.now {
            // Before its time, on a hint: if others do not know of it yet, it loses none by that.
            state.election_due = state.election_due.min(due);
        }
        if !pre_vote {
            state.set_hard_state(state.term().next(), Some(state.id()));
        }
        let last_log = state.log.last();
        for peer in state.peers() {
            if state.log.membership().is_voter(peer) {
                state.send(peer, Message::RequestVote { last_log, pre_vote, transfer });
            }
        }
        let own_vote = (!pre_vote).then(|| state.persist.hard_state_seq());
        let granted = if pre_vote { vec![state.id()] } else { Vec::new() };
        Self { pre_vote, granted, own_vote }
    }

    pub(super) fn on_tick(&self, state: &State) -> Next {
        if state.now < state.election_due {
            return Next::Stay;
        }
        // Split vote, or nobody there: again, after another random time (§5.2).
        if !state.may_campaign() {
            // Its disk has stalled meanwhile.
            return Next::Follower { term: state.term(), leader: None };
        }
        Next::Candidate { pre_vote: true, transfer: false }
    }

    pub(super) fn on_request_vote_response(
        &mut self,
        state: &State,
        from: NodeId,
        granted: bool,
        pre_vote: bool,
    ) -> Next {
        if pre_vote != self.pre_vote || !granted {
            return Next::Stay;
        }
        self.grant(from);
        self.tally(state)
    }

    /// Counts our own vote once it is durable.
    pub(super) fn on_persisted(&mut self, state: &State) -> Next {
        if self.own_vote.is_some_and(|seq| state.persist.is_done(seq)) {
            self.own_vote = None;
            self.grant(state.id());
        }
        self.tally(state)
    }

    /// What follows if a quorum has granted.
    pub(super) fn tally(&self, state: &State) -> Next {
        let granted = |node| self.granted.binary_search(&node).is_ok();
        if !state.log.membership().is_quorum(granted) {
            return Next::Stay;
        }
        if self.pre_vote {
            return Next::Candidate { pre_vote: false, transfer: false };
        }
        Next::Leader
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self, done: WriteSeq) {
        self.own_vote = self.own_vote.map(|seq| super::rebase::renumbered(seq, done));
    }

    fn grant(&mut self, from: NodeId) {
        if let Err(position) = self.granted.binary_search(&from) {
            self.granted.insert(position, from);
        }
    }
}
