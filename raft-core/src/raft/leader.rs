//! The leader: takes proposals, replicates them, commits, confirms reads, hands leadership over.

use super::message::{AppendEntries, AppendOutcome, Message, ReadRequestId};
use super::progress::{Flow, Progress, SnapshotStage};
use super::read::Confirmations;
use super::state::State;
use super::{ChangeRefusal, Lease, Next, Refusal, TransferRefusal};
use crate::types::{Change, Entry, Index, LogId, NodeId, Payload, SnapshotMeta};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leader {
    progress: BTreeMap<NodeId, Progress>,
    /// The first entry of this term. Until it is committed, nothing is known to be (§5.4.2, §8).
    first_index: Index,
    /// When this leadership began.
    since: u64,
    /// When heartbeats are next due.
    heartbeat_due: u64,
    /// Bytes of entries above the commit index.
    uncommitted_bytes: usize,
    confirmations: Confirmations,
    transfer: Option<Transfer>,
}

/// A hand-over under way (thesis §3.10).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Transfer {
    to: NodeId,
    /// When it is given up and proposals are taken again.
    due: u64,
    /// Whether the target was told to campaign.
    told: bool,
}

impl Leader {
    /// Takes office: every follower is probed, and an entry of the own term is appended, because
    /// only such an entry can be committed by counting (§5.4.2).
    pub(super) fn take_office(state: &mut State) -> Self {
        state.leader = Some(state.id());
        let next = state.log.last().index.next();
        let peers = state.peers().into_iter();
        let mut leader = Self {
            progress: peers.map(|peer| (peer, Progress::new(next))).collect(),
            first_index: next,
            since: state.now,
            heartbeat_due: state.now,
            uncommitted_bytes: state.log.bytes_after(state.commit_index()),
            confirmations: Confirmations::default(),
            transfer: None,
        };
        // The first entry of a cluster is its membership: so every state machine, and with it every
        // snapshot, gets to know the members through the log.
        let payload = match state.log.last() {
            LogId::ZERO => Payload::Membership(state.log.membership().clone()),
            _ => Payload::Noop,
        };
        leader.append(state, payload);
        leader
    }

    pub(super) fn propose(
        &mut self,
        state: &mut State,
        command: bytes::Bytes,
    ) -> Result<LogId, Refusal> {
        let limit = state.config.command_bytes_max;
        if command.len() > limit {
            return Err(Refusal::TooLarge { size: command.len(), limit });
        }
        let size = Entry::OVERHEAD + command.len();
        let full = !state.make_room(size)
            || self.uncommitted_bytes + size > state.config.uncommitted_bytes_max;
        // A leader that hands over takes nothing new, or the target would never catch up.
        if full || self.transfer.is_some() {
            return Err(Refusal::Overloaded);
        }
        Ok(self.append(state, Payload::Command(command)))
    }

    pub(super) fn change_membership(
        &mut self,
        state: &mut State,
        changes: &[Change],
    ) -> Result<LogId, ChangeRefusal> {
        let next = state.log.membership().changed(changes).map_err(ChangeRefusal::Invalid)?;
        Ok(self.append(state, Payload::Membership(next)))
    }

    pub(super) fn lease(&self, _state: &State) -> Option<Lease> {
        None
    }

    fn append(&mut self, state: &mut State, payload: Payload) -> LogId {
        let id = LogId { term: state.term(), index: state.log.last().index.next() };
        let entry = Entry { id, payload };
        self.uncommitted_bytes += entry.size();
        state.log.push(entry);
        id
    }

    pub(super) fn on_tick(&mut self, state: &mut State) -> Next {
        if self.lost_quorum(state) {
            return Next::Follower { term: state.term(), leader: None };
        }
        if self.transfer.as_ref().is_some_and(|transfer| state.now >= transfer.due) {
            self.transfer = None;
        }
        let probe_ticks = u64::from(state.config.heartbeat_ticks);
        let append_ticks = u64::from(state.config.election_ticks_min);
        for progress in self.progress.values_mut() {
            progress.expire(state.now, probe_ticks, append_ticks);
        }
        if state.now >= self.heartbeat_due {
            self.heartbeat_due = state.now + u64::from(state.config.heartbeat_ticks);
            self.send_heartbeats(state);
        } else {
            self.tell_commit(state);
        }
        Next::Stay
    }

    /// Check-quorum: a leader that has not heard a quorum for an election timeout steps down, or
    /// its clients would wait for ever (thesis §6.2).
    fn lost_quorum(&self, state: &State) -> bool {
        let heard = state.log.membership().quorum_value(|node| {
            if node == state.id() {
                return state.now;
            }
            state.heard_at(node).unwrap_or(0).max(self.since)
        });
        state.now >= heard + u64::from(state.config.election_ticks_max)
    }

