//! Arguments of `raft put`.

use super::connection::Connection;
use super::text::{self, Escaped, Fenced};
use clap::Args;
use raft_kv::api::LeaseId;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft put greeting hello
  raft put logo - < logo.png          the value from stdin, byte for byte
  raft put -e 'a\\x00b' 'two\\nlines'   any bytes, with escapes
  raft put here host-7 --lease 32695410dcc0ca06     it goes when the lease ends
  raft put greeting --ignore-value --lease 32695410dcc0ca06
  raft put job/ payload --sequential  a key job/ and 20 digits, after all earlier ones
  raft put stock 7 --fence 'lock/5ca1ab1e:42'       only while that lock is held";

/// Set a key.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Put {
    /// The key, 1 byte to 32 KiB.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The value, up to 1 MiB; `-` reads it from stdin.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    #[arg(required_unless_present = "ignore_value")]
    pub value: Option<OsString>,
    /// The lease that the key ends with, as `raft lease grant` prints it.
    #[arg(long, value_name = "HEX", value_parser = text::lease)]
    pub lease: Option<LeaseId>,
    /// Keep the value there is; the key must exist.
    #[arg(long, conflicts_with = "value")]
    pub ignore_value: bool,
    /// Keep the lease the key has; the key must exist.
    #[arg(long, conflicts_with = "lease")]
    pub ignore_lease: bool,
    /// Print what was there.
    #[arg(long)]
    pub prev_kv: bool,
    /// Append to the key 20 digits that grow with every write, and print the key.
    #[arg(long, conflicts_with_all = ["ignore_value", "ignore_lease", "prev_kv"])]
    pub sequential: bool,
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
