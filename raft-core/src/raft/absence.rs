//! A leader that may be gone: when to ask whether anybody still listens where it does, and what
//! follows when nobody does.
//!
//! The answer is a hint, and may be wrong. All it does is what the end of an election timeout does:
//! a follower believes no more that the leader is alive. Terms, votes and logs decide as ever. Only
//! one thing may rely on the timeout, a lease; so as long as this node may have promised one to
//! wait, it does not listen to hints.

use super::Next;
use super::message::LEASED;
use super::state::State;
use super::vote::VoteRequest;
use crate::types::{NodeId, Sender, Term, Version};

/// From this version on a leader tells whether it holds leases.
const TOLD_SINCE: Version = Version(4);

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Absence {
    /// When to ask about a leader of which nothing was heard meanwhile.
    due: u64,
    /// When a leader was last heard that may hold a lease.
    promised_at: Option<u64>,
    /// What gave rise to doubt since a leader was last heard; `None` while it is heard.
    doubt: Option<Doubt>,
}

/// What speaks for it that the leader is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Doubt {
    /// Whom to ask about with the next output.
    probe: Option<NodeId>,
    /// Nobody listens where the leader did that was last heard.
    gone: bool,
    /// When this node was told so, and stood for election.
    stood_at: Option<u64>,
    /// The last pre-vote of this term that was refused because the leader seemed to be alive.
    refused: Option<VoteRequest>,
}

impl State {
    /// Plans when to ask about the leader, which was just heard: when its next heartbeat is half an
    /// interval late, and up to another interval later. That part of the election timeout decides,
    /// which is random, so that few followers stand for election at the same moment.
    pub(super) fn note_present(&mut self) {
        let interval = u64::from(self.config.heartbeat_ticks);
        let share = self.election_due % (interval + 1);
        self.absence.due = self.now + interval + interval.div_ceil(2) + share;
        self.absence.doubt = None;
    }

    fn doubt(&mut self) -> &mut Doubt {
        self.absence.doubt.get_or_insert_default()
    }

    /// Notes what a message of the leader says of leases: it may rely on this node to elect nobody
    /// for a shortest election timeout.
    pub(super) fn note_promise(&mut self, sender: Sender, read_seq: u64) {
        if read_seq & LEASED != 0 || sender.version < TOLD_SINCE {
            self.absence.promised_at = Some(self.now);
        }
    }

    /// Whether a leader may rely on a lease that this node has a part in.
    fn is_promised(&self) -> bool {
        self.is_recent(self.absence.promised_at)
    }

    /// Whether a leader was heard leading within the shortest election timeout and is not known to
    /// be gone: then nobody else is to be elected (thesis §4.2.3).
    pub(super) fn hears_leader(&self) -> bool {
        let gone = self.absence.doubt.as_ref().is_some_and(|doubt| doubt.gone);
        !gone && self.is_recent(self.leader_heard_at())
    }

    fn is_recent(&self, at: Option<u64>) -> bool {
        let patience = u64::from(self.config.election_ticks_min);
        at.is_some_and(|at| self.now < at + patience)
    }

    /// The next tick at which a follower that hears nothing has something to do.
    pub(super) fn follower_due(&self) -> u64 {
        self.probe_due().map_or(self.election_due, |probe| probe.min(self.election_due))
    }

    /// The tick at which a follower asks about its leader, unless it hears it before.
    fn probe_due(&self) -> Option<u64> {
        (self.leader.is_some() && self.is_voter()).then_some(self.absence.due)
    }

    /// Asks about the leader if it is time to, and plans the next time.
    pub(super) fn tend_probe(&mut self) {
        if self.probe_due().is_some_and(|due| self.now >= due) {
            self.absence.due = self.now + u64::from(self.config.heartbeat_ticks);
            self.doubt().probe = self.leader;
        }
    }

    /// Whom to ask about.
    pub(super) fn take_probe(&mut self) -> Option<NodeId> {
        self.absence.doubt.as_mut()?.probe.take()
    }

    /// Another refuses to believe what this node, whose leader's heartbeat is late, still does. It
    /// was told no; should it turn out to be right, it is told yes.
    pub(super) fn note_doubt(&mut self, request: VoteRequest, term: Term) {
        let led = self.leader != Some(self.id());
        let late = led && self.leader_heard_at().is_some_and(|at| self.is_late(at));
        if late && request.pre_vote && term == self.term() && self.probe_due().is_some() {
            let probe = self.leader;
            let doubt = self.doubt();
            (doubt.refused, doubt.probe) = (Some(request), probe);
        }
    }

    /// Whether a leader that was last heard at this tick should have been heard since.
    fn is_late(&self, heard_at: u64) -> bool {
        self.now > heard_at + u64::from(self.config.heartbeat_ticks)
    }

    /// Nobody listens where `node` did, which a follower was told. Whoever asked for its vote
    /// before gets it; else it stands for election itself. A leader follows itself, and knows
    /// better; a candidate follows nobody; and one that was heard after all is there.
    pub(super) fn on_refused(&mut self, node: NodeId) -> Next {
        let late = self.leader_heard_at().is_none_or(|at| self.is_late(at));
        if self.leader != Some(node) || node == self.id() || self.is_promised() || !late {
            return Next::Stay;
        }
        let doubt = self.doubt();
        doubt.gone = true;
        let refused = doubt.refused.take();
        let granted = refused.is_some_and(|request| self.on_request_vote(request));
        if !granted && self.may_campaign() && self.may_vote() {
            self.doubt().stood_at = Some(self.now);
            return Next::Candidate { pre_vote: true, transfer: false };
        }
        Next::Follower { term: self.term(), leader: None }
    }

    /// Whether this node has stood for election just now, because the leader is gone: others may
    /// have done so at the same moment, and are not to split the votes. Half a heartbeat interval,
    /// for who refused this node because the leader was not late yet stands no sooner than that.
    pub(super) fn has_just_stood(&self) -> bool {
        let interval = u64::from(self.config.heartbeat_ticks);
        let stood_at = self.absence.doubt.as_ref().and_then(|doubt| doubt.stood_at);
        stood_at.is_some_and(|at| self.now < at + interval / 2)
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase_absence(&mut self) {
        let due = super::rebase::NOW + u64::from(self.config.election_ticks_max);
        self.absence = Absence { due, ..Absence::default() };
    }
}
