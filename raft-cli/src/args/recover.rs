//! Arguments of `raft recover`.

use super::values;
use clap::{Args, Subcommand};
use raft_core::types::ClusterId;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  Two of three nodes are lost for good; n1 is left, stopped:
    raft recover plan n1
    raft recover apply --from n1 --to n1-new --advertise 10.0.0.1:2380 --yes

  Two of five are left: compare them, and go on with the one that is called best:
    raft recover plan n2 n4
    raft -o json recover plan n2 n4 | jq -r .best.dir

  A cluster of one whose log is damaged, but not its checkpoint:
    raft recover apply --from n1 --to n1-new --advertise 10.0.0.1:2380 --checkpoint-only --yes

For when a majority of the voters is gone and will not come back; as long as it can be started, or
copied to other machines, do that: it loses nothing. Stop every node first, and put none of the
old directories back into service afterwards. `plan` only reads; `apply` writes a new directory and
leaves the old one as it is. What was acknowledged by the lost nodes alone is gone: `plan` says from
where on.

Exit codes: 2 directories of different clusters, or --yes is missing; 3 nothing can be recovered
from these directories; 6 a directory is in use, damaged or cannot be written.";

/// Make a new cluster of what survived the loss of a quorum.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Recover {
    /// Which step.
    #[command(subcommand)]
    pub step: RecoverStep,
}

/// The steps of `raft recover`.
#[derive(Subcommand, Clone, Debug)]
pub enum RecoverStep {
    /// Compare the data of the surviving nodes: which is best, and what may be lost.
    Plan(RecoverPlan),
    /// Write the data directory of a new cluster of one, made of a survivor's.
    Apply(RecoverApply),
}

/// Arguments of `raft recover plan`.
#[derive(Args, Clone, Debug)]
pub struct RecoverPlan {
    /// The data directories of all surviving nodes, stopped.
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
}

/// Arguments of `raft recover apply`.
#[derive(Args, Clone, Debug)]
pub struct RecoverApply {
    /// The data directory that `raft recover plan` called best; it is only read.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The new data directory; absent or empty.
    #[arg(long, value_name = "NEWDIR")]
    pub to: PathBuf,
    /// The address others will reach the node at.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::address)]
    pub advertise: String,
    /// The new cluster's id, hexadecimal; drawn at random if left out.
    #[arg(long, value_name = "HEX", value_parser = values::cluster)]
    pub cluster_id: Option<ClusterId>,
    /// Use the checkpoint alone, where the log is damaged: every write after it is lost.
    #[arg(long)]
    pub checkpoint_only: bool,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    pub yes: bool,
}
