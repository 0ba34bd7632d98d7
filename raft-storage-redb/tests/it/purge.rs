//! The file stays bounded, and what is carried forward stays what it was.

use crate::disk::open_on;
use crate::support::{
    Model, append, compact, hard_state, identity, last_index, reset, resize_tail, run,
};
use raft_core::log_store::LogStore;
use raft_core::raft::GroupOp;
use raft_core::testing::log_store::Disk;
use raft_storage_redb::{LOG_FILE, RedbLog, TAIL_FILE, inspect};
use std::fs;

const MIB: usize = 1 << 20;

/// A log in memory, beside the model of it.
struct Test {
    dir: tempfile::TempDir,
    disk: Disk,
    log: RedbLog,
    model: Model,
}

impl Test {
    /// Every commit goes into the database.
    fn new() -> Self {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::new());
        drop(open_on(dir.path(), &disk).unwrap());
        disk.damage(TAIL_FILE, |bytes| resize_tail(bytes, 4096));
        Self::on(dir, disk)
    }

    fn on(dir: tempfile::TempDir, disk: Disk) -> Self {
        let log = open_on(dir.path(), &disk).unwrap();
        Self { dir, disk, log, model: Model::default() }
    }

    fn write(&mut self, ops: &[GroupOp]) {
        self.log.write(ops).unwrap();
        self.model.apply(ops);
    }

    /// Appends and compacts `bytes` in `group`, which must exist, 16 KiB a write.
    fn churn(&mut self, group: u64, bytes: usize) {
        for _ in 0..bytes >> 14 {
            let last = last_index(&self.model, group).0;
            let next = append(group, run(last + 1, last + 1, 1, 16_200));
            self.write(&[next, compact(group, last, 1)]);
        }
    }

    fn file_len(&self) -> u64 {
        self.disk.file(LOG_FILE).len()
    }

    fn reopen(&mut self) {
        self.close();
        self.log = open_on(self.dir.path(), &self.disk).unwrap();
        self.model.check(&mut self.log);
    }

    /// Puts another log in place of this one.
    fn close(&mut self) {
        self.log = RedbLog::open(tempfile::tempdir().unwrap().path()).unwrap();
    }

    /// The rows as they print.
    fn rows(&mut self) -> Vec<String> {
        self.close();
        for name in [LOG_FILE, TAIL_FILE] {
            let bytes = self.disk.file(name).contents().unwrap();
            fs::write(self.dir.path().join(name), bytes).unwrap();
        }
        let inspection = inspect(self.dir.path()).unwrap();
        inspection.rows().unwrap().map(|row| row.unwrap().to_string()).collect()
    }
}

#[test]
fn a_compacted_log_stays_small() {
    stays_small(Test::new());
    // Purged are rows of the database, whenever it takes over those of the tail.
    stays_small(Test::on(tempfile::tempdir().unwrap(), Disk::new()));
}

fn stays_small(mut test: Test) {
    test.write(&[identity(0, 1), hard_state(0, 1, 1), append(0, run(1, 64, 1, 40))]);
    // Idle groups that hold on to the oldest rows.
    for group in 1..20 {
        test.write(&[hard_state(group, 1, 1), append(group, run(1, 30, 1, 40))]);
    }
    test.write(&[reset(20, 5, 1), append(20, run(6, 9, 1, 10))]);
    let mut largest = 0;
    for batch in 1..200_000 / 64 {
        let first = batch * 64 + 1;
        test.write(&[append(0, run(first, first + 63, 1, 40))]);
        if batch % 16 == 0 {
            test.write(&[compact(0, first - 1000.min(first), 1)]);
        }
        largest = largest.max(test.log.usage().bytes);
    }
    assert!(largest < 3 << 20, "{largest}");
    assert!(test.file_len() < 10 << 20, "{}", test.file_len());
    assert!(test.log.usage().first_row > 2500, "{:?}", test.log.usage());
    test.reopen();
}

#[test]
fn one_entry_a_row_stays_small() {
    let mut test = Test::new();
    test.write(&[append(1, run(1, 10, 1, 40))]);
    for index in 1..10_000 {
        test.write(&[append(0, run(index, index, 1, 20))]);
        if index % 100 == 0 {
            test.write(&[compact(0, index, 1)]);
        }
    }
    assert!(test.log.usage().bytes < 2 << 20, "{:?}", test.log.usage());
    assert!(test.file_len() < 8 << 20, "{}", test.file_len());
    test.reopen();
}

