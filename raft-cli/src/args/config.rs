//! Arguments of `raft config`.

use super::serve::Serve;
use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  raft config example > raft.toml
  raft config check --config raft.toml
  raft config check --config raft.toml --id 2      as `raft serve` would see it with these flags
  raft -o json config check | jq -r '.settings[] | select(.from == \"file\") | .key'

Flags win over the environment, that over the file, that over defaults. The file is TOML; what it
holds and no setting is called so is an error. Exits 2 if something makes no sense.";

/// Show where settings come from, and check them.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Config {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `raft config` does.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Print every setting, its value and where it came from, and whether they make sense.
    Check(Box<Check>),
    /// Print a file that explains every setting.
    Example,
}

/// Arguments of `raft config check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// What `raft serve` would be given.
    #[command(flatten)]
    pub serve: Serve,
}
