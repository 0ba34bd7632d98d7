//! Arguments of `raft health`.

use super::connection::Connection;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  raft health
  raft -o json health | jq -r '.members[] | select(.healthy | not) | .address'

A member is healthy if it answers, belongs to the cluster and knows its leader, its disk completes
writes, its store has room and its data agrees with the others'. The cluster is if a linearizable
read goes through. Exits 0 if all of that holds, 1 if not, and 4 if nobody answers.";

/// Tell whether all members and the cluster are well: the exit code says it.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Health {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
