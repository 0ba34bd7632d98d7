//! Who is in the cluster: told by any node, changed by the leader.

use super::cause::{millis, no_quorum, not_leader};
use super::read::summary;
use super::replica::Replica;
use super::write::Try;
use super::{Clock, Door};
use crate::api::{
    Health, Integrity, KvError, MemberAlarm, Members, PeerHealth, Query, Reply, ReplyBody, Space,
};
use crate::wire;
use raft_core::node::{ChangeError, PeerStatus, ReadMode, Status};
use raft_core::types::{Change, Index, InvalidChange};
use std::sync::Arc;
use tokio::time::timeout_at;

impl<N: Replica> Door<N> {
    /// The members: as of a linearizable read of this node.
    pub(super) async fn members(&self, clock: Clock) -> Reply {
        let read = self.query(&Query::Summary, ReadMode::Lease, clock).await?;
        let status = timeout_at(clock.answer_by, self.status_at(read.applied));
        let status = status.await.map_err(|_| self.why(clock).unavailable())?;
        Ok(ReplyBody::Members(Box::new(members(&status))))
    }

    /// The status once it is not older than `applied`: it is told a little later than answers.
    async fn status_at(&self, applied: Index) -> Arc<Status> {
        loop {
            let status = self.node.status();
            if status.commit_index >= applied {
                return status;
            }
            tokio::select! {
                () = self.node.status_changed() => {}
                _ = self.node.stopped() => return status,
            }
        }
    }

    /// What may be wrong, as this node sees it; the store is asked so that a node that answers is
    /// one that works.
    pub(super) async fn health(&self, clock: Clock) -> Reply {
        summary(&self.query(&Query::Summary, ReadMode::Local, clock).await?)?;
        let alarms = self.store.alarms().raised().collect();
        let health = health(&self.node.status(), self.space(), self.known.integrity(), alarms);
        Ok(ReplyBody::Health(Box::new(health)))
    }

    /// One try to change the members on this node.
    pub(super) async fn change(&self, changes: &[Change]) -> Try {
        match self.node.change_membership(changes.to_vec()).await {
            Ok(changed) => {
                tracing::info!(membership = %changed.membership, "members changed");
                let status = self.node.status();
                let (cluster, leader) = (status.identity.cluster, status.leader);
                let members = Members { cluster, leader, membership: changed.membership };
                Try::Answered(wire::encode_reply(&Ok(ReplyBody::Members(Box::new(members)))))
            }
            Err(error) => Try::of_change(&error),
        }
    }
}

impl Try {
    /// What the failure of a change means.
    pub(super) fn of_change(error: &ChangeError) -> Self {
        let refused = |error| Self::Answered(wire::encode_reply(&Err(error)));
        match *error {
            ChangeError::NotLeader { leader } => {
                Self::NotDone(KvError::Unavailable(not_leader(leader)))
            }
            // The cluster makes changes of its own, which are soon done.
            ChangeError::NotReady
            | ChangeError::HandingOver
            | ChangeError::Pending { .. }
            | ChangeError::Invalid(InvalidChange::Joint) => {
                Self::NotDone(KvError::Unavailable(error.to_string()))
            }
            ChangeError::LeadershipLost => Self::InDoubt(error.to_string()),
            ChangeError::Stopped => refused(KvError::Unknown(error.to_string())),
            _ => {
                let (reason, advice) = (error.to_string(), advice(error).into());
                refused(KvError::ChangeRefused { reason, advice })
            }
        }
    }
}

/// What to do instead of a change that is refused.
const fn advice(error: &ChangeError) -> &'static str {
    match error {
        ChangeError::TooOld => "upgrade every node first",
        ChangeError::Behind { .. } => {
            "try again when it has caught up; one that was not added as an observer becomes a \
             voter by itself then"
        }
        ChangeError::NoQuorum => "start those that are away, or remove them first",
        ChangeError::Invalid(invalid) => match invalid {
            InvalidChange::NotMember(_) => "add it first, or look at the members",
            InvalidChange::AlreadyMember(_) => "promote it, move it, or remove it first",
            InvalidChange::AlreadyVoter(_)
            | InvalidChange::NotVoter(_)
            | InvalidChange::Nothing => "look at the members",
            InvalidChange::Unheard(_) => "start it, and let it catch up",
            InvalidChange::NodeZero => "count nodes from 1",
            InvalidChange::NoVoters => {
                "add another voter first; to end the cluster, stop its nodes"
            }
            _ => "look at the members and try again",
        },
        _ => "look at the members and try again",
    }
}

fn members(status: &Status) -> Members {
    let (cluster, leader) = (status.identity.cluster, status.leader);
    Members { cluster, leader, membership: status.membership.clone() }
}

fn health(status: &Status, space: Space, integrity: Integrity, alarms: Vec<MemberAlarm>) -> Health {
    let peer = |peer: &PeerStatus| PeerHealth {
        id: peer.id,
        version: peer.version,
        stalled_ms: millis(peer.stalled),
        other_life: peer.other_life.is_some(),
    };
    Health {
        members: members(status),
        bound: status.bound,
        persisted_index: status.persisted_index,
        waiting_ms: millis(status.waiting),
        transfer: status.transfer,
        timing: status.timing.suggested.map(|_| status.timing.to_string()),
        no_quorum: no_quorum(status),
        peers: status.peers.iter().map(peer).collect(),
        space,
        integrity,
        alarms,
    }
}
