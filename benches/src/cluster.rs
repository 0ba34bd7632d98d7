//! A whole cluster in one process, as the binary composes it: redb, QUIC, service and client.

use raft_cli::cert::{Files, make_authority, make_client, make_node};
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
use raft_core::state_machine::StateMachine;
use raft_core::types::{ClusterId, GroupId, Incarnation, Member, NodeId};
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
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const GROUP: GroupId = GroupId(0);

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
        self.limited_transport(id, listen, snapshots, Limits::default())
    }

    /// The same with other limits.
    pub fn limited_transport(
        &self,
        id: NodeId,
        listen: SocketAddr,
        snapshots: &Path,
        limits: Limits,
    ) -> QuicTransport {
        let config = QuicConfig::new(listen, self.node(id), snapshots.to_owned());
        QuicTransport::bind(QuicConfig { limits, ..config }).expect("a free port")
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
    machine: Box<dyn Fn(KvStore) -> Machine>,
    certificates: Certificates,
    data: TempDir,
}

/// What a node applies its entries to: the store, or something around it.
pub type Machine = Box<dyn StateMachine>;

/// One node.
struct Running {
    id: NodeId,
    incarnation: Incarnation,
    address: SocketAddr,
    node: Node,
    transport: Arc<QuicTransport>,
}

impl Cluster {
    /// Starts the nodes on the current runtime and waits for a leader.
    pub async fn start() -> Self {
        Self::start_with(|store| Box::new(store)).await
    }

    /// The same with other limits of the transport.
    pub async fn limited(limits: &Limits) -> Self {
        Self::make(limits, |store| Box::new(store)).await
    }

    /// The same, with `machine` around the store of every node.
    pub async fn start_with(machine: impl Fn(KvStore) -> Machine + 'static) -> Self {
        Self::make(&Limits::default(), machine).await
    }

    async fn make(limits: &Limits, machine: impl Fn(KvStore) -> Machine + 'static) -> Self {
        let certificates = Certificates::new();
        let data = tempfile::tempdir().expect("a temporary directory");
        let ids = [1, 2, 3].map(NodeId);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let transports = ids.map(|id| {
            let incoming = data.path().join(id.to_string()).join("incoming");
            Arc::new(certificates.limited_transport(id, any, &incoming, limits.clone()))
        });
        let address = |transport: &Arc<QuicTransport>| transport.local_addr();
        let member = |(id, transport): (NodeId, &_)| {
            (id, Member { address: address(transport).to_string(), ..Member::default() })
        };
        let initial = ids.into_iter().zip(&transports).map(member).collect();
        let (nodes, machine) = (Vec::new(), Box::new(machine));
        let mut cluster = Self { nodes, initial, machine, certificates, data };
        for (id, transport) in ids.into_iter().zip(transports) {
            let running = cluster.run(id, Incarnation(id.0), transport);
            cluster.nodes.push(running);
        }
        cluster.leader().await;
        cluster
    }

    fn run(&self, id: NodeId, incarnation: Incarnation, transport: Arc<QuicTransport>) -> Running {
        let dir = self.dir(id);
        let log = RedbLog::open(&dir).expect("a directory of its own");
        let store = KvStore::open(&dir.join("kv.redb")).expect("a directory of its own");
        let config = NodeConfig {
            raft: Config { id, initial: self.initial.clone(), ..Config::default() },
            cluster: ClusterId(1),
            incarnation,
            seed: id.0,
            ..NodeConfig::default()
        };
        let handle = store.handle();
        let machine = (self.machine)(store);
        let node = Node::start(config, log, machine, transport.clone()).expect("its own state");
        let (peers, version) = (transport.clone(), "bench".into());
        let service = ServiceConfig::new(node.clone(), handle, GROUP, peers, version);
        transport.serve(GROUP, KvService::new(service));
        Running { id, incarnation, address: transport.local_addr(), node, transport }
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

    /// Stops a node that does not lead and starts it again; if `wipe`, as a new life without data.
    /// Returns it.
    pub async fn restart_follower(&mut self, wipe: bool) -> Node {
        let leader = self.leader().await;
        let position = self.nodes.iter().position(|running| running.id != leader);
        let old = self.nodes.remove(position.expect("two of three do not lead"));
        old.node.shutdown().await;
        old.transport.close().await;
        let Running { id, incarnation, address, .. } = old;
        let dir = self.dir(id);
        let incarnation = if wipe {
            std::fs::remove_dir_all(&dir).expect("its directory");
            Incarnation(incarnation.0 + 100)
        } else {
            incarnation
        };
        let transport = self.certificates.transport(id, address, &dir.join("incoming"));
        // What it reads at first keeps a processor, but not the other nodes' tasks, waiting.
        let run = || self.run(id, incarnation, Arc::new(transport));
        let running = tokio::task::block_in_place(run);
        let node = running.node.clone();
        self.nodes.push(running);
        node
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        let connector = Arc::new(self.certificates.connector());
        let endpoints = self.nodes.iter().map(|running| running.address.to_string());
        Client::new(connector, ClientOptions::new(endpoints))
    }

    /// Stops the nodes.
    pub async fn stop(&self) {
        for running in &self.nodes {
            running.node.shutdown().await;
        }
    }
}
