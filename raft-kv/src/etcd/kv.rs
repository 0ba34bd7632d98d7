//! Service KV: reads and writes. Everything that writes is done once, through the log; nothing is
//! cached.

use super::bodies::set_aside;
use super::convert;
use super::core::Core;
use super::error::{COMPACTED, TOO_MANY_REQUESTS};
use super::memory::Held;
use super::proto::etcdserverpb as pb;
use super::range::{answer_bytes_max, txn_answer_bytes_max};
use crate::api::{Op, OpReply, Revision};
use crate::client::DeleteReply;
use pb::kv_server::Kv;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

/// Between looks whether the memory of what was compacted is free.
const LOOK: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct KvDoor(pub(super) Arc<Core>);

#[tonic::async_trait]
impl Kv for KvDoor {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let until = self.0.until();
        let (range, consistency) = convert::range(request.into_inner())?;
        let (reply, held) = self.0.read_all(range, consistency, until).await?;
        Ok(set_aside(convert::range_reply(self.0.header(reply.revision), reply), held))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let until = self.0.until();
        self.0.check_length(request.get_ref())?;
        let put = convert::put(request.into_inner())?;
        let held = self.0.hold_answer(until, answer_bytes_max(&Op::Put(put.clone()))).await?;
        let done = self.0.client_until(until).put_with(put).await;
        let reply = done.map_err(|error| self.0.fail(&error))?;
        let header = self.0.header_of_write(reply.revision, until).await;
        Ok(set_aside(convert::put_reply(header, reply), held))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let until = self.0.until();
        self.0.check_length(request.get_ref())?;
        let op = convert::delete(request.into_inner())?;
        let held = self.0.hold_answer(until, answer_bytes_max(&op)).await?;
        let reply = self.0.delete(op, until).await?;
        let header = self.0.header_of_write(reply.revision, until).await;
        Ok(set_aside(convert::delete_reply(header, reply), held))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let until = self.0.until();
        self.0.check_length(request.get_ref())?;
        let txn = convert::txn(request.into_inner())?;
        let held = self.0.hold_answer(until, txn_answer_bytes_max(&txn)).await?;
        // Keys and values are shared, not copied.
        let asked = txn.clone();
        let done = self.0.client_until(until).txn(txn).await;
        let mut reply = done.map_err(|error| self.0.fail(&error))?;
        let header = self.0.header_of_write(reply.revision, until).await;
        let held = self.0.complete(&asked, &mut reply, held, until).await?;
        Ok(set_aside(convert::txn_reply(header, reply), held))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let until = self.0.until();
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        let revision = u64::try_from(revision).map_err(|_| Status::from(COMPACTED))?;
        let done = self.0.client_until(until).compact(Revision(revision)).await;
        let now = done.map_err(|error| self.0.fail(&error))?;
        let is_compacted = |core: &Core| core.service.store().gauges().compacted.0 >= revision;
        self.0.reach(until, is_compacted).await;
        if physical {
            self.0.in_time(until, self.0.purged()).await?;
        }
        Ok(Response::new(pb::CompactionResponse { header: Some(self.0.header(now)) }))
    }
}

impl Core {
    /// Holds `bytes`, as much as the answer to a write may take, so that none is done whose answer
    /// has no room any more.
    pub(super) async fn hold_answer(&self, until: Instant, bytes: usize) -> Result<Held, Status> {
        let mut held = self.memory.hold();
        match timeout_at(until, held.wait_to_fit(bytes)).await {
            Ok(()) => Ok(held),
            Err(_) => Err(TOO_MANY_REQUESTS.into()),
        }
    }

    /// Deletes what `op` says.
    pub(super) async fn delete(&self, op: Op, until: Instant) -> Result<DeleteReply, Status> {
        match self.client_until(until).op(op).await {
            Ok((revision, OpReply::Delete { deleted, prev_kvs })) => {
                Ok(DeleteReply { revision, deleted, prev_kvs })
            }
            // Another answer than to what was asked says nothing.
            Ok(_) => Err(super::error::TIMED_OUT.into()),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Waits until this node has freed the memory of what was compacted.
    async fn purged(&self) -> Result<(), Status> {
        while self.service.store().gauges().purge_pending > 0 {
            sleep(LOOK).await;
        }
        Ok(())
    }
}
