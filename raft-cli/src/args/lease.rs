//! Arguments of `raft lease`.

use super::connection::Connection;
use super::{text, values};
use clap::{Args, Subcommand};
use raft_kv::api::LeaseId;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft lease grant 30s
  raft put here host-7 --lease 32695410dcc0ca06    it goes when the lease ends
  raft lease keep-alive 32695410dcc0ca06           until Ctrl-C
  raft lease ttl 32695410dcc0ca06 --keys
  raft lease revoke 32695410dcc0ca06               and its keys, at one revision
  raft lease list

A lease ends when nobody has kept it alive for its time, never before; a change of leader neither
prolongs nor shortens it. Exits 1 if there is no such lease.";

/// Grant, keep alive and end leases.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Lease {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with leases.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Make a lease.
    Grant(Grant),
    /// End a lease, and delete its keys, at one revision.
    Revoke(One),
    /// Keep a lease alive until this process ends.
    KeepAlive(KeepAlive),
    /// Show how long a lease lives, and its keys.
    Ttl(Ttl),
    /// Show the leases that live.
    List(List),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Grant(Grant { connection, .. })
            | Self::Revoke(One { connection, .. })
            | Self::KeepAlive(KeepAlive { connection, .. })
            | Self::Ttl(Ttl { connection, .. })
            | Self::List(List { connection }) => connection,
        }
    }
}

/// Make a lease.
#[derive(Args, Clone, Debug)]
pub struct Grant {
    /// How long it lives without being kept alive; less than 2s is raised to that.
    #[arg(value_name = "TIME", value_parser = values::duration)]
    pub ttl: Duration,
    /// Its id, hexadecimal; made up if left out.
    #[arg(long, value_name = "HEX", value_parser = text::lease)]
    pub id: Option<LeaseId>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// End a lease.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// Which.
    #[arg(value_name = "LEASE", value_parser = text::lease)]
    pub id: LeaseId,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Keep a lease alive.
#[derive(Args, Clone, Debug)]
pub struct KeepAlive {
    /// Which.
    #[arg(value_name = "LEASE", value_parser = text::lease)]
    pub id: LeaseId,
    /// Once, and end.
    #[arg(long)]
    pub once: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Show a lease.
#[derive(Args, Clone, Debug)]
pub struct Ttl {
    /// Which.
    #[arg(value_name = "LEASE", value_parser = text::lease)]
    pub id: LeaseId,
    /// Show its keys, too.
    #[arg(long)]
    pub keys: bool,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Show all leases.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
