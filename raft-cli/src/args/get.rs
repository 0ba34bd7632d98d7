//! Arguments of `raft get`.

use super::connection::Connection;
use super::text::{self, Escaped};
use clap::{Args, ValueEnum};
use raft_kv::api::Position;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft get greeting
  raft get --raw logo > logo.png          the value alone, byte for byte
  raft get --prefix user/ --limit 10
  raft get --prefix '' --count-only       how many keys there are
  raft get user/a user/m                  from user/a up to, not including, user/m
  raft get user/m ''                      from user/m on
  raft get greeting --rev 42              as it was at revision 42
  raft get -p job/ --sort-by create --order desc --limit 1     the newest
  raft get -p user/ --min-mod-rev 43      what was changed after revision 42
  raft get greeting --consistency serializable
  raft get greeting --print-token         and hand the token to whoever must see as much:
  raft get greeting --token 0:42          not older than that, on any node, without a quorum

Exits 1 if a single key is not there. A linearizable read sees every write answered before it began,
on any node. A serializable one is what the asked node has: it works without a quorum, and says how
old it may be. A causal one is not older than what its token has seen; the node waits until it has
come so far.";

/// Read a key, a range or a prefix.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// The key, or the first key of a range.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Read from KEY up to, not including, this key; '' for all from KEY on.
    #[arg(value_name = "END", conflicts_with = "prefix")]
    pub end: Option<OsString>,
    /// Read all keys that begin with KEY.
    #[arg(short, long)]
    pub prefix: bool,
    /// Read at most this many; 0 for all.
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
    /// Read as of this revision.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub rev: Option<u64>,
    /// In which order; the server holds all keys of the range at once for any but by key.
    #[arg(long, value_name = "key|version|create|mod|value", value_enum)]
    #[arg(default_value_t, hide_possible_values = true)]
    pub sort_by: SortBy,
    /// Ascending or descending.
    #[arg(long, value_name = "asc|desc", value_enum, default_value_t)]
    #[arg(hide_possible_values = true)]
    pub order: Direction,
    /// Leave out keys last changed before this revision.
    #[arg(long, value_name = "REVISION")]
    pub min_mod_rev: Option<u64>,
    /// Leave out keys last changed after this revision.
    #[arg(long, value_name = "REVISION")]
    pub max_mod_rev: Option<u64>,
    /// Leave out keys created before this revision.
    #[arg(long, value_name = "REVISION")]
    pub min_create_rev: Option<u64>,
    /// Leave out keys created after this revision.
    #[arg(long, value_name = "REVISION")]
    pub max_create_rev: Option<u64>,
    /// Leave the values out.
    #[arg(long, conflicts_with_all = ["count_only", "raw"])]
    pub keys_only: bool,
    /// Only count; keys left out by their revisions count all the same.
    #[arg(long, conflicts_with = "raw")]
    pub count_only: bool,
    /// How fresh the answer must be; causal if --token is given.
    #[arg(long, value_name = "linearizable|serializable|causal", value_enum)]
    #[arg(hide_possible_values = true)]
    pub consistency: Option<Freshness>,
    /// The same as --consistency serializable.
    #[arg(long, conflicts_with_all = ["consistency", "token"])]
    pub serializable: bool,
    /// Not older than this position, which an earlier --print-token printed.
    #[arg(long, value_name = "EPOCH:REVISION", value_parser = text::position)]
    pub token: Option<Position>,
    /// Print the position of the answer, for --token of another read, on a line of its own.
    #[arg(long, conflicts_with = "raw")]
    pub print_token: bool,
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

/// What of a pair decides its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum SortBy {
    /// The key.
    #[default]
    Key,
    /// The number of changes since it was created.
    Version,
    /// The revision that created it.
    Create,
    /// The revision of its last change.
    Mod,
    /// The value.
    Value,
}

/// Which end comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Direction {
    /// The least.
    #[default]
    Asc,
    /// The greatest.
    Desc,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Freshness {
    /// It sees every write answered before.
    Linearizable,
    /// What the node has.
    Serializable,
    /// Not older than a token.
    Causal,
}
