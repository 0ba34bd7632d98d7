//! Arguments of `raft put`.

use super::connection::Connection;
use super::text::Escaped;
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft put greeting hello
  raft put logo - < logo.png          the value from stdin, byte for byte
  raft put -e 'a\\x00b' 'two\\nlines'   any bytes, with escapes";

/// Set a key.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Put {
    /// The key, 1 byte to 32 KiB.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The value, up to 1 MiB; `-` reads it from stdin.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: OsString,
    /// Whether keys and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
