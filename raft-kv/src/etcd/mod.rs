//! The door for clients of the etcd v3 API: services KV, Watch, Lease, Cluster, Maintenance, Auth,
//! Lock and Election over gRPC, the same as JSON over HTTP, and gRPC's health service, on one TCP
//! port.
//!
//! What comes in is turned into the store's own requests, which enter this node's service as those
//! of any client do: writes are forwarded to the leader and done once, reads are linearizable on
//! every node unless `serializable`, watches are told by the node's one hub. The door keeps no data
//! and decides nothing about it; it must not wait for anybody but its own node and its clients.
//!
//! What differs from etcd:
//!
//! - A key has 32 KiB at most and a value 1 MiB; beyond that, as beyond the 1.5 MiB of a request,
//!   `request is too large` is the answer. What is deleted or replaced is returned up to 2 MiB,
//!   and a read up to 128 MiB.
//! - A leader change neither extends nor shortens a lease, and learners answer every request.
//! - Members that are added become voters by themselves when they have caught up, unless they are
//!   added as learners. Besides alarms that somebody raises there are some that follow from the
//!   state of members, and end with it. `Defragment` has nothing to do. `Snapshot` streams a backup
//!   of this store's own format.
//! - Tokens are signed, not kept: they outlive the restart of a node. Compaction, the hand-over of
//!   leadership and backups need the role root, and a password is not empty.

mod alarms;
mod applied;
mod attributes;
mod auth;
mod authority;
mod bodies;
mod cluster;
mod convert;
mod core;
mod election;
mod error;
mod flow;
#[cfg(feature = "testing")]
pub(crate) mod fuzzed;
mod gateway;
mod gathered;
mod hash;
mod health;
mod inside;
mod kind;
mod kv;
mod lease;
mod led;
mod line;
mod lock;
mod maintenance;
mod memory;
mod messages;
mod metrics;
mod objects;
mod overdue;
mod patience;
#[doc(hidden)]
pub mod proto;
mod range;
mod route;
mod server;
mod snapshot;
mod tls;
mod unary;
mod wakes;
mod watch;

use crate::api::{Published, REQUEST_BYTES_MAX};
use crate::service::KvService;
#[cfg(feature = "testing")]
pub(crate) use authority::told;
use core::Core;
pub use gathered::Gathered;
pub use metrics::MoreMetrics;
use raft_core::types::ClusterId;
use route::Router;
pub use server::Entrance;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
pub use tls::{CommonName, DoorTls, TlsError, TlsFiles, TlsLimits};
use tokio::net::TcpListener;

/// The version of etcd whose interface this is: clients go by it.
const VERSION: &str = "3.4.23";
/// The same of the whole cluster.
const CLUSTER_VERSION: &str = "3.4.0";

/// What a door is made of.
#[non_exhaustive]
pub struct EtcdConfig {
    /// The service of the own node.
    pub service: Arc<KvService>,
    /// What the node tells of itself: a name, and where clients reach this door.
    pub member: Published,
    /// How long a request may take. Default 7 s, etcd's.
    pub request_timeout: Duration,
    /// Most compares, and most operations of one branch, of a transaction; one within it has what
    /// the longest of its lists leaves of that. Default 128, etcd's. Of all lists together the
    /// store takes [`TXN_OPS_MAX`](crate::api::TXN_OPS_MAX).
    pub txn_ops_max: usize,
    /// Bytes of the longest request that writes; 1.5 MiB at most, which is the default and etcd's.
    pub request_bytes_max: usize,
    /// What requests over HTTP that are not encrypted may call this server, `*` being anything: so
    /// that a page in a browser cannot have its own name lead here. Default anything, as nothing is
    /// named.
    pub hosts: Vec<String>,
    /// Whether the URLs of members for each other begin with `https://`: where these show each
    /// other certificates. Default no.
    pub https_peers: bool,
    /// Bytes of memory that requests and answers may take together, until the one is answered and
    /// the other has been sent; 16 MiB at least. Default 512 MiB.
    pub memory: usize,
    /// What else is to be told at /metrics. Default nothing.
    pub more_metrics: Option<MoreMetrics>,
}

impl EtcdConfig {
    /// The defaults, of a node that tells nothing of itself.
    pub fn new(service: Arc<KvService>) -> Self {
        Self {
            service,
            member: Published::default(),
            request_timeout: Duration::from_secs(7),
            txn_ops_max: 128,
            request_bytes_max: REQUEST_BYTES_MAX,
            hosts: Vec::new(),
            https_peers: false,
            memory: 512 * 1024 * 1024,
            more_metrics: None,
        }
    }
}

/// A door of one node; see the module.
pub struct EtcdDoor {
    router: Router,
}

impl EtcdDoor {
    /// A door to a running node.
    ///
    /// # Panics
    /// Outside a tokio runtime with a clock: it starts a task there, which ends with the node or
    /// the door.
    pub fn new(config: EtcdConfig) -> Self {
        Self { router: Router::new(&Core::new(config)) }
    }

    /// Takes connections at `listener` until `shutdown`; what is under way then has a second to
    /// end.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let entrance = Entrance { listener, tls: None, probes_only: false, workers: Vec::new() };
        self.serve_at(entrance, shutdown).await;
    }

    /// The same at any entrance; a door may have several.
    pub async fn serve_at(&self, entrance: Entrance, shutdown: impl Future<Output = ()>) {
        server::serve(self.router.clone(), entrance, shutdown).await;
    }

    /// Waits until the node can serve clients: it is a member, what it tells of itself is there to
    /// be asked for, and it knows a leader and of nothing wrong with its data. Returns the id of
    /// the cluster.
    pub async fn ready(&self) -> ClusterId {
        self.router.ready().await
    }
}
