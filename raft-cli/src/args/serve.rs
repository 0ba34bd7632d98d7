//! Arguments of `raft serve`.

use super::values;
use clap::Args;
use raft_core::types::{ClusterId, NodeId};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  The first of three nodes; start the other two the same way with their own --id:
    raft serve --id 1 --data-dir n1 --listen 10.0.0.1:2380 --cluster 2a \\
      --members 1=10.0.0.1:2380,2=10.0.0.2:2380,3=10.0.0.3:2380 \\
      --ca ca.pem --cert n1.pem --key n1-key.pem

  Again after a stop: what was bound at the first start must match, or is left out:
    raft serve --data-dir n1 --ca ca.pem --cert n1.pem --key n1-key.pem

SIGTERM and Ctrl-C stop the node cleanly; a leader hands leadership over first.";

/// Run one node.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// The node's directory: log, checkpoint and identity; made if missing.
    #[arg(long, value_name = "DIR", env = "RAFT_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The node's id within the cluster, from 1; may be left out once the directory has one.
    #[arg(long, value_name = "N", value_parser = values::node)]
    pub id: Option<NodeId>,
    /// Where to listen (UDP), for peers and clients.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2380")]
    pub listen: String,
    /// The address others reach this node at; the one in --members if left out.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The members the cluster starts with, this node included.
    #[arg(long, value_name = "N=HOST:PORT,...", value_delimiter = ',')]
    #[arg(value_parser = values::member)]
    pub members: Vec<(NodeId, String)>,
    /// The cluster's id, hexadecimal, the same on all its nodes.
    #[arg(long, value_name = "HEX", value_parser = values::cluster)]
    pub cluster: Option<ClusterId>,
    /// Certificate (PEM) of the authority that every node and client must be certified by.
    #[arg(long, value_name = "FILE", env = "RAFT_CA")]
    pub ca: PathBuf,
    /// This node's certificate (PEM).
    #[arg(long, value_name = "FILE", env = "RAFT_CERT")]
    pub cert: PathBuf,
    /// The private key of --cert (PEM).
    #[arg(long, value_name = "FILE", env = "RAFT_KEY")]
    pub key: PathBuf,
    /// Length of a tick: every timeout of the node is a whole number of ticks.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = values::duration)]
    pub tick: Duration,
    /// How often a leader tells its followers that it lives.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = values::duration)]
    pub heartbeat: Duration,
    /// Silence of a leader after which a follower stands for election: at least this long, at
    /// most twice as long.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    pub election_timeout: Duration,
    /// What to log to stderr, as in `info` or `raft_core=debug,info`.
    #[arg(long, value_name = "FILTER", env = "RAFT_LOG", default_value = "info")]
    pub log: String,
}
