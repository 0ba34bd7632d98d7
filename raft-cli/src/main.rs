//! The binary `raft`: see the library of this crate.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Payloads are allocated on one thread and freed on another; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    small_pages();
    raft_cli::main(std::env::args_os().collect())
}

/// Has memory come in pages of 4 KiB, whatever the allocator asks for. What it has given back comes
/// anew by and by, a few kilobytes at a time; were each a part of 2 MiB that are cleared first, a
/// node under load would spend a tenth of its time on that.
fn small_pages() {
    #[cfg(target_os = "linux")]
    // Where this cannot be had, the node is slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
