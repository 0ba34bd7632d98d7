//! What is not gRPC: the services in JSON under `/v3`, and what operators and load balancers look
//! at. Every request in JSON is answered by the very function that answers it over gRPC.

mod calls;
mod probes;
mod reply;

use super::auth::AuthDoor;
use super::cluster::ClusterDoor;
use super::core::Core;
use super::election::ElectionDoor;
use super::kv::KvDoor;
use super::lease::LeaseDoor;
use super::lock::LockDoor;
use super::maintenance::MaintenanceDoor;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use reply::{failed, refused};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};

/// Bytes of the longest request: in base64 keys and values are longer by a third.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a path of the gateway begins with, by version of the interface.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];

/// See the module. A clone is cheap.
#[derive(Clone)]
pub(super) struct Gateway {
    core: Arc<Core>,
    kv: Arc<KvDoor>,
    lease: Arc<LeaseDoor>,
    cluster: Arc<ClusterDoor>,
    maintenance: Arc<MaintenanceDoor>,
    auth: Arc<AuthDoor>,
    lock: Arc<LockDoor>,
    election: Arc<ElectionDoor>,
}

impl Gateway {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            kv: Arc::new(KvDoor(Arc::clone(&core))),
            lease: Arc::new(LeaseDoor(Arc::clone(&core))),
            cluster: Arc::new(ClusterDoor(Arc::clone(&core))),
            maintenance: Arc::new(MaintenanceDoor(Arc::clone(&core))),
            auth: Arc::new(AuthDoor(Arc::clone(&core))),
            lock: Arc::new(LockDoor(Arc::clone(&core))),
            election: Arc::new(ElectionDoor(Arc::clone(&core))),
            core,
        }
    }

    /// Answers a request that is no gRPC.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let Some(method) = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)) else {
            return self.probe(request).await;
        };
        if request.method() != Method::POST {
            let status = Status::unimplemented("Method Not Allowed");
            return refused(StatusCode::METHOD_NOT_ALLOWED, &status);
        }
        let body = match timeout(PATIENCE, body_of(request)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return failed(&error),
            Err(_) => return failed(&Status::deadline_exceeded("the request takes too long")),
        };
        if method == "watch" {
            return self.watch(&body).await;
        }
        let answered = self.call(method, body).await;
        answered.unwrap_or_else(|| {
            refused(StatusCode::NOT_FOUND, &Status::new(Code::NotFound, "Not Found"))
        })
    }
}

async fn body_of(request: Request<Body>) -> Result<Bytes, Status> {
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(super::error::TOO_LARGE.into())
        }
        Err(error) => Err(Status::cancelled(error.to_string())),
    }
}
