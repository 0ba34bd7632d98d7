//! What the examples share: a cluster of three nodes in this process, and what makes its clients.
// Each example uses a part of it.
#![allow(dead_code)]

mod alike;
pub(crate) mod storage;

use bytes::Bytes;
use raft_core::log_store::MemoryLog;
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::Config;
use raft_core::transport::{
    BoxFuture, CallError, Caller, Channel, ConnectionId, Connector, Duplex, MemoryNetwork, Service,
};
use raft_core::types::{ClusterId, GroupId, Incarnation, Member, NodeId};
use raft_kv::Client;
use raft_kv::client::ClientOptions;
use raft_kv::service::{KvService, ServiceConfig};
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Why an example cannot go on.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What an example ends with: an error if what it shows does not hold.
pub(crate) type Shown = Result<(), Failed>;

/// Fails with `claim` unless it holds.
pub(crate) fn ensure(holds: bool, claim: &str) -> Shown {
    if holds { Ok(()) } else { Err(format!("it does not hold that {claim}").into()) }
}

const GROUP: GroupId = GroupId(0);

/// Three nodes, `n1` to `n3`, connected by memory. They forget everything when they stop.
pub(crate) struct Cluster {
    network: MemoryNetwork,
    nodes: BTreeMap<NodeId, Node>,
    services: BTreeMap<NodeId, Arc<KvService>>,
    doors: Arc<Doors>,
    runtime: Handle,
}

impl Cluster {
    /// Forms a cluster. Its clients wait until it has a leader.
    pub(crate) fn start() -> Result<Self, Failed> {
        let (nodes, services) = (BTreeMap::new(), BTreeMap::new());
        let (network, doors) = (MemoryNetwork::new(), Arc::default());
        let runtime = Handle::current();
        let mut cluster = Self { network, nodes, services, doors, runtime };
        let ids = [1, 2, 3].map(NodeId);
        let initial = ids.map(|id| (id, Member::new(id.to_string())));
        for id in ids {
            let config = NodeConfig {
                raft: Config { id, initial: initial.clone().into(), ..Config::default() },
                cluster: ClusterId(1),
                incarnation: Incarnation(id.0),
                seed: id.0,
                ..NodeConfig::default()
            };
            let transport = cluster.network.transport(id);
            let machine = KvStore::in_memory();
            let store = machine.handle();
            let node = Node::start(config, MemoryLog::new(), machine, transport.clone())?;
            let config =
                ServiceConfig::new(node.clone(), store, GROUP, transport, "example".into());
            let service = KvService::new(config);
            cluster.network.serve(GROUP, id, service.clone());
            cluster.doors.lock().insert(id.to_string(), service.clone());
            cluster.services.insert(id, service);
            cluster.nodes.insert(id, node);
        }
        Ok(cluster)
    }

    /// A client that asks node `id` first, and the others if that one cannot be reached.
    pub(crate) fn client(&self, id: u64) -> Client {
        let doors = Arc::clone(&self.doors) as Arc<dyn Connector>;
        let endpoints = (0..3).map(|distance| NodeId((id - 1 + distance) % 3 + 1).to_string());
        Client::new(doors, ClientOptions::new(endpoints))
    }

    /// Who leads now.
    pub(crate) async fn leader(&self) -> NodeId {
        loop {
            for node in self.nodes.values() {
                if let Some(leader) = node.status().leader.filter(|id| self.nodes.contains_key(id))
                {
                    return leader;
                }
                node.status_changed().await;
            }
        }
    }

    /// A node dies: neither clients nor the other nodes reach it any more.
    pub(crate) async fn kill(&mut self, id: NodeId) {
        self.doors.lock().remove(&id.to_string());
        self.network.remove(id);
        self.services.remove(&id);
        if let Some(node) = self.nodes.remove(&id) {
            node.shutdown().await;
        }
    }
}

impl Drop for Cluster {
    /// Whatever an example shows, its nodes have to agree on what happened.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let services = self.services.values().map(|service| &**service);
            alike::at_the_end(&self.runtime, self.nodes.values(), services);
        }
    }
}

/// The services that clients reach, by address.
#[derive(Default)]
struct Doors(Mutex<BTreeMap<String, Arc<dyn Service>>>);

impl Doors {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<dyn Service>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector for Doors {
    fn connect(&self, address: &str) -> BoxFuture<Result<Arc<dyn Channel>, CallError>> {
        let found = self.lock().get(address).cloned();
        let channel = found.map(|service| Arc::new(Door(service)) as Arc<dyn Channel>);
        let result = channel.ok_or_else(|| CallError::NotSent("connection refused".into()));
        Box::pin(std::future::ready(result))
    }
}

struct Door(Arc<dyn Service>);

impl Channel for Door {
    fn call(&self, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let reply = self.0.call(Caller::Client(ConnectionId(0)), request);
        Box::pin(async move { Ok(reply.await) })
    }

    fn open_stream(&self, first: Bytes) -> BoxFuture<Result<Duplex, CallError>> {
        let (near, far) = Duplex::pair(1 << 20);
        self.0.serve_stream(Caller::Client(ConnectionId(0)), first, far);
        Box::pin(std::future::ready(Ok(near)))
    }
}
