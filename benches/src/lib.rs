//! Shared set-up of the benches: cores without I/O, entries to write, certificates, and a whole
//! cluster in one process.

mod cluster;
mod cores;

pub use cluster::{Certificates, Cluster, Machine};
pub use cores::Cores;

use bytes::Bytes;
use raft_core::types::{Entry, LogId, Payload, Run};

/// Bytes of one command or value, in every bench.
pub const PAYLOAD_BYTES: usize = 256;

/// A run of `count` commands from `first` on, of one term.
pub fn run_of(first: u64, count: u64, command: impl Fn(u64) -> Bytes) -> Run {
    let entry = |index| {
        let payload = Payload::Command(command(index));
        Entry { id: LogId::new(index, 1), payload }
    };
    Run::new((first..first + count).map(entry).collect()).expect("count is not 0")
}

/// A command of [`PAYLOAD_BYTES`].
pub fn payload() -> Bytes {
    Bytes::from(vec![7; PAYLOAD_BYTES])
}
