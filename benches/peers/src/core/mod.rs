//! The consensus of three nodes on one thread: every message arrives at once, every write is
//! durable at once. What remains is what the library itself costs.

#[path = "../../../src/cores.rs"]
mod cores;
mod omnipaxos;
mod raft_rs;

use crate::figures::{Effort, Figures, Library};
use bytes::Bytes;

/// Entries after which every library is told to drop what it has applied: as many as the drivers.
pub const COMPACT_EVERY: u64 = 16 * 1024;

/// A cluster whose first node leads.
trait Nodes {
    /// Proposes `commands` on the leader and works until the leader has handed all of them out.
    fn commit(&mut self, commands: Vec<Bytes>);

    /// Drops what every node has applied.
    fn compact(&mut self);
}

impl Nodes for cores::Cores {
    fn commit(&mut self, commands: Vec<Bytes>) {
        Self::commit(self, commands);
    }

    fn compact(&mut self) {
        Self::compact(self);
    }
}

/// Commits batches of `in_flight` commands, one batch after the other.
pub fn run(library: Library, in_flight: u64, effort: Effort) -> Result<Figures, String> {
    let mut nodes: Box<dyn Nodes> = match library {
        Library::RaftCore => Box::new(cores::Cores::new(3)),
        Library::RaftRs => Box::new(raft_rs::Cluster::new()?),
        Library::Omnipaxos => Box::new(omnipaxos::Cluster::new()?),
        Library::Openraft09 | Library::Openraft10 => {
            return Err(format!("{library} has no core that can be run without its runtime"));
        }
    };
    let mut since_compaction = 0;
    Ok(crate::figures::measure(effort, || {
        nodes.commit((0..in_flight).map(|_| crate::command()).collect());
        since_compaction += in_flight;
        if since_compaction >= COMPACT_EVERY {
            nodes.compact();
            since_compaction = 0;
        }
        in_flight
    }))
}
