//! Arguments of `raft txn`.

use super::connection::Connection;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = r#"Example: move an item from one owner to the other, if nobody was faster
  raft txn <<'END'
  {
    "if":   [{"key": "stock/ann", "mod_revision": 42},
             {"key": "stock/bob", "value": "7", "is": "<"},
             {"key": "frozen", "version": 0}],
    "then": [{"put": {"key": "stock/ann", "value": "2"}},
             {"put": {"key": "stock/bob", "value": "8"}}],
    "else": [{"get": {"key": "stock/", "prefix": true}}]
  }
  END

if    all must hold. Each names a key and one of value, version, mod_revision, create_revision,
      compared by "is": "=" (if left out), "!=", ">" or "<". A missing key has version and
      revisions 0 and no value.
then  run if they hold, else "else": in order, at one revision. Each is one of
      {"put": {"key", "value"}}   {"delete": {"key", "prefix"}}
      {"get": {"key", "prefix", "limit", "keys_only", "count_only", "count_all"}}
Bytes that are not UTF-8 go in base64 into key_b64 and value_b64.

Exits 1 if the conditions did not hold, after printing the answers of "else"."#;

/// Run a transaction: conditions, and operations for either answer.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Txn {
    /// The file with the transaction, JSON; `-` for stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
