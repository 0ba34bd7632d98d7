//! Arguments of `raft export`.

use super::connection::Connection;
use super::text::Escaped;
use crate::records::Format;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  raft export all.jsonl
  raft export users.tsv --prefix user/
  raft export --format jsonl | gzip > all.jsonl.gz

All keys as they are at one revision, in key order, in a form that `raft import` reads. A file
appears under its name only when it is complete.";

/// Write keys and values as JSON lines or TSV.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The file to write; `-` for stdout.
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// The format; told from the file's name if left out, JSON lines on stdout.
    #[arg(long, value_name = "jsonl|tsv", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
    /// Only keys that begin with this.
    #[arg(short, long, value_name = "PREFIX", default_value = "")]
    pub prefix: OsString,
    /// As of this revision instead of now.
    #[arg(long, value_name = "REVISION")]
    pub rev: Option<u64>,
    /// Whether keys and values hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
