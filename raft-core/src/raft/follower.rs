//! A follower: takes the leader's entries and its snapshots, and campaigns when it hears nothing.

use super::Next;
use super::message::{AppendEntries, AppendOutcome};
use super::state::State;
use crate::types::{LogId, NodeId, Run, SnapshotMeta};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Follower;

impl Follower {
    pub(super) fn on_tick(&self, state: &mut State) -> Next {
        state.expire_questions();
        if !state.is_formed() && state.greet() {
            return Next::Founder;
        }
        if state.now < state.election_due {
            state.tend_probe();
            return Next::Stay;
        }
        state.reset_election_timer();
        if !state.may_campaign() {
            // Not to be elected; but the leader is not to be believed alive either.
            return Next::Follower { term: state.term(), leader: None };
        }
        Next::Candidate { pre_vote: true, transfer: false }
    }

    /// Takes entries from the leader of this term (§5.3, figure 2).
    pub(super) fn on_append_entries(
        &self,
        state: &mut State,
        from: NodeId,
        append: &mut AppendEntries,
    ) {
        let AppendEntries { prev_log, leader_commit, read_seq, .. } = *append;
        let entries = append.entries.take();
        if !holds(state, prev_log) {
            if state.restoring.is_some() {
                // What is being restored is about to answer; a conflict now would bring on another
                // snapshot.
                return;
            }
            let bound = prev_log.index.previous();
            let hint = state.log.agreement_bound(bound, prev_log.term);
            let outcome = AppendOutcome::Conflict { refused: prev_log.index, hint };
            return state.send(from, state.response(outcome, read_seq));
        }
        // The prefix that this message shows to be equal to the leader's. Not our own last entry:
        // beyond it there may be a stale suffix.
        let matched = entries.as_ref().map_or(prev_log.index, |run| run.last().index);
        if entries.is_some_and(|run| !take_entries(state, run)) {
            return;
        }
        state.commit(leader_commit.min(matched));
        state.acknowledge(from, matched, read_seq);
    }

    /// What is here up to `entry` is committed, if that is here: logs that hold the same entry are
    /// the same up to it (§5.3).
    pub(super) fn on_commit(&self, state: &mut State, entry: LogId) {
        if state.log.term_at(entry.index) == Some(entry.term) {
            state.commit(entry.index);
        }
    }

    /// A snapshot's bytes are here (§7). Restores it unless the log already has what it covers.
    pub(super) fn on_install_snapshot(&self, state: &mut State, from: NodeId, meta: SnapshotMeta) {
        // A cluster without voters is none: nobody could ever lead it again.
        if state.restoring.is_some() || meta.membership.voters().is_empty() {
            return;
        }
        let last = meta.last.index;
        if last <= state.commit_index() {
            // Old or doubled. Everything committed here equals the leader's log.
            return state.acknowledge(from, state.commit_index(), 0);
        }
        if state.log.term_at(last) == Some(meta.last.term) {
            // The log has it all, and a snapshot holds only what is committed. Restoring would
            // throw away an acknowledged suffix.
            state.commit(last);
            return state.acknowledge(from, last, 0);
        }
        state.restore(meta);
    }

    /// The state machine now is the snapshot, durably: the log starts anew behind it.
    pub(super) fn on_restored(&self, state: &mut State, leader: Option<NodeId>) {
        let index = state.commit_index();
        if let Some(leader) = leader {
            state.acknowledge(leader, index, 0);
        }
    }

    /// The leader asks this caught-up follower to take over at once (thesis §3.10).
    pub(super) fn on_timeout_now(&self, state: &State) -> Next {
        if !state.may_campaign() {
            return Next::Stay;
        }
        Next::Candidate { pre_vote: false, transfer: true }
    }
}

/// Whether this log holds `prev_log`. What lies at or below the boundary or the commit index equals
/// every leader's log (§5.4.3), whether or not it is still here to be compared.
fn holds(state: &State, prev_log: LogId) -> bool {
    prev_log.index <= state.commit_index()
        || state.log.term_at(prev_log.index) == Some(prev_log.term)
}

/// Appends what is missing of `run`; whether all of it is in the log now. An append that finds
/// everything here changes nothing, so a late or doubled one never truncates (§5.3).
fn take_entries(state: &mut State, run: Run) -> bool {
    if state.restoring.is_some() {
        return false;
    }
    let Some(missing) = state.log.missing(run) else { return true };
    if state.must_flush_before(&missing) {
        // Unacknowledged: the leader sends again once there is room.
        return false;
    }
    state.append(missing);
    true
}
