//! One node of the small world: the shipped core with a disk and a state machine, and what becomes
//! of it by one event.
//!
//! What must hold of one node alone is checked here, once for every distinct step. It knows
//! nothing of other nodes.

use super::event::Event;
use super::facts::{Nodes, Sight, Voters};
use crate::raft::{
    AppendOutcome, Apply, Config, Envelope, Input, Loaded, LogOp, Message, Output, Raft, check,
    check_change,
};
use crate::types::{
    Change, Index, NodeId, Payload, ReadId, Run, Sender, SnapshotMeta, Term, WriteSeq,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// What is the same for all nodes of a world, and at all times.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) config: Config,
    pub(super) changes: Vec<Vec<Change>>,
    /// Whether every start of a node has another seed: only what reads needs that.
    pub(super) reads: bool,
}

/// A node between two events. The writes it has asked for are numbered from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) raft: Raft,
    pub(super) disk: Loaded,
    pub(super) writes: Vec<Vec<LogOp>>,
    /// What the state machine has applied, and what of it would survive a crash.
    pub(super) applied: SnapshotMeta,
    pub(super) durable: SnapshotMeta,
    pub(super) restoring: Option<SnapshotMeta>,
    /// Who is to get a snapshot, and the term in which that was asked for.
    pub(super) asked: BTreeMap<NodeId, Term>,
    starts: u64,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.raft, &self.writes, &self.applied, &self.durable).hash(state);
        (&self.disk.hard_state, &self.disk.snapshot, &self.disk.entries).hash(state);
        (&self.restoring, &self.asked, self.starts).hash(state);
    }
}

/// What one event did to a node.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) node: Node,
    pub(super) sends: Vec<Envelope>,
    /// The read that was begun.
    pub(super) read: Option<ReadId>,
    pub(super) answered: Vec<(ReadId, Index)>,
    pub(super) seen: Vec<Sight>,
}

impl Node {
    /// A node that starts for the first time, from what `disk` holds.
    pub(super) fn new(setting: &Setting, id: NodeId, disk: Loaded) -> Self {
        let applied = SnapshotMeta::default();
        let raft = start(setting, id, &disk, &applied, 1);
        Self {
            raft,
            disk,
            writes: Vec::new(),
            durable: applied.clone(),
            applied,
            restoring: None,
            asked: BTreeMap::new(),
            starts: 1,
        }
    }

    /// The log once everything asked for is written.
    pub(super) fn log(&self) -> Loaded {
        let mut log = self.disk.clone();
        self.writes.iter().flatten().for_each(|op| apply(&mut log, op));
        log
    }

    fn sender(&self, setting: &Setting) -> Sender {
        let incarnation = self.disk.identity.map(|identity| identity.incarnation);
        Sender {
            incarnation: incarnation.expect("every node has an identity"),
            version: setting.config.version,
        }
    }

    /// What becomes of the node by `event`; `message` is what arrives, if one does.
    ///
    /// # Panics
    /// If the node does what it must not.
    pub(super) fn after(
        &self,
        setting: &Setting,
        event: Event,
        message: Option<&Envelope>,
    ) -> Outcome {
        let mut node = self.clone();
        let mut outcome_read = None;
        let mut seen = Vec::new();
        let mut sends = Vec::new();
        let before = self.raft.clone();
        match event {
            Event::Deliver(_) => {
                let envelope = message.expect("the message that arrives").clone();
                node.raft.step(Input::Message(envelope));
            }
            Event::Timeout | Event::Deaf => node.tick(setting.config.election_ticks_max),
            Event::Beat => node.tick(1),
            Event::Wait => node.tick(setting.config.election_ticks_min),
            Event::Persist(writes) => {
                node.write_through(writes as usize);
                node.raft.step(Input::Persisted(WriteSeq(u64::from(writes))));
            }
            Event::Restart(kept) => node.restart(setting, kept as usize, &mut seen),
            Event::Propose(number) => {
                let _ = node.raft.propose(Bytes::from(number.to_string()));
            }
            Event::Read => outcome_read = Some(node.raft.read()),
            Event::Change(number) => {
                let _ = node.raft.change_membership(&setting.changes[number as usize]);
            }
            Event::Transfer(to) => {
                let _ = node.raft.transfer_leadership(Some(to));
            }
            Event::Checkpoint => {
                node.durable = node.applied.clone();
                node.raft.step(Input::Flushed(node.durable.clone()));
            }
            Event::Snapshot(to) => sends.push(node.send_snapshot(setting, to)),
            Event::Restore => {
                let meta = node.restoring.take().expect("a snapshot to restore");
                (node.applied, node.durable) = (meta.clone(), meta.clone());
                node.raft.step(Input::Restored(meta));
                seen.push(Sight::SnapshotInstall);
            }
        }
        let output = node.raft.take_output();
        check(&node.raft);
        if !matches!(event, Event::Restart(_)) {
            check_change(&before, &node.raft);
        }
        let answered = output.reads.clone();
        node.take(&before, output, &mut sends, &mut seen);
        if event == Event::Deaf {
            // Nobody hears it either.
            sends.clear();
            node.check_deaf();
            seen.extend((!node.raft.is_leader()).then_some(Sight::Deafness));
        }
        node.raft.rebase();
        node.disk.entries = joined(&node.disk.entries);
        Outcome { node, sends, read: outcome_read, answered, seen }
    }

    fn tick(&mut self, ticks: u32) {
        (0..ticks).for_each(|_| self.raft.step(Input::Tick));
    }

