//! Arguments of `raft partition`.

use super::connection::Connection;
use super::hold::Hold;
use super::text::Escaped;
use clap::{Args, Subcommand};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft partition work index --count 64 -- ./index     one of it for each partition of this worker
  raft partition work index --count 64                only tell which partitions are its
  raft partition list index --count 64                who works on what

All workers say the same --count. Each has its share of the partitions 0 to --count - 1, and a
partition has one worker at most; when workers come and go as few move as have to. The command finds
RAFT_PARTITION in its environment, and RAFT_LOCK_KEY and RAFT_LOCK_TOKEN for writes that only the
partition's worker may do: `raft put --fence \"$RAFT_LOCK_KEY:$RAFT_LOCK_TOKEN\"`.

A command whose partition goes to another worker gets SIGTERM, and after --grace SIGKILL; then the
other one begins. One that ends with exit code 0 is done with its partition for as long as that
stays with this worker. When one fails, all of them are ended, the others take over, and its exit
code is passed on.";

/// Share work out among those who are there.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Partition {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with partitions.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Be a worker, and run a command for each partition that is this one's.
    Work(Work),
    /// Show who works on what.
    List(List),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Work(work) => &work.hold.connection,
            Self::List(list) => &list.connection,
        }
    }
}

/// Be a worker.
#[derive(Args, Clone, Debug)]
pub struct Work {
    /// The work: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// How many partitions there are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub count: u32,
    /// Who this is; HOSTNAME:PID if not given.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How to be one.
    #[command(flatten)]
    pub hold: Hold,
}

/// Show who works on what.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// The work.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// How many partitions there are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub count: u32,
    /// Whether names hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
