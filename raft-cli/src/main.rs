//! The binary `raft`: see the library of this crate.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Payloads are allocated on one thread and freed on another; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    raft_cli::main(std::env::args_os().collect())
}
