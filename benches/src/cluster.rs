//! A whole cluster in one process, as the binary composes it: redb, QUIC, service and client.

use raft_cli::cert::{Files, make_authority, make_client, make_node};
use raft_cli::check::proxy::{Proxy, Weather};
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
use raft_core::types::{Change, ClusterId, GroupId, Incarnation, Member, NodeId};
use raft_kv::Client;
use raft_kv::client::ClientOptions;
use raft_kv::service::{KvService, ServiceConfig};
use raft_kv::store::KvStore;
use raft_net_quic::{
    ClientCredentials, ConnectorConfig, Credentials, Limits, QuicConfig, QuicConnector,
    QuicTransport,
};
use raft_storage_redb::RedbLog;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const GROUP: GroupId = GroupId(0);
/// How long a change of the members may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority of its own, and certificates by it.
pub struct Certificates {
    authority: Files,
    dir: TempDir,
}

impl Certificates {
    /// A new authority, in a temporary directory.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = make_authority(dir.path(), false).expect("a writable directory");
        Self { authority, dir }
    }

    /// The credentials of one node.
    pub fn node(&self, id: NodeId) -> Credentials {
        let Files { certificate, key } =
            make_node(self.dir.path(), id, &["127.0.0.1".into()], true).expect("an authority");
        Credentials::from_files(&self.authority.certificate, &certificate, &key)
            .expect("just written")
    }

    /// A connector with the credentials of a client.
    pub fn connector(&self) -> QuicConnector {
        let Files { certificate, key } =
            make_client(self.dir.path(), "bench", true).expect("an authority");
        let credentials =
            ClientCredentials::from_files(&self.authority.certificate, Some((&certificate, &key)));
        let credentials = credentials.expect("just written");
        QuicConnector::new(credentials, ConnectorConfig::default()).expect("good credentials")
    }

    /// The transport of one node; port 0 for a free one.
    pub fn transport(&self, id: NodeId, listen: SocketAddr, snapshots: &Path) -> QuicTransport {
        self.special_transport(id, listen, snapshots, Limits::default(), BTreeMap::new())
    }

    /// The same with other limits, and peers that are reached otherwise than where they say.
    pub fn special_transport(
        &self,
        id: NodeId,
        listen: SocketAddr,
        snapshots: &Path,
        limits: Limits,
        peer_addresses: BTreeMap<NodeId, String>,
    ) -> QuicTransport {
        let config = QuicConfig::new(listen, self.node(id), snapshots.to_owned());
        QuicTransport::bind(QuicConfig { limits, peer_addresses, ..config }).expect("a free port")
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

/// Three nodes that answer clients, every write durable on a quorum before it is answered.
pub struct Cluster {
    nodes: Vec<Running>,
    initial: BTreeMap<NodeId, Member>,
    certificates: Certificates,
    data: TempDir,
    far: Option<Far>,
}

/// A node that is far away from the others, if it comes to be.
struct Far {
    id: NodeId,
    addresses: BTreeMap<NodeId, SocketAddr>,
    proxy: Proxy,
}

impl Far {
    fn new(id: NodeId, delay: Duration) -> Self {
        let free = |id| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            (id, socket.local_addr().expect("it is bound"))
        };
        let addresses: BTreeMap<_, _> =
            [1, 2, 3].map(NodeId).into_iter().chain([id]).map(free).collect();
        let proxy = Proxy::start(&addresses, 1).expect("sockets and a thread");
        proxy.set_weather(Weather { delay, ..Weather::default() });
        Self { id, addresses, proxy }
    }

    /// Where a node reaches others otherwise than at their addresses.
    fn ways_of(&self, from: NodeId) -> BTreeMap<NodeId, String> {
        let ways = self.proxy.peer_addresses(from);
        let ways = ways.split(',').filter_map(|way| way.split_once('='));
        ways.map(|(to, address)| {
            let to = to.trim_start_matches('n').parse().expect("a node's number");
            (NodeId(to), address.to_owned())
        })
        .filter(|(to, _)| from == self.id || *to == self.id)
        .collect()
    }
}

/// One node.
struct Running {
    id: NodeId,
    address: SocketAddr,
    node: Node,
    transport: Arc<QuicTransport>,
}

impl Cluster {
    /// Starts the nodes on the current runtime and waits for a leader.
    pub async fn start() -> Self {
        Self::make(&Limits::default(), None).await
    }

    /// The same with other limits of the transport.
    pub async fn limited(limits: &Limits) -> Self {
        Self::make(limits, None).await
    }

    /// Starts the nodes, and what it takes to put node `id` so far away from them once it is added:
    /// whatever is sent to it or by it takes `delay` longer.
    pub async fn with_far(id: NodeId, delay: Duration) -> Self {
        // The proxy starts a runtime of its own.
        let far = tokio::task::spawn_blocking(move || Far::new(id, delay));
        let far = far.await.expect("sockets and a thread");
        Self::make(&Limits::default(), Some(far)).await
    }

