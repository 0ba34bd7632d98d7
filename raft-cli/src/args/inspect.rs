//! Arguments of `raft inspect`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft inspect log n1
  raft inspect log n1 --from 1000 --limit 20
  raft -o json inspect log n1 | jq 'select(.index == 1042)'

The directory is only read; stop its node first.";

/// Look into a node's data directory.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// What to look at.
    #[command(subcommand)]
    pub what: InspectWhat,
}

/// What `raft inspect` looks at.
#[derive(Subcommand, Clone, Debug)]
pub enum InspectWhat {
    /// Print the log: identity, hard state, entries; check every checksum.
    Log(InspectLog),
}

/// Arguments of `raft inspect log`.
#[derive(Args, Clone, Debug)]
pub struct InspectLog {
    /// A node's data directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// First index to print.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub from: u64,
    /// Most entries to print; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
}