    fn send_heartbeats(&mut self, state: &mut State) {
        for (peer, progress) in &mut self.progress {
            heartbeat(state, *peer, progress, self.confirmations.seq());
        }
    }

    /// An idle follower learns within a tick what was committed; a busy one by the next append.
    fn tell_commit(&mut self, state: &mut State) {
        for (peer, progress) in &mut self.progress {
            if progress.commit_told < state.commit_index().min(progress.match_index) {
                heartbeat(state, *peer, progress, self.confirmations.seq());
            }
        }
    }

    pub(super) fn on_append_entries_response(
        &mut self,
        state: &mut State,
        from: NodeId,
        outcome: AppendOutcome,
        read_seq: u64,
    ) {
        let last = state.log.last().index;
        let Some(progress) = self.progress.get_mut(&from) else { return };
        progress.read_seq = progress.read_seq.max(read_seq.min(self.confirmations.seq()));
        match outcome {
            // Beyond our log it can only be garbage: nobody acknowledges what was never sent.
            AppendOutcome::Matched(index) if index > last => {}
            AppendOutcome::Matched(index) => {
                if progress.matched(index) {
                    self.advance_commit(state);
                }
            }
            AppendOutcome::Conflict { refused, hint } => {
                on_conflict(state, progress, refused, hint);
            }
        }
        self.confirm_reads(state);
    }

    pub(super) fn on_persisted(&mut self, state: &mut State) {
        self.advance_commit(state);
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, request: ReadRequestId) {
        self.confirmations.on_read_index(from, request);
    }

    /// Commits what a quorum has on disk, ourselves included only as far as our own disk is.
    fn advance_commit(&mut self, state: &mut State) {
        let persisted = state.persist.persisted_index();
        let match_of = |node| match self.progress.get(&node) {
            Some(progress) => progress.match_index.0,
            None if node == state.id() => persisted.0,
            None => 0,
        };
        let index = Index(state.log.membership().quorum_value(match_of));
        // §5.4.2, figure 8: only entries of our own term commit by counting.
        if index <= state.commit_index() || state.log.term_at(index) != Some(state.term()) {
            return;
        }
        let newly = state.log.slice(state.commit_index().next(), index);
        self.uncommitted_bytes -= newly.iter().map(|run| run.size()).sum::<usize>();
        state.commit(index);
    }

    fn confirm_reads(&mut self, state: &mut State) {
        let own = self.confirmations.seq();
        let confirmed = state.log.membership().quorum_value(|node| {
            if node == state.id() {
                return own;
            }
            self.progress.get(&node).map_or(0, |progress| progress.read_seq)
        });
        for follower in self.confirmations.confirm(state, confirmed) {
            // The follower can answer only once it knows that the entries are committed.
            if let Some(progress) = self.progress.get_mut(&follower) {
                heartbeat(state, follower, progress, own);
            }
        }
    }

    /// Turns what has gathered since the last output into one write and one message per follower.
    pub(super) fn flush(&mut self, state: &mut State) {
        if let Some(run) = state.log.seal() {
            state.persist.append(run);
        }
        self.open_reads(state);
        for (peer, progress) in &mut self.progress {
            replicate(state, *peer, progress, self.confirmations.seq());
        }
        self.tell_target(state);
    }

    fn open_reads(&mut self, state: &mut State) {
        if state.commit_index() < self.first_index || !self.confirmations.open(state) {
            return;
        }
        self.send_heartbeats(state);
        self.confirm_reads(state);
    }

