//! The conformance kit of transports: [`Transport`] and [`Peers`], and the channels of clients.
//!
//! Tell it by a [`Network`] how transports are started and stopped; [`check`] does the rest, on
//! whatever runtime it is awaited on:
//!
//! ```
//! use raft_core::testing::transport::{self, Connecting, Network};
//! use raft_core::transport::{MemoryNetwork, MemoryTransport, Service};
//! use raft_core::transport::BoxFuture;
//! use raft_core::types::{GroupId, Identity, NodeId};
//! use std::sync::Arc;
//!
//! struct Memory(MemoryNetwork);
//!
//! impl Network for Memory {
//!     type Transport = MemoryTransport;
//!
//!     fn start(&self, identity: Identity) -> (Arc<MemoryTransport>, String) {
//!         (self.0.transport(identity.node), identity.node.to_string())
//!     }
//!
//!     fn serve(
//!         &self,
//!         node: NodeId,
//!         _: &MemoryTransport,
//!         group: GroupId,
//!         service: Arc<dyn Service>,
//!     ) {
//!         self.0.serve(group, node, service);
//!     }
//!
//!     fn stop(&self, node: NodeId, _: Arc<MemoryTransport>) -> BoxFuture<()> {
//!         self.0.remove(node);
//!         Box::pin(async {})
//!     }
//!
//!     fn checks_identity(&self) -> bool {
//!         false
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let report = transport::check(&Memory(MemoryNetwork::new())).await.unwrap();
//! println!("{report}");
//! # });
//! ```
//!
//! # Rules
//!
//! | rule | what must hold |
//! |---|---|
//! | `arrives` | between nodes that are up and know each other, of messages, snapshots and requests that are sent again and again one gets through |
//! | `unaltered` | what arrives is what was sent, up to entries of 2 MiB, with the life of the sender that was verified |
//! | `addressed` | it arrives at the node, the group and the caller it is for, and nowhere else |
//! | `order` | messages of one kind between two nodes arrive in order, as far as they arrive |
//! | `snapshot` | a snapshot arrives whole, with what it covers, or not at all; the sender learns which |
//! | `once` | a request runs at most once, and exactly once if it is answered |
//! | `reply` | each request gets its own reply, however many are under way; a slow one holds up no other |
//! | `stream` | frames of any size arrive in order in both directions; a direction that is finished ends cleanly, one that is dropped or cut does not |
//! | `bounded` | what waits for a peer that is gone, or that does not read, is bounded |
//! | `ends` | a call or stream to a peer that is gone, unknown, or has no such group ends with an error |
//! | `reconnects` | a peer that comes back is reached again |
//! | `identity` | a node of another cluster is not heard, and hears nothing |
//!
//! # What it does not check
//!
//! Speed, and how long anything takes, beyond [`Network::patience`]. Loss and delay on the way, and
//! what a hostile peer may send: that takes knowledge of the protocol. Certificates of clients.
//! That something never arrives is only seen for as long as the check runs.

mod messages;
mod parties;
mod requests;
mod snapshots;
mod wait;

use super::breach::Breach;
use crate::transport::{BoxFuture, CallError, Channel, Peers, Service, Transport};
use crate::types::{GroupId, Identity, NodeId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What connecting a client comes to.
pub type Connecting = BoxFuture<Result<Arc<dyn Channel>, CallError>>;

/// How the transports under test are started and stopped.
pub trait Network: Send + Sync {
    /// The transport of one node.
    type Transport: Transport + Peers;

    /// Starts the transport of a node, as its process would, and says where peers reach it. The kit
    /// opens groups on it. A node may be started again after it was stopped, elsewhere or where it
    /// was.
    fn start(&self, identity: Identity) -> (Arc<Self::Transport>, String);

    /// Lets `service` answer the requests for `group` at `node`.
    fn serve(
        &self,
        node: NodeId,
        transport: &Self::Transport,
        group: GroupId,
        service: Arc<dyn Service>,
    );

    /// Stops a node, as the end of its process would.
    fn stop(&self, node: NodeId, transport: Arc<Self::Transport>) -> BoxFuture<()>;

    /// Connects a client to the node at `address`; `None` if there are no clients.
    fn connect(&self, address: &str) -> Option<Connecting> {
        let _ = address;
        None
    }

    /// Whether nodes verify who they talk to. If not, `identity` is not checked.
    fn checks_identity(&self) -> bool {
        true
    }

    /// After how long something that must happen counts as not happening.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// What was tried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Messages that arrived.
    pub messages: usize,
    /// Snapshots that arrived.
    pub snapshots: usize,
    /// Requests that were answered.
    pub requests: usize,
    /// Streams that were opened.
    pub streams: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, snapshots, requests, streams } = self;
        write!(f, "{messages} messages, {snapshots} snapshots, {requests} requests, ")?;
        write!(f, "{streams} streams")
    }
}

/// Checks transports. Starts and stops nodes 1 to 4; leaves none behind.
///
/// # Errors
/// The first rule that is broken.
pub async fn check<N: Network>(network: &N) -> Result<Report, Breach> {
    let mut scene = parties::Scene::new(network);
    let done = async {
        scene.messages().await?;
        scene.snapshots().await?;
        scene.requests().await?;
        scene.streams().await?;
        scene.identity().await?;
        scene.gone().await
    };
    let done = done.await;
    let report = scene.close().await;
    done.map(|()| report)
}
