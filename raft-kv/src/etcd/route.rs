//! Which service a request is for. What is no gRPC goes to the gateway.

use super::auth::{AuthDoor, token_of};
use super::bodies::DECODED_BYTES_MAX;
use super::cluster::ClusterDoor;
use super::core::Core;
use super::election::ElectionDoor;
use super::error::{self, NO_LEADER, TOO_LARGE, TOO_MANY_REQUESTS};
use super::gateway::Gateway;
use super::health::HealthDoor;
use super::kind::Kind;
use super::kv::KvDoor;
use super::lease::LeaseDoor;
use super::led::while_led;
use super::lock::LockDoor;
use super::maintenance::MaintenanceDoor;
use super::proto::etcdserverpb::{
    auth_server::AuthServer,
    cluster_server::ClusterServer,
    kv_server::{Kv, KvServer},
    lease_server::LeaseServer,
    maintenance_server::MaintenanceServer,
    watch_server::WatchServer,
};
use super::proto::health::health_server::HealthServer;
use super::proto::v3electionpb::election_server::ElectionServer;
use super::proto::v3lockpb::lock_server::LockServer;
use super::unary;
use super::wakes::Wakes;
use super::watch::WatchDoor;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use raft_core::transport::BoxFuture;
use raft_core::types::ClusterId;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// Bytes of the headers of a request, as HTTP counts them, which are there until it is answered.
fn bytes_of(headers: &HeaderMap) -> usize {
    const OVERHEAD: usize = 32;
    let bytes =
        |(name, value): (&HeaderName, &HeaderValue)| OVERHEAD + name.as_str().len() + value.len();
    headers.iter().map(bytes).sum()
}

/// What answers a request.
pub(super) type Answering = BoxFuture<Response<Body>>;
/// What a service makes of a call.
type Served = BoxFuture<Result<Response<Body>, Infallible>>;

/// The way to all services of the door. A clone is cheap, and so is a service: the one that is
/// called is made for the request, for whoever asks.
#[derive(Clone)]
pub(super) struct Router {
    core: Arc<Core>,
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

/// What nearly all calls are, in fewer steps.
macro_rules! called {
    ($core:ident, $request:ident, $called:ident, { $($name:literal => $method:ident,)* }) => {
        match $called {
            $($name => Box::pin(async move {
                let door = KvDoor($core);
                let answer = match unary::receive($request).await {
                    Ok(request) => door.$method(request).await,
                    Err(refused) => Err(refused),
                };
                Ok(unary::reply(answer))
            }),)*
            _ => limited!(KvServer, KvDoor($core)).call($request),
        }
    };
}

impl Router {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), probes_only: false }
    }

    /// The same for another connection.
    pub(super) fn of_connection(&self, wakes: Arc<Wakes>) -> Self {
        Self { core: self.core.of_connection(wakes), ..*self }
    }

    /// The same for a port at which only health, version and metrics are answered, whatever memory
    /// clients take.
    pub(super) fn probes_only(self) -> Self {
        Self { core: self.core.apart(), probes_only: true }
    }

    /// Waits until clients can be served.
    pub(super) async fn ready(&self) -> ClusterId {
        self.core.ready().await
    }

    /// Answers one request, whatever it is. All that can be done at once is, so that while it waits
    /// it takes little more memory than what it waits for.
    pub(super) fn answer(self, request: Request<Body>) -> Answering {
        let (parts, body) = request.into_parts();
        let kind = Kind::of(&parts);
        let memory = self.core.memory.clone();
        let mut of_headers = memory.hold();
        if !of_headers.take(bytes_of(&parts.headers)) {
            return Box::pin(ready(kind.refuse(TOO_MANY_REQUESTS)));
        }
        // Held until it is answered or, of a stream, until each message is there.
        let (body, of_body) = memory.receive(body, kind);
        let held = (of_headers, of_body);
        let request = Request::from_parts(parts, body);
        if self.probes_only {
            let gateway = Gateway::new(self.core);
            return Box::pin(async move {
                let _held = held;
                memory.send(gateway.probe(request).await, kind).await
            });
        }
        let core = match token_of(&self.core, request.headers(), request.extensions()) {
            Some(token) => self.core.signed(&token),
            None => self.core,
        };
        match kind {
            Kind::Http | Kind::Lines => {
                let gateway = Gateway::new(core);
                Box::pin(async move {
                    let _held = held;
                    memory.send(gateway.answer(request).await, kind).await
                })
            }
            Kind::Call | Kind::Stream => call(core, request, kind, held),
        }
    }
}

