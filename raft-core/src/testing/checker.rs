//! What must hold of a whole cluster: the properties of the paper's figure 3, and that nobody is
//! told what is not durable.
//!
//! It stands outside: it sees what nodes send, write, commit and apply, and keeps its own record of
//! it for ever. It never changes anything. Every method panics, with the values, when a property
//! is broken; that is its only purpose.

use crate::raft::{AppendOutcome, Envelope, Loaded, Message, Moment, Raft};
use crate::types::{
    HardState, Incarnation, Index, LogId, Membership, NodeId, Payload, Run, Sender, Term,
};
use std::collections::BTreeMap;

/// The record of a cluster's life so far.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    ballots: BTreeMap<(Term, NodeId, Incarnation), NodeId>,
    /// Every entry ever appended anywhere, with its predecessor.
    entries: BTreeMap<LogId, (LogId, Payload)>,
    /// Entry `index` is at `index - 1`.
    committed: Vec<Committed>,
    /// Digest of the state machine after entry `index`, at `index - 1`.
    states: Vec<u64>,
    /// Digests of whole states after some entries.
    hashes: BTreeMap<Index, u64>,
    /// The configuration by which the last entry was committed.
    membership: Membership,
}

#[derive(Clone, Debug)]
struct Committed {
    id: LogId,
    /// The term of the leader that committed it.
    by: Term,
}

impl Checker {
    /// A record of a cluster in which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far the cluster has committed.
    pub const fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// The entry committed at `index`, if one is.
    pub fn committed_id(&self, index: Index) -> Option<LogId> {
        let position = (index.0 as usize).checked_sub(1)?;
        self.committed.get(position).map(|committed| committed.id)
    }

    /// Log Matching (figure 3): an id never names two entries, nor two predecessors. By induction,
    /// equal ids then mean equal prefixes.
    pub fn on_append(&mut self, prev: LogId, run: &Run) {
        let mut prev = prev;
        for entry in run.entries() {
            assert!(entry.id.index == prev.index.next(), "{} after {prev}", entry.id);
            let (known_prev, known) =
                self.entries.entry(entry.id).or_insert_with(|| (prev, entry.payload.clone()));
            assert!(*known_prev == prev, "{} follows both {known_prev} and {prev}", entry.id);
            assert!(
                *known == entry.payload,
                "{} names both {known} and {}",
                entry.id,
                entry.payload
            );
            prev = entry.id;
        }
    }

    /// A node crashes that founded the cluster in its present term, which is not durable: nobody
    /// has heard of what it appended, and it may name other entries so.
    pub fn on_forgotten_term(&mut self, term: Term, node: NodeId) {
        if self.leaders.get(&term) == Some(&node) {
            self.leaders.remove(&term);
            self.entries.retain(|id, _| id.term != term);
        }
    }

    /// Election Safety and Leader Completeness (figure 3) of a node that leads.
    pub fn on_leader(&mut self, raft: &Raft) {
        let (id, term) = (raft.id(), raft.term());
        if let Some(known) = self.leaders.insert(term, id) {
            assert!(known == id, "both {known} and {id} lead in term {term}");
            return;
        }
        for committed in self.committed.iter().filter(|committed| committed.by < term) {
            let index = committed.id.index;
            let own = raft.log_id_at(index);
            assert!(
                index < raft.log_start().index || own == Some(committed.id),
                "{id} leads term {term} without {}, which term {} committed; it has {own:?}",
                committed.id,
                committed.by
            );
        }
    }

    /// State Machine Safety (figure 3) of a node that has committed since it was as `before`, with
    /// `membership` in force; whether it is the first to do so.
    pub fn on_commit(&mut self, before: &Moment, membership: &Membership, raft: &Raft) -> bool {
        let known = self.committed();
        for index in before.commit_index.0 + 1..=raft.commit_index().0 {
            let id = raft.log_id_at(Index(index));
            match (self.committed.get(index as usize - 1), id) {
                // Compacted, or covered by a snapshot.
                (Some(_), None) => {}
                (Some(committed), Some(id)) => assert!(
                    committed.id == id,
                    "{} commits {id} where {} was committed",
                    raft.id(),
                    committed.id
                ),
                (None, Some(id)) => self.committed.push(Committed { id, by: raft.term() }),
                (None, None) => panic!("{} commits {index}, which nobody has", raft.id()),
            }
        }
        let first = self.committed() > known;
        if first {
            assert!(raft.is_leader(), "{} commits first and does not lead", raft.id());
            // By which it counted: what is due next may be appended already.
            self.membership.clone_from(membership);
        }
        first
    }

