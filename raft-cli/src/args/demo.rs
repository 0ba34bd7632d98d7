//! Arguments of `raft demo`.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft demo                     three nodes until Ctrl-C, in a folder that goes with them
  raft demo --dir /tmp/trio     the same, and the folder stays; start again to go on with it
  raft demo --nodes 5           five nodes
  raft demo --tour              a one-minute story: load, kill the leader, read all back

While it runs, in a second terminal:
  raft --dir /tmp/trio put greeting hello
  raft --dir /tmp/trio status";

/// Run a whole cluster on this machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// Keep data, certificates and logs in this directory instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How many nodes; 3 if left out, or what DIR was made with.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: Option<u8>,
    /// The first node's port; the others take the next ones. Free ports if left out, or those
    /// that DIR was made with.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: Option<u16>,
    /// Play the tour on the cluster and exit: 0 if the story was true.
    #[arg(long)]
    pub tour: bool,
    /// Lines of the file that the tour loads.
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "tour")]
    #[arg(value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    pub lines: u64,
    /// What the nodes log, each to its own file in the directory.
    #[arg(long, value_name = "FILTER", env = "RAFT_LOG", default_value = "info")]
    pub log_level: String,
}
