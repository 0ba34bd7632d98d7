//! Arguments of `raft auth`.

use super::connection::Connection;
use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  raft user add root --new-password-file root.pw
  raft role add root
  raft user grant-role root root
  raft auth enable                               from now on everybody has to log in
  raft --user root --password-file root.pw auth status
  RAFT_USER=root RAFT_PASSWORD=... raft auth disable

As long as it is not enabled, everybody who reaches a node may do everything. A user may do what its
roles permit; the role root permits everything.";

/// Have everybody log in, or nobody.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Auth {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do about it.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Have everybody log in from now on; there must be a user root with the role root.
    Enable(Plain),
    /// Let everybody do everything again.
    Disable(Plain),
    /// Tell whether everybody has to log in.
    Status(Plain),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Enable(Plain { connection })
            | Self::Disable(Plain { connection })
            | Self::Status(Plain { connection }) => connection,
        }
    }
}

/// Nothing more to be said.
#[derive(Args, Clone, Debug)]
pub struct Plain {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
