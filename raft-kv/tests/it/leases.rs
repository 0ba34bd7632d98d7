//! Leases and fences on whole clusters: kept alive and described by any node, ended by leaders, and
//! no longer than they were granted for when leaders or all nodes are lost.

use crate::alike::at_the_end;
use crate::catch_up::KeptLog;
use crate::cluster::{Cluster, Doors, GROUP, node_config};
use bytes::Bytes;
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
use raft_core::transport::{BoxFuture, CallError, Channel, Connector, MemoryNetwork};
use raft_core::types::{Change, Member, NodeId};
use raft_kv::api::*;
use raft_kv::client::{Client, ClientError, ClientOptions};
use raft_kv::service::{KvService, ServiceConfig};
use raft_kv::store::KvStore;
use raft_kv::{codec, wire};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

const A: LeaseId = LeaseId(0xa);
/// Long enough for a busy machine to keep a lease alive, short enough to see it end.
const TTL_MS: u64 = 4_000;
/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks one node, and no other.
async fn ask_within(doors: &Doors, node: NodeId, within: Duration, body: RequestBody) -> Reply {
    let channel = doors.connect(&node.to_string()).await.unwrap();
    let deadline_ms = within.as_millis() as u32;
    let reply = channel.call(wire::encode_request(&Request { deadline_ms, body })).await;
    wire::decode_reply(&reply.unwrap()).unwrap()
}

async fn ask(doors: &Doors, node: NodeId, body: RequestBody) -> Reply {
    ask_within(doors, node, PATIENCE, body).await
}

