//! Tracing output of a long-running process: to standard error, never to standard output, which
//! belongs to results that scripts read.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. `level` is a tracing filter such as `info` or `raft_core=debug,info`; without
/// one `RUST_LOG` decides, and without that `info`.
///
/// # Errors
/// The filter makes no sense; the text says why.
pub fn start(level: Option<&str>) -> Result<(), String> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = level.map(str::to_owned).or(from_environment);
    let filter = filter.as_deref().unwrap_or("info");
    let parsed = EnvFilter::try_new(filter)
        .map_err(|error| format!("log level {filter:?} makes no sense: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| error.to_string())
}
