//! Arguments of `raft doctor`.

use super::connection::Connection;
use super::values;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft doctor --endpoints 10.0.0.2:2380,10.0.0.3:2380 --data-dir n1
  raft doctor --dir /tmp/trio --election-timeout 1s
  raft -o json doctor --dir /tmp/trio | jq .suggested_ms

Run it on the machine of a node, with the other nodes as endpoints: it measures what that node has
to wait for. A round trip is a small request to a node and its answer, so it includes what the node
does for a request; a flush is a write of 4 KiB and fdatasync in a temporary file in --data-dir,
which may be that of a running node. Ten times the p99 of both must fit into the election timeout;
of several endpoints the slowest counts, as it is needed when another one fails.

Exit codes: 0 the election timeout is long enough; 1 it is too short: the line says what would do;
4 a node that was to be measured does not answer; 6 the directory cannot be written.";

/// Check the election timeout against the network and the disk.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// The election timeout to check, as in `raft serve --election-timeout`.
    #[arg(long, value_name = "TIME", default_value = "400ms", value_parser = values::duration)]
    pub election_timeout: Duration,
    /// A directory on the disk of a node's data; without it no disk is measured.
    #[arg(long, value_name = "DIR", env = "RAFT_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// How many round trips to each endpoint, and how many flushes.
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub samples: u32,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
