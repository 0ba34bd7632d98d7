//! Service Maintenance: how this node is, and what is done about it. What etcd's operators do by
//! hand and this store does by itself, to defragment, is answered as done.

use super::alarms::{self, Wanted};
use super::core::{Core, signed};
use super::error::{BAD_TRANSFEREE, NOT_LEADER};
use super::flow::Outflow;
use super::proto::etcdserverpb as pb;
use crate::api::MemberRole;
use pb::alarm_request::AlarmAction;
use pb::maintenance_server::Maintenance;
use raft_core::types::NodeId;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// See the module.
pub(super) struct MaintenanceDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Maintenance for MaintenanceDoor {
    type SnapshotStream = Outflow<pb::SnapshotResponse>;

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let pb::AlarmRequest { action, member_id, alarm } = request.into_inner();
        let wanted = Wanted { member: member_id, kind: alarm };
        let alarms = match AlarmAction::try_from(action) {
            Ok(AlarmAction::Get) => self.0.alarms(wanted).await?,
            Ok(AlarmAction::Activate) => {
                let alarm = alarms::asked(member_id, alarm)?;
                self.0.raise(alarm).await?;
                alarms::listed(vec![alarm])
            }
            // What is no alarm was never raised.
            Ok(AlarmAction::Deactivate) => match alarms::asked(member_id, alarm) {
                Ok(alarm) if self.0.clear(alarm).await? => alarms::listed(vec![alarm]),
                Ok(_) | Err(_) => Vec::new(),
            },
            // etcd answers nothing to what it does not know.
            Err(_) => Vec::new(),
        };
        // As etcd's, this answer has no header.
        Ok(Response::new(pb::AlarmResponse { header: None, alarms }))
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.0.status();
        let bytes = signed(self.0.service.store().gauges().bytes);
        let own = status.identity.node;
        let mut errors: Vec<String> = self.0.known_alarms().iter().map(alarms::text).collect();
        if status.leader.is_none() {
            errors.push(super::error::NO_LEADER.1.into());
        }
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header_now()),
            version: super::VERSION.into(),
            db_size: bytes,
            leader: status.leader.map_or(0, |leader| leader.0),
            raft_index: status.commit_index.0,
            raft_term: status.term.0,
            raft_applied_index: status.last_applied.0,
            errors,
            db_size_in_use: bytes,
            is_learner: MemberRole::of(&status.membership, own) != MemberRole::Voter,
        }))
    }

    /// There is nothing to be done: memory that compaction frees is used again at once, and so is
    /// room in the checkpoint.
    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        // As etcd's, this answer has no header.
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let status = self.0.hash().await?;
        let header = Some(self.0.header(status.revision));
        Ok(Response::new(pb::HashResponse { header, hash: folded(status.state_hash) }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let hashed =
            self.0.in_time(self.0.until(), self.0.hash_kv(request.into_inner().revision)).await?;
        let compacted = hashed.compacted.0;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.0.header_now()),
            hash: folded(hashed.hash),
            // So says etcd before anything was compacted.
            compact_revision: if compacted == 0 { -1 } else { signed(compacted) },
        }))
    }

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Ok(Response::new(super::snapshot::stream(Arc::clone(&self.0)).await?))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let to = NodeId(request.into_inner().target_id);
        let status = self.0.status();
        if status.leader != Some(status.identity.node) {
            return Err(NOT_LEADER.into());
        }
        if !status.membership.is_voter(to) {
            return Err(BAD_TRANSFEREE.into());
        }
        let moved = self.0.client.transfer_leadership(Some(to)).await;
        moved.map_err(|error| self.0.fail(&error))?;
        Ok(Response::new(pb::MoveLeaderResponse { header: Some(self.0.header_now()) }))
    }
}

/// As many bits as the interface has room for.
const fn folded(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}
