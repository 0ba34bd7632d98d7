//! The lock service: a lock is the first place in a line.

use super::bodies::set_aside;
use super::core::Core;
use super::error::EMPTY_KEY;
use super::line::Place;
use super::proto::v3lockpb as pb;
use crate::api::{Keys, Op};
use bytes::Bytes;
use pb::lock_server::Lock;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// See the module.
pub(super) struct LockDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Lock for LockDoor {
    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        let pb::LockRequest { name, lease } = request.into_inner();
        let mut place = Place::take(&self.0, &name, lease, Bytes::new()).await?;
        place.until_first(&name).await?;
        let header = Some(self.0.header(place.revision));
        let (key, held) = place.keep();
        Ok(set_aside(pb::LockResponse { header, key }, held))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let until = self.0.until();
        let key = request.into_inner().key;
        if key.is_empty() {
            return Err(EMPTY_KEY.into());
        }
        let op = Op::Delete { keys: Keys::One(key), prev_kv: false };
        let deleted = self.0.delete(op, until).await?;
        let header = Some(self.0.header_of_write(deleted.revision, until).await);
        Ok(Response::new(pb::UnlockResponse { header }))
    }
}
