//! omnipaxos on its own memory storage.

use super::Nodes;
use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

/// Ticks until somebody is elected.
const TICKS_MAX: u32 = 1000;

#[derive(Clone, Debug)]
pub(super) struct Command(#[expect(dead_code, reason = "only carried")] Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

type Node = OmniPaxos<Command, MemoryStorage<Command>>;

pub(super) struct Cluster {
    /// The leader first.
    nodes: Vec<(u64, Node)>,
    decided: Vec<usize>,
    outgoing: Vec<Message<Command>>,
}

impl Cluster {
    pub(super) fn new() -> Result<Self, String> {
        let nodes: Result<Vec<_>, _> = (1..=3).map(node).collect();
        let nodes = nodes.map_err(|error| format!("{error:?}"))?;
        let mut cluster = Self { nodes, decided: vec![0; 3], outgoing: Vec::new() };
        for _ in 0..TICKS_MAX {
            cluster.nodes.iter_mut().for_each(|(_, node)| node.tick());
            while cluster.turn() {}
            if let Some((leader, true)) = cluster.nodes[0].1.get_current_leader() {
                cluster.nodes.sort_by_key(|(id, _)| *id != leader);
                return Ok(cluster);
            }
        }
        Err(format!("no leader within {TICKS_MAX} ticks"))
    }

    /// Delivers what every node has to say, and hands out what was decided; whether there was
    /// anything.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        for position in 0..self.nodes.len() {
            self.nodes[position].1.take_outgoing_messages(&mut self.outgoing);
            let messages = std::mem::take(&mut self.outgoing);
            busy |= !messages.is_empty();
            for message in messages {
                let to = message.get_receiver();
                if let Some((_, node)) = self.nodes.iter_mut().find(|(id, _)| *id == to) {
                    node.handle_incoming(message);
                }
            }
            let (node, known) = (&self.nodes[position].1, &mut self.decided[position]);
            if node.get_decided_idx() > *known {
                let entries = node.read_decided_suffix(*known).unwrap_or_default();
                *known += entries.len();
            }
        }
        busy
    }
}

impl Nodes for Cluster {
    fn commit(&mut self, commands: Vec<Bytes>) {
        let target = self.decided[0] + commands.len();
        for command in commands {
            self.nodes[0].1.append(Command(command)).expect("no reconfiguration is under way");
        }
        while self.decided[0] < target {
            self.turn();
        }
    }

    fn compact(&mut self) {
        while self.turn() {}
        let decided = *self.decided.iter().min().expect("three nodes");
        self.nodes[0].1.trim(Some(decided)).expect("all nodes have decided it");
        while self.turn() {}
    }
}

fn node(pid: u64) -> Result<(u64, Node), omnipaxos::errors::ConfigError> {
    let cluster_config =
        ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    let server_config = ServerConfig { pid, ..ServerConfig::default() };
    let config = OmniPaxosConfig { cluster_config, server_config };
    Ok((pid, config.build(MemoryStorage::default())?))
}
