//! The driver: nodes of one process over the network in memory.

mod cause;
mod events;
mod growth;
mod membership;
#[cfg(feature = "metrics")]
mod metrics;
mod outcomes;
mod quick;
mod reads;
mod snapshots;
mod timing;
mod traces;

use bytes::Bytes;
use raft_core::log_store::{LogStore, MemoryLog, StorageError};
use raft_core::node::{
    Node, NodeConfig, ProposeError, QueryError, ReadMode, StartError, Status, StopCause,
    TransferError,
};
use raft_core::raft::{Config, GroupOp, Loaded};
use raft_core::state_machine::{CheckpointJob, Journal, Snapshot, StateMachine};
use raft_core::transport::MemoryNetwork;
use raft_core::types::{
    ClusterId, Entry, GroupId, Incarnation, Index, Member, Membership, NodeId, Payload, Run,
    SnapshotMeta,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A log that survives its node, counts its commits, and can be made to fail.
#[derive(Clone, Default)]
struct SharedLog {
    log: Arc<Mutex<MemoryLog>>,
    commits: Arc<AtomicUsize>,
    fail: Arc<AtomicUsize>,
}

impl LogStore for SharedLog {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.log.lock().unwrap().load(group)
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        if self.fail.load(Ordering::SeqCst) > 0 {
            return Err(StorageError::Engine("no space left on device".into()));
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.log.lock().unwrap().write(ops)
    }
}

struct Cluster {
    network: MemoryNetwork,
    logs: Vec<SharedLog>,
    nodes: Vec<Node>,
}

fn members(count: u64) -> Membership {
    Membership::of_voters((1..=count).map(|id| (NodeId(id), Member::default())).collect())
}

fn config(id: u64, count: u64) -> NodeConfig {
    let initial = (1..=count).map(|id| (NodeId(id), Member::default())).collect();
    let raft = Config { id: NodeId(id), initial, ..Config::default() };
    let (cluster, incarnation) = (ClusterId(7), Incarnation(id));
    NodeConfig { raft, cluster, incarnation, seed: id, ..NodeConfig::default() }
}

/// A node that forms a cluster by itself, but only when its first tick has passed: a second after
/// it was started.
fn before_it_leads() -> NodeConfig {
    NodeConfig { tick: Duration::from_secs(1), ..config(1, 1) }
}

impl Cluster {
    /// A cluster formed of `count` nodes.
    fn start(count: u64) -> Self {
        Self::start_all((1..=count).map(|id| config(id, count)))
    }

    /// A cluster of one, and nodes up to `count` that wait to be added to it.
    fn start_one_of(count: u64) -> Self {
        Self::start_all((1..=count).map(|id| config(id, u64::from(id == 1))))
    }

    /// The nodes 1, 2 and so on.
    fn start_all(configs: impl Iterator<Item = NodeConfig>) -> Self {
        let network = MemoryNetwork::new();
        let mut cluster = Self { network, logs: Vec::new(), nodes: Vec::new() };
        for config in configs {
            cluster.logs.push(SharedLog::default());
            let node = cluster.start_node(config, Journal::new());
            cluster.nodes.push(node);
        }
        cluster
    }

    fn start_node(&self, config: NodeConfig, machine: impl StateMachine) -> Node {
        let id = config.raft.id;
        let log = self.logs[id.0 as usize - 1].clone();
        Node::start(config, log, machine, self.network.transport(id)).unwrap()
    }

    /// The leader that every node other than those in `except` follows, and which is none of them;
    /// once all of them belong to the cluster, so that it does not need its founder any more.
    async fn leader(&self, except: &[NodeId]) -> NodeId {
        let knows = |node: &&Node| !except.contains(&node.status().identity.node);
        loop {
            let nodes = || self.nodes.iter().filter(knows);
            let first = nodes().next().unwrap();
            let leader = first.status().leader.filter(|id| !except.contains(id));
            let follows = |node: &Node| {
                let status = node.status();
                status.leader == leader && status.commit_index > Index::ZERO
            };
            if let Some(leader) = leader
                && nodes().all(follows)
            {
                return leader;
            }
            first.status_changed().await;
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize - 1]
    }
}

/// Waits until what `node` shows of itself is as wanted.
async fn shows(node: &Node, wanted: impl Fn(&Status) -> bool) {
    while !wanted(&node.status()) {
        node.status_changed().await;
    }
}

fn number(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

#[tokio::test]
async fn every_node_reads_what_the_leader_answered() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    for value in 1..=20 {
        let command = Bytes::from(format!("command {value}"));
        let proposed = cluster.node(leader).propose(command.clone()).await.unwrap();
        assert_eq!(proposed.reply, number(value));
        for node in &cluster.nodes {
            let read = node.query(number(value), ReadMode::Linearizable).await.unwrap().reply;
            assert_eq!(read, command);
        }
    }
}

#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    let follower = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader).unwrap();
    while cluster.node(follower).status().leader.is_none() {
        cluster.node(follower).status_changed().await;
    }
    let refused = cluster.node(follower).propose("x".into()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
}

#[tokio::test]
async fn proposals_that_wait_share_a_commit() {
    let cluster = Cluster::start(1);
    let leader = cluster.leader(&[]).await;
    let before = cluster.logs[0].commits.load(Ordering::SeqCst);
    let commands = (0..1000).map(|_| Bytes::from_static(b"x")).collect();
    let outcomes = cluster.node(leader).propose_many(commands).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let commits = cluster.logs[0].commits.load(Ordering::SeqCst) - before;
    assert!(commits < 100, "{commits} commits for 1000 proposals");
}

#[tokio::test]
async fn a_cut_off_leader_answers_no_linearizable_read() {
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    cluster.node(old).propose("one".into()).await.unwrap();
    cluster.network.isolate(old, true);
    let node = cluster.node(old).clone();
    let stale = tokio::spawn(async move { node.query(number(2), ReadMode::Linearizable).await });
    tokio::task::yield_now().await;
    let new = cluster.leader(&[old]).await;
    cluster.node(new).propose("two".into()).await.unwrap();
    // The old leader's read is still waiting; local reads show what it would have said.
    let local = cluster.node(old).query(number(2), ReadMode::Local).await.unwrap().reply;
    assert_eq!(local, Bytes::new());
    cluster.network.isolate(old, false);
    assert_eq!(stale.await.unwrap().unwrap().reply, Bytes::from_static(b"two"));
}

#[tokio::test]
async fn a_restarted_node_catches_up_from_its_log_and_the_leader() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader(&[]).await;
    cluster.node(leader).propose("one".into()).await.unwrap();
    let down = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader).unwrap();
    assert_eq!(cluster.node(down).shutdown().await, StopCause::Shutdown);
    cluster.network.remove(down);
    cluster.node(leader).propose("two".into()).await.unwrap();
    let node = cluster.start_node(config(down.0, 3), Journal::new());
    cluster.nodes[down.0 as usize - 1] = node;
    let read = cluster.node(down).query(number(2), ReadMode::Linearizable).await.unwrap().reply;
    assert_eq!(read, Bytes::from_static(b"two"));
}

