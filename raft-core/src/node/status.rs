//! A node as it sees itself, with durations instead of ticks.

use crate::raft::{PeerProgress, Raft, RoleName};
use crate::types::{Identity, Index, LogId, Membership, NodeId, Term};
use std::time::Duration;

/// A node as it sees itself.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub identity: Identity,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader it knows in this term.
    pub leader: Option<NodeId>,
    /// Highest entry known committed.
    pub commit_index: Index,
    /// Highest entry applied.
    pub last_applied: Index,
    /// Its last entry.
    pub last_log: LogId,
    /// The entry the log starts after.
    pub log_start: LogId,
    /// Bytes of entries in memory.
    pub log_bytes: usize,
    /// The membership in force.
    pub membership: Membership,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
}

/// A peer as a node sees it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// How long ago a message came from it, to the tick; `None` if none ever did.
    pub heard: Option<Duration>,
    /// A leader's view of its log.
    pub progress: Option<PeerProgress>,
}

impl Status {
    pub(super) fn of(raft: &Raft, identity: Identity, last_applied: Index, tick: Duration) -> Self {
        let status = raft.status();
        let heard = |ticks: u64| tick * u32::try_from(ticks).unwrap_or(u32::MAX);
        let peer = |peer: &crate::raft::PeerStatus| PeerStatus {
            id: peer.id,
            heard: peer.heard_ticks.map(heard),
            progress: peer.progress,
        };
        Self {
            identity,
            role: status.role,
            term: status.term,
            leader: status.leader,
            commit_index: status.commit_index,
            last_applied,
            last_log: status.last_log,
            log_start: status.log_start,
            log_bytes: status.log_bytes,
            peers: status.peers.iter().map(peer).collect(),
            membership: status.membership,
        }
    }
}
