//! Membership changes: from one configuration to the next, as pure functions.

use super::{Member, Membership};
use crate::types::{Incarnation, NodeId, Version};
use std::collections::BTreeMap;

/// A host name has 253 bytes at most, a port five, and brackets and colons are needed.
const ADDRESS_BYTES_MAX: usize = 262;

/// One part of a membership change. Several at once make one change, which takes effect as a whole.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// A new node comes in as a learner. With `promote` it becomes a voter by itself once it has
    /// caught up; without, it stays an observer.
    Add {
        /// The node.
        node: NodeId,
        /// Where its transport listens, `host:port`.
        address: String,
        /// Whether it is to become a voter.
        promote: bool,
    },
    /// A learner becomes a voter at once, whether or not it has caught up. It must have been heard
    /// of.
    Promote {
        /// The node.
        node: NodeId,
    },
    /// A voter becomes a learner that stays one.
    Demote {
        /// The node.
        node: NodeId,
    },
    /// A member goes. The leader may remove itself.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A member has moved.
    Readdress {
        /// The node.
        node: NodeId,
        /// Where its transport listens now, `host:port`.
        address: String,
    },
    /// Who should lead, of voters with equal logs: the highest.
    Prioritize {
        /// The node.
        node: NodeId,
        /// Its priority. Default 0.
        priority: u8,
    },
}

/// A change that makes no sense for the configuration in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChange {
    /// The node is no member.
    #[error("{0} is not a member")]
    NotMember(NodeId),
    /// The node is a member already.
    #[error("{0} is a member already")]
    AlreadyMember(NodeId),
    /// The node is a voter already.
    #[error("{0} is a voter already")]
    AlreadyVoter(NodeId),
    /// The node is no voter.
    #[error("{0} is not a voter")]
    NotVoter(NodeId),
    /// Nothing was ever heard of the node, so it cannot vote.
    #[error("{0} was never heard of; start it before it is made a voter")]
    Unheard(NodeId),
    /// The node id 0 is not used.
    #[error("0 is not a node id")]
    NodeZero,
    /// The address is longer than any host's name and port, 262 bytes.
    #[error("the address of {0} is too long")]
    LongAddress(NodeId),
    /// The membership would be larger than the largest command.
    #[error("too many members")]
    TooLarge,
    /// Nobody would be left to vote.
    #[error("no voter would be left")]
    NoVoters,
    /// The change before this one is not completed: two sets of voters still have to agree (§6).
    #[error("the voters are still being changed")]
    Joint,
    /// It is as it is wanted already.
    #[error("that changes nothing")]
    Nothing,
}

impl Change {
    /// The node that is to change.
    pub const fn node(&self) -> NodeId {
        let (Self::Add { node, .. }
        | Self::Promote { node }
        | Self::Demote { node }
        | Self::Remove { node }
        | Self::Readdress { node, .. }
        | Self::Prioritize { node, .. }) = self;
        *node
    }
}

