//! Whatever bytes come from outside - from a peer, a client, a disk, a person - harm nothing: they
//! are refused or taken, without a panic, and with no more memory than they paid for.
//!
//! One definition, two drivers: the modules here say what has to hold of each decoder; libFuzzer
//! drives them through [`run`], and the tests of each crate through `replay`. See README.md.

mod disk;
mod door;
mod frames;
mod log;
mod messages;
#[cfg(test)]
mod replay;
mod requests;
mod store;
mod target;
mod text;

use cap::Cap;
use std::alloc::System;
use target::Target;

/// Refuses, and so aborts, where a decoder asks for more than it may have.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const TARGETS: [&[Target]; 7] = [
    messages::TARGETS,
    frames::TARGETS,
    log::TARGETS,
    requests::TARGETS,
    store::TARGETS,
    text::TARGETS,
    door::TARGETS,
];

/// Bytes that a target may have allocated at once beside a multiple of its input. A list may be
/// made with room for a mebibyte before its elements arrive.
const ROOM: usize = 8 << 20;

/// The same of a target that opens a database: its page cache, and the file in memory.
const ROOM_OF_DATABASE: usize = 128 << 20;

/// Bytes in memory for a byte of input: small values are far larger there.
const MULTIPLE: usize = 1024;

/// Gives `bytes` to the target `name`, and ends the process if it allocates too much.
///
/// # Panics
/// If there is no such target, or one of its properties does not hold.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.into_iter().flatten().find(|target| target.name == name);
    limited(target.expect("a target of this name"), bytes);
}

fn limited(target: &Target, bytes: &[u8]) -> bool {
    let opens = ["redb_file", "redb_rows", "kv_file"].contains(&target.name);
    let room = if opens { ROOM_OF_DATABASE } else { ROOM };
    let limit = ALLOCATOR.allocated() + room + MULTIPLE * bytes.len();
    ALLOCATOR.set_limit(limit).expect("it is above what is allocated");
    let taken = (target.run)(bytes);
    ALLOCATOR.set_limit(usize::MAX).expect("it is above what is allocated");
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The corpora under the limit on memory. One test: the limit is the process's.
    #[test]
    fn the_corpora_pay_for_what_they_allocate() {
        TARGETS.into_iter().for_each(|targets| replay::replay(targets, limited));
    }

    #[test]
    fn every_target_has_its_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest");
        for Target { name, .. } in TARGETS.into_iter().flatten() {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no [[bin]]");
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        }
    }
}
