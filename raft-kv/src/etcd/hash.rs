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

    async fn chunk(&self, chunk: Chunk, applied: Index) -> Result<ChunkDigest, Status> {
        let body = RequestBody::Integrity(Inquiry::Chunk(chunk, applied));
        let deadline_ms = u32::try_from(self.request_timeout.as_millis()).unwrap_or(u32::MAX);
        let request = wire::encode_request(&Request { deadline_ms, body });
        let reply = self.inside.call(request).await;
        let reply = reply.ok().and_then(|reply| wire::decode_reply(&reply).ok());
        match reply {
            Some(Ok(ReplyBody::Integrity(Finding::Chunk(found)))) => Ok(found),
            Some(Err(error @ KvError::Compacted { .. })) => Err(error::of_kv(&error, true)),
            Some(Err(error)) => Err(error::of_kv(&error, self.is_led())),
            _ => Err(TIMED_OUT.into()),
        }
    }
}
