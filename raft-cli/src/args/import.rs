//! Arguments of `raft import`.

use super::connection::Connection;
use crate::records::Format;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = r#"Examples:
  raft import users.jsonl
  raft import users.tsv --resume users.state     run it again to go on where it stopped
  zcat dump.jsonl.gz | raft import - --format jsonl

JSON lines, one object each:   {"key": "user/1", "value": "Ann"}
  bytes that are not UTF-8 in base64:   {"key_b64": "AP8=", "value_b64": ""}
TSV, a key, a tab, a value:   user/1<TAB>Ann
  with \t \n \r \\ and \xNN for the bytes that need it
Empty lines are skipped. Of several lines with one key the last wins, as in the file.

Stops at the first bad line and names it: the lines before it are written, none after it is."#;

/// Load keys and values from JSON lines or TSV.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The file; `-` for stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file's format; told from its name if left out.
    #[arg(long, value_name = "jsonl|tsv", value_enum, hide_possible_values = true)]
    pub format: Option<Format>,
    /// How many lines may be on their way at once.
    #[arg(long, value_name = "N", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub concurrency: u16,
    /// Keep in this file how many leading lines are written, and skip those at the start.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Append the number of each line to this file once it is written.
    #[arg(long, value_name = "FILE")]
    pub acked: Option<PathBuf>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
