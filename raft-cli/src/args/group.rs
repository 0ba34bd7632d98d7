//! Arguments of `raft group`.

use super::connection::Connection;
use super::hold::Hold;
use super::text::Escaped;
use clap::{Args, Subcommand};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft group join search 10.0.0.7:8080 -- ./serve   a member while it runs, and where it is
  raft group join search                            a member until Ctrl-C
  raft group list search
  raft group watch search                           who is there, and who comes and goes

A member has an id, of which there is one at a time, and tells something of itself. It is gone when
it leaves, and --ttl after its process has vanished. `join` runs its command as `raft help lock`
says; it exits 1 while another one has the id.";

/// Be a member of a group, and see who is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Group {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a group.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Be a member, and run a command meanwhile.
    Join(Join),
    /// Show who is there.
    List(One),
    /// Print who is there, and who comes and goes as it happens.
    Watch(One),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Join(join) => &join.hold.connection,
            Self::List(one) | Self::Watch(one) => &one.connection,
        }
    }
}

/// Be a member.
#[derive(Args, Clone, Debug)]
pub struct Join {
    /// The group: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// What the others are told of this member, for example where it is; nothing if not given.
    #[arg(value_name = "DATA", default_value = "")]
    pub data: OsString,
    /// Who this is; HOSTNAME:PID if not given.
    #[arg(long, value_name = "ID")]
    pub id: Option<OsString>,
    /// How to be one.
    #[command(flatten)]
    pub hold: Hold,
}

/// Which group.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// The group.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// Whether names hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
