//! Which service a request is for. What is no gRPC goes to the gateway.

use super::auth::{AuthDoor, token_of};
use super::cluster::ClusterDoor;
use super::core::Core;
use super::election::ElectionDoor;
use super::error::{self, NO_LEADER, TOO_LARGE};
use super::gateway::Gateway;
use super::health::HealthDoor;
use super::kv::KvDoor;
use super::lease::LeaseDoor;
use super::lock::LockDoor;
use super::maintenance::MaintenanceDoor;
use super::proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
    lease_server::LeaseServer, maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use super::proto::health::health_server::HealthServer;
use super::proto::v3electionpb::election_server::ElectionServer;
use super::proto::v3lockpb::lock_server::LockServer;
use super::watch::WatchDoor;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use std::convert::Infallible;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// Bytes of the longest request that is decoded: those of a command, and what etcd allows beside.
const DECODED_BYTES_MAX: usize = crate::api::REQUEST_BYTES_MAX + 512 * 1024;

/// All services of the door. A clone is cheap.
#[derive(Clone)]
pub(super) struct Router {
    core: Arc<Core>,
    kv: KvServer<KvDoor>,
    watch: WatchServer<WatchDoor>,
    lease: LeaseServer<LeaseDoor>,
    cluster: ClusterServer<ClusterDoor>,
    maintenance: MaintenanceServer<MaintenanceDoor>,
    auth: AuthServer<AuthDoor>,
    lock: LockServer<LockDoor>,
    election: ElectionServer<ElectionDoor>,
    health: HealthServer<HealthDoor>,
    gateway: Gateway,
}

/// A service with the limits that all have.
macro_rules! limited {
    ($server:ident, $door:expr) => {
        $server::new($door)
            .max_decoding_message_size(DECODED_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    };
}

impl Router {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let core = || Arc::clone(core);
        Self {
            core: core(),
            kv: limited!(KvServer, KvDoor(core())),
            watch: limited!(WatchServer, WatchDoor(core())),
            lease: limited!(LeaseServer, LeaseDoor(core())),
            cluster: limited!(ClusterServer, ClusterDoor(core())),
            maintenance: limited!(MaintenanceServer, MaintenanceDoor(core())),
            auth: limited!(AuthServer, AuthDoor(core())),
            lock: limited!(LockServer, LockDoor(core())),
            election: limited!(ElectionServer, ElectionDoor(core())),
            health: limited!(HealthServer, HealthDoor(core())),
            gateway: Gateway::new(core()),
        }
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer(self, request: Request<Body>) -> Response<Body> {
        // Where users do not count, nobody is asked who they are.
        let token = match self.core.service.store().is_auth_enabled() {
            true => token_of(&self.core, request.headers(), request.extensions()),
            false => None,
        };
        match token {
            Some(token) => Self::new(&self.core.signed(&token)).answer_as(request).await,
            None => self.answer_as(request).await,
        }
    }

    /// Answers it for whom this was made.
    async fn answer_as(self, request: Request<Body>) -> Response<Body> {
        if !is_grpc(request.headers()) {
            return self.gateway.answer(request).await;
        }
        if requires_leader(request.headers()) && !self.core.is_led() {
            return Status::from(NO_LEADER).into_http();
        }
        let response = self.dispatch(request).await;
        match Status::from_header_map(response.headers()) {
            // The decoder has another text for it.
            Some(status) if error::is_oversize(&status) => Status::from(TOO_LARGE).into_http(),
            _ => response,
        }
    }

    async fn dispatch(mut self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let Some((service, _)) = service else { return unknown(&path) };
        let answered: Result<Response<Body>, Infallible> = match service {
            KvServer::<KvDoor>::NAME => self.kv.call(request).await,
            WatchServer::<WatchDoor>::NAME => self.watch.call(request).await,
            LeaseServer::<LeaseDoor>::NAME => self.lease.call(request).await,
            ClusterServer::<ClusterDoor>::NAME => self.cluster.call(request).await,
            MaintenanceServer::<MaintenanceDoor>::NAME => self.maintenance.call(request).await,
            AuthServer::<AuthDoor>::NAME => self.auth.call(request).await,
            LockServer::<LockDoor>::NAME => self.lock.call(request).await,
            ElectionServer::<ElectionDoor>::NAME => self.election.call(request).await,
            HealthServer::<HealthDoor>::NAME => self.health.call(request).await,
            _ => Ok(unknown(&path)),
        };
        let Ok(response) = answered;
        response
    }
}

fn unknown(path: &str) -> Response<Body> {
    Status::unimplemented(format!("unknown service or method {path}")).into_http()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    content.is_some_and(|content| content.starts_with(b"application/grpc"))
}

/// Whether the client wants no answer from a node that knows of no leader.
pub(super) fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|wanted| wanted == "true")
}
