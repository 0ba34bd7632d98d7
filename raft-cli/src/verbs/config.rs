//! `raft config`: where settings come from, and whether they make sense.

use crate::args::config::{Action, Config as Args};
use crate::config::{Config, Layer, check, example, settings};
use crate::failure::Failure;
use crate::output::config::{json, simple, text};
use crate::output::{Format, Output};
use std::io::{self, Write};

/// Shows all settings, or a file that explains them. `before` is what the command line says of how
/// to reach a cluster.
///
/// # Errors
/// Of kind `Usage` if the settings make no sense, after printing them.
pub fn run(
    args: &Args,
    config: &Config,
    before: &Layer,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let Action::Check(args) = &args.action else {
        return output.raw(example().as_bytes());
    };
    let settings = settings(config, before, &args.serve)?;
    let mut wrong = check(config, before, &args.serve);
    output.show(
        &json(config, &settings, &wrong),
        || simple(&settings),
        || text(config, &settings),
    )?;
    let Some(last) = wrong.pop() else { return Ok(()) };
    if output.format == Format::Json {
        return Err(wrong.into_iter().next().unwrap_or(last));
    }
    output.finish()?;
    for line in wrong.iter().filter_map(|failure| failure.line(output.format)) {
        // With stderr closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "{line}");
    }
    Err(last)
}
