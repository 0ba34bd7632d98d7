//! The health service that gRPC has defined for all servers: whether this node serves.

use super::core::Core;
use super::flow::{Outflow, channel};
use super::proto::health as pb;
use pb::health_check_response::ServingStatus;
use pb::health_server::Health;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// See the module.
pub(super) struct HealthDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Health for HealthDoor {
    type WatchStream = Outflow<pb::HealthCheckResponse>;

    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !is_known(&request.into_inner().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(response(status_of(self.0.is_serving()))))
    }

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (outlet, outflow) = channel(&self.0.memory);
        let known = is_known(&request.into_inner().service);
        let mut serving = self.0.serving.clone();
        tokio::spawn(async move {
            loop {
                let status = match known {
                    true => status_of(*serving.borrow_and_update()),
                    false => ServingStatus::ServiceUnknown,
                };
                if !outlet.send(response(status)).await {
                    return;
                }
                tokio::select! {
                    changed = serving.changed() => if changed.is_err() { return },
                    () = outlet.closed() => return,
                }
            }
        });
        Ok(Response::new(outflow))
    }
}

/// Only of all services together something is known.
const fn is_known(service: &str) -> bool {
    service.is_empty()
}

const fn status_of(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}
