//! A hash of all keys with their history, equal on nodes that have the same: at the same revision,
//! and with as much compacted.

use super::core::{Core, SELF};
use super::error::{self, TIMED_OUT};
use crate::api::KvError;
use crate::api::{
    CHUNK_KEYS_MAX, Chunk, ChunkDigest, Finding, Inquiry, NodeStatus, Point, ReplyBody, Request,
    RequestBody, Revision,
};
use crate::wire;
use raft_core::transport::Channel;
use raft_core::types::Index;
use std::hash::Hasher;
use tonic::Status;
use xxhash_rust::xxh3::Xxh3;

/// What was hashed.
pub(super) struct Hashed {
    pub(super) hash: u64,
    /// What counted as compacted.
    pub(super) compacted: Revision,
}

impl Core {
    /// This node as it describes itself.
    pub(super) async fn node_status(&self) -> Result<NodeStatus, Status> {
        self.client.status(SELF).await.map_err(|error| self.fail(&error))
    }

    /// Hashes what there is at `revision`, or now if that is 0.
    pub(super) async fn hash_kv(&self, revision: i64) -> Result<Hashed, Status> {
        let node = self.node_status().await?;
        let (current, compacted) = (node.revision, node.compacted);
        let revision = match u64::try_from(revision) {
            Ok(0) => current,
            Ok(revision) => Revision(revision),
            Err(_) => return Err(error::COMPACTED.into()),
        };
        if revision < compacted {
            return Err(error::COMPACTED.into());
        }
        if revision > current {
            return Err(error::FUTURE_REVISION.into());
        }
        let mut hasher = Xxh3::new();
        let mut start = Point::default();
        loop {
            let chunk = Chunk {
                revision: Some(revision),
                floor: Some(compacted),
                start,
                end: None,
                keys: CHUNK_KEYS_MAX,
            };
            let found = self.chunk(chunk, node.last_applied).await?;
            hasher.write_u64(found.digest);
            match found.end {
                Some(end) => start = end,
                None => return Ok(Hashed { hash: hasher.finish(), compacted }),
            }
        }
    }

    /// A hash of all there is on this node, as it is kept at every entry. Whoever asks has to have
    /// the role root, as for all that is asked of a node's data as a whole.
    pub(super) async fn hash(&self) -> Result<NodeStatus, Status> {
        self.inquire(Inquiry::Hashes(Vec::new())).await?;
        self.node_status().await
    }

    async fn chunk(&self, chunk: Chunk, applied: Index) -> Result<ChunkDigest, Status> {
        match self.inquire(Inquiry::Chunk(chunk, applied)).await? {
            Finding::Chunk(found) => Ok(found),
            _ => Err(TIMED_OUT.into()),
        }
    }

    async fn inquire(&self, inquiry: Inquiry) -> Result<Finding, Status> {
        let body = RequestBody::Integrity(inquiry);
        let deadline_ms = u32::try_from(self.request_timeout.as_millis()).unwrap_or(u32::MAX);
        let request = wire::encode_request(&Request { deadline_ms, body });
        let reply = self.inside.call(request).await;
        let reply = reply.ok().and_then(|reply| wire::decode_reply(&reply).ok());
        match reply {
            Some(Ok(ReplyBody::Integrity(found))) => Ok(found),
            Some(Err(error @ KvError::Compacted { .. })) => Err(error::of_kv(&error, true)),
            Some(Err(error)) => Err(error::of_kv(&error, self.is_led())),
            _ => Err(TIMED_OUT.into()),
        }
    }
}
