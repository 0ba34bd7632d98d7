//! Arguments of `raft cas`.

use super::connection::Connection;
use super::text::{Escaped, Fenced};
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft cas owner ann --if-absent           take it if nobody has it
  raft cas owner bob --if-value ann        hand it over
  raft cas stock 11 --if-rev 42            set it if unchanged since revision 42

Exits 1 if the condition is not met, and prints what is there instead.";

/// Set a key if it is what you think it is.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("condition").required(true))]
pub struct Cas {
    /// The key.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The new value; `-` reads it from stdin.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub value: OsString,
    /// Only if the key's last change was at this revision.
    #[arg(long, value_name = "REVISION", group = "condition")]
    pub if_rev: Option<u64>,
    /// Only if the key has this value.
    #[arg(long, value_name = "VALUE", group = "condition", allow_hyphen_values = true)]
    pub if_value: Option<OsString>,
    /// Only if the key does not exist.
    #[arg(long, group = "condition")]
    pub if_absent: bool,
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
