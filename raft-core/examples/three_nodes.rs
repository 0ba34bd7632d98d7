//! Three nodes in one process agree on an order of commands.

use raft_core::log_store::MemoryLog;
use raft_core::node::{Node, NodeConfig, ReadMode};
use raft_core::raft::Config;
use raft_core::state_machine::Journal;
use raft_core::transport::MemoryNetwork;
use raft_core::types::{Member, NodeId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = MemoryNetwork::new();
    let ids = [1, 2, 3].map(NodeId);
    let initial = ids.map(|id| (id, Member::default()));
    let mut nodes = Vec::new();
    for id in ids {
        let config = NodeConfig {
            raft: Config { id, initial: initial.clone().into(), ..Config::default() },
            seed: id.0,
            ..NodeConfig::default()
        };
        nodes.push(Node::start(config, MemoryLog::new(), Journal::new(), network.transport(id))?);
    }

    while nodes[0].status().leader.is_none() {
        nodes[0].status_changed().await;
    }
    let leader = nodes[0].status().leader.ok_or("there is a leader")?;
    let leader = &nodes[leader.0 as usize - 1];
    let written = leader.propose("hello".into()).await?;
    println!("entry {} is command number {:?}", written.id, written.reply);
    for node in &nodes {
        let read = node.query(written.reply.clone(), ReadMode::Linearizable).await?;
        println!("{} read {:?}", node.status().identity.node, read.reply);
    }
    Ok(())
}
