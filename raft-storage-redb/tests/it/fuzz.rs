//! The fuzz targets of this crate in a short run that is the same every time; see `fuzz/README.md`.

#[path = "../../../fuzz/src/disk.rs"]
mod disk;
#[path = "../../../fuzz/src/log.rs"]
mod log;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/target.rs"]
mod target;

use log::TARGETS;
use replay::{plant, replay};

#[test]
fn changed_bytes_harm_nothing() {
    replay(TARGETS, |target, bytes| (target.run)(bytes));
}

#[test]
fn the_corpora_are_of_real_values() {
    let [file, rows] = TARGETS else { panic!("other targets") };
    // Which file, then place and bits for each change.
    let changes: [&[u8]; 9] = [
        &[0],
        &[0, 9, 0, 0, 1],
        &[0, 0, 0x11, 0, 0x80, 1, 0x22, 1, 4],
        &[0, 0, 0x10, 0, 0],
        &[1, 8, 0, 0, 1],
        &[1, 8, 2, 0, 1, 16, 0, 0, 0xff],
        &[2, 9, 0, 0, 1],
        &[2, 0x20, 0x10, 0, 1],
        &[2, 0, 0x20, 0, 0],
    ];
    plant(file, changes.map(<[u8]>::to_vec));
    plant(rows, log::example_rows());
}
