//! Handing leadership over (thesis §3.10): on request, and by itself when another should lead.

use super::Leader;
use crate::raft::message::Message;
use crate::raft::state::State;
use crate::raft::{Next, TransferRefusal};
use crate::types::NodeId;

/// Longest election timeouts between two hand-overs that nobody asked for, at first and at most.
const PAUSE_MIN: u64 = 32;
const PAUSE_MAX: u64 = 4096;

/// A hand-over under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    /// When it is given up and proposals are taken again.
    due: u64,
    /// Whether the target was told to campaign.
    told: bool,
}

#[cfg(any(test, feature = "testing"))]
impl Transfer {
    /// See `Raft::rebase`.
    pub(super) fn rebase(&mut self, now: u64) {
        self.due = crate::raft::rebase::put_off(self.due, now);
    }
}

impl Leader {
    pub(in crate::raft) fn transfer(
        &mut self,
        state: &State,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefusal> {
        let to = to.or_else(|| self.best_successor(state)).ok_or(TransferRefusal::NoTarget)?;
        if to == state.id() || !state.log.membership().voters().contains(&to) {
            return Err(TransferRefusal::NotVoter { to });
        }
        self.begin_transfer(state, to);
        Ok(to)
    }

    fn begin_transfer(&mut self, state: &State, to: NodeId) {
        let due = state.now + u64::from(state.config.election_ticks_min);
        self.transfer = Some(Transfer { to, due, told: false });
    }

    /// Of the voters that live and whose disks work the one that should lead: by priority among
    /// those that have everything committed, else by how far its log reaches.
    fn best_successor(&self, state: &State) -> Option<NodeId> {
        let membership = state.log.membership();
        let rank = |node: &NodeId| {
            let matched = self.progress.get(*node)?.match_index;
            let fit = state.is_alive(*node) && state.contacts.of(*node).stalled_ticks == 0;
            let precedence = match matched >= state.commit_index() {
                true => Some(membership.priority(*node)),
                false => None,
            };
            fit.then_some((precedence, matched, *node))
        };
        membership.voters().iter().filter_map(rank).max().map(|(_, _, node)| node)
    }

    /// To whom leadership is being handed over.
    pub(in crate::raft) fn transfers_to(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.to)
    }

    /// The target campaigns once it has every entry (thesis §3.10).
    pub(super) fn tell_target(&mut self, state: &mut State) {
        let Some(transfer) = &mut self.transfer else { return };
        let last = state.log.last().index;
        let caught_up = |node| self.progress.get(node).is_some_and(|it| it.match_index == last);
        if !transfer.told && caught_up(transfer.to) {
            transfer.told = true;
            // From now on another may be elected although this leader is heard.
            self.lease_void = true;
            state.send(transfer.to, Message::TimeoutNow);
        }
    }

    /// Gives up a hand-over that did not succeed in time, and begins those that nobody asks for.
    pub(super) fn tend_transfer(&mut self, state: &mut State) -> Next {
        if let Some(transfer) = &self.transfer {
            if state.now < transfer.due {
                return Next::Stay;
            }
            self.transfer = None;
        }
        if self.is_removed(state) {
            return self.resign(state);
        }
        let due = state.now >= state.next_transfer;
        if due && (self.is_stalled_alone(state) || self.gives_way(state)) {
            self.give_way(state);
        }
        Next::Stay
    }

    /// Hands over to whoever should lead; the next time only after a pause, which doubles each
    /// time. A successor that this leader hears may be unable to win, and a try costs an election.
    fn give_way(&mut self, state: &mut State) {
        let Some(to) = self.best_successor(state) else { return };
        let longest = u64::from(state.config.election_ticks_max);
        state.transfer_pause = (2 * state.transfer_pause).clamp(PAUSE_MIN, PAUSE_MAX);
        state.next_transfer = state.now + state.transfer_pause * longest;
        self.begin_transfer(state, to);
    }

    /// A leader outside the configuration has nothing left to do (§6): it hands over, so that
    /// nobody has to wait for an election timeout, and follows if nobody can take over.
    pub(super) fn resign(&mut self, state: &State) -> Next {
        let tried = std::mem::replace(&mut self.resigned, true);
        match self.best_successor(state) {
            Some(to) if !tried => self.begin_transfer(state, to),
            _ => return Next::Follower { term: state.term(), leader: None },
        }
        Next::Stay
    }

    /// Whether the committed configuration has no vote for this leader any more.
    pub(super) fn is_removed(&self, state: &State) -> bool {
        !state.log.membership().is_voter(state.id())
            && state.log.membership_index() <= state.commit_index()
    }

    /// Whether this leader's disk hangs while those of a quorum of the others go on. Where all hang
    /// together, as on one machine, another leader would be no better off.
    fn is_stalled_alone(&self, state: &State) -> bool {
        let persisted = state.persist.persisted_index();
        let goes_on =
            |node| self.progress.get(node).is_some_and(|other| other.match_index > persisted);
        state.is_stalled() && state.log.membership().is_quorum(goes_on)
    }

    /// Whether a voter that keeps up should lead rather than this node: it has a higher priority.
    fn gives_way(&self, state: &State) -> bool {
        let membership = state.log.membership();
        let own = membership.priority(state.id());
        let settled = state.now >= self.since + u64::from(state.config.election_ticks_max);
        settled
            && self
                .best_successor(state)
                .filter(|node| {
                    self.progress
                        .get(*node)
                        .is_some_and(|it| it.match_index >= state.commit_index())
                })
                .is_some_and(|node| membership.priority(node) > own)
    }
}
