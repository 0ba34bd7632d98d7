//! Arguments of `raft transfer`.

use super::connection::Connection;
use super::values;
use clap::Args;
use raft_core::types::NodeId;

const EXAMPLES: &str = "\
Examples:
  raft transfer        to the follower that is furthest along
  raft transfer n2     to this one";

/// Hand leadership to another node.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Transfer {
    /// To whom; the best follower if left out.
    #[arg(value_name = "NODE", value_parser = values::node)]
    pub to: Option<NodeId>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
