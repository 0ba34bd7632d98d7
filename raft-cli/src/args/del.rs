//! Arguments of `raft del`.

use super::connection::Connection;
use super::text::Escaped;
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft del greeting
  raft del --prefix session/      all at once, at one revision

Exits 1 if a single key is not there.";

/// Delete a key or a prefix.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Del {
    /// The key.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Delete all keys that begin with KEY.
    #[arg(short, long)]
    pub prefix: bool,
    /// Whether keys and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
