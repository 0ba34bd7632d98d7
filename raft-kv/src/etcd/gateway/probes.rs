//! What operators and load balancers look at: health, version and metrics.

use super::Gateway;
use super::reply::{json_response, response};
use crate::api::{Consistency, Keys, KvError, Range};
use crate::client::ClientError;
use crate::etcd::{CLUSTER_VERSION, VERSION};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tonic::body::Body;

const PLAIN: &str = "text/plain; charset=utf-8";
/// The text form of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Gateway {
    /// Answers what is asked outside the interface in JSON.
    pub(in crate::etcd) async fn probe(&self, request: Request<Body>) -> Response<Body> {
        let (request, _) = request.into_parts();
        let path = request.uri.path();
        if !matches!(path, "/health" | "/livez" | "/readyz" | "/version" | "/metrics") {
            return response(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n");
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "Method Not Allowed\n");
        }
        let local = request.uri.query().is_some_and(|query| {
            query.split('&').any(|parameter| parameter == "serializable=true")
        });
        match path {
            "/health" => {
                let healthy = self.core.known_alarms().is_empty() && self.is_ready(local).await;
                self.core.calls.count_health(healthy);
                let body = json!({ "health": healthy.to_string() }).to_string();
                // As etcd's, it does not say that it is JSON.
                response(status(healthy), PLAIN, body)
            }
            "/metrics" => response(StatusCode::OK, METRICS, self.core.metrics()),
            "/livez" => plain(self.is_ready(true).await),
            "/readyz" => plain(self.is_ready(local).await),
            _ => {
                let version = json!({ "etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION });
                json_response(StatusCode::OK, version.to_string().into_bytes())
            }
        }
    }

    /// Whether a read is answered: by the cluster or, `local`, by this node alone.
    async fn is_ready(&self, local: bool) -> bool {
        if !local && !self.core.is_serving() {
            return false;
        }
        let consistency = match local {
            true => Consistency::Serializable,
            false => Consistency::Linearizable,
        };
        let range = Range { limit: 1, keys_only: true, ..Range::of(Keys::One("health".into())) };
        match self.core.client.get(range, consistency).await {
            Ok(_) => true,
            // Who may not read has an answer all the same.
            Err(ClientError::Refused(KvError::Auth(_))) => true,
            Err(_) => false,
        }
    }
}

fn plain(well: bool) -> Response<Body> {
    response(status(well), PLAIN, if well { "ok\n" } else { "not ok\n" })
}

const fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
