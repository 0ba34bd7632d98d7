//! A node that comes when the log it needs is gone.

use raft_core::log_store::{LogStore, MemoryLog, StorageError};
use raft_core::node::{Node, NodeConfig, ReadMode};
use raft_core::raft::{Config, GroupOp, Loaded};
use raft_core::transport::MemoryNetwork;
use raft_core::types::{Change, GroupId, Incarnation, LogId, Member, NodeId};
use raft_kv::api::{Action, Command, Keys, Op, Put, Query, Range, RangeAnswer, Summary};
use raft_kv::codec::{decode, encode};
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A log that outlives its node.
#[derive(Clone, Default)]
pub(crate) struct KeptLog(Arc<Mutex<MemoryLog>>);

impl LogStore for KeptLog {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.0.lock().unwrap().load(group)
    }
    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        self.0.lock().unwrap().write(ops)
    }
}

struct Cluster {
    network: MemoryNetwork,
    logs: [KeptLog; 3],
    dir: TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self {
            network: MemoryNetwork::new(),
            logs: Default::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a node: one of the two that form the cluster, or the third, which is added later.
    fn start(&self, id: NodeId) -> Node {
        let initial: BTreeMap<_, _> =
            [1, 2].map(NodeId).map(|id| (id, Member::new(id.to_string()))).into();
        let initial = if initial.contains_key(&id) { initial } else { BTreeMap::new() };
        let config = NodeConfig {
            raft: Config { id, initial, log_trailing_bytes: 0, ..Config::default() },
            incarnation: Incarnation(id.0),
            seed: id.0,
            checkpoint_bytes: 4096,
            ..NodeConfig::default()
        };
        let log = self.logs[id.0 as usize - 1].clone();
        let machine = KvStore::open(&self.file(id)).unwrap();
        Node::start(config, log, machine, self.network.transport(id)).unwrap()
    }

    fn file(&self, id: NodeId) -> Box<Path> {
        self.dir.path().join(format!("{id}.redb")).into()
    }

    async fn stop(&self, node: &Node) {
        self.network.remove(node.status().identity.node);
        node.shutdown().await;
    }
}

async fn leader_of(nodes: &[&Node]) -> usize {
    loop {
        let leads = |node: &&Node| node.status().leader == Some(node.status().identity.node);
        if let Some(position) = nodes.iter().position(leads) {
            return position;
        }
        nodes[0].status_changed().await;
    }
}

async fn put(node: &Node, key: String) {
    let op = Op::Put(Put::new(key, vec![7; 512]));
    let command = Command { request: None, fence: None, action: Action::Op(op) };
    node.propose(encode(&command)).await.unwrap();
}

async fn summary(node: &Node) -> Summary {
    let answer = node.query(encode(&Query::Summary), ReadMode::Linearizable).await.unwrap();
    decode(&answer.reply).unwrap()
}

#[tokio::test]
async fn a_snapshot_brings_the_data_and_the_members() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.start(NodeId(1)), cluster.start(NodeId(2)));
    let nodes = [&one, &two];
    let leader = nodes[leader_of(&nodes).await];
    // A founder takes nothing before its own first entry is durable.
    summary(leader).await;
    let mut written = 0;
    while leader.status().log_start == LogId::ZERO {
        put(leader, format!("key/{written}")).await;
        written += 1;
    }
    // Its log is blank, and what it needs is compacted away.
    let three = cluster.start(NodeId(3));
    let add = Change::Add { node: NodeId(3), address: "n3".into(), promote: true };
    leader.change_membership(vec![add]).await.unwrap();
    let ids = [1, 2, 3].map(NodeId);
    let counts = |node: &Node| {
        let membership = &node.status().membership;
        membership.voters() == ids && !membership.is_joint()
    };
    while !counts(leader) || !counts(&three) {
        three.status_changed().await;
    }
    // On a busy machine there may be an election in between, and with it another entry.
    let (expected, found) = loop {
        let (expected, found) = (summary(leader).await, summary(&three).await);
        if expected.last_applied == found.last_applied {
            break (expected, found);
        }
    };
    assert_eq!(found, expected);
    // The status is published with every tick.
    three.status_changed().await;
    assert!(three.status().log_start > LogId::ZERO, "it was to get a snapshot");
    let members = leader.status().membership.clone();
    assert_eq!(three.status().membership, members);

    // It counts: with one of the others gone it makes the quorum, across a restart as well.
    cluster.stop(&three).await;
    let three = cluster.start(NodeId(3));
    assert_eq!(three.status().membership, members);
    cluster.stop(&one).await;
    let nodes = [&two, &three];
    let leader = nodes[leader_of(&nodes).await];
    put(leader, "after".into()).await;
    for node in nodes {
        let query = Query::Range(Range::of(Keys::One("after".into())));
        let answer = node.query(encode(&query), ReadMode::Linearizable).await.unwrap();
        assert_eq!(decode::<RangeAnswer>(&answer.reply).unwrap().unwrap().kvs.len(), 1);
    }
}
