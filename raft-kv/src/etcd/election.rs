//! The election service: the leader is who has the first place in a line, and its key's value is
//! what it proclaims.

use super::bodies::set_aside;
use super::convert;
use super::core::{Core, signed};
use super::error::{Known, NO_ELECTION_LEADER};
use super::flow::{Outflow, Outlet, channel};
use super::line::{Place, line};
use super::proto::v3electionpb as pb;
use crate::api::{Consistency, EventKind, KeyValue, Keys, Op, Put, Range, Revision, Watch};
use bytes::Bytes;
use pb::election_server::Election;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

const NOT_ELECTED: Known = Known(Code::Unknown, "election: not leader");
const NO_LEADER_KEY: Known = Known(Code::Unknown, "\"leader\" field must be provided");

/// See the module.
pub(super) struct ElectionDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Election for ElectionDoor {
    type ObserveStream = Outflow<pb::LeaderResponse>;

    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let mut place = Place::take(&self.0, &name, lease, value).await?;
        place.until_first(&name).await?;
        // As with etcd, whatever was before it, or was proclaimed by it.
        let header = Some(self.0.header(place.entered));
        let (rev, lease) = (signed(place.created.0), signed(place.lease.0));
        let (key, held) = place.keep();
        let leader = Some(pb::LeaderKey { name, key, rev, lease });
        Ok(set_aside(pb::CampaignResponse { header, leader }, held))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let until = self.0.until();
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let leader = leader.ok_or(NO_LEADER_KEY)?;
        let lease = convert::lease_id(leader.lease)?;
        let put = Put::new(leader.key.clone(), value).with_lease(lease);
        let (at, op) = (created(leader.rev), Op::Put(put));
        let done = self.0.only_if_created(leader.key, at, op, until).await?;
        let header = Some(self.0.header_of_write(done.ok_or(NOT_ELECTED)?, until).await);
        Ok(Response::new(pb::ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (first, revision) = self.0.first(&request.into_inner().name).await?;
        Ok(Response::new(self.0.leader(first.ok_or(NO_ELECTION_LEADER)?, revision)))
    }

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        Ok(Response::new(observe(Arc::clone(&self.0), request.into_inner().name)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let until = self.0.until();
        let leader = request.into_inner().leader.ok_or(NO_LEADER_KEY)?;
        let op = Op::Delete { keys: Keys::One(leader.key.clone()), prev_kv: false };
        let at = created(leader.rev);
        let done = self.0.only_if_created(leader.key, at, op, until).await?;
        // Whoever does not lead has nothing to resign from.
        let header = Some(match done {
            Some(at) => self.0.header_of_write(at, until).await,
            None => self.0.header_now(),
        });
        Ok(Response::new(pb::ResignResponse { header }))
    }
}

/// Tells of each leader, and of what it proclaims, from now on.
pub(super) fn observe(core: Arc<Core>, name: Bytes) -> Outflow<pb::LeaderResponse> {
    let (outlet, outflow) = channel(&core.memory);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = tell_leaders(&core, &name, &outlet) => ended,
            () = outlet.closed() => return,
        };
        if let Err(error) = ended {
            outlet.fail(error).await;
        }
    });
    outflow
}

async fn tell_leaders(
    core: &Core,
    name: &Bytes,
    outlet: &Outlet<pb::LeaderResponse>,
) -> Result<(), Status> {
    loop {
        let (first, revision) = core.first(name).await?;
        let Some(first) = first else {
            core.until_put(name, revision).await?;
            continue;
        };
        let watch = Watch {
            from: Some(Revision(revision.0 + 1)),
            ..Watch::of(Keys::One(first.key.clone()))
        };
        if !outlet.send(core.leader(first, revision)).await {
            return Ok(());
        }
        let mut watcher = core.watching.watch(watch);
        'leads: while let Some(batch) = watcher.next().await {
            // What was missed, the next look finds.
            let Ok(batch) = batch else { break };
            for event in batch.events {
                match event.kind {
                    EventKind::Put(pair) => {
                        let at = pair.mod_revision;
                        core.may_read(&pair.key).await?;
                        if !outlet.send(core.leader(pair, at)).await {
                            return Ok(());
                        }
                    }
                    EventKind::Delete { .. } => break 'leads,
                }
            }
        }
    }
}

impl Core {
    /// Whether whoever asks may still read a key: the watch is the door's own.
    async fn may_read(&self, key: &Bytes) -> Result<(), Status> {
        if !self.service.store().is_auth_enabled() {
            return Ok(());
        }
        let range = Range { count_only: true, ..Range::of(Keys::One(key.clone())) };
        let read = self.client.get(range, Consistency::Serializable).await;
        read.map(drop).map_err(|error| self.fail(&error))
    }

    fn leader(&self, pair: KeyValue, revision: Revision) -> pb::LeaderResponse {
        pb::LeaderResponse { header: Some(self.header(revision)), kv: Some(convert::pair(pair)) }
    }

    /// Waits until somebody is put into the line after `seen`, or it is not known any more.
    async fn until_put(&self, name: &Bytes, seen: Revision) -> Result<(), Status> {
        let from = Some(Revision(seen.0 + 1));
        let watch = Watch { from, no_deletes: true, ..Watch::of(line(name)) };
        match self.watching.watch_once(watch).await {
            Ok(_) => Ok(()),
            Err(crate::client::ClientError::Refused(crate::api::KvError::Compacted { .. })) => {
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }
}

/// The revision a key was made at; a number that none has is nobody's.
fn created(revision: i64) -> Revision {
    Revision(convert::positive(revision).unwrap_or(u64::MAX))
}