    /// What is committed is on the disks of a quorum, now and for ever.
    /// `disk_of` gives the disk of one life of a node, of the present one for `None`.
    pub fn on_disk_change<'a>(
        &self,
        disk_of: impl Fn(NodeId, Option<Incarnation>) -> Option<&'a Loaded>,
    ) {
        let Some(Committed { id, .. }) = self.committed.last() else { return };
        let members = self.membership.members();
        let disk_of = |node| disk_of(node, members.get(&node)?.incarnation);
        // One entry stands for all before it: logs match.
        let durable =
            self.membership.is_quorum(|node| disk_of(node).is_some_and(|disk| holds(disk, *id)));
        assert!(durable, "committed {id} is not on the disks of a quorum");
    }

    /// The durability rule: a message leaves only once the sender's disk holds what it promises.
    /// Only the leader of the term says what is a leader's to say, and only what is committed it
    /// calls so; what is first committed in the same step is to be noted before.
    pub fn on_send(&mut self, envelope: &Envelope, disk: &Loaded) {
        let Envelope { from, to, term, sender, .. } = *envelope;
        let durable = disk.hard_state;
        assert!(durable.term >= term, "{envelope}: the disk of {from} is in term {}", durable.term);
        // In a later term the node has lived on; what it promised was on disk before that.
        let lived_on = durable.term > term;
        if envelope.message.is_of_leader() {
            let leader = self.leaders.get(&term);
            assert!(leader == Some(&from), "{envelope}: the leader of the term is {leader:?}");
        }
        match envelope.message {
            Message::RequestVote { pre_vote: false, .. } => {
                self.on_ballot(term, from, sender, from)
            }
            Message::RequestVoteResponse { granted: true, pre_vote: false } => {
                let vote = durable.vote;
                assert!(lived_on || vote == Some(to), "{envelope}: {from} has voted {vote:?}");
                self.on_ballot(term, from, sender, to);
            }
            Message::AppendEntriesResponse { outcome: AppendOutcome::Matched(index), .. } => {
                let last = disk.last_index();
                assert!(lived_on || last >= index, "{envelope}: the disk of {from} ends at {last}");
            }
            Message::Commit { entry } => {
                let known = self.committed_id(entry.index);
                assert!(known == Some(entry), "{envelope}: committed is {known:?}");
            }
            _ => {}
        }
    }

    /// One vote a term (§5.2), across restarts. A life that has lost its directory may vote again
    /// as another one: nobody counts that until the other life has taken its place.
    fn on_ballot(&mut self, term: Term, voter: NodeId, sender: Sender, candidate: NodeId) {
        let key = (term, voter, sender.incarnation);
        let known = *self.ballots.entry(key).or_insert(candidate);
        assert!(known == candidate, "{voter} votes for {known} and {candidate} in term {term}");
    }

    /// Term and vote on a disk: the term never falls, the vote stays within a term.
    pub fn on_hard_state(&self, node: NodeId, old: HardState, new: HardState) {
        assert!(new.term >= old.term, "{node}: durable term falls, {} to {}", old.term, new.term);
        let kept = new.term > old.term || old.vote.is_none() || new.vote == old.vote;
        assert!(kept, "{node}: durable vote changes in term {}", new.term);
    }

    /// Every state machine goes through the same states: `digest` is that after `id`.
    pub fn on_apply(&mut self, node: NodeId, id: LogId, digest: u64) {
        let position = id.index.0 as usize - 1;
        let committed = self.committed.get(position).map(|committed| committed.id);
        assert!(committed == Some(id), "{node} applies {id}, committed is {committed:?}");
        match self.states.get(position) {
            Some(known) => assert!(*known == digest, "{node}: another state after {id}"),
            None => {
                assert!(self.states.len() == position, "{node} applies {id} too early");
                self.states.push(digest);
            }
        }
    }

    /// The state of `node` after the entry `applied`, however it came to it, has this digest: all
    /// nodes agree on it.
    pub fn on_state(&mut self, node: NodeId, applied: Index, hash: u64) {
        let known = *self.hashes.entry(applied).or_insert(hash);
        assert!(known == hash, "{node}: state {hash:016x} after {applied}, others {known:016x}");
    }

    /// Linearizable reads (thesis §6.4): a read sees what was committed when it began.
    pub fn on_read(&self, node: NodeId, began: Index, answered: Index) {
        assert!(answered >= began, "{node}: a read begun at {began} is answered at {answered}");
        let committed = self.committed();
        assert!(answered <= committed, "{node}: a read at {answered} beyond commit {committed}");
    }
}

/// Whether a disk holds the committed entry `id`, itself or in a snapshot.
fn holds(disk: &Loaded, id: LogId) -> bool {
    let term = || disk.entries.iter().rev().find_map(|run| run.term_at(id.index));
    disk.snapshot.last.index >= id.index || term() == Some(id.term)
}
