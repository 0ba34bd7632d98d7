//! A whole cluster in one process, as the binary composes it: redb, QUIC, service and client.

use raft_cli::cert::{Files, make_authority, make_client, make_node};
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
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
use std::path::Path;
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

    /// The transport of one node on a free port of the loopback.
    pub fn transport(&self, id: NodeId, snapshots: &Path) -> QuicTransport {
        self.limited_transport(id, snapshots, Limits::default())
    }

    /// The same with other limits.
    pub fn limited_transport(&self, id: NodeId, snapshots: &Path, limits: Limits) -> QuicTransport {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
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
    nodes: Vec<Node>,
    endpoints: Vec<String>,
    certificates: Certificates,
    _data: TempDir,
}

impl Cluster {
    /// Starts the nodes on the current runtime and waits for a leader.
    pub async fn start() -> Self {
        Self::limited(&Limits::default()).await
    }

    /// The same with other limits of the transport.
    pub async fn limited(limits: &Limits) -> Self {
        let certificates = Certificates::new();
        let data = tempfile::tempdir().expect("a temporary directory");
        let ids = [1, 2, 3].map(NodeId);
        let dirs = ids.map(|id| data.path().join(id.to_string()));
        let transports = ids.map(|id| {
            let dir = &dirs[id.0 as usize - 1];
            let incoming = dir.join("incoming");
            Arc::new(certificates.limited_transport(id, &incoming, limits.clone()))
        });
        let endpoints = transports.each_ref().map(|transport| transport.local_addr().to_string());
        let member = |id: NodeId| Member {
            address: endpoints[id.0 as usize - 1].clone(),
            ..Member::default()
        };
        let initial: BTreeMap<_, _> = ids.map(|id| (id, member(id))).into();
        let mut nodes = Vec::new();
        for (id, transport) in ids.into_iter().zip(transports) {
            let dir = &dirs[id.0 as usize - 1];
            let log = RedbLog::open(dir).expect("an empty directory");
            let machine = KvStore::open(&dir.join("kv.redb")).expect("an empty directory");
            let store = machine.handle();
            let config = NodeConfig {
                raft: Config { id, initial: initial.clone(), ..Config::default() },
                cluster: ClusterId(1),
                incarnation: Incarnation(id.0),
                seed: id.0,
                ..NodeConfig::default()
            };
            let node = Node::start(config, log, machine, transport.clone()).expect("all is new");
            let (peers, version) = (transport.clone(), "bench".into());
            let service = ServiceConfig::new(node.clone(), store, GROUP, peers, version);
            transport.serve(GROUP, KvService::new(service));
            nodes.push(node);
        }
        while nodes[0].status().leader.is_none() {
            nodes[0].status_changed().await;
        }
        Self { nodes, endpoints: endpoints.into(), certificates, _data: data }
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        let connector = Arc::new(self.certificates.connector());
        Client::new(connector, ClientOptions::new(self.endpoints.clone()))
    }

    /// Stops the nodes.
    pub async fn stop(&self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}
