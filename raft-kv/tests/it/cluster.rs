//! Whole clusters in one process: client, service, store and consensus over memory.

use crate::alike::at_the_end;
use bytes::Bytes;
use raft_core::log_store::MemoryLog;
use raft_core::node::{Node, NodeConfig, ReadMode};
use raft_core::raft::Config;
use raft_core::state_machine::StateMachine;
use raft_core::transport::{
    BoxFuture, CallError, Caller, Channel, ConnectionId, Connector, Duplex, MemoryNetwork, Service,
    Transport,
};
use raft_core::types::{ClusterId, GroupId, Incarnation, Index, Member, NodeId};
use raft_kv::api::{
    Consistency, HASHES_MAX, Hashes, Keys, Query, Range, Request, RequestBody, Revision,
};
use raft_kv::client::{Client, ClientError, ClientOptions};
use raft_kv::codec;
use raft_kv::service::{IntegrityConfig, KvService, ServiceConfig};
use raft_kv::store::{KvStore, StoreHandle};
use raft_kv::wire::decode_request;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

pub(crate) const GROUP: GroupId = GroupId(0);

/// Nodes with the addresses `n1`, `n2` and so on.
pub(crate) struct Cluster {
    /// First of all, so that it is looked at while the nodes are there.
    alike: Alike,
    pub(crate) network: MemoryNetwork,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) services: BTreeMap<NodeId, Arc<KvService>>,
    pub(crate) doors: Arc<Doors>,
    /// Where the stores are, if they are on disk: then they make checkpoints, and logs are cut.
    disk: Option<TempDir>,
    /// What the stores may take, if not what they take by default.
    quota_bytes: Option<u64>,
    /// What hashing a password costs, if not what it costs by default.
    password_cost: Option<u32>,
    watches_per_stream_max: Option<usize>,
    /// How often watches are told how far they have come.
    progress_interval: Duration,
}

/// A node without initial members.
pub(crate) fn node_config(id: NodeId, incarnation: u64) -> NodeConfig {
    NodeConfig {
        raft: Config { id, ..Config::default() },
        cluster: ClusterId(7),
        incarnation: Incarnation(incarnation),
        seed: incarnation,
        ..NodeConfig::default()
    }
}

/// The nodes that a cluster of so many is formed of.
pub(crate) fn initial_configs(count: u64) -> impl Iterator<Item = NodeConfig> {
    let ids = (1..=count).map(NodeId);
    let initial: BTreeMap<_, _> = ids.clone().map(|id| (id, Member::new(id.to_string()))).collect();
    ids.map(move |id| {
        let raft = Config { id, initial: initial.clone(), ..Config::default() };
        NodeConfig { raft, ..node_config(id, id.0) }
    })
}

/// The hashes of a node's state.
async fn hashes_of(node: &Node, at: Vec<Index>) -> Hashes {
    let query = codec::encode(&Query::Hashes(at));
    codec::decode(&node.query(query, ReadMode::Local).await.unwrap().reply).unwrap()
}

/// The services that clients can reach.
#[derive(Default)]
pub(crate) struct Doors(Mutex<BTreeMap<String, Arc<dyn Service>>>);

/// The same doors, counting who is asked to write.
struct Counted {
    doors: Arc<Doors>,
    writes: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Connector for Counted {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let (connected, writes) = (self.doors.connect(address), Arc::clone(&self.writes));
        let address = address.to_owned();
        Box::pin(async move {
            let inner = connected.await?;
            Ok(Arc::new(CountedChannel { inner, address, writes }) as Arc<dyn Channel>)
        })
    }
}

