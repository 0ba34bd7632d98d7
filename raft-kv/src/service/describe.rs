//! A node's status as its clients see it.

use super::cause::millis;
use super::read::summary;
use super::replica::Replica;
use super::{Clock, Door};
use crate::api::{MemberStatus, NodeStatus, Query, Reply, ReplyBody, Space, Summary};
use raft_core::node::{ReadMode, Status};
use raft_core::types::{Member, NodeId};

impl<N: Replica> Door<N> {
    /// Describes this node: the store in it as applied, and the cluster as it sees it.
    pub(super) async fn describe(&self, clock: Clock) -> Reply {
        let summary = summary(&self.query(&Query::Summary, ReadMode::Local, clock).await?)?;
        let space = Space { bytes: summary.bytes, ..self.space() };
        let status = node_status(&self.node.status(), summary, space, self.version.clone());
        Ok(ReplyBody::Status(Box::new(status)))
    }
}

fn node_status(status: &Status, summary: Summary, space: Space, version: String) -> NodeStatus {
    NodeStatus {
        cluster: status.identity.cluster,
        id: status.identity.node,
        incarnation: status.identity.incarnation,
        version,
        role: status.role.to_string(),
        term: status.term,
        leader: status.leader,
        // Applied entries are committed, whichever of the two was looked at first.
        commit_index: status.commit_index.max(summary.last_applied),
        last_applied: summary.last_applied,
        last_log: status.last_log,
        log_bytes: status.log_bytes as u64,
        revision: summary.revision,
        keys: summary.keys,
        state_hash: summary.state_hash,
        members: members(status),
        compacted: summary.compacted,
        space,
        leases: summary.leases,
        sessions: summary.sessions,
        time_ms: summary.time_ms,
    }
}

fn members(status: &Status) -> Vec<MemberStatus> {
    let membership = &status.membership;
    let describe = |(id, member): (&NodeId, &Member)| {
        let peer = status.peers.iter().find(|peer| peer.id == *id);
        let heard = peer.and_then(|peer| peer.heard);
        let heard_ms = heard.map(millis);
        let own = *id == status.identity.node;
        let progress = peer.and_then(|peer| peer.progress);
        MemberStatus {
            id: *id,
            address: member.address.clone(),
            voter: membership.is_voter(*id),
            heard_ms: if own { Some(0) } else { heard_ms },
            match_index: progress.map(|progress| progress.match_index),
            flow: progress.map(|progress| progress.flow.into()),
        }
    };
    membership.members().iter().map(describe).collect()
}
