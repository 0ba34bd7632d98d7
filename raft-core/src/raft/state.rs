//! What every role keeps (figure 2, "state on all servers"), and what every role does with it.

use super::absence::Absence;
use super::config::Config;
use super::contacts::Contacts;
use super::formation::Hellos;
use super::io::{Apply, Output, Write};
use super::log::{Log, Trailing};
use super::message::{AppendEntries, AppendOutcome, Envelope, Message};
use super::persist::Persistence;
use super::read::Reads;
use super::rng::Rng;
use crate::types::{
    HardState, Incarnation, Index, LogId, Membership, NodeId, Run, Sender, SnapshotMeta, Term,
    Version,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) config: Config,
    /// Who this node is to the others.
    pub(super) sender: Sender,
    /// Term and vote. Every change goes through `set_hard_state`, so that it reaches the disk.
    hard_state: HardState,
    /// The leader of this term, once known.
    pub(super) leader: Option<NodeId>,
    pub(super) log: Log,
    pub(super) persist: Persistence,
    commit_index: Index,
    /// Entries up to here were handed to the state machine. Invariant: <= `commit_index`.
    handed_index: Index,
    /// The state machine is durable up to here. Invariant: <= `handed_index`.
    flushed_index: Index,
    /// A snapshot the state machine is being replaced by; appends are dropped meanwhile.
    pub(super) restoring: Option<SnapshotMeta>,
    /// Ticks since the start.
    pub(super) now: u64,
    pub(super) contacts: Contacts,
    pub(super) hellos: Hellos,
    /// Whether this node has campaigned since it last heard a leader.
    pub(super) campaigned: bool,
    /// No hand-over begins by itself before this tick.
    pub(super) next_transfer: u64,
    /// How long to wait after the last one, in longest election timeouts.
    pub(super) transfer_pause: u64,
    /// Before this tick no vote is granted: an earlier life of this process may have promised the
    /// leader to grant none for a shortest election timeout.
    pub(super) votes_from: u64,
    /// When a leader was last heard leading, of whatever term: until the shortest election timeout
    /// is over nobody else is to be elected, for it may rely on that (thesis §6.4.1).
    leader_heard_at: Option<u64>,
    pub(super) absence: Absence,
    /// When the election timer of a follower or candidate runs out.
    pub(super) election_due: u64,
    pub(super) reads: Reads,
    rng: Rng,
    outbox: Vec<Envelope>,
    restores: Vec<SnapshotMeta>,
    pub(super) send_snapshot: Vec<NodeId>,
}

impl State {
    pub(super) fn new(
        config: Config,
        incarnation: Incarnation,
        hard_state: HardState,
        log: Log,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let reads = Reads::new(rng.next());
        let mut state = Self {
            persist: Persistence::new(log.last().index),
            commit_index: log.start().index,
            handed_index: log.start().index,
            flushed_index: log.start().index,
            sender: Sender { incarnation, version: config.version },
            config,
            hard_state,
            leader: None,
            log,
            restoring: None,
            now: 0,
            contacts: Contacts::default(),
            hellos: Hellos::default(),
            campaigned: false,
            next_transfer: 0,
            transfer_pause: 0,
            votes_from: 0,
            leader_heard_at: None,
            absence: Absence::default(),
            election_due: 0,
            reads,
            rng,
            outbox: Vec::new(),
            restores: Vec::new(),
            send_snapshot: Vec::new(),
        };
        if state.hard_state != HardState::default() {
            state.votes_from = u64::from(state.config.election_ticks_min);
        }
        state.reset_election_timer();
        state
    }

    pub(super) const fn id(&self) -> NodeId {
        self.config.id
    }

