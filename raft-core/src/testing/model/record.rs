//! What is remembered of the past of a whole cluster, and what must hold of it at any time: the
//! invariants that no node can check alone.
//!
//! It stands outside and changes nothing. Every check returns what is broken, with the values.

use super::facts::{Content, Facts, LogFacts, Nodes, Voters};
use crate::types::{Index, LogId, NodeId, ReadId, Term};

/// The past, as far as the invariants need it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Record {
    /// Who was elected, by term.
    leaders: Vec<(Term, NodeId)>,
    /// Entry `index` is at `index - 1`.
    committed: Vec<Committed>,
    /// By whom the last commit was counted.
    voters: Voters,
    /// Reads without an answer, and how far the cluster had committed when they began.
    reads: Vec<(NodeId, ReadId, Index)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Committed {
    term: Term,
    content: Content,
    /// The term of the leader that committed it.
    by: Term,
}

/// What an invariant says that does not hold.
pub(super) type Broken = String;

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

impl Record {
    /// How far the cluster has committed.
    pub(super) fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// Whether some entry was committed by a leader of a later term than its own.
    pub(super) fn has_old_term_commit(&self) -> bool {
        self.committed.iter().any(|entry| entry.by > entry.term)
    }

    /// The same past with other names.
    pub(super) fn renamed(&self, rename: impl Fn(u64) -> u64) -> Self {
        let node = |node: NodeId| NodeId(rename(node.0));
        let voters = |voters: Voters| Voters {
            incoming: voters.incoming.renamed(&rename),
            outgoing: voters.outgoing.renamed(&rename),
            learners: voters.learners.renamed(&rename),
        };
        let content = |content| match content {
            Content::Membership(of) => Content::Membership(voters(of)),
            other => other,
        };
        let committed =
            |entry: &Committed| Committed { content: content(entry.content), ..entry.clone() };
        let mut reads: Vec<_> =
            self.reads.iter().map(|(of, read, at)| (node(*of), *read, *at)).collect();
        reads.sort_unstable();
        Self {
            leaders: self.leaders.iter().map(|(term, of)| (*term, node(*of))).collect(),
            committed: self.committed.iter().map(committed).collect(),
            voters: voters(self.voters),
            reads,
        }
    }

    /// I1: at most one leader a term, ever.
    pub(super) fn note_leader(&mut self, term: Term, node: NodeId) -> Result<(), Broken> {
        if let Some((_, known)) = self.leaders.iter().find(|(of, _)| *of == term) {
            ensure!(*known == node, "I1: both {known} and {node} lead in term {term}");
            return Ok(());
        }
        self.leaders.push((term, node));
        self.leaders.sort_unstable();
        Ok(())
    }

    /// I4: nobody commits, and so applies, another entry at the same index. `voters` is by whom
    /// the node counted.
    pub(super) fn note_commit(
        &mut self,
        before: Index,
        node: &Facts,
        voters: Voters,
    ) -> Result<(), Broken> {
        for index in before.0 + 1..=node.commit.0 {
            let here = node.log.entry(Index(index));
            match (self.committed.get(index as usize - 1), here) {
                // Compacted, or covered by a snapshot.
                (Some(_), None) => {}
                (Some(known), Some((term, content))) => ensure!(
                    known.term == term && known.content == content,
                    "I4: {} commits {index}@{term} {content:?} where {index}@{} {:?} was committed",
                    node.id,
                    known.term,
                    known.content
                ),
                (None, Some((term, content))) => {
                    ensure!(node.leads, "{} commits {index} first and does not lead", node.id);
                    self.committed.push(Committed { term, content, by: node.term });
                    self.voters = voters;
                }
                (None, None) => {
                    return Err(format!("{} commits {index}, which nobody has", node.id));
                }
            }
        }
        Ok(())
    }

    /// A read begins.
    pub(super) fn note_read(&mut self, node: NodeId, read: ReadId) {
        if !self.reads.iter().any(|(of, known, _)| (*of, *known) == (node, read)) {
            self.reads.push((node, read, self.committed()));
            self.reads.sort_unstable();
        } else {
            // It joins a batch; what it must see is the later of the two.
            let committed = self.committed();
            for (of, known, began) in &mut self.reads {
                if (*of, *known) == (node, read) {
                    *began = committed;
                }
            }
        }
    }

