//! The leader: takes proposals, replicates them, commits, confirms reads.

mod membership;
mod replication;
mod transfer;

use super::by_node::ByNode;
use super::message::{AppendOutcome, ReadRequestId};
use super::progress::{Flow, Progress, SnapshotStage};
use super::read::Confirmations;
use super::state::State;
use super::{Lease, Next, Refusal};
use crate::types::{Entry, Index, LogId, Membership, NodeId, Payload, Sender, SnapshotMeta};
use membership::Parting;
use replication::{heartbeat, on_conflict, replicate, tell};
use std::collections::BTreeMap;
use transfer::Transfer;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leader {
    progress: ByNode<Progress>,
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
    /// Whether this leader, removed from the configuration, has tried to hand over.
    resigned: bool,
    /// Whether another was asked to campaign: then no lease holds in this term any more.
    lease_void: bool,
    /// Those that are no members any more, and are still told so.
    partings: BTreeMap<NodeId, Parting>,
}

impl Leader {
    /// Takes office: every follower is probed, and an entry of the own term is appended, because
    /// only such an entry can be committed by counting (§5.4.2).
    pub(super) fn take_office(state: &mut State) -> Self {
        // The first entry of a cluster is its membership: so every state machine, and with it every
        // snapshot, gets to know the members through the log.
        let payload = match state.log.last() {
            LogId::ZERO => Payload::Membership(state.log.membership().clone().into()),
            _ => Payload::Noop,
        };
        Self::begin(state, payload)
    }

    /// Founds a cluster of `membership`; see `formation`.
    pub(super) fn found(state: &mut State, membership: Membership) -> Self {
        Self::begin(state, Payload::Membership(membership.into()))
    }

    fn begin(state: &mut State, payload: Payload) -> Self {
        state.leader = Some(state.id());
        let mut leader = Self {
            progress: ByNode::new(),
            first_index: state.log.last().index.next(),
            since: state.now,
            heartbeat_due: state.now,
            uncommitted_bytes: state
                .log
                .bytes_between(state.commit_index().next(), state.log.last().index),
            confirmations: Confirmations::new(state.config.lease_reads),
            transfer: None,
            resigned: false,
            lease_void: false,
            partings: BTreeMap::new(),
        };
        leader.append(state, payload);
        // Probes begin behind what the log had before.
        leader.follow_membership(state, &Membership::default(), leader.first_index);
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
        let next = self.tend_transfer(state);
        if next != Next::Stay {
            return next;
        }
        self.tend_membership(state);
        self.tend_partings(state);
        let probe_ticks = u64::from(state.config.heartbeat_ticks);
        let append_ticks = u64::from(state.config.election_ticks_min);
        for (_, progress) in self.progress.iter_mut() {
            progress.expire(state.now, probe_ticks, append_ticks);
        }
        if state.now >= self.heartbeat_due {
            self.heartbeat_due = state.now + u64::from(state.config.heartbeat_ticks);
            if state.config.lease_reads {
                self.confirmations.open_round(state.now);
            }
            self.send_heartbeats(state);
        } else {
            self.tell_commit(state, |_| true);
        }
        Next::Stay
    }

    /// The next tick at which there is something to do.
    pub(super) fn next_due(&self, state: &State) -> u64 {
        let told = self.progress.values().all(|progress| progress.is_told(state.commit_index()));
        let busy = !told || self.transfer.is_some() || !self.partings.is_empty();
        if busy { state.now + 1 } else { self.heartbeat_due }
    }

    /// Check-quorum: a leader that has not heard a quorum for an election timeout steps down, or
    /// its clients would wait for ever (thesis §6.2).
    fn lost_quorum(&self, state: &State) -> bool {
        state.now >= self.quorum_heard(state) + u64::from(state.config.election_ticks_max)
    }

    /// Since when a quorum has been heard, or when it elected this leader.
    pub(super) fn quorum_heard(&self, state: &State) -> u64 {
        state.log.membership().quorum_value(|node| {
            if node == state.id() {
                return state.now;
            }
            // Only answers show that a node hears this leader: others may call, and not hear.
            state.contacts.of(node).answered_at.unwrap_or(0).max(self.since)
        })
    }

    fn send_heartbeats(&mut self, state: &mut State) {
        for (peer, progress) in self.progress.iter_mut() {
            heartbeat(state, peer, progress, self.confirmations.seq());
        }
    }

    /// An idle follower learns at once what was committed: clients and watchers there wait for it.
    /// A busy one learns it with the next append, or within a tick.
    fn tell_commit(&mut self, state: &mut State, whom: impl Fn(&Progress) -> bool) {
        for (peer, progress) in self.progress.iter_mut() {
            // Below the boundary of the log nothing can be told but by a snapshot.
            let tells = progress.match_index >= state.log.start().index && whom(progress);
            if tells && !progress.is_told(state.commit_index()) {
                tell(state, peer, progress, self.confirmations.seq());
            }
        }
    }

    pub(super) fn on_append_entries_response(
        &mut self,
        state: &mut State,
        from: NodeId,
        sender: Sender,
        outcome: AppendOutcome,
        read_seq: u64,
    ) {
        let last = state.log.last().index;
        let Some(progress) = self.progress.get_mut(from) else { return };
        // A replication session lasts for one life of the follower, in one term of ours.
        if *progress.life.get_or_insert(sender.incarnation) != sender.incarnation {
            *progress = Progress::new(last.next());
            progress.life = Some(sender.incarnation);
        }
        progress.read_seq = progress.read_seq.max(read_seq.min(self.confirmations.seq()));
        match outcome {
            // Beyond our log it can only be garbage: nobody acknowledges what was never sent.
            AppendOutcome::Matched(index) if index > last => {}
            AppendOutcome::Matched(index) => {
                let news = progress.matched(index, state.now);
                progress.go_on_round(last, state.now, u64::from(state.config.election_ticks_min));
                if news && index > state.commit_index() {
                    self.advance_commit(state);
                }
            }
            AppendOutcome::Conflict { refused, hint } => {
                on_conflict(state, progress, refused, hint);
            }
        }
        self.confirm_reads(state);
    }