    pub(super) fn transfer(
        &mut self,
        state: &State,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefusal> {
        let voter = |node: &NodeId| state.log.membership().voters().contains(node);
        let reach = |(peer, progress): (&NodeId, &Progress)| (progress.match_index, *peer);
        let alive = |peer: &NodeId| {
            let patience = u64::from(state.config.election_ticks_min);
            state.heard_at(*peer).is_some_and(|at| state.now < at + patience)
        };
        let best = || {
            let voters = self.progress.iter().filter(|(peer, _)| voter(peer) && alive(peer));
            voters.map(reach).max().map(|(_, peer)| peer)
        };
        let to = to.or_else(best).ok_or(TransferRefusal::NoTarget)?;
        if to == state.id() || !voter(&to) {
            return Err(TransferRefusal::NotVoter { to });
        }
        let due = state.now + u64::from(state.config.election_ticks_min);
        self.transfer = Some(Transfer { to, due, told: false });
        Ok(to)
    }

    /// The target campaigns once it has every entry (thesis §3.10).
    fn tell_target(&mut self, state: &mut State) {
        let Some(transfer) = &mut self.transfer else { return };
        let caught_up = |progress: &Progress| progress.match_index == state.log.last().index;
        if !transfer.told && self.progress.get(&transfer.to).is_some_and(caught_up) {
            transfer.told = true;
            state.send(transfer.to, Message::TimeoutNow);
        }
    }

    /// Ends this leadership; reads that wait are given back for the next leader to serve.
    pub(super) fn leave_office(&mut self, state: &mut State) {
        if let Some(run) = state.log.seal() {
            state.persist.append(run);
        }
        self.confirmations.give_back(state);
    }

    /// A snapshot was handed over, or could not be.
    pub(super) fn on_snapshot_sent(
        &mut self,
        state: &State,
        to: NodeId,
        meta: &SnapshotMeta,
        ok: bool,
    ) {
        let Some(progress) = self.progress.get_mut(&to) else { return };
        if matches!(progress.flow, Flow::Snapshot(_)) {
            progress.flow = Flow::Snapshot(match ok {
                true => SnapshotStage::Sent { last: meta.last, at: state.now },
                false => SnapshotStage::Failed { at: state.now },
            });
        }
    }

    /// The log must be kept from here on, for snapshots under way.
    pub(super) fn snapshot_floor(&self) -> Option<Index> {
        let floor = |progress: &Progress| match progress.flow {
            Flow::Snapshot(SnapshotStage::Asked { floor }) => Some(floor),
            Flow::Snapshot(SnapshotStage::Sent { last, .. }) => Some(last.index),
            _ => None,
        };
        self.progress.values().filter_map(floor).min()
    }

    pub(super) const fn progress(&self) -> &BTreeMap<NodeId, Progress> {
        &self.progress
    }
}

/// Sends an empty append. Its `prev_log` is the follower's match index and its commit index capped
/// there, so it may overtake appends: it can neither meet a conflict nor wait for a disk.
fn heartbeat(state: &mut State, to: NodeId, progress: &mut Progress, read_seq: u64) {
    let prev_log = state.log.id_at(progress.match_index).unwrap_or(LogId::ZERO);
    let leader_commit = state.commit_index().min(prev_log.index);
    progress.commit_told = progress.commit_told.max(leader_commit);
    let append = AppendEntries { prev_log, entries: None, leader_commit, read_seq };
    state.send(to, Message::AppendEntries(append));
}

/// Sends what the follower's flow allows.
fn replicate(state: &mut State, to: NodeId, progress: &mut Progress, read_seq: u64) {
    if let Flow::Snapshot(_) = progress.flow {
        return;
    }
    let Some(prev_log) = state.log.id_at(progress.next_index.previous()) else {
        // Compacted away: nothing but a snapshot helps (§7).
        let floor = state.log.start().index;
        progress.flow = Flow::Snapshot(SnapshotStage::Asked { floor });
        state.send_snapshot.push(to);
        return;
    };
    if let Flow::Probe { sent } = &mut progress.flow {
        if sent.is_none() {
            *sent = Some(state.now);
            let leader_commit = state.commit_index();
            let append = AppendEntries { prev_log, entries: None, leader_commit, read_seq };
            state.send(to, Message::AppendEntries(append));
        }
        return;
    }
    let mut prev_log = prev_log;
    while progress.has_window(state.config.in_flight_max) {
        let bytes_max = state.config.message_bytes_max;
        let Some(run) = state.log.run_from(progress.next_index, bytes_max) else { return };
        let last = run.last();
        let leader_commit = state.commit_index();
        progress.commit_told = progress.commit_told.max(leader_commit.min(last.index));
        let append = AppendEntries { prev_log, entries: Some(run), leader_commit, read_seq };
        state.send(to, Message::AppendEntries(append));
        progress.sent(last.index, state.now);
        prev_log = last;
    }
}

/// Backs off to where the logs can agree: one probe per term that differs, not per entry (§5.3).
fn on_conflict(state: &State, progress: &mut Progress, refused: Index, hint: LogId) {
    let current = match progress.flow {
        Flow::Probe { .. } => refused == progress.next_index.previous(),
        Flow::Replicate { .. } => refused > progress.match_index && refused < progress.next_index,
        Flow::Snapshot(_) => false,
    };
    if !current || refused <= progress.match_index {
        return;
    }
    let bound = hint.index.min(refused.previous());
    if bound < state.log.start().index {
        // Below the boundary: the next turn finds that only a snapshot helps.
        return progress.probe(bound.next());
    }
    progress.probe(state.log.agreement_bound(bound, hint.term).index.next());
}
