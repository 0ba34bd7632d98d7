//! The files of a log: missing, foreign, mixed up, in use.

use crate::support::{Model, append, hard_state, run, settle};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::types::GroupId;
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE, inspect};
use std::fs;
use std::path::Path;

fn filled(dir: &Path) -> Model {
    let mut log = RedbLog::open(dir).unwrap();
    let mut model = Model::default();
    for index in 1..=20 {
        let ops = [hard_state(0, index, 1), append(0, run(index, index, index, 50))];
        log.write(&ops).unwrap();
        model.apply(&ops);
    }
    drop(log);
    settle(dir);
    model
}

fn corrupt(dir: &Path, expected: &str) {
    let error = RedbLog::open(dir).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("must not vote"), "{text}");
    assert!(text.contains("as a new life of it"), "{text}");
}

#[test]
fn only_one_opens() {
    let dir = tempfile::tempdir().unwrap();
    let log = RedbLog::open(dir.path()).unwrap();
    for error in [RedbLog::open(dir.path()).unwrap_err(), inspect(dir.path()).unwrap_err()] {
        assert!(matches!(error, StorageError::InUse(_)), "{error:?}");
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
    drop(log);
    RedbLog::open(dir.path()).unwrap();
}

#[test]
fn nobody_opens_while_it_is_inspected() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let looking = inspect(dir.path()).unwrap();
    assert!(inspect(dir.path()).is_ok());
    assert!(matches!(RedbLog::open(dir.path()), Err(StorageError::InUse(_))));
    drop(looking);
    RedbLog::open(dir.path()).unwrap();
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOG_FILE);
    fs::write(&path, b"a diary, not a log").unwrap();
    let error = RedbLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::Format(_)), "{error:?}");
    assert!(error.to_string().contains(LOG_FILE), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"a diary, not a log");
}

#[test]
fn a_table_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(RedbLog::open(dir.path()).unwrap());
    let database = redb::Database::create(dir.path().join(LOG_FILE)).unwrap();
    let write = database.begin_write().unwrap();
    let other = redb::TableDefinition::<&str, u64>::new("raft_log");
    write.open_table(other).unwrap().insert("key", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = RedbLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::Format(_)), "{error:?}");
}

#[test]
fn a_missing_or_emptied_log_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::write(dir.path().join(LOG_FILE), b"").unwrap();
    corrupt(dir.path(), "log.redb: is empty, row 20 was acknowledged");
    fs::remove_file(dir.path().join(LOG_FILE)).unwrap();
    corrupt(dir.path(), "log.redb: is gone, row 20 was acknowledged");
}

#[test]
fn a_missing_side_file_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::remove_file(dir.path().join(ACK_FILE)).unwrap();
    corrupt(dir.path(), "log.ack is missing");
}

#[test]
fn an_older_log_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let read = |name| fs::read(dir.path().join(name)).unwrap();
    let (old, old_tail) = (read(LOG_FILE), read(TAIL_FILE));
    for term in [100, 101] {
        // Each time the row before goes into the database.
        RedbLog::open(dir.path()).unwrap().write(&[hard_state(0, term, 2)]).unwrap();
    }
    fs::write(dir.path().join(LOG_FILE), old).unwrap();
    // The tail has row 22, and nobody has row 21.
    corrupt(dir.path(), "row 21 is missing");
    fs::write(dir.path().join(TAIL_FILE), old_tail).unwrap();
    corrupt(dir.path(), "row 22 was acknowledged, but the log ends at row 20");
}

#[test]
fn another_history_is_corrupt() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    let mut log = RedbLog::open(other.path()).unwrap();
    for index in 1..=30 {
        log.write(&[append(0, run(index, index, 7, 50))]).unwrap();
    }
    drop(log);
    settle(other.path());
    fs::copy(other.path().join(LOG_FILE), dir.path().join(LOG_FILE)).unwrap();
    corrupt(dir.path(), "row 20 is not the one that was acknowledged");
}

#[test]
fn a_side_file_behind_the_log_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let side_path = dir.path().join(ACK_FILE);
    drop(RedbLog::open(dir.path()).unwrap());
    let old = fs::read(&side_path).unwrap();
    let model = filled(dir.path());
    fs::write(&side_path, old).unwrap();
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn one_torn_slot_of_the_side_file_is_fine() {
    for slot in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let side_path = dir.path().join(ACK_FILE);
        let model = filled(dir.path());
        let mut bytes = fs::read(&side_path).unwrap();
        bytes[slot * 512 + 10] ^= 1;
        fs::write(&side_path, &bytes).unwrap();
        model.check(&mut RedbLog::open(dir.path()).unwrap());
        bytes[512 - slot * 512 + 10] ^= 1;
        fs::write(&side_path, &bytes).unwrap();
        corrupt(dir.path(), "log.ack: neither of its two records is whole");
    }
}

#[test]
fn a_creation_cut_short_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log.ack.new"), b"torn").unwrap();
    fs::write(dir.path().join("log.tail.new"), b"torn").unwrap();
    fs::write(dir.path().join("log.redb.new"), b"torn").unwrap();
    drop(RedbLog::open(dir.path()).unwrap());
    fs::remove_file(dir.path().join(LOG_FILE)).unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    log.write(&[hard_state(0, 1, 1)]).unwrap();
    assert_eq!(log.load(GroupId(0)).unwrap().hard_state.term.0, 1);
}
