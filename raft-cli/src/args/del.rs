//! Arguments of `raft del`.

use super::connection::Connection;
use super::text::{Escaped, Fenced};
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft del greeting
  raft del --prefix session/      all at once, at one revision
  raft del user/a --range-end user/m --prev-kv      and print what was there
  raft del job/7 --fence 'lock/5ca1ab1e:42'          only while that lock is held

Exits 1 if a single key is not there.";

/// Delete a key, a range or a prefix.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Del {
    /// The key.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Delete all keys that begin with KEY.
    #[arg(short, long)]
    pub prefix: bool,
    /// Delete from KEY up to, not including, this key; '' for all from KEY on.
    #[arg(long, value_name = "END", conflicts_with = "prefix")]
    pub range_end: Option<OsString>,
    /// Print what was there.
    #[arg(long)]
    pub prev_kv: bool,
    /// While which lock is held.
    #[command(flatten)]
    pub fenced: Fenced,
    /// Whether keys and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