    /// The first `writes` of those asked for reach the disk.
    fn write_through(&mut self, writes: usize) {
        let old = self.disk.hard_state;
        self.writes.drain(..writes).flatten().for_each(|op| apply(&mut self.disk, &op));
        let (id, new) = (self.raft.id(), self.disk.hard_state);
        assert!(new.term >= old.term, "{id}: durable term falls, {} to {}", old.term, new.term);
        let kept = new.term > old.term || old.vote.is_none() || new.vote == old.vote;
        assert!(kept, "{id}: durable vote changes in term {}", new.term);
    }

    fn restart(&mut self, setting: &Setting, kept: usize, seen: &mut Vec<Sight>) {
        if kept < self.writes.len() {
            seen.push(Sight::LostWrite);
        }
        let id = self.raft.id();
        self.write_through(kept);
        self.writes.clear();
        self.applied = self.durable.clone();
        self.restoring = None;
        self.asked.clear();
        if setting.reads {
            self.starts += 1;
        }
        self.raft = start(setting, id, &self.disk, &self.durable, self.starts);
        if self.raft.term() > Term(0) {
            seen.push(Sight::Recovery);
        }
    }

    fn send_snapshot(&mut self, setting: &Setting, to: NodeId) -> Envelope {
        let term = self.asked.remove(&to).expect("a snapshot that was asked for");
        let meta = self.durable.clone();
        let (from, sender) = (self.raft.id(), self.sender(setting));
        let message = Message::InstallSnapshot { meta: meta.clone().into() };
        self.raft.step(Input::SnapshotSent { to, meta, ok: true });
        Envelope { from, to, term, sender, message }
    }

    /// Carries out what the core wants.
    fn take(
        &mut self,
        before: &Raft,
        output: Output,
        sends: &mut Vec<Envelope>,
        seen: &mut Vec<Sight>,
    ) {
        for envelope in output.messages {
            self.check_promise(&envelope);
            sends.push(envelope);
        }
        if let Some(write) = output.write {
            let expected = WriteSeq(self.writes.len() as u64 + 1);
            // Numbers go on where those of the writes under way end, but for what was reported.
            assert!(write.seq >= expected, "write {} where {expected} is due", write.seq);
            let truncates = |op: &LogOp| match op {
                LogOp::Append(run) => run.first().index <= before.last_log().index,
                _ => false,
            };
            if write.ops.iter().any(truncates) {
                seen.push(Sight::Truncation);
            }
            self.writes.push(write.ops);
        }
        for apply in output.apply {
            match apply {
                Apply::Entries(run) => self.apply(&run),
                Apply::Restore(meta) => {
                    let replaced = self.restoring.replace(meta);
                    assert!(replaced.is_none(), "two snapshots are restored at once");
                }
            }
        }
        let term = self.raft.term();
        self.asked.extend(output.send_snapshot.into_iter().map(|to| (to, term)));
    }

    fn apply(&mut self, run: &Run) {
        for entry in run.entries() {
            let expected = self.applied.last.index.next();
            assert!(entry.id.index == expected, "{} is applied where {expected} is due", entry.id);
            let known = self.raft.log_id_at(entry.id.index);
            assert!(known == Some(entry.id), "{} is applied, the log has {known:?}", entry.id);
            self.applied.last = entry.id;
            if let Payload::Membership(membership) = &entry.payload {
                self.applied.membership = (**membership).clone();
            }
        }
    }

    /// Check-quorum, which I10 rests on: who hears nobody leads on only if it needs nobody.
    fn check_deaf(&self) {
        let id = self.raft.id();
        let needs = !Voters::of(self.raft.membership()).is_quorum(Nodes::of(&[id]));
        let leads = self.raft.is_leader();
        assert!(!(needs && leads), "I10: {id} hears nobody for an election timeout and leads on");
    }

    /// The durability rule: a message leaves only once the disk holds what it promises.
    fn check_promise(&self, envelope: &Envelope) {
        let Envelope { from, to, term, .. } = *envelope;
        let durable = self.disk.hard_state;
        assert!(durable.term >= term, "{envelope}: the disk of {from} is in term {}", durable.term);
        // In a later term the node has lived on; what it promised was on disk before that.
        let lived_on = durable.term > term;
        match envelope.message {
            Message::RequestVote { pre_vote: false, .. } => {
                let vote = durable.vote;
                assert!(lived_on || vote == Some(from), "{envelope}: {from} has voted {vote:?}");
            }
            Message::RequestVoteResponse { granted: true, pre_vote: false } => {
                let vote = durable.vote;
                assert!(lived_on || vote == Some(to), "{envelope}: {from} has voted {vote:?}");
            }
            Message::AppendEntriesResponse { outcome: AppendOutcome::Matched(index), .. } => {
                let last = self.disk.last_index();
                assert!(lived_on || last >= index, "{envelope}: the disk of {from} ends at {last}");
            }
            _ => {}
        }
    }
}

fn start(
    setting: &Setting,
    id: NodeId,
    disk: &Loaded,
    applied: &SnapshotMeta,
    starts: u64,
) -> Raft {
    let config = Config { id, ..setting.config.clone() };
    let raft = Raft::new(config, disk.clone(), applied.clone(), starts);
    let mut raft = raft.expect("a node starts from what it wrote");
    // A start that resets the log has a write under way, which is taken with the first output.
    raft.rebase();
    raft
}

fn apply(disk: &mut Loaded, op: &LogOp) {
    disk.apply(op).expect("the core writes what continues its log");
}

/// The same entries as one run: how they were grouped does not matter.
fn joined(runs: &[Run]) -> Vec<Run> {
    if runs.len() < 2 {
        return runs.to_vec();
    }
    let entries = runs.iter().flat_map(|run| run.entries().iter().cloned()).collect();
    Run::new(entries).into_iter().collect()
}