async fn write(doors: &Doors, node: NodeId, action: Action) -> CommandReply {
    let command = codec::encode(&Command { request: None, fence: None, action });
    match ask(doors, node, RequestBody::Write(command)).await? {
        ReplyBody::Write(reply) => codec::decode(&reply).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn grant(doors: &Doors, node: NodeId, ttl_ms: u64) {
    let action = Action::Grant { id: Some(A), ttl_ms };
    assert_eq!(write(doors, node, action).await, Ok(ActionReply::Granted { id: A, ttl_ms }));
}

/// Makes a key that ends with the lease; its create revision.
async fn attach(doors: &Doors, node: NodeId, key: &'static str) -> Revision {
    let action = Action::Op(Op::Put(Put::new(key, "ephemeral").with_lease(A)));
    match write(doors, node, action).await.unwrap() {
        ActionReply::Op { revision, .. } => revision,
        other => panic!("{other:?}"),
    }
}

async fn keep_alive(doors: &Doors, node: NodeId) -> Vec<u64> {
    match ask(doors, node, RequestBody::KeepAlive(vec![A, LeaseId(77)])).await {
        Ok(ReplyBody::KeptAlive(ttls_ms)) => ttls_ms,
        other => panic!("{other:?}"),
    }
}

async fn lease(doors: &Doors, node: NodeId) -> Option<LeaseStatus> {
    match ask(doors, node, RequestBody::Lease { id: A, keys: true }).await {
        Ok(ReplyBody::Lease(lease)) => lease.map(|lease| *lease),
        other => panic!("{other:?}"),
    }
}

async fn leases(doors: &Doors, node: NodeId) -> Vec<LeaseId> {
    match ask(doors, node, RequestBody::Leases).await {
        Ok(ReplyBody::Leases(leases)) => leases,
        other => panic!("{other:?}"),
    }
}

/// Waits until the lease is gone.
async fn until_over(doors: &Doors, node: NodeId) {
    while lease(doors, node).await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_keeps_leases_alive_and_describes_them() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let follower = cluster.other(leader);
    // A learner serves leases too.
    let observer = NodeId(4);
    cluster.join(observer);
    let client = cluster.client(leader).with_deadline(PATIENCE);
    let address = observer.to_string();
    let add = Change::Add { node: observer, address, promote: false };
    client.change_members(vec![add]).await.unwrap();

    let doors = &*cluster.doors;
    let ttl = Duration::from_millis(TTL_MS);
    grant(doors, follower, TTL_MS).await;
    attach(doors, follower, "key").await;
    let begun = Instant::now();
    let mut asked = begun;
    while begun.elapsed() < ttl + ttl / 4 {
        for node in [leader, follower, observer] {
            asked = Instant::now();
            assert_eq!(keep_alive(doors, node).await, [TTL_MS, 0]);
        }
        tokio::time::sleep(ttl / 8).await;
    }
    for node in [leader, follower, observer] {
        let status = lease(doors, node).await.unwrap();
        assert_eq!((status.granted_ms, status.keys), (TTL_MS, vec![Bytes::from("key")]));
        assert_eq!(leases(doors, node).await, [A]);
    }
    until_over(doors, observer).await;
    assert!(asked.elapsed() >= ttl, "it ended early: {:?}", asked.elapsed());
    assert_eq!(client.get_one("key").await.unwrap(), None);
    assert_eq!(keep_alive(doors, follower).await, [0, 0]);
    assert_eq!(leases(doors, observer).await, []);
}

/// What is left is part of the state: no leader begins anew (compare etcd-io/etcd#9888).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_lease_survives_the_loss_of_the_leader() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let survivor = cluster.other(leader);
    let doors = &*cluster.doors;
    let begun = Instant::now();
    grant(doors, survivor, 4_000).await;
    attach(doors, survivor, "key").await;
    let before = loop {
        let left = lease(doors, survivor).await.unwrap().remaining_ms;
        if left < 3_500 {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    cluster.kill(leader);
    let after = lease(doors, survivor).await.unwrap().remaining_ms;
    assert!(after <= before, "{after} after {before}");
    until_over(doors, survivor).await;
    assert!(begun.elapsed() >= Duration::from_millis(4_000), "it ended early");
    let client = cluster.client(survivor).with_deadline(PATIENCE);
    assert_eq!(client.get_one("key").await.unwrap(), None);
}

/// A leader that is cut off, and does not know it yet, renews nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_does_not_keep_leases_alive() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let other = cluster.other(leader);
    let doors = &*cluster.doors;
    let ttl = Duration::from_millis(TTL_MS);
    grant(doors, leader, TTL_MS).await;
    let token = attach(doors, leader, "lock").await;
    cluster.isolate(leader);
    let renew = || RequestBody::KeepAlive(vec![A]);
    let refused = ask_within(doors, leader, ttl, renew()).await.unwrap_err();
    assert!(matches!(refused, KvError::NoQuorum { .. } | KvError::Unknown(_)), "{refused:?}");
    until_over(doors, other).await;
    cluster.network.isolate(leader, false);
    assert_eq!(keep_alive(doors, leader).await, [0, 0]);
    // The holder wakes up: what it writes under the lock is refused, through any node.
    for node in cluster.nodes.keys() {
        let client = cluster.client(*node).with_deadline(PATIENCE);
        let late = client.fenced(Fence { key: "lock".into(), token }).put("guarded", "late").await;
        assert_eq!(late.unwrap_err(), ClientError::Refused(KvError::Fenced { token }));
        assert_eq!(client.get_one("guarded").await.unwrap(), None);
    }
}

/// Three nodes whose logs and stores survive them.
struct Lasting {
    logs: [KeptLog; 3],
    dir: tempfile::TempDir,
    network: MemoryNetwork,
    doors: Arc<Doors>,
    nodes: BTreeMap<NodeId, Node>,
    services: Vec<Arc<KvService>>,
}

impl Lasting {
    fn new() -> Self {
        Self {
            logs: Default::default(),
            dir: tempfile::tempdir().unwrap(),
            network: MemoryNetwork::new(),
            doors: Arc::default(),
            nodes: BTreeMap::new(),
            services: Vec::new(),
        }
    }

    fn start(&mut self) {
        let ids = [1, 2, 3].map(NodeId);
        let initial: BTreeMap<_, _> = ids.map(|id| (id, Member::new(id.to_string()))).into();
        for (id, log) in ids.into_iter().zip(self.logs.clone()) {
            let raft = Config { id, initial: initial.clone(), ..Config::default() };
            // Some of it comes from a checkpoint, the rest from the log.
            let config = NodeConfig { raft, checkpoint_bytes: 256, ..node_config(id, id.0) };
            let machine = KvStore::open(&self.file(id)).unwrap();
            let (store, transport) = (machine.handle(), self.network.transport(id));
            let node = Node::start(config, log, machine, transport.clone()).unwrap();
            let config = ServiceConfig::new(node.clone(), store, GROUP, transport, "test".into());
            let service = KvService::new(config);
            self.network.serve(GROUP, id, service.clone());
            self.doors.open(id, service.clone());
            self.services.push(service);
            self.nodes.insert(id, node);
        }
    }

    /// Stops them once they have been seen to have one state.
    async fn stop(&mut self) {
        self.compare();
        self.services.clear();
        for (id, node) in std::mem::take(&mut self.nodes) {
            self.doors.close(id);
            self.network.remove(id);
            node.shutdown().await;
        }
    }

    fn compare(&self) {
        let services = self.services.iter().map(|service| &**service);
        at_the_end(&Handle::current(), self.nodes.values(), services);
    }

    fn file(&self, id: NodeId) -> Box<Path> {
        self.dir.path().join(format!("{id}.redb")).into()
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.compare();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_lease_survives_a_restart_of_all_nodes() {
    let mut cluster = Lasting::new();
    cluster.start();
    let node = NodeId(1);
    let begun = Instant::now();
    grant(&cluster.doors, node, 5_000).await;
    attach(&cluster.doors, node, "key").await;
    let before = loop {
        let left = lease(&cluster.doors, node).await.unwrap().remaining_ms;
        if left < 4_500 {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    cluster.stop().await;
    cluster.start();
    let status = lease(&cluster.doors, node).await.unwrap();
    assert!(status.remaining_ms <= before, "{} after {before}", status.remaining_ms);
    assert_eq!(status.keys, [Bytes::from("key")]);
    until_over(&cluster.doors, node).await;
    assert!(begun.elapsed() >= Duration::from_millis(5_000), "it ended early");
    let found = ask(
        &cluster.doors,
        node,
        RequestBody::Read { range: Range::of(Keys::all()), consistency: Consistency::Linearizable },
    );
    assert!(matches!(found.await, Ok(ReplyBody::Range(range)) if range.kvs.is_empty()));
    cluster.stop().await;
}

/// The same doors, through which the first answer to every request is lost.
struct Forgetful {
    doors: Arc<Doors>,
    answered: Arc<Mutex<HashSet<RequestId>>>,
}

impl Connector for Forgetful {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let (connected, answered) = (self.doors.connect(address), Arc::clone(&self.answered));
        Box::pin(async move {
            let inner = connected.await?;
            Ok(Arc::new(ForgetfulChannel { inner, answered }) as Arc<dyn Channel>)
        })
    }
}

struct ForgetfulChannel {
    inner: Arc<dyn Channel>,
    answered: Arc<Mutex<HashSet<RequestId>>>,
}

impl Channel for ForgetfulChannel {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let named = match wire::decode_request(&request) {
            Ok(Request { body: RequestBody::Write(command), .. }) => {
                codec::decode::<Command>(&command).unwrap().request
            }
            _ => None,
        };
        let (reply, answered) = (self.inner.call(request), Arc::clone(&self.answered));
        Box::pin(async move {
            let reply = reply.await?;
            match named {
                Some(request) if answered.lock().unwrap().insert(request) => {
                    Err(CallError::Lost("the answer was lost".into()))
                }
                _ => Ok(reply),
            }
        })
    }
}

/// Each of them reaches the cluster once more, and runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_stay_exact_when_every_acknowledgement_is_lost_once() {
    const EACH: usize = 50;
    let cluster = Cluster::start(3);
    cluster.leader().await;
    let answered = Arc::<Mutex<HashSet<RequestId>>>::default();
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (doors, lost) = (Arc::clone(&cluster.doors), Arc::clone(&answered));
        let connector = Arc::new(Forgetful { doors, answered: lost });
        let endpoint = NodeId(writer % 3 + 1).to_string();
        let client = Client::new(connector, ClientOptions::new([endpoint])).with_deadline(PATIENCE);
        writers.spawn(async move {
            for number in 0..EACH {
                client.put("counter", number.to_string()).await.unwrap();
                // Sequential keys count too: none is made twice.
                let put = Put { sequential: true, ..Put::new("ticket/", "") };
                client.op(Op::Put(put)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let client = cluster.client(NodeId(1)).with_deadline(PATIENCE);
    let counter = client.get_one("counter").await.unwrap().unwrap();
    assert_eq!(counter.version, 4 * EACH as u64);
    let tickets = Range { count_only: true, ..Range::of(Keys::prefix("ticket/")) };
    let tickets = client.get(tickets, Consistency::Linearizable).await.unwrap();
    assert_eq!((tickets.count, tickets.revision), (200, Revision(401)));
    assert!(answered.lock().unwrap().len() >= 400, "every answer was lost once");
}
