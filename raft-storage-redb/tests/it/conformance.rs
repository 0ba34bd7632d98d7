//! The conformance kit of log stores.
//!
//! `RUN_SLOW_TESTS=1` tries every crash point of a thousand writes, and ten thousand flipped bits.

use crate::disk::OnDisk;
use raft_core::testing::log_store::{Extent, Report, check, check_on_disk};
use raft_storage_redb::RedbLog;
use std::cell::Cell;
use std::env;

/// Where the first frame of a tail begins.
const BLOCK: usize = 4096;

fn is_slow() -> bool {
    env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1")
}

/// Runs the kit; what it has tried.
fn run(extent: &Extent) -> Report {
    run_with_tail(extent, usize::MAX)
}

/// Runs the kit on logs with tails of `tail_bytes` at most.
fn run_with_tail(extent: &Extent, tail_bytes: usize) -> Report {
    let largest = Cell::new(0);
    let open = |disk: &_| {
        let log = OnDisk::open_with_tail(disk, tail_bytes)?;
        largest.set(largest.get().max(log.usage().first_row));
        Ok(log)
    };
    let report = check_on_disk(open, extent).unwrap();
    println!("{extent:?}: {report}");
    assert!(extent.writes < 500 || largest.get() > 1, "the history is to include purges");
    report
}

#[test]
fn in_a_directory() {
    check(RedbLog::open).unwrap();
}

#[test]
fn every_crash_keeps_what_was_acknowledged() {
    let every = if is_slow() { 1 } else { 149 };
    let extent = Extent { seed: 1, writes: 1000, crash_every: every, failures: 0, flips: 0 };
    let report = run(&extent);
    assert!(report.crash_points > 3500 / every, "{report}");
}

/// Every write goes into the database, or every other one.
#[test]
fn every_crash_between_tail_and_database_keeps_what_was_acknowledged() {
    for (tail_bytes, points, every) in [(BLOCK, 8000, 331), (3 * BLOCK, 4000, 227)] {
        let crash_every = if is_slow() { 1 } else { every };
        let extent = Extent { seed: 1, writes: 1000, crash_every, failures: 0, flips: 0 };
        let report = run_with_tail(&extent, tail_bytes);
        assert!(report.crash_points > points / crash_every, "{report}");
    }
}

#[test]
fn damage_is_noticed_or_harmless() {
    let (writes, flips) = if is_slow() { (1000, 10_000) } else { (60, 300) };
    let report = run(&Extent { seed: 2, writes, crash_every: 0, failures: 0, flips });
    assert!(report.flips == flips && report.flips_noticed > flips / 50, "{report}");
}

#[test]
fn a_failure_of_the_disk_is_the_end() {
    let failures = if is_slow() { usize::MAX } else { 60 };
    let extent = Extent { seed: 3, writes: 0, crash_every: 0, failures, flips: 0 };
    // With a small one the database is written to as well.
    for tail_bytes in [usize::MAX, 3 * BLOCK] {
        let report = run_with_tail(&extent, tail_bytes);
        assert!(report.failures >= 60, "{report}");
    }
}
