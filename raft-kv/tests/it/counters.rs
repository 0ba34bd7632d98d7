//! Counters run on: terms, indexes and revisions have 64 bits, and nothing happens where others
//! have used up 32 (ZooKeeper's counters force an election there).

use crate::alike;
use crate::cluster::GROUP;
use crate::fuzz::stream_at;
use raft_core::log_store::{LogStore, MemoryLog};
use raft_core::node::{Node, NodeConfig, ProposeError};
use raft_core::raft::{Config, GroupOp, LogOp};
use raft_core::state_machine::{Snapshot, StateMachine};
use raft_core::transport::MemoryNetwork;
use raft_core::types::{
    ClusterId, HardState, Identity, Incarnation, LogId, Member, Membership, NodeId, SnapshotMeta,
    Term,
};
use raft_kv::api::{Action, ActionReply, Command, CommandReply, Op, Put, Revision};
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::io::Cursor;

/// Where 32 bits end.
const END: u64 = 1 << 32;
/// What all three counters begin with.
const BEGIN: u64 = END - 10;

/// One of three nodes that have come so far.
fn start(network: &MemoryNetwork, id: NodeId, meta: &SnapshotMeta) -> Node {
    let (cluster, incarnation) = (ClusterId(7), Incarnation(id.0));
    let mut log = MemoryLog::new();
    let identity = LogOp::Identity(Identity { cluster, node: id, incarnation });
    let term = LogOp::HardState(HardState { term: meta.last.term, vote: None });
    let ops = [identity, term, LogOp::Reset(meta.clone())];
    log.write(&ops.map(|op| GroupOp { group: GROUP, op })).unwrap();
    let mut store = KvStore::in_memory();
    let data = Box::new(Cursor::new(stream_at(meta, BEGIN)));
    store.restore(Snapshot { meta: meta.clone(), data }).unwrap();
    let raft = Config { id, ..Config::default() };
    let config = NodeConfig { raft, cluster, incarnation, seed: id.0, ..NodeConfig::default() };
    Node::start(config, log, store, network.transport(id)).unwrap()
}

/// Writes a key, whoever leads: which entry did, and at which revision.
async fn put(nodes: &[Node], number: u64) -> (LogId, Revision) {
    let op = Op::Put(Put::new(number.to_string(), "value"));
    let command = Command { request: None, fence: None, action: Action::Op(op) };
    loop {
        let Some(leader) = leader(nodes) else {
            nodes[0].status_changed().await;
            continue;
        };
        match leader.propose(codec::encode(&command)).await {
            Ok(done) => match codec::decode::<CommandReply>(&done.reply).unwrap() {
                Ok(ActionReply::Op { revision, .. }) => return (done.id, revision),
                other => panic!("{other:?}"),
            },
            Err(ProposeError::Stopped) => panic!("{leader:?} has stopped"),
            // It leads no more; whether the write is there shows in the revisions.
            Err(_) => nodes[0].status_changed().await,
        }
    }
}

fn leader(nodes: &[Node]) -> Option<&Node> {
    let leads = |node: &&Node| node.status().leader == Some(node.status().identity.node);
    nodes.iter().filter(leads).max_by_key(|node| node.status().term)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_counter_stops_where_32_bits_end() {
    let network = MemoryNetwork::new();
    let members = [1, 2, 3].map(|id| (NodeId(id), Member::new(id.to_string())));
    let membership = Membership::of_voters(members.into());
    let meta = SnapshotMeta { last: LogId::new(BEGIN, BEGIN), membership };
    let nodes = [1, 2, 3].map(|id| start(&network, NodeId(id), &meta));
    let mut done = vec![(meta.last, Revision(BEGIN))];
    // One after the other all of them cross it: first index and revision, then the term.
    while done.last().is_some_and(|(id, _)| id.index.0 < END + 10 || id.term.0 < END + 3) {
        done.push(put(&nodes, done.len() as u64).await);
        if done.last().is_some_and(|(id, _)| id.index.0 > END + 10)
            && let Some(leader) = leader(&nodes)
        {
            // It may have lost its leadership by itself.
            let _ = leader.transfer_leadership(None).await;
        }
    }
    // What names a point of the log is in the order in which it was written.
    assert!(done.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1), "{done:?}");
    let terms = done.iter().map(|(id, _)| id.term).filter(|term| *term > Term(BEGIN));
    assert!(terms.clone().min() < Some(Term(END)), "no election took it across at once");
    assert!(terms.max() > Some(Term(END)));
    assert_eq!(alike::compare(&nodes, []).await, Ok(()));
    for node in &nodes {
        node.shutdown().await;
    }
}
