//! Arguments of `raft status`.

use super::connection::Connection;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  raft status
  raft -o json status | jq -r '.members[] | select(.role == \"leader\") | .address'

MATCH, FLOW and HEARD are the leader's view of each member: replicated up to, how it is fed
(probe, replicate, snapshot), and when a message last came from it. STATE HASH is equal on
members with equal APPLIED. Exits 4 if no member answers.";

/// Show all members: role, term, indexes, progress.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Status {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
