//! What other doors of the same process see of a service: the node and the store themselves.

use super::growth::{ALARMS_SINCE, upgrading};
use super::{Asker, Kept, KvService, watches};
use crate::api::{Health, Integrity, KvError, Published, ReplyBody, Request, RequestBody, Space};
use crate::store::StoreHandle;
use crate::watch::WatchCounts;
use crate::wire;
use bytes::Bytes;
use raft_core::node::Node;
use raft_core::transport::{BoxFuture, Duplex};
use raft_core::types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

impl KvService {
    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.door.node
    }

    /// Answers a request of a client of this process.
    pub(crate) fn call_inside(&self, asker: Asker, request: Bytes) -> BoxFuture<Bytes> {
        let door = Arc::clone(&self.door);
        Box::pin(async move { door.answer(asker, request).await })
    }

    /// Serves a stream of a client of this process.
    pub(crate) fn serve_inside(&self, asker: Asker, first: &Bytes, stream: Duplex) {
        watches::serve(&self.watches, Arc::clone(&self.door), asker, first, stream);
    }

    /// A token for a user whose name is known by other means than a password; `None` where users do
    /// not count, or there is no such user.
    pub(crate) fn token_for(&self, user: &str) -> Option<String> {
        self.door.token_for(user)
    }

    /// Keeps a token valid here as long as what is returned is there; `None` if it is not valid, or
    /// nobody asks for tokens.
    pub(crate) fn keep_token(&self, token: &str) -> Option<Kept> {
        self.door.keep_token(token)
    }

    /// How many watches there are on this node, and what they were told.
    pub(crate) fn watch_counts(&self) -> WatchCounts {
        self.watches.counts()
    }

    /// The store that the node owns.
    pub(crate) fn store(&self) -> &StoreHandle {
        &self.door.store
    }

    /// How full the store is.
    pub(crate) fn space(&self) -> Space {
        self.door.space()
    }

    /// Why no alarm can be raised yet, as far as this node knows: some member would not understand
    /// it. As long as it is so, none was.
    pub(crate) fn refuses_alarms(&self) -> Option<KvError> {
        upgrading(&self.door.node.status(), ALARMS_SINCE)
    }

    /// What is known of the node's data.
    pub(crate) fn integrity(&self) -> Integrity {
        self.door.known.integrity()
    }

    /// Why the node serves nobody, if its data is not to be trusted.
    pub(crate) fn refusal(&self) -> Option<KvError> {
        self.door.known.refusal()
    }

    /// Has the node tell this of itself from now on. Only the first time counts.
    pub(crate) fn publish(&self, published: Published) {
        // What was said once may have been passed on.
        let _ = self.door.published.set(published);
    }

    /// What the node tells of itself.
    pub(crate) fn published(&self) -> Option<&Published> {
        self.door.published.get()
    }

    /// What another member tells of itself, if it says anything within `patience`.
    pub(crate) async fn published_by(&self, id: NodeId, patience: Duration) -> Option<Published> {
        match self.told_by(id, RequestBody::Published, patience).await? {
            ReplyBody::Published(published) => published.map(|published| *published),
            _ => None,
        }
    }

    /// How another member is, if it says so within `patience`.
    pub(crate) async fn health_of(&self, id: NodeId, patience: Duration) -> Option<Health> {
        match self.told_by(id, RequestBody::Health, patience).await? {
            ReplyBody::Health(health) => Some(*health),
            _ => None,
        }
    }

    /// What another member answers within `patience`.
    async fn told_by(
        &self,
        id: NodeId,
        body: RequestBody,
        patience: Duration,
    ) -> Option<ReplyBody> {
        let deadline_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = wire::encode_request(&Request { deadline_ms, body });
        let asked = self.door.peers.call(self.door.group, id, request);
        let reply = timeout(patience, asked).await.ok()?.ok()?;
        wire::decode_reply(&reply).ok()?.ok()
    }
}
