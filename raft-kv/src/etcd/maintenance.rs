//! Service Maintenance: how this node is, and what is done about it. What etcd's operators do by
//! hand and this store does by itself - to defragment, to disarm an alarm - is answered as done.

use super::core::{Core, signed};
use super::error::{BAD_TRANSFEREE, NOT_LEADER};
use super::flow::Outflow;
use super::proto::etcdserverpb as pb;
use crate::api::{MemberRole, Space};
use pb::maintenance_server::Maintenance;
use pb::{AlarmMember, AlarmType, alarm_request::AlarmAction};
use raft_core::types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

/// How long a member has to say how it is.
const PATIENCE: Duration = Duration::from_millis(500);

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
        // 0 is every member, and `NONE` every alarm.
        let wanted = |known: &AlarmMember| {
            (member_id == 0 || known.member_id == member_id)
                && (alarm == i32::from(AlarmType::None) || known.alarm == alarm)
        };
        match AlarmAction::try_from(action) {
            Ok(AlarmAction::Activate) => {
                return Err(Status::unimplemented("alarms follow the state of the store"));
            }
            Ok(AlarmAction::Get | AlarmAction::Deactivate) => {}
            // etcd answers nothing to what it does not know.
            Err(_) => return Ok(Response::new(pb::AlarmResponse::default())),
        }
        let alarms = self.0.all_alarms().await.into_iter().filter(wanted).collect();
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
        let mut errors: Vec<String> = self.0.alarms().iter().map(alarm_text).collect();
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
        let hashed = self.0.in_time(self.0.hash_kv(request.into_inner().revision)).await?;
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

impl Core {
    /// What is wrong with this node.
    pub(super) fn alarms(&self) -> Vec<AlarmMember> {
        let is_damaged = self.service.integrity().alarm.is_some();
        alarms_of(self.status().identity.node, self.service.space(), is_damaged).collect()
    }

    /// What is wrong with each member that answers, and what this node knows of the others.
    async fn all_alarms(&self) -> Vec<AlarmMember> {
        let status = self.status();
        let own = status.identity.node;
        let mut asking = JoinSet::new();
        for id in status.membership.members().keys().copied().filter(|id| *id != own) {
            let service = self.service.clone();
            asking.spawn(async move { (id, service.health_of(id, PATIENCE).await) });
        }
        let mut alarms = self.alarms();
        for (id, health) in asking.join_all().await {
            let Some(health) = health else { continue };
            alarms.extend(alarms_of(id, health.space, health.integrity.alarm.is_some()));
        }
        let divergent = self.service.integrity().divergent;
        alarms.extend(divergent.into_iter().map(|id| alarm(id, AlarmType::Corrupt)));
        // As etcd lists them: those of a kind together, by member.
        alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
        alarms.dedup();
        alarms
    }
}

fn alarms_of(id: NodeId, space: Space, is_damaged: bool) -> impl Iterator<Item = AlarmMember> {
    let full = (space.bytes >= space.quota).then(|| alarm(id, AlarmType::Nospace));
    let damaged = is_damaged.then(|| alarm(id, AlarmType::Corrupt));
    full.into_iter().chain(damaged)
}

fn alarm(id: NodeId, alarm: AlarmType) -> AlarmMember {
    AlarmMember { member_id: id.0, alarm: alarm.into() }
}

/// An alarm as etcd prints it in a status.
fn alarm_text(alarm: &AlarmMember) -> String {
    let name = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE",
        Ok(AlarmType::Corrupt) => "CORRUPT",
        _ => "NONE",
    };
    format!("memberID:{} alarm:{name} ", alarm.member_id)
}

/// As many bits as the interface has room for.
const fn folded(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}
