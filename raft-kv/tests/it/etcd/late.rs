//! A node that applies late: it must not judge by what it does not know yet.

mod deadlines;
mod members;

use super::auth::signed;
use super::{Connection, Doors, assert_refused, get, put};
use crate::auth::prepare;
use crate::cluster::{Cluster, initial_configs};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{Entry, NodeId, Payload, Run, SnapshotMeta};
use raft_kv::api::{Action, Command, Keys, Query, ROOT, Watch};
use raft_kv::codec;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::mvccpb;
use raft_kv::etcd::proto::v3electionpb::{self as election, election_client::ElectionClient};
use raft_kv::etcd::proto::v3lockpb::{self as lock, lock_client::LockClient};
use raft_kv::service::IntegrityConfig;
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tonic::{Code, Status};

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

/// How long a store takes for what a client has it do, and for each page that is read.
#[derive(Clone, Default)]
struct Pace(Arc<Mutex<Duration>>);

impl Pace {
    fn set(&self, step: Duration) {
        *self.0.lock().unwrap() = step;
    }

    fn apply(&self, run: &Run) {
        let of_client = |entry: &Entry| match &entry.payload {
            Payload::Command(command) => {
                let command: Command = codec::decode(command).unwrap();
                !matches!(command.action.inner(), Action::Advance(_) | Action::OpenSession)
            }
            Payload::Noop | Payload::Membership(_) => false,
        };
        run.entries().iter().filter(|entry| of_client(entry)).for_each(|_| self.step());
    }

    /// A page may be read in several parts, of which only the last answers anything.
    fn query(&self, query: &[u8], reply: &Bytes) {
        let reads = matches!(codec::decode(query), Ok(Query::Range(_) | Query::Scan(_)));
        if reads && !reply.is_empty() {
            self.step();
        }
    }

    fn step(&self) {
        let step = *self.0.lock().unwrap();
        std::thread::sleep(step);
    }
}

struct Late {
    store: KvStore,
    gate: Gate,
    pace: Pace,
}

impl StateMachine for Late {
    fn applied(&self) -> SnapshotMeta {
        self.store.applied()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.gate.pass();
        self.pace.apply(run);
        self.store.apply(run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let reply = self.store.query(query);
        self.pace.query(query, &reply);
        reply
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
        let late = Late { store, gate: gate.clone(), pace: Pace::default() };
        cluster.run_on(config, late, handle, integrity);
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

/// Two doors: that of a node which applies late, and the leader's.
struct Both<'a> {
    gate: &'a Gate,
    late: Connection,
    leader: Connection,
}

impl Both<'_> {
    /// What is asked at the late door is answered once it is done there, too.
    async fn assert_done_where_answered<T, F>(
        &self,
        name: &str,
        asked: F,
        is_done: impl AsyncFn(&Connection) -> bool,
    ) where
        T: std::fmt::Debug + Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        self.gate.set_closed(true);
        let asked = tokio::spawn(asked);
        while !is_done(&self.leader).await {
            tokio::task::yield_now().await;
        }
        // Whoever waits for nothing has answered by then.
        for _ in 0..20 {
            let _ = self.leader.kv().put(put("other", "")).await;
        }
        assert!(!asked.is_finished(), "{name}: {:?}", asked.await);
        self.gate.set_closed(false);
        asked.await.unwrap().unwrap();
        assert!(is_done(&self.late).await, "{name}");
    }
}

/// The value of a key as a node has it; nothing if it does not say.
async fn local(connection: &Connection, key: &str) -> Option<Vec<String>> {
    let request = pb::RangeRequest { serializable: true, ..get(key) };
    let found = connection.kv().range(request).await.ok()?.into_inner();
    let value = |pair: &mvccpb::KeyValue| String::from_utf8(pair.value.to_vec()).unwrap();
    Some(found.kvs.iter().map(value).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_answered_is_done_where_it_was_asked() {
    let (cluster, gates) = cluster();
    let leader = cluster.leader().await;
    let late = cluster.other(leader);
    prepare(&cluster.client(leader)).await;
    let mut doors = Doors::of(cluster).await;
    doors.open_with(late, |config| config.request_timeout = Duration::from_secs(3600)).await;
    let both = Both {
        gate: &gates.0[&late],
        late: doors.connect(late).await,
        leader: doors.connect(leader).await,
    };
    let asked = &both.late;
    for key in ["locked", "led"] {
        asked.put(key, "1").await;
    }
    let grant = pb::LeaseGrantRequest { ttl: 3600, id: 0 };
    let lease = asked.lease().lease_grant(grant).await.unwrap().into_inner().id;
    let created = asked.range(get("led")).await.kvs[0].create_revision;
    let key = election::LeaderKey { key: "led".into(), rev: created, lease, ..Default::default() };

    let (mut lock, request) =
        (LockClient::new(asked.clone()), lock::UnlockRequest { key: "locked".into() });
    let unlock = async move { lock.unlock(request).await };
    let is_gone = async |at: &Connection| local(at, "locked").await == Some(vec![]);
    both.assert_done_where_answered("unlock", unlock, is_gone).await;

    let mut client = ElectionClient::new(asked.clone());
    let request = election::ProclaimRequest { leader: Some(key.clone()), value: "2".into() };
    let proclaim = async move { client.proclaim(request).await };
    let is_told = async |at: &Connection| local(at, "led").await == Some(vec!["2".into()]);
    both.assert_done_where_answered("proclaim", proclaim, is_told).await;

    let mut client = ElectionClient::new(asked.clone());
    let request = election::ResignRequest { leader: Some(key) };
    let resign = async move { client.resign(request).await };
    let is_gone = async |at: &Connection| local(at, "led").await == Some(vec![]);
    both.assert_done_where_answered("resign", resign, is_gone).await;

    let mut kv = asked.kv();
    let request = pb::CompactionRequest { revision: created, physical: false };
    let compact = async move { kv.compact(request).await };
    let is_compacted = async |at: &Connection| {
        let past = pb::RangeRequest { revision: 1, serializable: true, ..get("led") };
        at.kv().range(past).await.is_err()
    };
    both.assert_done_where_answered("compaction", compact, is_compacted).await;

    let mut auth = asked.auth();
    let enable = async move { auth.auth_enable(pb::AuthEnableRequest {}).await };
    let is_enabled = async |at: &Connection| local(at, "other").await.is_none();
    both.assert_done_where_answered("authentication", enable, is_enabled).await;
}