/// Answers a call over gRPC.
fn call<H: Send + 'static>(
    core: Arc<Core>,
    request: Request<Body>,
    kind: Kind,
    held: H,
) -> Answering {
    let led = requires_leader(request.headers()).then(|| Arc::clone(&core));
    if led.is_some() && !core.is_led() {
        return Box::pin(ready(kind.refuse(NO_LEADER)));
    }
    let (path, calls) = (request.uri().path().to_owned(), Arc::clone(&core.calls));
    let memory = core.memory.clone();
    let (parts, body) = request.into_parts();
    let (body, came) = calls.received(body);
    let answered = in_time(core, Request::from_parts(parts, body));
    Box::pin(async move {
        let _held = held;
        let response = match (answered.await, led) {
            (answered, Some(core)) => while_led(core, answered),
            (answered, None) => answered,
        };
        let response = memory.send(response, kind).await;
        let response = calls.counted(path, response, came);
        match Status::from_header_map(response.headers()) {
            // The decoder has another text for it.
            Some(status) if error::is_oversize(&status) => kind.refuse(TOO_LARGE),
            _ => response,
        }
    })
}

/// Answers a call within the time that its client gives it.
fn in_time(core: Arc<Core>, request: Request<Body>) -> impl Future<Output = Response<Body>> {
    let patience = timeout_of(request.headers());
    let answered = dispatch(core, request);
    async move {
        let Some(patience) = patience else { return served(answered.await) };
        timeout(patience, answered).await.map_or_else(
            |_| Status::deadline_exceeded("context deadline exceeded").into_http(),
            served,
        )
    }
}

fn dispatch(core: Arc<Core>, request: Request<Body>) -> Served {
    let path = request.uri().path();
    let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let (service, method) = named.unwrap_or_default();
    match service {
        KvServer::<KvDoor>::NAME => called!(core, request, method, {
            "Range" => range,
            "Put" => put,
            "DeleteRange" => delete_range,
            "Txn" => txn,
        }),
        WatchServer::<WatchDoor>::NAME => limited!(WatchServer, WatchDoor(core)).call(request),
        LeaseServer::<LeaseDoor>::NAME => limited!(LeaseServer, LeaseDoor(core)).call(request),
        ClusterServer::<ClusterDoor>::NAME => {
            limited!(ClusterServer, ClusterDoor(core)).call(request)
        }
        MaintenanceServer::<MaintenanceDoor>::NAME => {
            limited!(MaintenanceServer, MaintenanceDoor(core)).call(request)
        }
        AuthServer::<AuthDoor>::NAME => limited!(AuthServer, AuthDoor(core)).call(request),
        LockServer::<LockDoor>::NAME => limited!(LockServer, LockDoor(core)).call(request),
        ElectionServer::<ElectionDoor>::NAME => {
            limited!(ElectionServer, ElectionDoor(core)).call(request)
        }
        HealthServer::<HealthDoor>::NAME => limited!(HealthServer, HealthDoor(core)).call(request),
        _ => Box::pin(ready(Ok(unknown(path)))),
    }
}

fn served(Ok(response): Result<Response<Body>, Infallible>) -> Response<Body> {
    response
}

fn unknown(path: &str) -> Response<Body> {
    Status::unimplemented(format!("unknown service or method {path}")).into_http()
}

/// Whether the client wants no answer from a node that knows of no leader.
fn requires_leader(headers: &HeaderMap) -> bool {
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
                        (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
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