#[tokio::test]
async fn a_failed_write_stops_the_node_and_not_the_others() {
    let cluster = Cluster::start(3);
    let broken = cluster.leader(&[]).await;
    cluster.logs[broken.0 as usize - 1].fail.store(1, Ordering::SeqCst);
    let outcome = cluster.node(broken).propose("one".into()).await;
    assert!(matches!(outcome, Err(ProposeError::Stopped | ProposeError::LeadershipLost)));
    let cause = cluster.node(broken).stopped().await;
    assert_eq!(cause, StopCause::Storage("no space left on device".into()));
    cluster.network.remove(broken);
    let new = cluster.leader(&[broken]).await;
    cluster.node(new).propose("two".into()).await.unwrap();
}

struct Bomb;

impl StateMachine for Bomb {
    fn applied(&self) -> SnapshotMeta {
        SnapshotMeta::default()
    }
    fn apply(&mut self, _run: &Run) -> Vec<Bytes> {
        panic!("the state machine of a test")
    }
    fn query(&self, _query: &[u8]) -> Bytes {
        Bytes::new()
    }
    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        None
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::Engine("none".into()))
    }
    fn restore(&mut self, _snapshot: Snapshot) -> Result<(), StorageError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_in_the_state_machine_stops_the_node() {
    let network = MemoryNetwork::new();
    let transport = network.transport(NodeId(1));
    let node = Node::start(config(1, 1), MemoryLog::new(), Bomb, transport).unwrap();
    assert!(matches!(node.stopped().await, StopCause::Internal(_)));
    assert_eq!(node.query(Bytes::new(), ReadMode::Local).await, Err(QueryError::Stopped));
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_at_the_door() {
    let network = MemoryNetwork::new();
    let transport = network.transport(NodeId(1));
    let config = NodeConfig { requests_max: 2, ..config(1, 3) };
    let node = Node::start(config, MemoryLog::new(), Journal::new(), transport).unwrap();
    // Nobody leads: linearizable reads wait.
    let waiting = [1, 2].map(|_| {
        let node = node.clone();
        tokio::spawn(async move { node.query(number(1), ReadMode::Linearizable).await })
    });
    tokio::task::yield_now().await;
    let refused = node.query(number(1), ReadMode::Linearizable).await;
    assert_eq!(refused, Err(QueryError::Overloaded));
    for task in waiting {
        task.abort();
    }
    // Whoever gives up makes room.
    loop {
        match node.query(number(1), ReadMode::Local).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error, QueryError::Overloaded),
        }
        node.status_changed().await;
    }
}

