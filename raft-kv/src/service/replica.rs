//! The part of a node that the service stands on, so that its routing can be tested without one.

use bytes::Bytes;
use raft_core::node::{
    ChangeError, Changed, Node, ProposeError, Proposed, Queried, QueryError, ReadMode, Status,
    StopCause, TransferError,
};
use raft_core::types::{Change, NodeId};
use std::future::Future;
use std::sync::Arc;

/// A member of a Raft group; see the functions of [`Node`].
pub(super) trait Replica: Clone + Send + Sync + 'static {
    fn propose(
        &self,
        command: Bytes,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send;
    fn query(
        &self,
        query: Bytes,
        mode: ReadMode,
    ) -> impl Future<Output = Result<Queried, QueryError>> + Send;
    fn transfer_leadership(
        &self,
        to: Option<NodeId>,
    ) -> impl Future<Output = Result<NodeId, TransferError>> + Send;
    fn change_membership(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Changed, ChangeError>> + Send;
    fn checkpoint(&self) -> Result<(), QueryError>;
    fn status(&self) -> Arc<Status>;
    fn status_changed(&self) -> impl Future<Output = ()> + Send;
    fn leader_changed(&self, from: Option<NodeId>) -> impl Future<Output = ()> + Send;
    fn stopped(&self) -> impl Future<Output = StopCause> + Send;
}

impl Replica for Node {
    async fn propose(&self, command: Bytes) -> Result<Proposed, ProposeError> {
        Self::propose(self, command).await
    }

    async fn query(&self, query: Bytes, mode: ReadMode) -> Result<Queried, QueryError> {
        Self::query(self, query, mode).await
    }

    async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        Self::transfer_leadership(self, to).await
    }

    async fn change_membership(&self, changes: Vec<Change>) -> Result<Changed, ChangeError> {
        Self::change_membership(self, changes).await
    }

    fn checkpoint(&self) -> Result<(), QueryError> {
        Self::checkpoint(self)
    }

    fn status(&self) -> Arc<Status> {
        Self::status(self)
    }

    async fn status_changed(&self) {
        Self::status_changed(self).await;
    }

    async fn leader_changed(&self, from: Option<NodeId>) {
        Self::leader_changed(self, from).await;
    }

    async fn stopped(&self) -> StopCause {
        Self::stopped(self).await
    }
}
