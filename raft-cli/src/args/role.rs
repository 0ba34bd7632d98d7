//! Arguments of `raft role`.

use super::auth::Plain;
use super::connection::Connection;
use super::text::Escaped;
use clap::{Args, Subcommand, ValueEnum};
use raft_kv::api::Access;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft role add readers
  raft role grant readers read config/ --prefix
  raft role grant writers readwrite job/a --range-end job/m
  raft role get readers
  raft role revoke readers config/ --prefix       exactly what was granted
  raft role delete readers                        all its users lose it

What several roles of a user permit counts together. The role root permits everything.";

/// Show or change roles and what they permit.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Role {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with roles.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Make a role.
    Add(One),
    /// Remove a role, from all users too.
    Delete(One),
    /// Show all roles.
    List(Plain),
    /// Show what a role permits.
    Get(One),
    /// Permit a role something.
    Grant(Grant),
    /// Take back what was granted for these keys.
    Revoke(Revoke),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Add(One { connection, .. })
            | Self::Delete(One { connection, .. })
            | Self::List(Plain { connection })
            | Self::Get(One { connection, .. })
            | Self::Grant(Grant { connection, .. })
            | Self::Revoke(Revoke { connection, .. }) => connection,
        }
    }
}

/// One role.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// Its name.
    #[arg(value_name = "ROLE")]
    pub name: String,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// What is permitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum What {
    /// To read and to watch.
    Read,
    /// To put and to delete.
    Write,
    /// Both.
    Readwrite,
}

impl From<What> for Access {
    fn from(what: What) -> Self {
        match what {
            What::Read => Self::Read,
            What::Write => Self::Write,
            What::Readwrite => Self::ReadWrite,
        }
    }
}

/// Which keys.
#[derive(Args, Clone, Debug)]
pub struct Extent {
    /// The key.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// All keys that begin with KEY; '' for all there are.
    #[arg(short, long)]
    pub prefix: bool,
    /// From KEY up to, not including, this key; '' for all from KEY on.
    #[arg(long, value_name = "END", conflicts_with = "prefix")]
    pub range_end: Option<OsString>,
    /// Whether keys hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
}

/// Permit something.
#[derive(Args, Clone, Debug)]
pub struct Grant {
    /// The role.
    #[arg(value_name = "ROLE")]
    pub name: String,
    /// What.
    #[arg(value_name = "read|write|readwrite", value_enum, hide_possible_values = true)]
    pub what: What,
    /// With which keys.
    #[command(flatten)]
    pub keys: Extent,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Take something back.
#[derive(Args, Clone, Debug)]
pub struct Revoke {
    /// The role.
    #[arg(value_name = "ROLE")]
    pub name: String,
    /// Which keys.
    #[command(flatten)]
    pub keys: Extent,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