#[tokio::test]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::start(3);
    let old = cluster.leader(&[]).await;
    // Answered, so at least one other was heard of.
    cluster.node(old).propose("one".into()).await.unwrap();
    let new = cluster.node(old).transfer_leadership(None).await.unwrap();
    assert_ne!(new, old);
    cluster.node(new).propose("two".into()).await.unwrap();
    let refused = cluster.node(old).transfer_leadership(None).await;
    assert_eq!(refused, Err(TransferError::NotLeader { leader: Some(new) }));
    let nobody = cluster.node(new).transfer_leadership(Some(NodeId(9))).await;
    assert_eq!(nobody, Err(TransferError::NotVoter { to: NodeId(9) }));
}

#[tokio::test]
async fn foreign_and_half_lost_data_are_refused() {
    let network = MemoryNetwork::new();
    let start = |config, log: SharedLog, machine: Journal| {
        Node::start(config, log, machine, network.transport(NodeId(1)))
    };
    let log = SharedLog::default();
    let node = start(config(1, 1), log.clone(), Journal::new()).unwrap();
    node.shutdown().await;
    let foreign = NodeConfig { cluster: ClusterId(8), ..config(1, 1) };
    let refused = start(foreign, log.clone(), Journal::new()).unwrap_err();
    assert!(matches!(refused, StartError::WrongIdentity { .. }), "{refused}");
    let refused = start(config(2, 2), log, Journal::new()).unwrap_err();
    assert!(matches!(refused, StartError::WrongIdentity { .. }), "{refused}");
    let refused = Node::start(
        config(1, 1),
        MemoryLog::new(),
        Applied(Journal::new()),
        network.transport(NodeId(1)),
    );
    assert!(matches!(refused.unwrap_err(), StartError::LogLost { .. }));
}

/// A state machine that has applied something, over a log that has nothing.
struct Applied(Journal);

impl StateMachine for Applied {
    fn applied(&self) -> SnapshotMeta {
        let last = raft_core::types::LogId::new(5, 1);
        SnapshotMeta { last, membership: members(1) }
    }
    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.0.apply(run)
    }
    fn query(&self, query: &[u8]) -> Bytes {
        self.0.query(query)
    }
    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        None
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.0.snapshot()
    }
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.0.restore(snapshot)
    }
}

/// Loading a log takes time, which other tasks of the runtime should not have to wait for.
#[tokio::test]
async fn a_node_can_be_started_off_the_runtime() {
    let transport = MemoryNetwork::new().transport(NodeId(1));
    let start = || Node::start(config(1, 1), MemoryLog::new(), Journal::new(), transport);
    let node = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    shows(&node, |status| status.leader == Some(NodeId(1))).await;
    node.propose("x".into()).await.unwrap();
}

#[tokio::test]
async fn a_short_tick_still_elects() {
    let network = MemoryNetwork::new();
    let config = NodeConfig { tick: Duration::from_millis(1), ..config(1, 1) };
    let transport = network.transport(NodeId(1));
    let node = Node::start(config, MemoryLog::new(), Journal::new(), transport).unwrap();
    while node.status().leader != Some(NodeId(1)) {
        node.status_changed().await;
    }
    node.propose("x".into()).await.unwrap();
}

#[tokio::test]
async fn a_status_is_one_line_in_the_notation_of_the_core() {
    let network = MemoryNetwork::new();
    let node =
        Node::start(config(1, 1), MemoryLog::new(), Journal::new(), network.transport(NodeId(1)))
            .unwrap();
    while node.status().last_applied < Index(1) {
        node.status_changed().await;
    }
    let line = node.status().to_string();
    assert_eq!(line, "n1@1 leader last=1@1 commit=1 persisted=1 applied=1 voters=[n1]");
    node.shutdown().await;
}
