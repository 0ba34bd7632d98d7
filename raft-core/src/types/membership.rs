//! Who is in the cluster, and what a quorum of it is.

mod bytes;
mod change;

pub use bytes::InvalidMembership;
pub use change::{Change, InvalidChange};

use super::{Incarnation, NodeId, Version};
use std::collections::BTreeMap;

/// What the cluster knows about one of its nodes, agreed through the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Member {
    /// Where the node's transport listens, `host:port`. Raft only hands it on.
    pub address: String,
    /// The life of the data directory this member is bound to; `None` until its first contact.
    /// Nothing that another life of the node acknowledges or votes is counted.
    pub incarnation: Option<Incarnation>,
    /// Whether a learner is to become a voter once it has caught up. Voters ignore it.
    pub promote: bool,
    /// Of voters with equal logs, who should lead: the highest. Default 0.
    pub priority: u8,
}

impl Member {
    /// A member at `address` that nothing else is known of.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }
}

/// A cluster configuration (§6): voters, the outgoing voters of a joint configuration, learners.
///
/// Voter sets are small sorted vectors: faster at this size than maps, and deterministic.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Membership {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    members: BTreeMap<NodeId, Member>,
    /// Outgoing voters that are no members any more once the joint configuration is left.
    leaving: Vec<NodeId>,
    version: Version,
    epoch: u64,
}

impl Membership {
    /// A configuration in which every one of `members` votes and understands what this crate does.
    pub fn of_voters(members: BTreeMap<NodeId, Member>) -> Self {
        let voters = members.keys().copied().collect();
        Self { voters, members, version: Version::CURRENT, ..Self::default() }
    }

    /// The voters, sorted.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// The voters of the outgoing half of a joint configuration, sorted; empty if not joint.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// All members with what is known of them, learners included, by node.
    pub const fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The members that do not vote, in order.
    pub fn learners(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied().filter(|node| !self.is_voter(*node))
    }

    /// The newest version that every member understands: nothing newer is put into the log.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The history epoch: 0, and higher each time the cluster is made anew from what survived of
    /// it. Positions of another history mean nothing in this one.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether two voter sets must agree (§6).
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether there are no members: a node that belongs to no cluster yet.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether `node` counts toward a quorum.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok() || self.outgoing.binary_search(&node).is_ok()
    }

    /// Whether `node` is a member, voter or learner.
    pub fn contains(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// Whether what `incarnation` of `node` says counts as that member's word: it is the life the
    /// member is bound to, or the member is not bound yet.
    pub fn admits(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let member = self.members.get(&node);
        member.is_some_and(|member| member.incarnation.is_none_or(|bound| bound == incarnation))
    }

    /// The priority of `node`; see [`Member::priority`].
    pub fn priority(&self, node: NodeId) -> u8 {
        self.members.get(&node).map_or(0, |member| member.priority)
    }

    /// How many nodes vote now; in a joint configuration those of either half.
    pub fn voter_count(&self) -> usize {
        let only_outgoing = |node: &&NodeId| self.voters.binary_search(node).is_err();
        self.voters.len() + self.outgoing.iter().filter(only_outgoing).count()
    }

    /// How many voters are a quorum: more than half of either set.
    pub fn quorum_size(&self) -> usize {
        majority(&self.voters).max(majority(&self.outgoing))
    }

    /// How many voters may fail at the same time while the rest goes on: `n - (n / 2 + 1)`, so an
    /// even number of voters bears no more than the odd one below it.
    pub fn tolerated_failures(&self) -> usize {
        let tolerated = |set: &[NodeId]| set.len().saturating_sub(majority(set));
        if self.outgoing.is_empty() {
            return tolerated(&self.voters);
        }
        tolerated(&self.voters).min(tolerated(&self.outgoing))
    }

    /// Whether every quorum of this configuration meets every quorum of `other`, as consecutive
    /// ones must: otherwise each could elect a leader of its own (§6). Of a joint configuration it
    /// takes one half that is enough by itself, as consecutive ones have; it finds no overlap that
    /// only both halves together ensure.
    pub fn overlaps(&self, other: &Self) -> bool {
        let sets = |membership: &Self| [membership.voters.clone(), membership.outgoing.clone()];
        let pairs = sets(self).into_iter().flat_map(|a| sets(other).map(|b| (a.clone(), b)));
        pairs.filter(|(a, b)| !a.is_empty() && !b.is_empty()).any(|(a, b)| majorities_meet(&a, &b))
    }

    /// The largest value that a quorum of each voter set has reached: of a joint configuration the
    /// lesser of the two (§6). 0 if there are no voters.
    ///
    /// One function serves the commit index (match indexes, §5.3), read confirmation (thesis §6.4)
    /// and check-quorum (thesis §6.2).
    pub fn quorum_value(&self, value_of: impl Fn(NodeId) -> u64) -> u64 {
        let incoming = majority_value(&self.voters, &value_of);
        if self.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &value_of))
    }

    /// Whether the nodes for which `agrees` holds form a quorum.
    pub fn is_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.quorum_value(|node| u64::from(agrees(node))) == 1
    }

    /// Bytes it counts in an entry.
    pub fn size(&self) -> usize {
        let members = self.members.values().map(|member| 32 + member.address.len());
        8 * (self.voters.len() + self.outgoing.len()) + members.sum::<usize>()
    }
}

const fn majority(voters: &[NodeId]) -> usize {
    voters.len() / 2 + 1
}

/// Whether no majority of `a` can do without a voter of any majority of `b`.
fn majorities_meet(a: &[NodeId], b: &[NodeId]) -> bool {
    let shared = a.iter().filter(|node| b.binary_search(node).is_ok()).count();
    // Each majority takes as few shared voters as it can; do they fit side by side?
    let least = |set: &[NodeId]| majority(set).saturating_sub(set.len() - shared);
    least(a) + least(b) > shared
}

/// The largest value that more than half of `voters` have reached.
fn majority_value(voters: &[NodeId], value_of: &impl Fn(NodeId) -> u64) -> u64 {
    // Sorting a few values on the stack beats anything cleverer, and cannot lose its order.
    const ON_STACK: usize = 16;
    let majority = majority(voters);
    if voters.is_empty() {
        return 0;
    }
    if voters.len() <= ON_STACK {
        let mut values = [0; ON_STACK];
        for (sorted, voter) in voters.iter().enumerate() {
            let value = value_of(*voter);
            let mut place = sorted;
            while place > 0 && values[place - 1] > value {
                values[place] = values[place - 1];
                place -= 1;
            }
            values[place] = value;
        }
        return values[voters.len() - majority];
    }
    let mut values: Vec<u64> = voters.iter().map(|voter| value_of(*voter)).collect();
    values.sort_unstable();
    values[values.len() - majority]
}

#[cfg(test)]
mod tests;
