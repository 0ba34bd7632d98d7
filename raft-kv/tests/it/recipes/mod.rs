//! The recipes on whole clusters in memory.

mod barrier;
mod broadcast;
mod causal;
mod election;
mod group;
mod histories;
mod lock;
mod mirror;
mod partition;
mod queue;
mod unique;

use crate::cluster::Cluster;
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{Keys, Put};
use raft_kv::recipes::Mirror;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The shortest lease there is.
const TTL: Duration = Duration::from_secs(2);
/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one of the nodes, in turn, that has patience with a busy machine.
fn client(cluster: &Cluster, number: u64) -> Client {
    cluster.client_from(NodeId(number % 3 + 1)).with_deadline(PATIENCE)
}

/// Something that can be paused, as a process or a virtual machine can: nothing in it runs, not
/// even what it has spawned, except while it is told to run something.
struct Process(Runtime);

impl Process {
    fn start() -> Self {
        Self(Builder::new_current_thread().enable_all().build().unwrap())
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

/// Where the cluster and everybody else live.
fn world() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Grants a lease of the shortest kind, and lets it expire.
async fn until_another_lease_has_expired(client: &Client) {
    let lease = client.grant_lease(None, TTL).await.unwrap();
    client.put_with(Put::new("timer", "").with_lease(lease.id)).await.unwrap();
    let mut timer = Mirror::open(client, Keys::One("timer".into())).await.unwrap();
    while !timer.pairs().is_empty() {
        timer.changed().await.unwrap();
    }
}
