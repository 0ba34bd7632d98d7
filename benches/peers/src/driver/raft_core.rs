//! This project's driver.

use super::{Cluster, ELECTION_MILLIS, HEARTBEAT_MILLIS, KEPT, NODES, Others, SNAPSHOT_EVERY};
use bytes::Bytes;
use raft_core::log_store::{MemoryLog, StorageError};
use raft_core::node::{Node, NodeConfig};
use raft_core::raft::{Config, Envelope};
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::transport::{Inbox, Transport};
use raft_core::types::{GroupId, Identity, Member, NodeId, Payload, Run, SnapshotMeta, Term};
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds of a tick.
const TICK_MILLIS: u64 = 10;

pub(super) struct Nodes {
    leader: Node,
    /// Nodes run as long as there is a handle.
    _nodes: Vec<Node>,
}

impl Cluster for Nodes {
    async fn start() -> Result<Self, String> {
        let others = Others::new();
        let ids = (1..=NODES).map(NodeId);
        let start = |id: NodeId| {
            let transport = Arc::new(Direct(others.clone()));
            Node::start(config(id), MemoryLog::new(), Counter::default(), transport)
        };
        let nodes: Result<Vec<Node>, _> = ids.map(start).collect();
        let nodes = nodes.map_err(|error| error.to_string())?;
        let leader = loop {
            if let Some(leader) = nodes[0].status().leader {
                break nodes[leader.0 as usize - 1].clone();
            }
            nodes[0].status_changed().await;
        };
        Ok(Self { leader, _nodes: nodes })
    }

    async fn write(&self, command: Bytes) -> Result<(), String> {
        let proposed = self.leader.propose(command).await;
        proposed.map(drop).map_err(|error| error.to_string())
    }

    async fn write_many(&self, commands: Vec<Bytes>) -> Result<(), String> {
        for proposed in self.leader.propose_many(commands).await {
            proposed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn config(id: NodeId) -> NodeConfig {
    let member = |id| (NodeId(id), Member::default());
    let ticks = |millis: u64| (millis / TICK_MILLIS) as u32;
    let raft = Config {
        id,
        initial: (1..=NODES).map(member).collect(),
        election_ticks_min: ticks(ELECTION_MILLIS),
        election_ticks_max: ticks(2 * ELECTION_MILLIS),
        heartbeat_ticks: ticks(HEARTBEAT_MILLIS),
        log_trailing_entries: KEPT as usize,
        // A message costs a function call here, and gathering several runs in one a copy of each.
        in_flight_max: 64,
        ..Config::default()
    };
    NodeConfig {
        raft,
        seed: id.0,
        tick: Duration::from_millis(TICK_MILLIS),
        requests_max: 64 * 1024,
        checkpoint_entries: SNAPSHOT_EVERY as usize,
        ..NodeConfig::default()
    }
}

/// Hands messages to where they go.
struct Direct(Others<Arc<dyn Inbox>>);

impl Transport for Direct {
    fn open(&self, _group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        self.0.put(identity.node.0, inbox);
    }

    fn set_peers(&self, _group: GroupId, _peers: Vec<(NodeId, String)>) {}

    fn send(&self, _group: GroupId, envelope: Envelope) {
        if let Some(inbox) = self.0.find(envelope.to.0) {
            inbox.receive(envelope);
        }
    }

    fn send_snapshot(&self, _group: GroupId, _to: NodeId, _term: Term, _snapshot: Snapshot) {
        // Nobody falls so far behind; if somebody does, the run goes on with the other two.
    }
}

/// Counts commands.
#[derive(Default)]
struct Counter {
    applied: SnapshotMeta,
    commands: u64,
}

impl StateMachine for Counter {
    fn applied(&self) -> SnapshotMeta {
        // Nothing survives a restart.
        SnapshotMeta::default()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.applied.last = run.last();
        for entry in run.entries() {
            match &entry.payload {
                Payload::Noop => {}
                Payload::Membership(membership) => {
                    self.applied.membership = (**membership).clone();
                }
                Payload::Command(_) => self.commands += 1,
            }
        }
        vec![Bytes::new(); run.len()]
    }

    fn is_quick(&self, _run: &Run) -> bool {
        true
    }

    fn query(&self, _query: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&self.commands.to_be_bytes())
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let applied = self.applied.clone();
        Some(Box::new(move || Ok(applied)))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::Engine("a run sends no snapshots".into()))
    }

    fn restore(&mut self, _snapshot: Snapshot) -> Result<(), StorageError> {
        Err(StorageError::Stream("a run sends no snapshots".into()))
    }
}
