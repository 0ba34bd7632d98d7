//! What the invariants of a whole cluster look at in one node, worked out once per node state.

use super::node::Node;
use crate::raft::{Loaded, Raft, RoleName};
use crate::types::{Index, LogId, Membership, NodeId, Payload, Term};
use std::fmt;

/// Something an exploration can be asked to have come across.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sight {
    /// A node was elected.
    Election,
    /// A follower replaced entries.
    Truncation,
    /// A node started again from a disk that knew a term.
    Recovery,
    /// A crash lost a write that was asked for.
    LostWrite,
    /// A leader committed an entry of an earlier term, by one of its own.
    OldTermCommit,
    /// A leader stepped down.
    StepDown,
    /// Two sets of voters had to agree.
    JointMembership,
    /// A joint configuration was left.
    JointLeft,
    /// A log was compacted.
    Compaction,
    /// A node restored a snapshot.
    SnapshotInstall,
    /// A read was answered.
    Read,
    /// A leader asked another node to take over.
    Transfer,
    /// A message was lost.
    Loss,
    /// A leader heard nobody for an election timeout, and stepped down.
    Deafness,
}

impl Sight {
    /// Every one there is.
    pub const ALL: [Self; 14] = [
        Self::Election,
        Self::Truncation,
        Self::Recovery,
        Self::LostWrite,
        Self::OldTermCommit,
        Self::StepDown,
        Self::JointMembership,
        Self::JointLeft,
        Self::Compaction,
        Self::SnapshotInstall,
        Self::Read,
        Self::Transfer,
        Self::Loss,
        Self::Deafness,
    ];
}

/// A set of nodes, of ids below 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Nodes(u32);

impl Nodes {
    pub(super) fn of(nodes: &[NodeId]) -> Self {
        Self(nodes.iter().fold(0, |set, node| set | 1 << node.0))
    }

    /// Every node replaced by another.
    pub(super) fn renamed(self, rename: impl Fn(u64) -> u64) -> Self {
        let members = (0..u64::from(u32::BITS)).filter(|node| self.0 >> node & 1 == 1);
        Self(members.fold(0, |set, node| set | 1 << rename(node)))
    }

    const fn has_majority_in(self, other: Self) -> bool {
        (self.0 & other.0).count_ones() * 2 > self.0.count_ones()
    }
}

impl FromIterator<NodeId> for Nodes {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        Self(nodes.into_iter().fold(0, |set, node| set | 1 << node.0))
    }
}

/// Who has to agree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Voters {
    pub(super) incoming: Nodes,
    pub(super) outgoing: Nodes,
    pub(super) learners: Nodes,
}

impl Voters {
    pub(super) fn of(membership: &Membership) -> Self {
        Self {
            incoming: Nodes::of(membership.voters()),
            outgoing: Nodes::of(membership.outgoing()),
            learners: membership.learners().collect(),
        }
    }

    /// Whether `nodes` are a quorum.
    pub(super) fn is_quorum(self, nodes: Nodes) -> bool {
        let outgoing = self.outgoing == Nodes::default() || self.outgoing.has_majority_in(nodes);
        self.incoming.has_majority_in(nodes) && outgoing
    }
}

/// What an entry carries, told apart as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Noop,
    Command(u64),
    Membership(Voters),
}

/// A log: the boundary it starts after, the configuration there, and the entries.
#[derive(Clone)]
pub(super) struct LogFacts {
    pub(super) start: LogId,
    pub(super) at_start: Voters,
    pub(super) entries: Vec<(Term, Content)>,
}

impl LogFacts {
    fn of(log: &Loaded) -> Self {
        let content = |payload: &Payload| match payload {
            Payload::Noop => Content::Noop,
            Payload::Command(command) => {
                let text = std::str::from_utf8(command).expect("commands are numbers");
                Content::Command(text.parse().expect("commands are numbers"))
            }
            Payload::Membership(membership) => Content::Membership(Voters::of(membership)),
        };
        let entries = log.entries.iter().flat_map(|run| run.entries());
        Self {
            start: log.snapshot.last,
            at_start: Voters::of(&log.snapshot.membership),
            entries: entries.map(|entry| (entry.id.term, content(&entry.payload))).collect(),
        }
    }

