//! Moving messages, snapshots and requests between processes: the traits.
//!
//! Two facilities. [`Transport`] and [`Inbox`] carry Raft's messages, which may be lost.
//! [`Channel`], [`Connector`], [`Peers`] and [`Service`] carry requests and replies, and streams of
//! frames in both directions ([`Duplex`]): clients use them, and nodes among each other.

mod memory;
mod stream;

pub use memory::{MemoryNetwork, MemoryTransport};
pub use stream::{BorrowedFuture, Duplex, FRAME_OVERHEAD, FrameSink, FrameSource, StreamError};

use crate::raft::Envelope;
use crate::state_machine::Snapshot;
use crate::types::{GroupId, Identity, NodeId, Sender, SnapshotMeta, Term};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Sends messages to peers. Never blocks, never fails: what cannot be sent is dropped, and Raft
/// sends again.
pub trait Transport: Send + Sync + 'static {
    /// Announces a group of this process: who it is, and where its messages go. Before this call
    /// the transport neither connects nor delivers for the group.
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>);

    /// Where peers can be reached; called at start and whenever the membership changes.
    fn set_peers(&self, group: GroupId, peers: Vec<(NodeId, String)>);

    /// Sends a message to `envelope.to`. Messages of one kind to one peer keep their order where
    /// they arrive; any may be lost, doubled or overtaken.
    fn send(&self, group: GroupId, envelope: Envelope);

    /// Streams a snapshot to a peer, paced. The outcome arrives through
    /// [`Inbox::snapshot_sent`].
    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot);

    /// Finds out whether anybody still listens where `peer` does, if that can be told at once, as
    /// of the port of a process that has ended. [`Inbox::refused`] is told only if nobody does;
    /// other answers, or none, say nothing.
    fn probe(&self, _group: GroupId, _peer: NodeId) {}

    /// How long a packet to `peer` and back takes at present, if the transport knows.
    fn round_trip(&self, _group: GroupId, _peer: NodeId) -> Option<Duration> {
        None
    }
}

/// What a transport delivers to one group of a process. Never blocks: when the group cannot keep
/// up, messages are dropped.
pub trait Inbox: Send + Sync + 'static {
    /// A message from a peer whose identity the transport has checked, and written down in
    /// `envelope.sender`.
    fn receive(&self, envelope: Envelope);

    /// A snapshot has arrived whole and intact; its bytes are kept until `data` is dropped.
    fn receive_snapshot(&self, from: NodeId, sender: Sender, term: Term, snapshot: Snapshot);

    /// What [`Transport::probe`] found: nobody listens where `peer` did. It is a hint, which may be
    /// wrong, and may be dropped.
    fn refused(&self, _peer: NodeId) {}

    /// A snapshot was handed over whole (`ok`), or could not be.
    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool);
}

/// A boxed future, so that the traits below can be trait objects.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One remote end that answers requests.
pub trait Channel: Send + Sync + 'static {
    /// Sends a request and waits for its reply. Requests are answered in any order. Dropping the
    /// future gives up waiting; the request may still run. It has no deadline of its own.
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>>;

    /// Opens a stream to the service there, which is told `first`. Returns once the other end has
    /// taken it. It has no deadline of its own; dropping the future gives the stream up.
    ///
    /// # Errors
    /// See [`CallError`]; what refuses requests refuses streams, and so do implementations and
    /// other ends without streams.
    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        drop(first);
        no_streams()
    }
}

/// Makes channels to addresses: how a client reaches a node.
pub trait Connector: Send + Sync + 'static {
    /// Connects to `host:port`. Errors do not repeat the address, which the caller knows.
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>>;
}

/// Channels to the other nodes of the cluster: how a node forwards.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request to another node of the group, over the connection kept to it.
    fn call(
        &self,
        group: GroupId,
        to: NodeId,
        request: Bytes,
    ) -> BoxFuture<Result<Bytes, CallError>>;

    /// Opens a stream to another node of the group; see [`Channel::open_stream`].
    ///
    /// # Errors
    /// As there.
    fn open_stream(
        &self,
        group: GroupId,
        to: NodeId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        let _ = (group, to, first);
        no_streams()
    }
}

fn no_streams() -> BoxFuture<Result<Duplex, CallError>> {
    let error = CallError::NotSent("streams are not carried here".into());
    Box::pin(std::future::ready(Err(error)))
}

/// Why a request has no reply, and whether it may have run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It never left this process: it certainly did not run.
    #[error("{0}")]
    NotSent(String),
    /// Refused for good by the certificate or identity checks of either end: it certainly did not
    /// run, and trying again is useless until the configuration changes.
    #[error("{0}")]
    Refused(String),
    /// It was sent, and the connection broke before a reply: it may have run.
    #[error("{0}")]
    Lost(String),
}

/// Tells the connections of clients to one process apart, for as long as that runs. It says nothing
/// about who a client is; a service may use it to share out what all have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// A client, by its connection: all that comes over that has its number, nothing else has.
    Client(ConnectionId),
    /// A node of the cluster, which forwards.
    Node(NodeId),
}

impl Caller {
    /// Whether it is a client, over whatever connection.
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Client(_))
    }
}

/// Answers requests. Called concurrently, on the transport's runtime; must not block it.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Bad requests are answered too, in the service's own format.
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes>;

    /// Serves a stream, in a task of its own: this returns at once. `first` says what it is for. A
    /// stream that is not wanted is dropped, which breaks it. When the connection is lost both
    /// halves say so; the task is not ended from outside.
    fn serve_stream(&self, caller: Caller, first: Bytes, stream: Duplex) {
        let _ = (caller, first, stream);
    }
}
