//! `raft completion`.

use crate::args::Cli;
use crate::args::completion::Completion;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;

/// Prints a shell's completion script.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &Completion, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "raft", &mut script);
    output.raw(&script)
}