    pub(super) fn last(&self) -> LogId {
        let index = Index(self.start.index.0 + self.entries.len() as u64);
        LogId { term: self.entries.last().map_or(self.start.term, |(term, _)| *term), index }
    }

    /// The entry at `index`, if it is here.
    pub(super) fn entry(&self, index: Index) -> Option<(Term, Content)> {
        let position = index.0.checked_sub(self.start.index.0 + 1)?;
        self.entries.get(position as usize).copied()
    }

    /// The term of the entry at `index`; also of the boundary.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.entry(index).map(|(term, _)| term)
    }

    /// Whether it holds `id`, itself or in a snapshot.
    pub(super) fn holds(&self, id: LogId) -> bool {
        id.index < self.start.index || self.term_at(id.index) == Some(id.term)
    }
}

/// A node as the invariants see it.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) id: NodeId,
    pub(super) term: Term,
    pub(super) durable_term: Term,
    pub(super) leads: bool,
    /// Whether it asks for votes.
    pub(super) campaigns: bool,
    pub(super) commit: Index,
    pub(super) log: LogFacts,
    pub(super) disk: LogFacts,
    /// By whom it would count a commit.
    pub(super) voters: Voters,
    /// Writes under way.
    pub(super) writes: u32,
}

impl Facts {
    /// # Panics
    /// If the log in memory is not what was written, or two configurations that follow each other
    /// could both elect a leader.
    pub(super) fn of(node: &Node) -> Self {
        let raft = &node.raft;
        let log = node.log();
        check_mirror(raft, &log);
        check_memberships(&log);
        Self {
            id: raft.id(),
            term: raft.term(),
            durable_term: node.disk.hard_state.term,
            leads: raft.is_leader(),
            campaigns: raft.role() == RoleName::Candidate,
            commit: raft.commit_index(),
            disk: LogFacts::of(&node.disk),
            log: LogFacts::of(&log),
            voters: Voters::of(raft.membership()),
            writes: node.writes.len() as u32,
        }
    }
}

/// What a core has in memory is what the disk will have once every write is done.
fn check_mirror(raft: &Raft, log: &Loaded) {
    let entries = log.entries.iter().flat_map(|run| run.entries()).map(|entry| entry.id);
    let written: Vec<LogId> = std::iter::once(log.snapshot.last).chain(entries).collect();
    let held = raft.log_ids();
    assert!(held == written, "{} holds {held:?} and has written {written:?}", raft.id());
    let in_force = memberships(log).last().expect("the boundary has one");
    assert!(in_force == raft.membership(), "{}: {in_force} is not in force", raft.id());
}

/// Consecutive configurations have intersecting quorums (§6).
fn check_memberships(log: &Loaded) {
    let memberships: Vec<&Membership> = memberships(log).collect();
    for pair in memberships.windows(2).filter(|pair| !pair[0].is_empty()) {
        assert!(pair[0].overlaps(pair[1]), "{} is followed by {}", pair[0], pair[1]);
    }
}

fn memberships(log: &Loaded) -> impl Iterator<Item = &Membership> {
    let entries = log.entries.iter().flat_map(|run| run.entries());
    let changes = entries.filter_map(|entry| match &entry.payload {
        Payload::Membership(membership) => Some(&**membership),
        _ => None,
    });
    std::iter::once(&log.snapshot.membership).chain(changes)
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = (0..u64::from(u32::BITS)).filter(|node| self.0 >> node & 1 == 1);
        f.debug_list().entries(members.map(NodeId)).finish()
    }
}

impl fmt::Debug for Voters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.incoming)?;
        if self.outgoing == Nodes::default() { Ok(()) } else { write!(f, "+{:?}", self.outgoing) }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Command(number) => write!(f, "{number}"),
            Self::Membership(voters) => write!(f, "{voters:?}"),
        }
    }
}
