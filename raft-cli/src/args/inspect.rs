//! Arguments of `raft inspect`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft inspect log n1
  raft inspect log n1 --tail 20
  raft -o json inspect log n1 | jq '.records[]? | select(.index == 1042)'

The directory is only read; stop its node first. Exit code 6, naming the first bad row, if a node
would not start on the log.";

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
    /// Print the log row by row, then what it comes to: identity, term and vote, first and last
    /// entry. Every checksum is checked.
    Log(InspectLog),
}

/// Arguments of `raft inspect log`.
#[derive(Args, Clone, Debug)]
pub struct InspectLog {
    /// A node's data directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// First row to print.
    #[arg(long, value_name = "ROW", default_value_t = 0)]
    pub from: u64,
    /// Most rows to print; 0 prints only what they come to.
    #[arg(long, value_name = "N", conflicts_with = "tail")]
    pub limit: Option<u64>,
    /// Print only the last rows.
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
}