    /// Our own disk alone commits nothing, unless nobody else is needed: as long as no other has
    /// more than what is committed, which is so nearly always, nothing need be counted.
    pub(super) fn on_persisted(&mut self, state: &mut State) {
        let ahead = |progress: &Progress| progress.match_index > state.commit_index();
        if self.progress.values().any(ahead) || state.log.membership().quorum_size() == 1 {
            self.advance_commit(state);
        }
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, request: ReadRequestId) {
        self.confirmations.on_read_index(from, request);
    }

    /// Commits what a quorum has on disk, ourselves included only as far as our own disk is.
    fn advance_commit(&mut self, state: &mut State) {
        let persisted = state.persist.persisted_index();
        let match_of = |node| {
            if node == state.id() {
                return persisted.0;
            }
            self.progress.get(node).map_or(0, |progress| progress.match_index.0)
        };
        let index = Index(state.log.membership().quorum_value(match_of));
        // §5.4.2, figure 8: only entries of our own term commit by counting.
        if index <= state.commit_index() || state.log.term_at(index) != Some(state.term()) {
            return;
        }
        self.uncommitted_bytes = match index == state.log.last().index {
            // Nearly always: nothing need be looked at.
            true => 0,
            false => {
                let from = state.commit_index().next();
                self.uncommitted_bytes - state.log.bytes_between(from, index)
            }
        };
        let membership_index = state.log.membership_index();
        let concerns_members = state.commit_index() < membership_index && membership_index <= index;
        state.commit(index);
        if concerns_members {
            self.tend_membership(state);
        }
    }

    pub(super) fn lease(&self, state: &State) -> Option<Lease> {
        let percent = u64::from(100 - state.config.clock_drift_percent);
        // A follower's first tick of waiting may be nearly over when it hears of this leader.
        let promised = u64::from(state.config.election_ticks_min) - 1;
        let ticks = promised * percent / 100;
        let since = self.confirmations.quorum_since()?;
        let holds = !self.lease_void
            && state.commit_index() >= self.first_index
            && state.now < since + ticks;
        holds.then_some(Lease { index: state.commit_index(), since, ticks })
    }

    fn confirm_reads(&mut self, state: &mut State) {
        if self.confirmations.is_idle() {
            return;
        }
        let own = self.confirmations.seq();
        let confirmed = state.log.membership().quorum_value(|node| {
            if node == state.id() {
                return own;
            }
            self.progress.get(node).map_or(0, |progress| progress.read_seq)
        });
        for follower in self.confirmations.confirm(state, confirmed) {
            // The follower can answer only once it knows that the entries are committed.
            let progress = self.progress.get_mut(follower);
            if let Some(progress) = progress.filter(|it| !it.is_told(state.commit_index())) {
                tell(state, follower, progress, own);
            }
        }
    }

    /// Turns what has gathered since the last output into one write and one message per follower.
    pub(super) fn flush(&mut self, state: &mut State) {
        state.seal();
        self.open_reads(state);
        for (peer, progress) in self.progress.iter_mut() {
            replicate(state, peer, progress, self.confirmations.seq());
        }
        self.tell_commit(state, Progress::is_idle);
        self.tell_target(state);
    }

    fn open_reads(&mut self, state: &mut State) {
        if state.commit_index() < self.first_index || !self.confirmations.open(state) {
            return;
        }
        self.send_heartbeats(state);
        self.confirm_reads(state);
    }

    /// Ends this leadership; reads that wait are given back for the next leader to serve.
    pub(super) fn leave_office(&mut self, state: &mut State) {
        state.seal();
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
        let Some(progress) = self.progress.get_mut(to) else { return };
        if matches!(progress.flow, Flow::Snapshot(_)) {
            progress.flow = Flow::Snapshot(match ok {
                true => SnapshotStage::Sent { last: meta.last, at: state.now },
                false => SnapshotStage::Failed { at: state.now },
            });
        }
    }

    /// The log must be kept from here on: for snapshots under way, and for followers that are there
    /// and still behind, who would need another snapshot as soon as they have installed one.
    pub(super) fn needed_from(&self, state: &State) -> Option<Index> {
        let needed = |(node, progress): (NodeId, &Progress)| match progress.flow {
            Flow::Snapshot(SnapshotStage::Asked { floor }) => Some(floor),
            Flow::Snapshot(SnapshotStage::Sent { last, .. }) => Some(last.index),
            Flow::Snapshot(SnapshotStage::Failed { .. }) => None,
            Flow::Probe { .. } | Flow::Replicate { .. } => {
                let matched = progress.match_index;
                let here = matched >= state.log.start().index && state.is_alive(node);
                here.then_some(matched)
            }
        };
        self.progress.iter().filter_map(needed).min()
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self, state: &State) {
        use super::rebase::{NOW, put_off};
        self.progress.iter_mut().for_each(|(_, progress)| progress.rebase());
        self.since = NOW;
        self.heartbeat_due = NOW;
        if let Some(transfer) = &mut self.transfer {
            transfer.rebase(state.now);
        }
        self.partings.values_mut().for_each(|it| it.due = put_off(it.due, state.now));
    }

    pub(super) const fn progress(&self) -> &ByNode<Progress> {
        &self.progress
    }
}
