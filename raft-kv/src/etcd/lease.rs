//! Service Lease. Times are in seconds here, and in milliseconds in the store: a lease never lives
//! shorter than it was asked for, nor is it said to live longer than it does.

use super::convert;
use super::core::{Core, signed};
use super::flow::{Inflow, Outflow, Outlet, channel};
use super::proto::etcdserverpb as pb;
use crate::api::{KEEP_ALIVE_MAX, LEASE_TTL_MAX_MS, LeaseId, LeaseStatus};
use pb::lease_server::Lease;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

/// See the module.
pub(super) struct LeaseDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Lease for LeaseDoor {
    type LeaseKeepAliveStream = Outflow<pb::LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let id = if id == 0 { None } else { Some(convert::lease_id(id)?) };
        // What is too short is made longer, what is too long refused; nothing may overflow.
        let seconds = u64::try_from(ttl).unwrap_or(0).min(LEASE_TTL_MAX_MS);
        let granted = self.0.client.grant_lease(id, Duration::from_secs(seconds)).await;
        let granted = granted.map_err(|error| self.0.fail(&error))?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(self.0.header_now()),
            id: signed(granted.id.0),
            ttl: seconds_of(granted.ttl),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let until = self.0.until();
        let id = convert::lease_id(request.into_inner().id)?;
        let revoked = self.0.client_until(until).revoke_lease(id).await;
        let revoked = revoked.map_err(|error| self.0.fail(&error))?;
        let header = Some(self.0.header_of_write(revoked.revision, until).await);
        Ok(Response::new(pb::LeaseRevokeResponse { header }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let requests = request.into_inner().into();
        Ok(Response::new(keep_alive(Arc::clone(&self.0), requests)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let found = match convert::lease_id(id) {
            Ok(id) => self.0.lease_status(id, keys).await?,
            Err(_) => None,
        };
        let header = Some(self.0.header_now());
        let unknown = pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() };
        Ok(Response::new(match found {
            None => unknown,
            Some(found) => pb::LeaseTimeToLiveResponse {
                ttl: seconds_of(Duration::from_millis(found.remaining_ms)),
                granted_ttl: seconds_of(Duration::from_millis(found.granted_ms)),
                keys: found.keys,
                ..unknown
            },
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.0.client.leases().await.map_err(|error| self.0.fail(&error))?;
        let status = |lease: LeaseId| pb::LeaseStatus { id: signed(lease.0) };
        let leases = leases.into_iter().map(status).collect();
        let header = Some(self.0.header_now());
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

impl Core {
    /// A lease as it is now.
    async fn lease_status(&self, id: LeaseId, keys: bool) -> Result<Option<LeaseStatus>, Status> {
        self.client.lease_status(id, keys).await.map_err(|error| self.fail(&error))
    }

    /// For how long each of these leases lives from now on.
    async fn keep_alive(&self, leases: &[LeaseId]) -> Result<Vec<Duration>, Status> {
        self.client.keep_alive(leases).await.map_err(|error| self.fail(&error))
    }
}

/// Keeps leases alive as long as somebody asks for it.
pub(super) fn keep_alive(
    core: Arc<Core>,
    mut requests: Inflow<pb::LeaseKeepAliveRequest>,
) -> Outflow<pb::LeaseKeepAliveResponse> {
    let (outlet, outflow) = channel(&core.memory);
    Arc::clone(&core).spawn(async move {
        let ended = tokio::select! {
            ended = answer(&core, &mut requests, &outlet) => ended,
            () = outlet.closed() => Ok(()),
        };
        if let Err(error) = ended {
            outlet.fail(error).await;
        }
    });
    outflow
}

/// Answers one request after the other, all that have come meanwhile at once.
async fn answer(
    core: &Core,
    requests: &mut Inflow<pb::LeaseKeepAliveRequest>,
    outlet: &Outlet<pb::LeaseKeepAliveResponse>,
) -> Result<(), Status> {
    let mut asked = Vec::new();
    while let Some(request) = requests.next().await? {
        asked.push(request.id);
        let mut wrong = None;
        // What has arrived already is taken along.
        while asked.len() < KEEP_ALIVE_MAX {
            match at_once(requests.next()).await {
                Some(Ok(Some(request))) => asked.push(request.id),
                Some(Ok(None)) | None => break,
                Some(Err(error)) => {
                    // What came before it is answered all the same.
                    wrong = Some(error);
                    break;
                }
            }
        }
        let known: Vec<LeaseId> =
            asked.iter().filter_map(|id| convert::lease_id(*id).ok()).collect();
        let mut lives = core.keep_alive(&known).await?.into_iter();
        for id in asked.drain(..) {
            // A lease that there cannot be is gone.
            let left = convert::lease_id(id).ok().and_then(|_| lives.next());
            let ttl = seconds_of(left.unwrap_or_default());
            let header = Some(core.header_now());
            if !outlet.send(pb::LeaseKeepAliveResponse { header, id, ttl }).await {
                return Ok(());
            }
        }
        if let Some(error) = wrong {
            return Err(error);
        }
    }
    Ok(())
}

/// What `future` comes to, if it does without waiting.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = std::future::ready(()) => None,
    }
}

/// Whole seconds, not more than there are.
fn seconds_of(time: Duration) -> i64 {
    signed(time.as_secs())
}
