//! What the conformance kit does not try: a disk that lies, and what errors say.

use crate::disk::{PANIC, open_on};
use crate::support::{append, hard_state, run};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::testing::log_store::{Disk, Operation};
use raft_core::types::GroupId;
use raft_storage_redb::ACK_FILE;
use std::fs;
use std::io::ErrorKind;

#[test]
fn a_lost_flush_is_noticed() {
    // The disk confirmed a flush and forgot it: redb rolls back, and all is well but for the vote
    // that was promised.
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let mut log = open_on(directory.path(), &disk).unwrap();
    for term in 1..=200 {
        let before = disk.copy();
        let size = (term * 7919 % 20_000) as usize;
        log.write(&[hard_state(0, term, 1), append(0, run(term, term, term, size))]).unwrap();
        let crashed = tempfile::tempdir().unwrap();
        let side_file = directory.path().join(ACK_FILE);
        fs::copy(side_file, crashed.path().join(ACK_FILE)).unwrap();
        let lost = open_on(crashed.path(), &before).unwrap_err();
        assert!(matches!(lost, StorageError::Corrupt(_)), "{lost:?}");
        let text = lost.to_string();
        assert!(text.contains("was acknowledged, but the log ends at row"), "{text}");
    }
}

#[test]
fn the_first_failure_is_told_as_it_is() {
    let failures = [
        (Operation::Flush, ErrorKind::Other),
        (Operation::Write, ErrorKind::StorageFull),
        (Operation::SetLen, ErrorKind::StorageFull),
    ];
    for (operation, kind) in failures {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new();
        let mut log = open_on(directory.path(), &disk).unwrap();
        log.write(&[hard_state(0, 1, 2), append(0, run(1, 3, 1, 100))]).unwrap();
        disk.fail(operation, kind);
        // Large enough that the file has to grow.
        match log.write(&[append(0, run(4, 70, 1, 60_000))]) {
            Err(StorageError::Io { source, context }) => {
                assert_eq!(source.kind(), kind, "{context}");
            }
            other => panic!("{operation:?}: {other:?}"),
        }
        disk.heal();
        let refused = log.write(&[hard_state(0, 2, 3)]).unwrap_err().to_string();
        assert!(refused.contains("closed after an earlier failure"), "{refused}");
        assert!(log.load(GroupId(0)).is_err());
    }
}

#[test]
fn a_panic_of_the_engine_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let mut log = open_on(directory.path(), &disk).unwrap();
    disk.fail(Operation::Write, PANIC);
    let error = log.write(&[hard_state(0, 1, 1)]).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("it is to panic"), "{error}");
    disk.heal();
    assert!(log.write(&[hard_state(0, 1, 1)]).is_err());
    drop(log);
    drop(open_on(directory.path(), &disk).unwrap());

    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    drop(open_on(directory.path(), &disk).unwrap());
    disk.fail(Operation::Write, PANIC);
    let error = open_on(directory.path(), &disk).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
}