    /// I9: a read sees what was committed when it began.
    pub(super) fn note_answer(
        &mut self,
        node: NodeId,
        read: ReadId,
        index: Index,
    ) -> Result<(), Broken> {
        let known = self.reads.iter().position(|(of, known, _)| (*of, *known) == (node, read));
        let Some(known) = known else {
            return Err(format!("I9: {node} answers {read}, which nobody asked for"));
        };
        let (_, _, began) = self.reads.remove(known);
        ensure!(index >= began, "I9: {node}: a read begun at {began} is answered at {index}");
        let committed = self.committed();
        ensure!(index <= committed, "I9: {node}: a read at {index}, committed is {committed}");
        Ok(())
    }

    /// A node has crashed: nobody waits for its reads any more.
    pub(super) fn forget_reads(&mut self, node: NodeId) {
        self.reads.retain(|(of, ..)| *of != node);
    }

    /// What must hold of all nodes together, given that it did before `changed` changed.
    pub(super) fn check(&self, nodes: &[&Facts], changed: &Facts) -> Result<(), Broken> {
        for other in nodes.iter().filter(|other| other.id != changed.id) {
            let rivals = changed.leads && other.leads && changed.term == other.term;
            ensure!(!rivals, "I1: {} and {} lead in {}", changed.id, other.id, changed.term);
            for ours in [&changed.log, &changed.disk] {
                for theirs in [&other.log, &other.disk] {
                    check_matching(ours, theirs)
                        .map_err(|what| format!("I2: {} and {}: {what}", changed.id, other.id))?;
                }
            }
        }
        for leader in nodes.iter().filter(|node| node.leads) {
            self.check_completeness(leader)?;
        }
        self.check_durable(nodes)?;
        self.check_memberships(changed)
    }

    /// I3: an entry committed in a term is in the log of every leader of a later term.
    fn check_completeness(&self, leader: &Facts) -> Result<(), Broken> {
        for (at, entry) in self.committed.iter().enumerate().filter(|(_, it)| it.by < leader.term) {
            let id = LogId { term: entry.term, index: Index(at as u64 + 1) };
            ensure!(
                leader.log.holds(id),
                "I3: {} leads term {} without {id}, which term {} committed",
                leader.id,
                leader.term,
                entry.by
            );
        }
        Ok(())
    }

    /// I7: what is committed is on the disks of a quorum, now and for ever.
    fn check_durable(&self, nodes: &[&Facts]) -> Result<(), Broken> {
        let Some(last) = self.committed.last() else { return Ok(()) };
        // One entry stands for all before it: logs match.
        let id = LogId { term: last.term, index: self.committed() };
        let holders: Nodes =
            nodes.iter().filter(|node| node.disk.holds(id)).map(|node| node.id).collect();
        ensure!(
            self.voters.is_quorum(holders),
            "I7: committed {id} is on the disks of {holders:?}, no quorum of {:?}",
            self.voters
        );
        Ok(())
    }

    /// I8: at most one configuration of a log is not committed; that of a snapshot is the one in
    /// force at its index.
    fn check_memberships(&self, node: &Facts) -> Result<(), Broken> {
        let mut open = 0;
        for (at, (term, content)) in node.log.entries.iter().enumerate() {
            let index = node.log.start.index.0 as usize + at;
            let known = self.committed.get(index).is_some_and(|entry| entry.term == *term);
            open += usize::from(!known && matches!(content, Content::Membership(_)));
        }
        ensure!(open <= 1, "I8: {} holds {open} configurations not committed", node.id);
        let start = node.log.start.index.0 as usize;
        let Some(covered) = self.committed.get(..start) else {
            return Err(format!("{}: a boundary at {start} that is not committed", node.id));
        };
        let in_force = covered.iter().rev().find_map(|entry| match entry.content {
            Content::Membership(voters) => Some(voters),
            _ => None,
        });
        ensure!(
            in_force.is_none_or(|voters| voters == node.log.at_start),
            "I8: the boundary of {} at {start} has {:?}, in force was {in_force:?}",
            node.id,
            node.log.at_start
        );
        Ok(())
    }
}

/// I2: where two logs hold an entry of the same index and term, they are equal up to there.
fn check_matching(a: &LogFacts, b: &LogFacts) -> Result<(), Broken> {
    let first = a.start.index.max(b.start.index).0;
    let last = a.last().index.min(b.last().index).0;
    let mut must = false;
    for index in (first..=last).rev().map(Index) {
        let terms = (a.term_at(index), b.term_at(index));
        must |= terms.0 == terms.1;
        let contents = (a.entry(index), b.entry(index));
        let equal = match contents {
            (Some(a), Some(b)) => a == b,
            _ => terms.0 == terms.1,
        };
        ensure!(!must || equal, "{index} is {contents:?}, and what follows is the same");
    }
    Ok(())
}
