//! Which service a request is for. What is no gRPC goes to the gateway.

use super::auth::{AuthDoor, token_of};
use super::cluster::ClusterDoor;
use super::core::Core;
use super::election::ElectionDoor;
use super::error::{self, NO_LEADER, TOO_LARGE};
use super::gateway::Gateway;
use super::health::HealthDoor;
use super::held::Bounds;
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
use raft_core::types::ClusterId;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// Bytes of the longest request that is decoded: those of a command, and what etcd allows beside.
const DECODED_BYTES_MAX: usize = crate::api::REQUEST_BYTES_MAX + 512 * 1024;

/// The methods whose requests are streams.
const STREAMS: [&str; 2] = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

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
    bounds: Bounds,
    /// Whether only health, version and metrics are answered.
    probes_only: bool,
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
            bounds: Bounds::new(),
            probes_only: false,
        }
    }

    /// The same for another connection, whose requests have a bound of their own.
    pub(super) fn of_connection(&self) -> Self {
        Self { bounds: self.bounds.of_connection(), ..self.clone() }
    }

    /// The same for a port at which only health, version and metrics are answered.
    pub(super) fn probes_only(self) -> Self {
        Self { probes_only: true, ..self }
    }

    /// Waits until clients can be served.
    pub(super) async fn ready(&self) -> ClusterId {
        self.core.ready().await
    }

    /// Answers one request, whatever it is.
    pub(super) async fn answer(self, request: Request<Body>) -> Response<Body> {
        if self.probes_only {
            return self.gateway.probe(request).await;
        }
        let (parts, body) = request.into_parts();
        // Its bytes count until it is answered, or, of a stream, until each message is there.
        let (body, _held) = self.bounds.body(body, STREAMS.contains(&parts.uri.path()));
        let request = Request::from_parts(parts, body);
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
        let (path, calls) = (request.uri().path().to_owned(), Arc::clone(&self.core.calls));
        let response = calls.counted(path, self.dispatch_in_time(request).await);
        match Status::from_header_map(response.headers()) {
            // The decoder has another text for it.
            Some(status) if error::is_oversize(&status) => Status::from(TOO_LARGE).into_http(),
            _ => response,
        }
    }

    /// Answers a call within the time that its client gives it.
    async fn dispatch_in_time(self, request: Request<Body>) -> Response<Body> {
        let Some(patience) = timeout_of(request.headers()) else {
            return self.dispatch(request).await;
        };
        let answered = timeout(patience, self.dispatch(request)).await;
        answered
            .unwrap_or_else(|_| Status::deadline_exceeded("context deadline exceeded").into_http())
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

/// How long the client waits for an answer, if it says so in a form that there is.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = number.len() <= DIGITS_MAX && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let of = |value: &str| {
            timeout_of(
                &[("grpc-timeout", value)]
                    .iter()
                    .map(|(name, value)| {
                        (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
                    })
                    .collect(),
            )
        };
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(of("5M"), Some(Duration::from_secs(300)));
        assert_eq!(of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "1", "-1S", "1s", "123456789S", "1.5S", "+1S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