impl Membership {
    /// The configuration to append for `changes`: a joint one if the voters change (§6). It is for
    /// the caller to see that every member understands changes: version 1 does not.
    ///
    /// # Errors
    /// The first change that makes no sense here; [`InvalidChange::Joint`] if this configuration is
    /// to be [left](Self::left) first.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, InvalidChange> {
        if self.is_joint() {
            return Err(InvalidChange::Joint);
        }
        let mut next = self.clone();
        let mut leaving = Vec::new();
        for change in changes {
            // It is still among the members, because its vote may be needed.
            if let Some(gone) = leaving.iter().find(|node| **node == change.node())
                && !matches!(change, Change::Add { .. })
            {
                return Err(InvalidChange::NotMember(*gone));
            }
            next.change(change, &mut leaving)?;
        }
        if next.voters.is_empty() {
            return Err(InvalidChange::NoVoters);
        }
        if next.voters == self.voters {
            next.members.retain(|node, _| !leaving.contains(node));
        } else {
            next.outgoing = self.voters.clone();
            let outgoing = |node: &NodeId| next.outgoing.binary_search(node).is_ok();
            // Those that voted are needed as long as their votes are.
            let (stay, go): (Vec<_>, Vec<_>) = leaving.into_iter().partition(outgoing);
            next.members.retain(|node, _| !go.contains(node));
            next.leaving = stay;
            next.leaving.sort_unstable();
        }
        if next == *self { Err(InvalidChange::Nothing) } else { Ok(next) }
    }

    fn change(&mut self, change: &Change, leaving: &mut Vec<NodeId>) -> Result<(), InvalidChange> {
        match change {
            Change::Add { node: NodeId(0), .. } => return Err(InvalidChange::NodeZero),
            Change::Add { node, address, .. } | Change::Readdress { node, address }
                if address.len() > ADDRESS_BYTES_MAX =>
            {
                return Err(InvalidChange::LongAddress(*node));
            }
            Change::Add { node, .. } if self.contains(*node) => {
                return Err(InvalidChange::AlreadyMember(*node));
            }
            Change::Add { node, address, promote } => {
                let member = Member { promote: *promote, ..Member::new(address.clone()) };
                self.members.insert(*node, member);
            }
            Change::Promote { node } => self.promote(*node)?,
            Change::Demote { node } => self.demote(*node)?,
            Change::Remove { node } => {
                self.member_mut(*node)?;
                self.voters.retain(|voter| voter != node);
                leaving.push(*node);
            }
            Change::Readdress { node, address } => {
                self.member_mut(*node)?.address.clone_from(address);
            }
            Change::Prioritize { node, priority } => self.member_mut(*node)?.priority = *priority,
        }
        Ok(())
    }

    fn promote(&mut self, node: NodeId) -> Result<(), InvalidChange> {
        let member = self.member_mut(node)?;
        if member.incarnation.is_none() {
            return Err(InvalidChange::Unheard(node));
        }
        let Err(position) = self.voters.binary_search(&node) else {
            return Err(InvalidChange::AlreadyVoter(node));
        };
        self.voters.insert(position, node);
        Ok(())
    }

    fn demote(&mut self, node: NodeId) -> Result<(), InvalidChange> {
        self.member_mut(node)?.promote = false;
        let position = self.voters.binary_search(&node);
        self.voters.remove(position.map_err(|_| InvalidChange::NotVoter(node))?);
        Ok(())
    }

    fn member_mut(&mut self, node: NodeId) -> Result<&mut Member, InvalidChange> {
        self.members.get_mut(&node).ok_or(InvalidChange::NotMember(node))
    }

    /// The configuration that follows a joint one: the new voters alone (§6).
    pub fn left(&self) -> Self {
        let mut next = self.clone();
        next.outgoing.clear();
        for node in std::mem::take(&mut next.leaving) {
            next.members.remove(&node);
        }
        next
    }

    /// The member is bound to a life of its data directory from now on. A voter bound to another
    /// one has lost what it promised: it becomes a learner, to be promoted once it has caught up.
    /// Such a change of the voters has to wait while another is under way, and the only voter
    /// cannot be spared: then, and if the node is no member, the configuration stays as it is.
    pub fn bound(&self, node: NodeId, incarnation: Incarnation) -> Self {
        let mut next = self.clone();
        let Some(member) = next.members.get_mut(&node) else { return next };
        let another_life = member.incarnation.is_some_and(|bound| bound != incarnation);
        member.incarnation = Some(incarnation);
        if another_life && self.is_voter(node) {
            member.promote = true;
            next.voters.retain(|voter| *voter != node);
            next.outgoing = self.voters.clone();
            if self.is_joint() || next.voters.is_empty() {
                return self.clone();
            }
        }
        next
    }

    /// Every member is known to understand `version`. What version 1 cannot say is left out of a
    /// membership of that version, or each node would know another one.
    pub fn upgraded(&self, version: Version) -> Self {
        let mut next = Self { version, ..self.clone() };
        if version <= Version::OLDEST {
            next.epoch = 0;
            next.leaving.clear();
            next.members.values_mut().for_each(|member| member.priority = 0);
        }
        next
    }

    /// A cluster of one, made of what `survivor` holds: a new history (see [`Membership::epoch`]).
    /// It understands what this crate does, whoever was a member before.
    pub fn recovered(&self, survivor: NodeId, member: Member) -> Self {
        self.refounded(BTreeMap::from([(survivor, member)]), 0)
    }

    /// The same with several members, all of them voters: those of a cluster that is made of a
    /// backup. Its history epoch is `epoch`, or the next one if that is higher. What can be made
    /// anew of the same state more than once takes for it what does not repeat, as the time.
    #[must_use]
    pub fn refounded(&self, members: BTreeMap<NodeId, Member>, epoch: u64) -> Self {
        Self {
            voters: members.keys().copied().collect(),
            members,
            version: Version::CURRENT,
            epoch: epoch.max(self.epoch.saturating_add(1)),
            ..Self::default()
        }
    }
}