struct CountedChannel {
    inner: Arc<dyn Channel>,
    address: String,
    writes: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Channel for CountedChannel {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        if let Ok(Request { body: RequestBody::Write(_), .. }) = decode_request(&request) {
            *self.writes.lock().unwrap().entry(self.address.clone()).or_default() += 1;
        }
        self.inner.call(request)
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        self.inner.open_stream(first)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_prefers_the_leader_moves_on_to_it() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let follower = cluster.other(leader);
    let writes = Arc::<Mutex<BTreeMap<String, u64>>>::default();
    let (doors, counted) = (Arc::clone(&cluster.doors), Arc::clone(&writes));
    let connector = Arc::new(Counted { doors, writes: counted });
    let mut options = ClientOptions::new([follower.to_string()]);
    options.prefer_leader = true;
    let client = Client::new(connector, options);
    let moves_away_from = async |node: NodeId| {
        let asked = || writes.lock().unwrap().get(&node.to_string()).copied();
        let any_asked = || !writes.lock().unwrap().is_empty();
        loop {
            if cluster.leader().await == node {
                let _ = cluster.nodes[&node].transfer_leadership(None).await;
            }
            let (before, begun) = (asked(), any_asked());
            client.put("key", "value").await.unwrap();
            if begun && asked() == before {
                return;
            }
        }
    };
    // The first writes go to the node named; then the client has learned who leads.
    moves_away_from(follower).await;
    // That changes, also by itself on a busy machine; the client follows.
    moves_away_from(leader).await;
    cluster.assert_equal_states().await;
}

impl Cluster {
    /// A cluster formed of this many nodes.
    pub(crate) fn start(count: u64) -> Self {
        Self::configured(count, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn configured(count: u64, change: impl Fn(&mut NodeConfig)) -> Self {
        Self::formed(count, None, change)
    }

    /// The same with stores on disk.
    pub(crate) fn on_disk(count: u64, change: impl Fn(&mut NodeConfig)) -> Self {
        Self::formed(count, Some(tempfile::tempdir().unwrap()), change)
    }

    /// The same whose stores are full at so many bytes.
    pub(crate) fn with_quota(count: u64, quota_bytes: u64) -> Self {
        let cluster = Self { quota_bytes: Some(quota_bytes), ..Self::empty() };
        cluster.form(count, |_| {})
    }

    /// The same where passwords are hashed for little.
    pub(crate) fn with_cheap_passwords(count: u64) -> Self {
        Self::empty_with_cheap_passwords().form(count, |_| {})
    }

    /// The same without nodes.
    pub(crate) fn empty_with_cheap_passwords() -> Self {
        Self { password_cost: Some(4), ..Self::empty() }
    }

    /// The same where a stream has so many watches at most.
    pub(crate) fn with_few_watches(count: u64, most: usize) -> Self {
        Self { watches_per_stream_max: Some(most), ..Self::empty() }.form(count, |_| {})
    }

    /// The same whose watches are told nothing as long as nothing happens.
    pub(crate) fn quiet(count: u64) -> Self {
        let progress_interval = Duration::from_secs(600);
        Self { progress_interval, ..Self::empty() }.form(count, |_| {})
    }

    fn formed(count: u64, disk: Option<TempDir>, change: impl Fn(&mut NodeConfig)) -> Self {
        Self { disk, ..Self::empty() }.form(count, change)
    }

    fn form(mut self, count: u64, change: impl Fn(&mut NodeConfig)) -> Self {
        for mut config in initial_configs(count) {
            change(&mut config);
            self.run(config);
        }
        self
    }

    /// One without nodes.
    pub(crate) fn empty() -> Self {
        let (network, doors) = (MemoryNetwork::new(), Arc::default());
        let (nodes, services) = (BTreeMap::new(), BTreeMap::new());
        let runtime = Handle::current();
        let alike = Alike { runtime, network: network.clone(), members: BTreeMap::new() };
        let (disk, quota_bytes, password_cost) = (None, None, None);
        let watches_per_stream_max = None;
        let progress_interval = Duration::from_millis(20);
        Self {
            alike,
            network,
            nodes,
            services,
            doors,
            disk,
            quota_bytes,
            password_cost,
            watches_per_stream_max,
            progress_interval,
        }
    }

    /// Starts a blank node that waits to be added.
    pub(crate) fn join(&mut self, id: NodeId) {
        self.run(node_config(id, id.0));
    }

    /// The node's directory is lost; it comes back with another life, and knows of no members.
    pub(crate) async fn wipe(&mut self, id: NodeId) {
        self.stop(id).await;
        self.run(node_config(id, id.0 + 100));
    }

    /// Stops a node for good.
    pub(crate) async fn stop(&mut self, id: NodeId) {
        self.doors.close(id);
        self.network.remove(id);
        self.services.remove(&id);
        self.alike.members.remove(&id);
        if let Some(node) = self.nodes.remove(&id) {
            node.shutdown().await;
        }
    }

    fn run(&mut self, config: NodeConfig) {
        let store = match &self.disk {
            Some(dir) => KvStore::open(&dir.path().join(config.raft.id.to_string())).unwrap(),
            None => KvStore::in_memory(),
        };
        let handle = store.handle();
        let (id, every) = (config.raft.id, Duration::from_millis(200));
        let integrity = IntegrityConfig { compare_every: Some(every), scrub_every: None };
        self.run_on(config, store, handle, integrity);
        let service = Arc::downgrade(&self.services[&id]);
        self.alike.members.insert(id, (self.nodes[&id].clone(), service));
    }

    /// Starts a node on a state machine of its own.
    pub(crate) fn run_on(
        &mut self,
        config: NodeConfig,
        machine: impl StateMachine,
        store: StoreHandle,
        integrity: IntegrityConfig,
    ) {
        let transport = self.network.transport(config.raft.id);
        self.run_over(transport, config, machine, store, integrity);
    }

    /// The same where the node's messages go another way.
    pub(crate) fn run_over(
        &mut self,
        messages: Arc<dyn Transport>,
        config: NodeConfig,
        machine: impl StateMachine,
        store: StoreHandle,
        integrity: IntegrityConfig,
    ) {
        let id = config.raft.id;
        let transport = self.network.transport(id);
        let node = Node::start(config, MemoryLog::new(), machine, messages).unwrap();
        let mut config = ServiceConfig::new(node.clone(), store, GROUP, transport, "test".into());
        config.watch.progress_interval = self.progress_interval;
        let most = self.watches_per_stream_max;
        config.watch.watches_per_stream_max = most.unwrap_or(config.watch.watches_per_stream_max);
        config.integrity = integrity;
        config.quota_bytes = self.quota_bytes.unwrap_or(config.quota_bytes);
        config.password_cost = self.password_cost.unwrap_or(config.password_cost);
        let service = KvService::new(config);
        self.network.serve(GROUP, id, service.clone());
        self.doors.open(id, service.clone());
        self.services.insert(id, service);
        self.nodes.insert(id, node);
    }

    /// Compares the hashes of the state that the nodes have kept, at every index that several of
    /// them have applied.
    pub(crate) async fn assert_equal_states(&self) {
        let mut known: BTreeMap<Index, (NodeId, u64)> = BTreeMap::new();
        for (id, node) in &self.nodes {
            let extent = hashes_of(node, Vec::new()).await;
            let mut at = extent.oldest.0.max(1)..=extent.newest.0;
            loop {
                let asked: Vec<Index> = at.by_ref().take(HASHES_MAX).map(Index).collect();
                if asked.is_empty() {
                    break;
                }
                let found = hashes_of(node, asked.clone()).await.at;
                for (index, hash) in asked.into_iter().zip(found) {
                    let Some(hash) = hash else { continue };
                    let (other, equal) = *known.entry(index).or_insert((*id, hash));
                    assert_eq!(hash, equal, "{id} and {other} differ after entry {index}");
                }
            }
        }
        assert!(!known.is_empty(), "nothing was compared");
    }

    pub(crate) fn client(&self, endpoint: NodeId) -> Client {
        let connector = Arc::clone(&self.doors) as Arc<dyn Connector>;
        Client::new(connector, ClientOptions::new([endpoint.to_string()]))
    }

    /// A client that begins at `first`, and knows the others should that be dead before it has told
    /// of them.
    pub(crate) fn client_from(&self, first: NodeId) -> Client {
        let connector = Arc::clone(&self.doors) as Arc<dyn Connector>;
        let others = self.nodes.keys().filter(|node| **node != first);
        let endpoints = std::iter::once(&first).chain(others).map(ToString::to_string);
        Client::new(connector, ClientOptions::new(endpoints))
    }

    pub(crate) async fn leader(&self) -> NodeId {
        loop {
            for node in self.nodes.values() {
                if let Some(leader) = node.status().leader {
                    return leader;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn other(&self, than: NodeId) -> NodeId {
        self.nodes.keys().copied().find(|id| *id != than).unwrap()
    }

    /// Cuts a node off from its peers; clients still reach it.
    pub(crate) fn isolate(&self, id: NodeId) {
        self.network.isolate(id, true);
    }

    /// Cuts a node off from everybody.
    pub(crate) fn kill(&self, id: NodeId) {
        self.network.isolate(id, true);
        self.doors.close(id);
    }
}

/// Nodes whose states have to be equal at every entry, in every test: they compare them all the
/// time, and are compared once more at the end, after what has cut them off is gone.
struct Alike {
    /// In which they run, if not the test as well.
    runtime: Handle,
    network: MemoryNetwork,
    members: BTreeMap<NodeId, (Node, Weak<KvService>)>,
}

impl Drop for Alike {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for id in self.members.keys() {
            self.network.isolate(*id, false);
        }
        let services: Vec<_> =
            self.members.values().filter_map(|(_, service)| service.upgrade()).collect();
        let nodes = self.members.values().map(|(node, _)| node);
        at_the_end(&self.runtime, nodes, services.iter().map(|service| &**service));
    }
}

impl Doors {
    /// Lets clients reach a node.
    pub(crate) fn open(&self, id: NodeId, service: Arc<dyn Service>) {
        self.0.lock().unwrap().insert(id.to_string(), service);
    }

    /// Clients do not reach it any more.
    pub(crate) fn close(&self, id: NodeId) {
        self.0.lock().unwrap().remove(&id.to_string());
    }
}

impl Connector for Doors {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let found = self.0.lock().unwrap().get(address).cloned();
        let channel = found.map(|service| Arc::new(Door(service)) as Arc<dyn Channel>);
        let result = channel.ok_or_else(|| CallError::NotSent("connection refused".into()));
        Box::pin(async move { result })
    }
}

struct Door(Arc<dyn Service>);

impl Channel for Door {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let reply = self.0.call(Caller::Client(ConnectionId(0)), request);
        Box::pin(async move { Ok(reply.await) })
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (near, far) = Duplex::pair(256 * 1024);
        self.0.serve_stream(Caller::Client(ConnectionId(0)), first, far);
        Box::pin(async move { Ok(near) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_any_request() {
    let cluster = Cluster::start(3);
    for id in cluster.nodes.keys() {
        let client = cluster.client(*id);
        let key = id.to_string();
        let put = client.put(key.clone(), "1").await.unwrap();
        let found = client.get_one(key.clone()).await.unwrap().unwrap();
        assert_eq!(found.mod_revision, put.revision);
        assert!(client.compare_and_swap(key.clone(), put.revision, "2").await.unwrap().swapped);
        assert!(!client.compare_and_swap(key, put.revision, "3").await.unwrap().swapped);
    }
    let client = cluster.client(NodeId(1));
    let all = client.get(Range::of(Keys::all()), Consistency::Linearizable).await.unwrap();
    assert_eq!((all.count, all.revision), (3, Revision(7)));
    let statuses = client.statuses().await;
    assert_eq!(statuses.iter().filter(|one| one.status.is_ok()).count(), 3);
    let leader = cluster.leader().await;
    let to = cluster.other(leader);
    client.transfer_leadership(Some(to)).await.unwrap();
    assert_eq!(client.status(&to.to_string()).await.unwrap().role, "leader");
    let stranger = client.transfer_leadership(Some(NodeId(9))).await.unwrap_err();
    assert!(matches!(&stranger, ClientError::Refused(_)), "{stranger:?}");
    assert!(stranger.to_string().contains("n9 is not another voter"), "{stranger}");
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_survive_the_loss_of_the_leader_exactly_once() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let client = cluster.client(cluster.other(leader));
    client.put("first", "").await.unwrap();
    let mut writes = JoinSet::new();
    for writer in 0..100 {
        let client = client.clone();
        writes.spawn(async move {
            let mut revisions = Vec::new();
            for number in 0..50 {
                let put = client.put(format!("{writer}/{number}"), "value").await;
                revisions.push(put.unwrap().revision);
            }
            revisions
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.kill(leader);
    let revisions: Vec<_> = writes.join_all().await.concat();
    let distinct: BTreeSet<_> = revisions.iter().collect();
    assert_eq!(distinct.len(), 5000);
    let all = client.get(Range::of(Keys::all()), Consistency::Linearizable).await.unwrap();
    assert_eq!((all.count, all.revision), (5001, Revision(5002)), "a write ran twice");
    cluster.assert_equal_states().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_quorum_says_so() {
    let cluster = Cluster::start(3);
    let client = cluster.client(NodeId(1)).with_deadline(Duration::from_secs(4));
    client.put("a", "1").await.unwrap();
    // From here on node 1 has applied it.
    client.get_one("a").await.unwrap();
    for id in cluster.nodes.keys() {
        if *id == NodeId(1) { cluster.isolate(*id) } else { cluster.kill(*id) }
    }
    let write = client.put("a", "2").await.unwrap_err();
    assert!(write.to_string().contains("no quorum 1/3: n2 "), "{write}");
    let read = client.get_one("a").await.unwrap_err();
    assert!(matches!(read, ClientError::NotDone { .. }), "{read:?}");
    assert!(read.to_string().contains("no quorum 1/3: n2 "), "{read}");
    let range = Range::of(Keys::One("a".into()));
    assert_eq!(client.get(range, Consistency::Serializable).await.unwrap().count, 1);
    cluster.assert_equal_states().await;
}
