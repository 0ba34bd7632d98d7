//! Arguments of `raft compact`.

use super::connection::Connection;
use clap::{ArgGroup, Args};

const EXAMPLES: &str = "\
Examples:
  raft compact 1042            forget what was before revision 1042
  raft compact --keep 1000     forget all but the last 1000 revisions

With --keep there may be nothing to forget, which is no error; a revision that is forgotten already
is refused, with exit code 3. Reads and watches from that revision on stay possible; what
every key holds now is never forgotten.
Memory and disk come back bit by bit, without a stop. Nodes compact by themselves, too: see
--auto-compaction of `raft serve`.";

/// Forget old revisions.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("until").required(true))]
pub struct Compact {
    /// The oldest revision to keep.
    #[arg(value_name = "REVISION", group = "until")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub revision: Option<u64>,
    /// Keep the last so many revisions.
    #[arg(long, value_name = "N", group = "until")]
    pub keep: Option<u64>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
