//! Checkpoints and snapshots through the driver.

use super::*;
use raft_core::node::{NodeEvent, SnapshotStep};
use raft_core::types::Change;

/// A journal that says it is durable whenever it is asked to be.
struct Durable(Journal);

impl StateMachine for Durable {
    fn applied(&self) -> SnapshotMeta {
        self.0.applied()
    }
    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.0.apply(run)
    }
    fn query(&self, query: &[u8]) -> Bytes {
        self.0.query(query)
    }
    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let meta = self.0.snapshot().unwrap().meta;
        Some(Box::new(move || Ok(meta)))
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.0.snapshot()
    }
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.0.restore(snapshot)
    }
}

/// Keeps nothing behind a checkpoint, and makes one every ten entries.
fn forgetful(id: u64, count: u64) -> NodeConfig {
    let config = config(id, count);
    let raft = Config { log_trailing_entries: 0, ..config.raft };
    NodeConfig { raft, checkpoint_entries: 10, snapshots_max: 1, ..config }
}

#[tokio::test]
async fn snapshots_wait_for_their_turn() {
    let network = MemoryNetwork::new();
    let mut cluster = Cluster { network, logs: Vec::new(), nodes: Vec::new() };
    for id in 1..=4 {
        cluster.logs.push(SharedLog::default());
        let config = forgetful(id, u64::from(id == 1));
        let node = cluster.start_node(config, Durable(Journal::new()));
        cluster.nodes.push(node);
    }
    let first = cluster.node(NodeId(1)).clone();
    shows(&first, |status| status.leader == Some(NodeId(1))).await;
    let mut proposed = 0;
    // Due by entries: by bytes it would take a million times as many. None begins while one is
    // being written, however slowly.
    while proposed < 30 || first.status().log_start.index < Index(20) {
        first.propose("x".into()).await.unwrap();
        proposed += 1;
    }
    let mut events = first.events();
    let add = |id| Change::Add { node: NodeId(id), address: String::new(), promote: true };
    first.change_membership((2..=4).map(add).collect()).await.unwrap();
    let (mut under_way, mut sent) = (Vec::new(), Vec::new());
    while sent.len() < 3 {
        let NodeEvent::Snapshot { step, .. } = events.next().await.unwrap() else { continue };
        match step {
            SnapshotStep::Sending { to } => under_way.push(to),
            SnapshotStep::Sent { to } => {
                under_way.retain(|id| *id != to);
                sent.push(to);
            }
            step => panic!("{step:?}"),
        }
        assert!(under_way.len() <= 1, "{under_way:?}");
    }
    for node in &cluster.nodes {
        shows(node, |status| status.membership.voters().len() == 4).await;
        let read = node.query(number(30), ReadMode::Linearizable).await.unwrap();
        assert_eq!(read.reply, Bytes::from_static(b"x"));
    }
}
