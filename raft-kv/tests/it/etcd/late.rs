//! A node that applies late: it must not judge by what it does not know yet.

use super::auth::signed;
use super::{Doors, assert_refused, get, put};
use crate::auth::prepare;
use crate::cluster::{Cluster, initial_configs};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{NodeId, Run, SnapshotMeta};
use raft_kv::api::{Keys, ROOT, Watch};
use raft_kv::service::IntegrityConfig;
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tonic::Code;

/// What a store waits at before it applies anything.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.0.0.lock().unwrap() = closed;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |closed| *closed).unwrap());
    }
}

/// Gates that are open at the end, however that comes about: nodes wait for their stores.
struct Gates(BTreeMap<NodeId, Gate>);

impl Drop for Gates {
    fn drop(&mut self) {
        self.0.values().for_each(|gate| gate.set_closed(false));
    }
}

struct Late {
    store: KvStore,
    gate: Gate,
}

impl StateMachine for Late {
    fn applied(&self) -> SnapshotMeta {
        self.store.applied()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.gate.pass();
        self.store.apply(run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.store.query(query)
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        self.store.checkpoint()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.store.snapshot()
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.store.restore(snapshot)
    }
}

fn cluster() -> (Cluster, Gates) {
    let mut cluster = Cluster::empty_with_cheap_passwords();
    let mut gates = Gates(BTreeMap::new());
    for config in initial_configs(3) {
        let (id, store, gate) = (config.raft.id, KvStore::in_memory(), Gate::default());
        let (handle, integrity) =
            (store.handle(), IntegrityConfig { compare_every: None, scrub_every: None });
        cluster.run_on(config, Late { store, gate: gate.clone() }, handle, integrity);
        gates.0.insert(id, gate);
    }
    (cluster, gates)
}

/// A client that gives a call so long gets its answer by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_when_its_client_has_said() {
    let (cluster, gates) = cluster();
    let leader = cluster.leader().await;
    let late = cluster.other(leader);
    let mut doors = Doors::of(cluster).await;
    doors.open_with(late, |config| config.request_timeout = Duration::from_secs(3600)).await;
    let connection = doors.connect(late).await;
    gates.0[&late].set_closed(true);
    doors.connect(leader).await.put("a", "1").await;
    let mut request = tonic::Request::new(get("a"));
    request.set_timeout(Duration::from_millis(300));
    let refused = connection.kv().range(request).await;
    assert_refused(refused, Code::DeadlineExceeded, "context deadline exceeded");
    gates.0[&late].set_closed(false);
    assert_eq!(connection.range(get("a")).await.count, 1);
}

/// A node that has not heard yet that authentication is enabled keeps the tokens that it is shown:
/// those who come after it has, and the leader, ask for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_holds_where_it_is_not_known_yet_that_tokens_count() {
    let (cluster, gates) = cluster();
    let leader = cluster.leader().await;
    let late = cluster.other(leader);
    let anybody = cluster.client(leader);
    prepare(&anybody).await;
    let root = cluster.client_of(leader, ROOT);
    let mut watch = root.watch(Watch::of(Keys::One("a/1".into())));
    watch.begun().await;
    let mut doors = Doors::of(cluster).await;
    doors.open_with(late, |config| config.request_timeout = Duration::from_secs(60)).await;
    // Its session is there before.
    let connection = doors.connect(late).await;
    connection.put("before", "1").await;

    gates.0[&late].set_closed(true);
    anybody.enable_auth().await.unwrap();
    let token = anybody.authenticate("alice", "alice-pw").await.unwrap();
    let (mut reading, mut writing) = (connection.kv(), connection.kv());
    let read = tokio::spawn({
        let request = signed(&token, get("a/1"));
        async move { reading.range(request).await }
    });
    let write = tokio::spawn({
        let request = signed(&token, put("a/1", "1"));
        async move { writing.put(request).await }
    });
    // The watch of nobody ends, and begins again as that of root.
    let changed = async { while watch.next().await.unwrap().unwrap().events.is_empty() {} };
    tokio::select! {
        () = changed => {}
        written = async { write.await.unwrap() } => panic!("nothing was written: {written:?}"),
    }
    gates.0[&late].set_closed(false);
    read.await.unwrap().unwrap();
}
