//! `raft recover`: a new cluster of what survived the loss of a quorum.
//!
//! Works on the directories of stopped nodes and talks to nobody. What is there is only ever read;
//! the new directory is there as a whole or not at all.

mod apply;
mod plan;
pub mod restore;
pub mod survivor;

use crate::args::recover::{Recover, RecoverStep};
use crate::failure::Failure;
use crate::output::Output;

/// Runs `raft recover`.
///
/// # Errors
/// Of kind `Usage` if the directories do not belong together or the deed is not confirmed,
/// `Refused` if nothing can be made of them, `Local` if one is in use, damaged or cannot be
/// written.
pub fn run(args: &Recover, output: &mut Output<'_>) -> Result<(), Failure> {
    match &args.step {
        RecoverStep::Plan(args) => plan::run(args, output),
        RecoverStep::Apply(args) => apply::run(args, output),
    }
}
