//! A damaged file is noticed, and nothing that a file holds makes the process panic.

use crate::support::{Model, append, compact, hard_state, identity, run, settle};
use raft_core::log_store::{LogStore, StorageError};
use raft_storage_redb::{LOG_FILE, RedbLog};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::fs;
use std::path::Path;

const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("raft_log");

/// A log of some rows, among them spanning ones.
fn filled(dir: &Path) -> Model {
    let mut log = RedbLog::open(dir).unwrap();
    let mut model = Model::default();
    let mut write = |ops: &[_]| {
        log.write(ops).unwrap();
        model.apply(ops);
    };
    write(&[identity(0, 1), hard_state(0, 1, 1)]);
    for index in 1..=12 {
        write(&[append(0, run(index, index, 1, 300)), append(1, run(index, index, 1, 20))]);
    }
    write(&[append(2, run(1, 2, 1, 150_000))]);
    write(&[append(0, run(13, 200, 2, 100)), compact(1, 5, 1)]);
    write(&[hard_state(0, 2, 3)]);
    drop(log);
    settle(dir);
    model
}

/// Opening either fails with a clear error or finds everything.
fn noticed_or_harmless(dir: &Path, model: &Model, what: &str) -> bool {
    match RedbLog::open(dir) {
        Ok(mut log) => {
            assert_eq!(model.difference(&mut log), None, "{what}");
            false
        }
        Err(StorageError::Corrupt(text) | StorageError::Format(text)) => {
            assert!(text.contains(LOG_FILE), "{what}: {text}");
            true
        }
        Err(other) => panic!("{what}: {other:?}"),
    }
}

#[test]
fn flipped_bytes_of_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let path = dir.path().join(LOG_FILE);
    let whole = fs::read(&path).unwrap();
    let side_path = dir.path().join("log.ack");
    let side_file = fs::read(&side_path).unwrap();
    // Every byte of the header that is used; the conformance kit tries out the others.
    let mut noticed = 0;
    for position in 0..320 {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        fs::write(&path, &bytes).unwrap();
        fs::write(&side_path, &side_file).unwrap();
        let what = format!("byte {position} of {}", whole.len());
        noticed += usize::from(noticed_or_harmless(dir.path(), &model, &what));
    }
    assert!(noticed > 100, "{noticed}");
}

#[test]
fn truncated_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let path = dir.path().join(LOG_FILE);
    let whole = fs::read(&path).unwrap();
    let lengths = [0, 1, 8, 9, 100, 319, 320, 4095, 4096, 4097, 8192, 65_536];
    let tail = (1..20).map(|part| whole.len() * part / 20);
    for length in lengths.into_iter().chain(tail).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        noticed_or_harmless(dir.path(), &model, &format!("first {length} of {}", whole.len()));
    }
}

/// Changes rows behind the log's back, in ways that redb cannot notice.
fn tamper(path: &Path, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>)) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    change(&mut write.open_table(TABLE).unwrap());
    write.commit().unwrap();
}

fn row(path: &Path, seq: u64) -> Vec<u8> {
    let database = Database::create(path).unwrap();
    let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
    table.get(seq).unwrap().unwrap().value().to_vec()
}

fn refused(dir: &Path, expected: &str) {
    let error = RedbLog::open(dir).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn every_byte_of_a_row_counts() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join(LOG_FILE);
    let whole = row(&path, 1);
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        tamper(&path, |table| drop(table.insert(1, bytes.as_slice()).unwrap()));
        assert!(RedbLog::open(dir.path()).is_err(), "byte {position}");
    }
    tamper(&path, |table| drop(table.insert(1, &whole[..5]).unwrap()));
    refused(dir.path(), "row 1 is shorter than its header");
    let mut newer = whole.clone();
    newer[0] = 9;
    tamper(&path, |table| drop(table.insert(1, newer.as_slice()).unwrap()));
    assert!(matches!(RedbLog::open(dir.path()), Err(StorageError::Format(_))));
    tamper(&path, |table| drop(table.insert(1, whole.as_slice()).unwrap()));
    RedbLog::open(dir.path()).unwrap();
}

#[test]
fn a_row_that_is_missing_is_missed() {
    for (seq, expected) in [(1, "row 1 is missing"), (5, "row 5 is missing")] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        tamper(&dir.path().join(LOG_FILE), |table| drop(table.remove(seq).unwrap()));
        refused(dir.path(), expected);
    }
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    tamper(&dir.path().join(LOG_FILE), |table| drop(table.pop_last().unwrap()));
    refused(dir.path(), "was acknowledged, but the log ends at row");
}

#[test]
fn rows_cannot_change_places() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join(LOG_FILE);
    let (third, fourth) = (row(&path, 3), row(&path, 4));
    tamper(&path, |table| {
        table.insert(3, fourth.as_slice()).unwrap();
        table.insert(4, third.as_slice()).unwrap();
    });
    refused(dir.path(), "row 3 does not match its checksum");
}

#[test]
fn rows_of_another_log_do_not_chain() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    let mut log = RedbLog::open(other.path()).unwrap();
    for index in 1..=6 {
        log.write(&[append(0, run(index, index, 1, 9))]).unwrap();
    }
    drop(log);
    settle(other.path());
    let foreign = row(&other.path().join(LOG_FILE), 4);
    let path = dir.path().join(LOG_FILE);
    tamper(&path, |table| drop(table.insert(4, foreign.as_slice()).unwrap()));
    refused(dir.path(), "row 4 does not follow the row before it");
}
