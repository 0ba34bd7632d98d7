//! Arguments of `raft scrub`.

use super::connection::Connection;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  raft scrub           all members begin at once
  raft scrub --wait    and what has come of it

Every member looks at all its data by itself, slowly, as often as --scrub-every of `raft serve`
says: it compares what it holds with the others, keys, leases and sessions, and reads its file back.
This has it done now. A look that is under way is joined, and goes on faster. A member that differs
from a quorum stops serving and gets its data anew; see `raft status`.

With --wait, exits 1 if data differs or is damaged, or if not everything could be compared by a
quorum of members.";

/// Have all members compare all their data now.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Scrub {
    /// Wait until all have come to the end, and say what they have found.
    #[arg(long)]
    pub wait: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
