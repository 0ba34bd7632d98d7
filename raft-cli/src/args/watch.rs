//! Arguments of `raft watch`.

use super::connection::Connection;
use super::text::Escaped;
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  raft watch greeting
  raft watch --prefix user/ --prev-kv
  raft watch --prefix user/ --rev 43       everything since revision 42, then what is to come
  raft watch job/1 job/5                   from job/1 up to, not including, job/5
  raft watch greeting --once               the next change, and end
  raft -o json watch --prefix '' | jq -c 'select(.type == \"delete\")'

Every change is told once, in order, none left out. When its node dies the watch goes on at another
one, from where it was, and says so on stderr. Exits 3 if what it would have to tell has been
compacted: read the keys, and watch from the revision of that.";

/// Print changes of keys as they happen.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Watch {
    /// The key, or the first key of a range.
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Watch from KEY up to, not including, this key; '' for all from KEY on.
    #[arg(value_name = "END", conflicts_with = "prefix")]
    pub end: Option<OsString>,
    /// Watch all keys that begin with KEY.
    #[arg(short, long)]
    pub prefix: bool,
    /// Begin with the changes of this revision, which may be past or to come.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    pub rev: Option<u64>,
    /// Print with each change what was there before, if it has not been compacted.
    #[arg(long)]
    pub prev_kv: bool,
    /// Leave puts out.
    #[arg(long, conflicts_with = "no_deletes")]
    pub no_puts: bool,
    /// Leave deletions out.
    #[arg(long)]
    pub no_deletes: bool,
    /// End after the first revision that changes anything.
    #[arg(long)]
    pub once: bool,
    /// When nothing happens, print now and then how far the watch has come.
    #[arg(long, conflicts_with = "once")]
    pub progress: bool,
    /// Whether keys hold escapes.
    #[command(flatten)]
    pub escaped: Escaped,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}
