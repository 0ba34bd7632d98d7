//! Arguments of `raft get`.

use super::connection::Connection;
use super::text::Escaped;
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft get greeting
  raft get --raw logo > logo.png          the value alone, byte for byte
  raft get --prefix user/ --limit 10
  raft get --prefix '' --count-only       how many keys there are
  raft get user/a user/m                  from user/a up to, not including, user/m
  raft get greeting --rev 42              as it was at revision 42

Exits 1 if a single key is not there. A read sees every write answered before it began, on any
node; --serializable may be older, and works without a quorum.";

/// Read a key, a range or a prefix.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// The key, or the first key of a range.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Read from KEY up to, not including, this key.
    #[arg(value_name = "END", conflicts_with = "prefix")]
    pub end: Option<OsString>,
    /// Read all keys that begin with KEY.
    #[arg(short, long)]
    pub prefix: bool,
    /// Read at most this many; 0 for all.
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Read as of this revision.
    #[arg(long, value_name = "REVISION")]
    pub rev: Option<u64>,
    /// Leave the values out.
    #[arg(long, conflicts_with_all = ["count_only", "raw"])]
    pub keys_only: bool,
    /// Only count.
    #[arg(long, conflicts_with = "raw")]
    pub count_only: bool,
    /// Answer from what the asked node has, without asking the others.
    #[arg(long)]
    pub serializable: bool,
    /// Print the value alone, as it is; several values, one after the other.
    #[arg(long)]
    pub raw: bool,
    /// Whether keys and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
