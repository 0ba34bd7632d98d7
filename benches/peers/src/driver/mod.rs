//! Three nodes on one tokio runtime, as a program embeds them: a log in memory, messages handed
//! over by function calls, a state machine that counts. Tasks write, each awaiting its own write.

mod entries;
mod load;
mod openraft_09;
mod openraft_10;
mod raft_core;

pub use load::Load;

use crate::figures::{Figures, Library};
use bytes::Bytes;
use std::future::Future;
use std::sync::{Arc, OnceLock};

/// Members of a cluster.
const NODES: u64 = 3;
/// Entries after which every library is told to make a snapshot and to trim its log.
const SNAPSHOT_EVERY: u64 = 16 * 1024;
/// Entries that every library keeps behind a snapshot.
const KEPT: u64 = 4 * 1024;
/// Most entries of one message, of the libraries that count them.
const ENTRIES_PER_MESSAGE: u64 = 4096;
/// Elections begin after this many milliseconds without a leader, or up to twice as many: no busy
/// machine is to cause one.
const ELECTION_MILLIS: u64 = 2000;
/// Milliseconds between heartbeats.
const HEARTBEAT_MILLIS: u64 = 200;

/// A running cluster with a leader.
trait Cluster: Sized + Send + Sync + 'static {
    /// Starts the nodes on the current runtime and waits for a leader.
    async fn start() -> Result<Self, String>;

    /// Writes one command; returns once it is committed and applied on the leader.
    fn write(&self, command: Bytes) -> impl Future<Output = Result<(), String>> + Send;

    /// The same with several, handed over by one call.
    fn write_many(&self, commands: Vec<Bytes>) -> impl Future<Output = Result<(), String>> + Send;
}

/// What every node needs of the others, once they have started.
#[derive(Clone)]
struct Others<T>(Arc<[OnceLock<T>; NODES as usize]>);

impl<T> Others<T> {
    fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| OnceLock::new())))
    }

    fn put(&self, id: u64, value: T) {
        if let Some(cell) = self.0.get(id as usize - 1) {
            // Every node starts once.
            let _ = cell.set(value);
        }
    }

    fn find(&self, id: u64) -> Option<&T> {
        self.0.get(id as usize - 1)?.get()
    }
}

/// Runs `load` on `library`.
pub fn run(library: Library, load: Load) -> Result<Figures, String> {
    match library {
        Library::RaftCore => load.run::<raft_core::Nodes>(),
        Library::Openraft09 => load.run::<openraft_09::Nodes>(),
        Library::Openraft10 => load.run::<openraft_10::Nodes>(),
        Library::RaftRs | Library::Omnipaxos => {
            Err(format!("{library} brings no runtime: whoever embeds it writes that"))
        }
    }
}
