//! Arguments of `raft barrier`.

use super::connection::Connection;
use super::text::Escaped;
use super::values;
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft barrier raise migration       from now on whoever waits is held up
  raft barrier wait migration        until somebody lifts it; at once if it is not raised
  raft barrier lift migration
  raft barrier enter batch --count 3      until three have entered

`raise` and `lift` exit 1 if that was done before.";

/// Hold others up, and wait for each other.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Barrier {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with a barrier.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Hold up whoever waits from now on.
    Raise(One),
    /// Let all who wait go on.
    Lift(One),
    /// Wait until it is not raised.
    Wait(One),
    /// Wait until so many have entered.
    Enter(Enter),
}

impl Action {
    /// How to reach the cluster.
    pub const fn connection(&self) -> &Connection {
        match self {
            Self::Raise(one) | Self::Lift(one) | Self::Wait(one) => &one.connection,
            Self::Enter(enter) => &enter.one.connection,
        }
    }
}

/// Which barrier.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// The barrier: any name.
    #[arg(value_name = "NAME")]
    pub name: OsString,
    /// Whether names hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Wait for each other.
#[derive(Args, Clone, Debug)]
pub struct Enter {
    /// Which barrier.
    #[command(flatten)]
    pub one: One,
    /// How many have to be there.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub count: u32,
    /// How long others count on this one if its process vanishes.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub ttl: Duration,
}
