//! Looking at a log.

use crate::support::{append, compact, hard_state, identity, reset, run, settle};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::types::GroupId;
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, inspect};
use redb::{Database, TableDefinition};
use std::fs;
use std::path::Path;

fn filled(dir: &Path) -> RedbLog {
    let mut log = RedbLog::open(dir).unwrap();
    log.write(&[identity(0, 255), hard_state(0, 1, 0)]).unwrap();
    log.write(&[hard_state(0, 2, 3), append(0, run(1, 2, 2, 5))]).unwrap();
    log.write(&[append(7, run(1, 1, 1, 100_000))]).unwrap();
    log.write(&[compact(0, 1, 2), reset(7, 9, 4)]).unwrap();
    log
}

#[test]
fn rows_print_in_the_notation_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let inspection = inspect(dir.path()).unwrap();
    assert_eq!(inspection.acknowledged(), Some(5));
    assert!(inspection.damage().is_none());
    let text: Vec<_> = inspection.rows().unwrap().map(|row| row.unwrap().to_string()).collect();
    let lines: Vec<_> = text.iter().flat_map(|row| row.lines()).collect();
    let records: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(
        records,
        [
            "g0 identity cluster=0000000000000007 node=n1 incarnation=00000000000000ff",
            "g0 hard_state term=1 vote=none",
            "g0 hard_state term=2 vote=n3",
            "g0 append 1@2 command 5 bytes",
            "g0 append 2@2 command 5 bytes",
            "g7 append 1@1 command 100000 bytes",
            "g0 compact 1@2 voters=[n1, n2, n3]",
            "g7 reset 9@4 voters=[n1, n2, n3]",
        ]
    );
    assert!(
        lines[0].starts_with("row 1 ") && lines[0].contains(" bytes checksum="),
        "{}",
        lines[0]
    );
}

#[test]
fn a_look_finds_what_a_node_would() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let inspection = inspect(dir.path()).unwrap();
    let seen = [0, 7].map(|group| inspection.load(GroupId(group)).unwrap());
    drop(inspection);
    let mut log = RedbLog::open(dir.path()).unwrap();
    assert_eq!(seen, [0, 7].map(|group| log.load(GroupId(group)).unwrap()));

    drop(log);
    fs::remove_file(dir.path().join(ACK_FILE)).unwrap();
    let refused = inspect(dir.path()).unwrap().load(GroupId(0)).unwrap_err();
    assert!(matches!(refused, StorageError::Corrupt(_)), "{refused}");
}

#[test]
fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LOG_FILE);
    let log = filled(dir.path());
    // As a crash would leave it: redb will want to repair it.
    let crashed = fs::read(&path).unwrap();
    drop(log);
    fs::write(&path, &crashed).unwrap();
    let rows = inspect(dir.path()).unwrap().rows().unwrap().collect::<Result<Vec<_>, _>>();
    assert_eq!(rows.unwrap().len(), 5);
    assert_eq!(fs::read(&path).unwrap(), crashed);
    RedbLog::open(dir.path()).unwrap();
}

#[test]
fn the_first_bad_row_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    settle(dir.path());
    let database = Database::create(dir.path().join(LOG_FILE)).unwrap();
    let write = database.begin_write().unwrap();
    let table = TableDefinition::<u64, &[u8]>::new("raft_log");
    write.open_table(table).unwrap().insert(3, [1_u8; 30].as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let rows: Vec<_> = inspect(dir.path()).unwrap().rows().unwrap().collect();
    assert_eq!(rows.len(), 3);
    let error = rows[2].as_ref().unwrap_err().to_string();
    assert!(error.contains("row 3 does not match its checksum"), "{error}");
}

#[test]
fn damage_anywhere_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let path = dir.path().join(LOG_FILE);
    let whole = fs::read(&path).unwrap();
    let mut reported = 0;
    for position in (0..whole.len()).step_by(4096).map(|page| page + 20) {
        let mut bytes = whole.clone();
        bytes[position] ^= 16;
        fs::write(&path, &bytes).unwrap();
        let Ok(inspection) = inspect(dir.path()) else {
            reported += 1;
            continue;
        };
        let rows = inspection.rows().map(|rows| rows.collect::<Result<Vec<_>, _>>());
        let bad = inspection.damage().is_some() || !matches!(rows, Ok(Ok(_)));
        reported += usize::from(bad);
        drop(inspection);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert!(reported > 5, "{reported}");
}

#[test]
fn where_there_is_no_log_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(inspect(dir.path()), Err(StorageError::Io { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
