//! Arguments of `raft txn`.

use super::connection::Connection;
use super::text::Fenced;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = r#"Example: move an item from one owner to the other, if nobody was faster
  raft txn <<'END'
  {
    "if":   [{"key": "stock/ann", "mod_revision": 42},
             {"key": "stock/bob", "value": "7", "is": "<"},
             {"key": "frozen/", "prefix": true, "version": 0}],
    "then": [{"put": {"key": "stock/ann", "value": "2"}},
             {"put": {"key": "stock/bob", "value": "8"}}],
    "else": [{"get": {"key": "stock/", "prefix": true}}]
  }
  END

if    all must hold. Each names a key and one of value, version, mod_revision, create_revision,
      lease, compared by "is": "=" (if left out), "!=", ">" or "<". A missing key has version,
      revisions and lease 0 and no value. With "prefix": true or "range_end" every key that there
      is must fulfil it.
then  run if they hold, else "else": in order, at one revision. Each is one of
      {"put": {"key", "value", "lease", "ignore_value", "ignore_lease", "prev_kv", "sequential"}}
      {"delete": {"key", "prefix", "range_end", "prev_kv"}}
      {"get": {"key", "prefix", "range_end", "limit", "rev", "keys_only", "count_only",
               "count_all", "sort_by", "order", "min_mod_rev", "max_mod_rev", "min_create_rev",
               "max_create_rev"}}
      {"txn": {"if", "then", "else"}}   within the transaction; its conditions, like all, see what
               was there before the outermost one, its reads the writes before them
sort_by is key, version, create, mod or value; order is asc or desc; an empty range_end is no end.
Bytes that are not UTF-8 go in base64 into key_b64, value_b64 and range_end_b64; leases are
hexadecimal, as `raft lease grant` prints them, or 0 for none.

Exits 1 if the conditions did not hold, after printing the answers of "else"."#;

/// Run a transaction: conditions, and operations for either answer.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Txn {
    /// The file with the transaction, JSON; `-` for stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// While which lock is held.
    #[command(flatten)]
    pub fenced: Fenced,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
