//! Version vectors: how much of every process's doing is known.

use raft_core::types::NodeId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// How many events of each node are known. As a vector clock it stands for an event, with all that
/// happened before it; as a version vector, for a version of some data, with all it is made of.
///
/// ```
/// use raft_core::types::NodeId;
/// use raft_kv::clocks::{Relation, VersionVector};
///
/// let mut cart = VersionVector::default();
/// cart.tick(NodeId(1));
/// let (mut here, mut there) = (cart.clone(), cart.clone());
/// here.tick(NodeId(1));
/// there.tick(NodeId(2));
/// assert_eq!(cart.relation(&here), Relation::Before);
/// // Neither has seen the other: whoever reads both has to merge them.
/// assert_eq!(here.relation(&there), Relation::Concurrent);
/// here.merge(&there);
/// assert_eq!(here.relation(&there), Relation::After);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<NodeId, u64>")]
pub struct VersionVector {
    /// Events known of each node; nodes of which none is known are left out.
    known: BTreeMap<NodeId, u64>,
}

/// How two events stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Relation {
    /// The first happened before the second.
    Before,
    /// They are the same.
    Equal,
    /// The second happened before the first.
    After,
    /// Neither knew of the other.
    Concurrent,
}

impl VersionVector {
    /// How many events of `node` are known.
    pub fn of(&self, node: NodeId) -> u64 {
        self.known.get(&node).copied().unwrap_or(0)
    }

    /// The nodes of which an event is known, and how many of each, by node.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.known.iter().map(|(node, count)| (*node, *count))
    }

    /// An event of `node`, which knows everything this one does; how many it has had now. Whoever
    /// receives a message merges what it carries before.
    pub fn tick(&mut self, node: NodeId) -> u64 {
        let count = self.known.entry(node).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Takes in all that `other` knows.
    pub fn merge(&mut self, other: &Self) {
        for (node, theirs) in other.iter() {
            let ours = self.known.entry(node).or_default();
            *ours = theirs.max(*ours);
        }
    }

    /// Whether everything that `other` knows is known here.
    pub fn includes(&self, other: &Self) -> bool {
        other.iter().all(|(node, theirs)| self.of(node) >= theirs)
    }

    /// How this stands to `other`.
    pub fn relation(&self, other: &Self) -> Relation {
        match (other.includes(self), self.includes(other)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Before,
            (false, true) => Relation::After,
            (false, false) => Relation::Concurrent,
        }
    }
}

impl From<BTreeMap<NodeId, u64>> for VersionVector {
    fn from(mut known: BTreeMap<NodeId, u64>) -> Self {
        known.retain(|_, count| *count > 0);
        Self { known }
    }
}

/// The order of causes and effects, in which concurrent vectors have none.
impl PartialOrd for VersionVector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.relation(other) {
            Relation::Before => Some(Ordering::Less),
            Relation::Equal => Some(Ordering::Equal),
            Relation::After => Some(Ordering::Greater),
            Relation::Concurrent => None,
        }
    }
}

impl fmt::Display for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (place, (node, count)) in self.iter().enumerate() {
            let comma = if place > 0 { " " } else { "" };
            write!(f, "{comma}{node}:{count}")?;
        }
        f.write_str("]")
    }
}
