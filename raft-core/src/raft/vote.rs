//! Granting votes: rules shared by all roles (§5.2, §5.4.1; thesis §4.2.3, §9.6).

use super::message::{Envelope, Message};
use super::state::State;
use crate::types::{LogId, NodeId};

/// A request for a vote, its sender's term already found current.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct VoteRequest {
    pub(super) from: NodeId,
    pub(super) last_log: LogId,
    pub(super) pre_vote: bool,
    pub(super) transfer: bool,
}

impl VoteRequest {
    /// What `envelope` asks for, if that is a vote.
    pub(super) fn of(envelope: &Envelope) -> Option<Self> {
        let Message::RequestVote { last_log, pre_vote, transfer } = envelope.message else {
            return None;
        };
        Some(Self { from: envelope.from, last_log, pre_vote, transfer })
    }
}

impl State {
    /// Whether the request is to be turned down before its term is even looked at: a leader is
    /// alive, and it did not ask for this election itself (thesis §4.2.3). Otherwise a node that
    /// cannot hear the leader would depose it again and again. A leader that asks for votes has
    /// ceased to lead: it was restarted, or has stepped down.
    pub(super) fn is_disruptive(&self, request: VoteRequest, leads: bool) -> bool {
        let leader_asks = self.leader == Some(request.from);
        !request.transfer && !leader_asks && (leads || self.hears_leader())
    }

    /// Grants or refuses, says so, and returns which. The answer to a real vote leaves once the
    /// vote is durable.
    pub(super) fn on_request_vote(&mut self, request: VoteRequest) -> bool {
        let VoteRequest { from, last_log, pre_vote, transfer } = request;
        // §5.4.1: the derived order of log ids is "at least as up-to-date as".
        let up_to_date = last_log >= self.log.last();
        // A pre-vote is for the next term, in which nobody has voted yet.
        let free = pre_vote || self.vote().is_none_or(|vote| vote == from);
        // A leader that hands over has given its lease up, so a promise to it does not matter.
        let may_vote =
            self.may_vote() || (transfer && self.is_bound()) || self.helps_found(request);
        // A node that restores a snapshot votes: it has acknowledged nothing of what it restores.
        let granted = up_to_date && free && may_vote && !self.takes_precedence(request);
        if granted && !pre_vote {
            self.set_hard_state(self.term(), Some(from));
            // Whoever has just voted gives the candidate time to win.
            self.reset_election_timer();
        }
        self.send(from, Message::RequestVoteResponse { granted, pre_vote });
        granted
    }

    /// Whether a blank node may vote: for another initial member. When a cluster was founded, only
    /// some may have got the first entry, and the rest be needed to elect a leader among them. A
    /// node whose directory was wiped may be taken for a blank one here; its vote is not counted,
    /// for the first entry names the lives whose votes are.
    fn helps_found(&self, request: VoteRequest) -> bool {
        let initial = !self.is_formed() && self.config.initial.contains_key(&request.from);
        initial && self.now >= self.votes_from
    }

    /// Whether this node should lead rather than a candidate with an equal log: it has the higher
    /// priority and has not tried yet, or both were just told that the leader is gone. Only in
    /// pre-votes and only for so long, so that a node that cannot win does not keep others from it.
    fn takes_precedence(&self, request: VoteRequest) -> bool {
        let VoteRequest { from, last_log, pre_vote, transfer } = request;
        let membership = self.log.membership();
        let (own, theirs) = (membership.priority(self.id()), membership.priority(from));
        let tries = !self.campaigned && own > theirs;
        let stands = self.has_just_stood() && (own, from) > (theirs, self.id());
        pre_vote
            && !transfer
            && last_log == self.log.last()
            && (tries || stands)
            && self.may_campaign()
    }

    /// Turns a candidate down without looking at its term.
    pub(super) fn refuse_vote(&mut self, request: VoteRequest) {
        let VoteRequest { from, pre_vote, .. } = request;
        self.send(from, Message::RequestVoteResponse { granted: false, pre_vote });
    }
}
