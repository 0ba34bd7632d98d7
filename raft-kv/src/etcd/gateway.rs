//! What is not gRPC: the services in JSON under `/v3`, and what operators and load balancers look
//! at. Every request in JSON is answered by the very function that answers it over gRPC.

mod calls;
mod probes;
mod reply;
mod requests;

use super::auth::AuthDoor;
use super::cluster::ClusterDoor;
use super::core::Core;
use super::election::ElectionDoor;
use super::kv::KvDoor;
use super::lease::LeaseDoor;
use super::lock::LockDoor;
use super::maintenance::MaintenanceDoor;
use super::server::Unencrypted;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
pub(super) use reply::failed;
#[cfg(feature = "testing")]
pub(super) use reply::one as one_message;
use reply::{plain, refused};
pub(super) use requests::Requests;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;

/// Bytes of the longest request: in base64 keys and values are longer by a third.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is answered to who calls this server by another name.
const MISLED: &str = "the host is not one of --host-whitelist\n";

/// What a path of the gateway begins with, by version of the interface.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];

/// See the module.
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
        if self.is_misled(&request) {
            return plain(StatusCode::MISDIRECTED_REQUEST, MISLED);
        }
        let path = request.uri().path().to_owned();
        let Some(method) = method(&path) else {
            return self.probe(request).await;
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        if is_smuggled(request.headers()) {
            let status = Status::invalid_argument("application/json is asked for");
            return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &status);
        }
        match method {
            "watch" => return self.watch(request.into_body()).await,
            "lease/keepalive" => return self.keep_alive(request.into_body()).await,
            _ => {}
        }
        let body = match body_of(request).await {
            Ok(body) => body,
            Err(error) => return failed(&error),
        };
        let answered = self.call(method, body).await;
        answered.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "Not Found\n"))
    }
}

impl Gateway {
    /// Whether it calls this server what it may not be called. Over TLS the certificate has been
    /// looked at.
    fn is_misled(&self, request: &Request<Body>) -> bool {
        let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = named.or_else(|| request.uri().authority().map(Authority::as_str));
        let host = host.unwrap_or_default();
        let parsed = host.parse::<Authority>();
        let host = parsed.as_ref().map_or(host, Authority::host).trim_matches(['[', ']']);
        request.extensions().get::<Unencrypted>().is_some() && !self.core.may_be_called(host)
    }
}

/// What is asked at a path of the gateway; `None` if it is none.
pub(super) fn method(path: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))
}

/// Whether a page in a browser may have sent it to a server that it has nothing to do with. That it
/// is not JSON is what a browser lets a page do unasked; and whatever says where it is from is a
/// browser.
fn is_smuggled(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    headers.contains_key(ORIGIN) && !kind.eq_ignore_ascii_case("application/json")
}

async fn body_of(request: Request<Body>) -> Result<Bytes, Status> {
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(super::error::TOO_LARGE.into())
        }
        Err(error) => Err(match error.downcast::<Status>() {
            Ok(status) => *status,
            Err(error) => Status::cancelled(error.to_string()),
        }),
    }
}
