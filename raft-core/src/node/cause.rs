//! Why a cluster has no quorum, for machines and in one line for people.

use super::Status;
use crate::raft::RoleName;
use crate::types::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Why there is no quorum, as one node sees it. `Display` is one line:
/// `no quorum 1/3: n2 unreachable 4.1 s, n3 disk stalled 2.0 s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoQuorum {
    /// How many voters are there and work, this node included.
    pub reachable: usize,
    /// How many it takes; in a joint configuration, of its larger half.
    pub needed: usize,
    /// How many voters there are; 0 if the node belongs to no cluster yet.
    pub voters: usize,
    /// What is wrong with each of the others, by id.
    pub causes: Vec<(NodeId, Cause)>,
}

/// Why a voter does not count towards a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// Before there is a cluster: it is to be formed with this node, which has not answered.
    NotThereYet,
    /// Nothing was heard of it since this node started.
    NeverHeard,
    /// Nothing was heard of it for so long, or since this node asks it.
    Unreachable(Duration),
    /// Its disk has completed nothing for so long.
    DiskStalled(Duration),
    /// It has come back as another life, without what it had promised: it does not count until it
    /// is taken back.
    OtherLife,
}

impl Status {
    /// Why there is no quorum; nothing if there is one, or if this node cannot tell: whoever
    /// follows hears nobody but its leader.
    pub fn no_quorum(&self) -> Option<NoQuorum> {
        if self.membership.is_empty() {
            let missing = |node: &NodeId| (*node, Cause::NotThereYet);
            let causes = self.missing.iter().map(missing).collect();
            return Some(NoQuorum { reachable: 0, needed: 0, voters: 0, causes });
        }
        let own = self.identity.node;
        let led = self.leader.is_some_and(|leader| leader != own);
        let mut causes = Vec::new();
        let mut alone = true;
        for node in self.membership.members().keys().filter(|node| self.membership.is_voter(**node))
        {
            let cause = if *node == own { self.own_cause() } else { self.cause(*node) };
            alone &= *node == own || cause.is_some();
            causes.extend(cause.map(|cause| (*node, cause)));
        }
        let works = |node| !causes.iter().any(|(other, _)| *other == node);
        let talks = self.role != RoleName::Follower;
        if led || self.membership.is_quorum(works) || !(talks || alone) {
            return None;
        }
        let voters = self.membership.voter_count();
        let needed = self.membership.quorum_size();
        Some(NoQuorum { reachable: voters - causes.len(), needed, voters, causes })
    }

    fn own_cause(&self) -> Option<Cause> {
        if !self.bound {
            return Some(Cause::OtherLife);
        }
        let stalled = self.waiting >= self.limits.stall;
        stalled.then_some(Cause::DiskStalled(self.waiting))
    }

    fn cause(&self, node: NodeId) -> Option<Cause> {
        let Some(peer) = self.peers.iter().find(|peer| peer.id == node) else {
            return Some(Cause::NeverHeard);
        };
        // Nobody but the leader talks to whoever is led.
        let heard = peer.heard.map(|heard| self.led.map_or(heard, |led| heard.min(led)));
        let silent = heard.is_none_or(|heard| heard > self.limits.silence);
        match heard {
            _ if silent && peer.other_life.is_some() => Some(Cause::OtherLife),
            None => Some(Cause::NeverHeard),
            Some(heard) if silent => Some(Cause::Unreachable(heard)),
            _ if peer.stalled > Duration::ZERO => Some(Cause::DiskStalled(peer.stalled)),
            _ => None,
        }
    }
}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.voters > 0 {
            write!(f, "no quorum {}/{}", self.reachable, self.voters)?;
            let mut separator = ": ";
            for (node, cause) in &self.causes {
                write!(f, "{separator}{node} {cause}")?;
                separator = ", ";
            }
            return Ok(());
        }
        f.write_str("not formed yet: waiting ")?;
        let mut separator = "for ";
        for (node, _) in &self.causes {
            write!(f, "{separator}{node}")?;
            separator = ", ";
        }
        if self.causes.is_empty() {
            f.write_str("to be added to a cluster")?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThereYet => f.write_str("not there yet"),
            Self::NeverHeard => f.write_str("never heard"),
            Self::Unreachable(silent) => write!(f, "unreachable {:.1} s", silent.as_secs_f64()),
            Self::DiskStalled(owed) => write!(f, "disk stalled {:.1} s", owed.as_secs_f64()),
            Self::OtherLife => f.write_str("back as another life"),
        }
    }
}