    pub(super) const fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(super) const fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
    }

    pub(super) const fn commit_index(&self) -> Index {
        self.commit_index
    }

    pub(super) const fn handed_index(&self) -> Index {
        self.handed_index
    }

    /// Changes term or vote, durably before anyone hears of it (§5.2).
    pub(super) fn set_hard_state(&mut self, term: Term, vote: Option<NodeId>) {
        let old = self.hard_state;
        assert!(term >= old.term, "term falls from {} to {term}", old.term);
        let changes_vote = term == old.term && old.vote.is_some() && vote != old.vote;
        assert!(!changes_vote, "vote of term {term} changes from {:?} to {vote:?}", old.vote);
        self.hard_state = HardState { term, vote };
        if self.hard_state != old {
            self.persist.hard_state(self.hard_state);
        }
    }

    /// Sends once the term and vote are durable.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.send_when(to, message, None);
    }

    /// Acknowledges the log up to `matched`, once that is durable too.
    pub(super) fn acknowledge(&mut self, to: NodeId, matched: Index, read_seq: u64) {
        let outcome = AppendOutcome::Matched(matched);
        let message = self.response(outcome, read_seq);
        self.send_when(to, message, Some(matched));
    }

    // Inlined, so that the message is made where the envelope is: it is large.
    #[inline(always)]
    fn send_when(&mut self, to: NodeId, message: Message, matched: Option<Index>) {
        let until = self.persist.promised_by(matched);
        let (from, term, sender) = (self.id(), self.term(), self.sender);
        let envelope = Envelope { from, to, term, sender, message };
        if self.persist.is_done(until) {
            self.outbox.push(envelope);
        } else {
            self.persist.hold(envelope, until);
        }
    }

    /// Tells the sender of a message of an earlier term about ours, so that it steps down (§5.1).
    pub(super) fn refuse_stale(&mut self, envelope: &Envelope) {
        let answer = match envelope.message {
            Message::RequestVote { pre_vote, .. } => {
                Message::RequestVoteResponse { granted: false, pre_vote }
            }
            Message::AppendEntries(AppendEntries { prev_log, .. }) => self.conflict(prev_log.index),
            Message::InstallSnapshot { ref meta } => self.conflict(meta.last.index),
            _ => return,
        };
        self.send(envelope.from, answer);
    }

    fn conflict(&self, refused: Index) -> Message {
        let outcome = AppendOutcome::Conflict { refused, hint: self.log.last() };
        self.response(outcome, 0)
    }

    pub(super) fn response(&self, outcome: AppendOutcome, read_seq: u64) -> Message {
        let told = self.is_stalled() && self.log.membership().version() >= Version(2);
        let stalled_ticks = if told { self.persist.waiting_ticks(self.now) } else { 0 };
        let stalled_ticks = u32::try_from(stalled_ticks).unwrap_or(u32::MAX);
        Message::AppendEntriesResponse { outcome, read_seq, stalled_ticks }
    }

    /// Whether the disk has completed nothing for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.persist.waiting_ticks(self.now) >= u64::from(self.config.disk_stall_ticks)
    }

    /// Whether this node may be elected: it counts toward a quorum, its log is not about to be
    /// replaced by a snapshot's, and its disk works. Whoever is removed may still be needed until
    /// that is committed, for it may have the newest log (thesis §4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        self.is_voter() && self.is_bound() && self.restoring.is_none() && !self.is_stalled()
    }

    /// Whether this node votes in a configuration that may be the cluster's.
    pub(super) fn is_voter(&self) -> bool {
        self.memberships().any(|membership| membership.is_voter(self.id()))
    }

    /// Whether the configuration in this log knows this life of the node. If not, an earlier life
    /// may have voted and acknowledged what this one knows nothing of; or there is no cluster yet.
    pub(super) fn is_bound(&self) -> bool {
        self.memberships().any(|known| known.admits(self.id(), self.sender.incarnation))
    }

    /// The configurations that may be the cluster's, as far as this node knows.
    fn memberships(&self) -> impl Iterator<Item = &Membership> {
        self.log.memberships_from(self.commit_index)
    }

    /// Whether this node may vote: it is bound, and what an earlier run of it promised is over.
    pub(super) fn may_vote(&self) -> bool {
        self.is_bound() && self.now >= self.votes_from
    }

    /// The other members, voters and learners.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let members = self.log.membership().members().keys().copied();
        members.filter(|node| *node != self.id()).collect()
    }

    /// Notes a message; whether what `sender` says as `from` counts: see [`Membership::admits`].
    pub(super) fn note_heard(&mut self, from: NodeId, sender: Sender, answers: bool) -> bool {
        self.contacts.note(self.log.membership(), from, sender, answers, self.now)
    }

    /// Whether `node` has answered this leader within the shortest election timeout.
    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        let patience = u64::from(self.config.election_ticks_min);
        self.contacts.of(node).answered_at.is_some_and(|at| self.now < at + patience)
    }

    /// Notes that the leader leads: nobody need campaign for a while. What it says later in the
    /// same tick changes nothing of that, and a busy one says a lot.
    pub(super) fn note_leader(&mut self) {
        self.campaigned = false;
        if self.leader_heard_at != Some(self.now) {
            self.leader_heard_at = Some(self.now);
            self.reset_election_timer();
            self.note_present();
        }
    }

    /// When a leader was last heard leading.
    pub(super) const fn leader_heard_at(&self) -> Option<u64> {
        self.leader_heard_at
    }

    /// Starts the election timer anew with a random length (§5.2).
    pub(super) fn reset_election_timer(&mut self) {
        let Config { election_ticks_min, election_ticks_max, .. } = self.config;
        self.election_due = self.now + self.rng.between(election_ticks_min, election_ticks_max);
    }

    /// Raises the commit index; it never falls.
    pub(super) fn commit(&mut self, index: Index) {
        let last = self.log.last().index;
        assert!(index <= last, "commit index {index} beyond the last entry {last}");
        self.commit_index = self.commit_index.max(index);
    }

    /// Appends `run` to a follower's log, replacing what conflicts (§5.3).
    pub(super) fn append(&mut self, run: Run) {
        assert!(
            run.first().index > self.commit_index,
            "{run} would replace an entry at or below the commit index {}",
            self.commit_index
        );
        self.log.append(run.clone());
        self.persist.append(run);
    }

    /// Notes how far the state machine is durable.
    pub(super) fn note_flushed(&mut self, index: Index) {
        self.flushed_index = self.flushed_index.max(index.min(self.handed_index));
    }

    /// Drops the entries the state machine has on disk, but for the margin that spares slow
    /// followers a snapshot; none above `limit`.
    pub(super) fn compact(&mut self, limit: Index) {
        let limit = limit.min(self.flushed_index);
        if let Some(meta) = self.log.compaction_point(limit, self.trailing()) {
            self.log.compact(meta.clone());
            self.persist.compact(meta);
        }
    }

    /// Whether the log has room for `bytes` more, after compacting if need be.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        if self.log.bytes() + bytes > self.config.log_bytes_max {
            self.compact(Index(u64::MAX));
        }
        self.log.bytes() + bytes <= self.config.log_bytes_max
    }

    /// Whether `run` has to wait until the state machine is flushed. It must not if that would
    /// make no room: after a restart nobody may know what is committed, and a log full of such
    /// entries could otherwise never take the entry that commits them. What it takes then is
    /// bounded by the leader's log. Nor if it replaces entries.
    pub(super) fn must_flush_before(&mut self, run: &Run) -> bool {
        let extends = run.first().index > self.log.last().index;
        let may_compact =
            |state: &Self| state.log.can_compact(state.handed_index, state.trailing());
        extends && !self.make_room(run.size()) && may_compact(self)
    }

    const fn trailing(&self) -> Trailing {
        Trailing {
            bytes: self.config.log_trailing_bytes,
            entries: self.config.log_trailing_entries,
        }
    }

    /// Hands the state machine over to a snapshot.
    pub(super) fn restore(&mut self, meta: SnapshotMeta) {
        self.restores.push(meta.clone());
        self.restoring = Some(meta);
    }

    /// The log starts anew at a snapshot the state machine now has, durably (§7).
    pub(super) fn reset_log(&mut self, meta: SnapshotMeta) {
        let last: LogId = meta.last;
        self.log.reset(meta.clone());
        self.persist.reset(meta);
        self.commit_index = last.index;
        self.handed_index = last.index;
        self.flushed_index = last.index;
    }

    /// Starts with a state machine that has applied up to `index` of this log.
    pub(super) fn resume_at(&mut self, index: Index) {
        self.commit_index = self.commit_index.max(index);
        self.handed_index = self.commit_index;
        self.flushed_index = self.commit_index;
    }

    /// Makes one run of what was proposed in this turn, to be written and sent.
    #[inline]
    pub(super) fn seal(&mut self) {
        if self.log.has_tail() {
            self.seal_tail();
        }
    }

    fn seal_tail(&mut self) {
        if let Some(run) = self.log.seal() {
            self.persist.append(run);
        }
    }

    /// Takes what is to be written, in the place of an earlier write; whether it is anything.
    pub(super) fn take_write(&mut self, write: &mut Write) -> bool {
        let some = self.persist.has_write();
        match some {
            true => self.persist.take_write(write, self.now),
            // What was written is not held on to, and nobody can write it again.
            false => write.ops.clear(),
        }
        some
    }

    /// Takes what this state has to do. Room that is there is used again.
    pub(super) fn take_output(&mut self, output: &mut Output) {
        let Output { messages, write, apply, reads, send_snapshot, probe } = output;
        *probe = self.take_probe();
        exchange(&mut self.outbox, messages);
        self.take_apply(apply);
        self.reads.take_answered(reads);
        exchange(&mut self.send_snapshot, send_snapshot);
        match self.persist.has_write() {
            true => self.persist.take_write(write.get_or_insert_default(), self.now),
            false => *write = None,
        }
    }

    fn take_apply(&mut self, apply: &mut Vec<Apply>) {
        clear(apply);
        if !self.restores.is_empty() {
            apply.extend(self.restores.drain(..).map(Apply::Restore));
        }
        // Entries are applied once committed and durable here: see ARCHITECTURE.md on slow disks.
        let applicable = self.commit_index.min(self.persist.persisted_index());
        if applicable > self.handed_index && self.restoring.is_none() {
            let runs = self.log.slices(self.handed_index.next(), applicable);
            for run in runs {
                apply.push(Apply::Entries(run));
            }
            self.handed_index = applicable;
        }
    }

    /// See `Raft::rebase`.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn rebase(&mut self, leads: bool) {
        use super::rebase::{NOW, put_off};
        let recent = u64::from(self.config.election_ticks_min);
        self.contacts.rebase(self.log.membership(), leads, self.now, recent);
        self.reads.rebase();
        self.next_transfer = put_off(self.next_transfer, self.now);
        self.votes_from = 0;
        self.leader_heard_at = None;
        self.rebase_absence();
        self.election_due = NOW + u64::from(self.config.election_ticks_max);
        self.rng = Rng::new(0);
        self.now = NOW;
    }

    /// Notes a completed write and lets go what waited for it.
    pub(super) fn persisted(&mut self, seq: crate::types::WriteSeq) {
        self.persist.persisted(seq, self.now);
        self.persist.release(&mut self.outbox);
    }
}

/// For as many room is kept in a list that is used again.
const ROOM_KEPT: usize = 1024;

/// Hands out what is in `full`, and keeps the room of `spent` for what is to come.
pub(super) fn exchange<T>(full: &mut Vec<T>, spent: &mut Vec<T>) {
    clear(spent);
    if !full.is_empty() {
        std::mem::swap(full, spent);
    }
}

/// Empties a list, and does not keep more of its room than is usual.
fn clear<T>(list: &mut Vec<T>) {
    list.clear();
    list.shrink_to(ROOM_KEPT);
}
