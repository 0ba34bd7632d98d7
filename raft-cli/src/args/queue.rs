//! Arguments of `raft queue`.

use super::connection::Connection;
use super::text::Escaped;
use super::values;
use clap::{Args, Subcommand};
use raft_kv::recipes::Queue as Recipe;
use std::ffi::OsString;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft queue push jobs 'resize 42'
  raft queue push jobs 'page me' --rank 0      before all of higher rank
  raft queue pop jobs                          waits for an item, and prints it
  raft queue pop jobs --wait 5s                exits 1 if there is none for so long
  raft queue pop jobs --no-wait                exits 1 if there is none
  raft queue list jobs

An item is popped once, by one: lowest rank first, and in the order of pushing. What was popped and
could not be printed is gone: to end the waiting use --wait or SIGTERM, which are heeded while there
is nothing to pop, not SIGKILL.";

/// Push, pop and list items of a queue.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Queue {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a queue.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Add an item.
    Push(Push),
    /// Take the first item, and print it.
    Pop(Pop),
    /// Show the items, first to last.
    List(List),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Push(Push { connection, .. })
            | Self::Pop(Pop { connection, .. })
            | Self::List(List { connection, .. }) => connection,
        }
    }
}

/// Add an item.
#[derive(Args, Clone, Debug)]
pub struct Push {
    /// The queue: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// The item; `-` reads it from stdin.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: OsString,
    /// Items of lower rank go first.
    #[arg(long, value_name = "N", default_value_t = Recipe::NORMAL)]
    pub rank: u16,
    /// Whether names and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Take the first item.
#[derive(Args, Clone, Debug)]
pub struct Pop {
    /// The queue.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// Do not wait for an item: exit code 1 if there is none.
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
    /// Wait at most so long: exit code 1 then.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub wait: Option<Duration>,
    /// Print the item alone, as it is.
    #[arg(long)]
    pub raw: bool,
    /// Whether names hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Show the items.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// The queue.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// Whether names hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
