//! Arguments of `raft member`.

use super::connection::Connection;
use super::values;
use clap::{Args, Subcommand};
use raft_core::types::NodeId;

const EXAMPLES: &str = "\
Examples:
  raft member list
  raft member add n4=10.0.0.4:2380               a learner; it votes once it has caught up
  raft member add n5=10.0.0.5:2380 --observer    a learner that never votes by itself
  raft member remove n2                          the leader, too
  raft member remove n2 n3                       both at once, or neither
  raft member promote n5
  raft member demote n4
  raft member priority n1 10                     n1 is to lead when it can
  raft member move n3=10.0.0.9:2380

Any node takes these requests. To replace a node, add the new one, wait until `raft member list`
shows it as a voter, and remove the old one. An even number of voters bears no more failures than
the odd number below it.

Exit code 5: it is not known whether the change took effect; `raft member list` tells.";

/// Show or change the members of a cluster.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Member {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with the members.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Show all members: role, address, who leads, and how many may fail.
    List(List),
    /// Add a node, and print the command that starts it.
    Add(Add),
    /// Remove nodes: all of them at once, or none.
    Remove(Remove),
    /// Make a learner a voter.
    Promote(One),
    /// Make a voter an observer: it keeps its data and stops voting.
    Demote(One),
    /// Say which voter should lead: of those whose logs are equal, the one of highest priority.
    Priority(Priority),
    /// Tell the cluster that a node has another address.
    Move(Move),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::List(List { connection })
            | Self::Add(Add { connection, .. })
            | Self::Remove(Remove { connection, .. })
            | Self::Promote(One { connection, .. })
            | Self::Demote(One { connection, .. })
            | Self::Priority(Priority { connection, .. })
            | Self::Move(Move { connection, .. }) => connection,
        }
    }
}

/// Show all members.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Add a node.
#[derive(Args, Clone, Debug)]
pub struct Add {
    /// The new node and the address others reach it at.
    #[arg(value_name = "nN=HOST:PORT", value_parser = values::member)]
    pub member: (NodeId, String),
    /// Never make it a voter: it follows, and serves reads.
    #[arg(long)]
    pub observer: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Remove nodes.
#[derive(Args, Clone, Debug)]
pub struct Remove {
    /// Which.
    #[arg(value_name = "NODE", required = true, value_parser = values::node)]
    pub nodes: Vec<NodeId>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// A change of one node that says all by its name.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// Which.
    #[arg(value_name = "NODE", value_parser = values::node)]
    pub node: NodeId,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Say which voter should lead.
#[derive(Args, Clone, Debug)]
pub struct Priority {
    /// Which.
    #[arg(value_name = "NODE", value_parser = values::node)]
    pub node: NodeId,
    /// Its priority, 0 to 255; every node begins with 0.
    #[arg(value_name = "PRIORITY")]
    pub priority: u8,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Tell the cluster that a node has another address.
#[derive(Args, Clone, Debug)]
pub struct Move {
    /// The node and the address others reach it at from now on.
    #[arg(value_name = "nN=HOST:PORT", value_parser = values::member)]
    pub member: (NodeId, String),
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
