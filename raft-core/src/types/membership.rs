//! Who is in the cluster, and what a quorum of it is.

use super::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the cluster knows about one of its nodes, agreed through the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Member {
    /// Where the node's transport listens, `host:port`. Raft only hands it on.
    pub address: String,
    /// The life of the data directory this member is bound to; `None` until its first contact.
    pub incarnation: Option<Incarnation>,
    /// Whether a learner is to become a voter once it has caught up. Voters ignore it.
    pub promote: bool,
}

/// A cluster configuration (§6): voters, the outgoing voters of a joint configuration, learners.
///
/// Voter sets are small sorted vectors: faster at this size than maps, and deterministic.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Membership {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    members: BTreeMap<NodeId, Member>,
}

/// A [`Membership`] as it stands in bytes, from a disk or a peer.
#[derive(Deserialize)]
struct Unchecked {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    members: BTreeMap<NodeId, Member>,
}

/// Bytes that are no membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("membership: {0}")]
pub struct InvalidMembership(&'static str);

impl TryFrom<Unchecked> for Membership {
    type Error = InvalidMembership;

    fn try_from(unchecked: Unchecked) -> Result<Self, InvalidMembership> {
        let Unchecked { voters, outgoing, members } = unchecked;
        // Quorums are counted and voters looked up on the strength of this order.
        if !voters.is_sorted_by(|a, b| a < b) || !outgoing.is_sorted_by(|a, b| a < b) {
            return Err(InvalidMembership("voters out of order"));
        }
        if !voters.iter().chain(&outgoing).all(|voter| members.contains_key(voter)) {
            return Err(InvalidMembership("a voter that is no member"));
        }
        if members.contains_key(&NodeId(0)) {
            return Err(InvalidMembership("node 0"));
        }
        Ok(Self { voters, outgoing, members })
    }
}

impl Membership {
    /// A configuration in which every one of `members` votes.
    pub fn of_voters(members: BTreeMap<NodeId, Member>) -> Self {
        Self { voters: members.keys().copied().collect(), outgoing: Vec::new(), members }
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

    /// Whether `node` counts toward a quorum.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok() || self.outgoing.binary_search(&node).is_ok()
    }

    /// Whether `node` is a member, voter or learner.
    pub fn contains(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// How many nodes vote now; in a joint configuration those of either half.
    pub fn voter_count(&self) -> usize {
        let only_outgoing = |node: &&NodeId| self.voters.binary_search(node).is_err();
        self.voters.len() + self.outgoing.iter().filter(only_outgoing).count()
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

/// The largest value that more than half of `voters` have reached.
fn majority_value(voters: &[NodeId], value_of: &impl Fn(NodeId) -> u64) -> u64 {
    // Sorting a few values on the stack beats anything cleverer, and cannot lose its order.
    const ON_STACK: usize = 16;
    let majority = voters.len() / 2 + 1;
    if voters.is_empty() {
        return 0;
    }
    if voters.len() <= ON_STACK {
        let mut values = [0; ON_STACK];
        let values = &mut values[..voters.len()];
        for (value, voter) in values.iter_mut().zip(voters) {
            *value = value_of(*voter);
        }
        values.sort_unstable();
        return values[values.len() - majority];
    }
    let mut values: Vec<u64> = voters.iter().map(|voter| value_of(*voter)).collect();
    values.sort_unstable();
    values[values.len() - majority]
}
