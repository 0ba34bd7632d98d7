//! The binary `raft`: see the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    raft_cli::main(std::env::args_os().collect())
}