#[test]
fn a_large_idle_log_does_not_stop_the_purge() {
    let mut test = Test::new();
    // Entries that span rows, and small ones.
    test.write(&[append(1, run(1, 30, 1, 100_000))]);
    for index in 31..400 {
        test.write(&[append(1, run(index, index, 1, 2000))]);
    }
    let live = test.log.usage().live_bytes;
    test.write(&[append(0, run(1, 1, 1, 10))]);
    let mut largest = 0;
    for _ in 0..48 {
        test.churn(0, MIB);
        largest = largest.max(test.log.usage().bytes);
    }
    assert!(largest < 3 * live + (3 << 20), "{largest} for {live}");
    assert!(test.log.usage().first_row > 2000, "{:?}", test.log.usage());
    test.reopen();
    test.write(&[append(1, run(300, 300, 2, 100)), compact(1, 20, 1)]);
    test.churn(0, 2 * MIB);
    test.reopen();
}

#[test]
fn a_carried_entry_drops_nothing() {
    let mut test = Test::new();
    test.write(&[append(0, run(1, 1, 1, 10))]);
    test.write(&[append(1, run(1, 5, 1, 10))]);
    test.churn(0, 800 << 10);
    let later = test.log.usage();
    test.write(&[append(1, run(6, 10, 1, 10))]);
    let later = later.first_row + later.rows;
    while test.log.usage().first_row < later {
        test.churn(0, 1 << 14);
    }
    // 1 to 5 have been carried behind 6 to 10, which are still where they were.
    assert_eq!(test.log.usage().first_row, later);
    test.reopen();
    let rows = test.rows();
    let position = |text: &str| rows.iter().position(|row| row.contains(text)).unwrap();
    assert!(position("g1 append 6@1 command 10 bytes") < position("g1 carry 5@1 command 10 bytes"));
    assert!(!rows.iter().any(|row| row.contains("g1 append 5@1")));
}

#[test]
fn a_carried_entry_can_be_dropped() {
    let mut test = Test::new();
    test.write(&[append(0, run(1, 1, 1, 10))]);
    test.write(&[identity(1, 4), reset(1, 20, 1), append(1, run(21, 30, 1, 10))]);
    test.churn(0, 4 * MIB);
    assert!(test.log.usage().first_row > 150);
    test.write(&[append(1, run(24, 25, 2, 10)), compact(1, 22, 1)]);
    test.reopen();
    test.churn(0, 4 * MIB);
    test.reopen();
    test.write(&[reset(1, 3, 1)]);
    test.churn(0, 4 * MIB);
    test.reopen();
}

#[test]
fn the_later_of_two_records_in_a_row_is_carried() {
    let mut test = Test::new();
    test.write(&[append(0, run(1, 1, 1, 10))]);
    test.write(&[
        hard_state(1, 1, 1),
        append(1, run(1, 5, 1, 10)),
        append(1, run(2, 3, 2, 20)),
        hard_state(1, 2, 0),
        reset(2, 5, 1),
        append(2, run(6, 6, 1, 1)),
        reset(2, 9, 2),
        append(2, run(10, 11, 2, 1)),
    ]);
    test.churn(0, 4 * MIB);
    assert!(test.log.usage().first_row > 150);
    test.reopen();
}

#[test]
fn a_record_that_spans_rows_is_purged_as_a_whole() {
    let mut test = Test::new();
    test.write(&[append(0, run(1, 1, 1, 10))]);
    test.write(&[append(1, run(1, 9, 1, 700_000))]);
    // A step is due after every opening, and the first ones end among the rows of these entries.
    test.reopen();
    test.write(&[compact(1, 8, 1)]);
    let first_row = test.log.usage().first_row;
    assert!(first_row > 10 && first_row < 80, "{first_row}");
    test.reopen();
    for _ in 0..20 {
        test.churn(0, MIB / 4);
        test.reopen();
    }
    assert!(test.log.usage().first_row > 100, "{:?}", test.log.usage());
}