    async fn make(limits: &Limits, far: Option<Far>) -> Self {
        let certificates = Certificates::new();
        let data = tempfile::tempdir().expect("a temporary directory");
        let ids = [1, 2, 3].map(NodeId);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let transports = ids.map(|id| {
            let incoming = data.path().join(id.to_string()).join("incoming");
            let address = far.as_ref().map_or(any, |far| far.addresses[&id]);
            let ways = far.as_ref().map_or_else(BTreeMap::new, |far| far.ways_of(id));
            Arc::new(certificates.special_transport(id, address, &incoming, limits.clone(), ways))
        });
        let address = |transport: &Arc<QuicTransport>| transport.local_addr();
        let member = |(id, transport): (NodeId, &_)| {
            (id, Member { address: address(transport).to_string(), ..Member::default() })
        };
        let initial = ids.into_iter().zip(&transports).map(member).collect();
        let nodes = Vec::new();
        let mut cluster = Self { nodes, initial, certificates, data, far };
        for (id, transport) in ids.into_iter().zip(transports) {
            let running = cluster.run(id, Incarnation(id.0), transport);
            cluster.nodes.push(running);
        }
        cluster.leader().await;
        cluster
    }

    fn run(&self, id: NodeId, incarnation: Incarnation, transport: Arc<QuicTransport>) -> Running {
        let dir = self.dir(id);
        // Whoever comes later waits to be added.
        let initial = match self.initial.contains_key(&id) {
            true => self.initial.clone(),
            false => BTreeMap::new(),
        };
        let log = RedbLog::open(&dir).expect("a directory of its own");
        let store = KvStore::open(&dir.join("kv.redb")).expect("a directory of its own");
        let config = NodeConfig {
            raft: Config { id, initial, ..Config::default() },
            cluster: ClusterId(1),
            incarnation,
            seed: id.0,
            ..NodeConfig::default()
        };
        let handle = store.handle();
        let node = Node::start(config, log, store, transport.clone()).expect("its own state");
        let (peers, version) = (transport.clone(), "bench".into());
        let service = ServiceConfig::new(node.clone(), handle, GROUP, peers, version);
        transport.serve(GROUP, KvService::new(service));
        Running { id, address: transport.local_addr(), node, transport }
    }

    fn dir(&self, id: NodeId) -> PathBuf {
        self.data.path().join(id.to_string())
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|running| &running.node)
    }

    /// The leader, once there is one.
    pub async fn leader(&self) -> NodeId {
        loop {
            if let Some(leader) = self.nodes[0].node.status().leader {
                return leader;
            }
            self.nodes[0].node.status_changed().await;
        }
    }

    /// Starts a node and adds it as an observer. Returns it once it has what there was.
    pub async fn add_observer(&mut self, id: NodeId) -> Node {
        let (dir, any) = (self.dir(id), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let far = self.far.as_ref().filter(|far| far.id == id);
        let listen = far.map_or(any, |far| far.addresses[&id]);
        let ways = far.map_or_else(BTreeMap::new, |far| far.ways_of(id));
        let (limits, incoming) = (Limits::default(), dir.join("incoming"));
        let transport = self.certificates.special_transport(id, listen, &incoming, limits, ways);
        let running = self.run(id, Incarnation(id.0), Arc::new(transport));
        let (node, address) = (running.node.clone(), running.address.to_string());
        let client = self.client().with_deadline(PATIENCE);
        let add = Change::Add { node: id, address, promote: false };
        client.change_members(vec![add]).await.expect("a healthy cluster");
        let committed = self.nodes().map(|node| node.status().commit_index).max();
        self.nodes.push(running);
        while Some(node.status().last_applied) < committed {
            node.status_changed().await;
        }
        node
    }

    /// Removes a node from the cluster, and stops it.
    pub async fn remove(&mut self, id: NodeId) {
        let position = self.nodes.iter().position(|running| running.id == id);
        let gone = self.nodes.remove(position.expect("it was added"));
        let client = self.client().with_deadline(PATIENCE);
        let changes = vec![Change::Remove { node: id }];
        client.change_members(changes).await.expect("a healthy cluster");
        gone.node.shutdown().await;
        gone.transport.close().await;
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        let connector = Arc::new(self.certificates.connector());
        let endpoints = self.nodes.iter().map(|running| running.address.to_string());
        Client::new(connector, ClientOptions::new(endpoints))
    }

    /// The same that asks this node first, and stays with it.
    pub fn client_of(&self, id: NodeId) -> Client {
        let connector = Arc::new(self.certificates.connector());
        let own = self.nodes.iter().filter(|running| running.id == id);
        let endpoints = own.map(|running| running.address.to_string());
        Client::new(connector, ClientOptions::new(endpoints))
    }

    /// Stops the nodes.
    pub async fn stop(&self) {
        for running in &self.nodes {
            running.node.shutdown().await;
        }
    }
}
