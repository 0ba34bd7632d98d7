//! Which version a row has, and what a program makes of a version that is too new for it.

use crate::support::{Model, append, boundary, compact, hard_state, identity, run, settle};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, LogOp};
use raft_core::types::{Entry, GroupId, LogId, Member, Membership, NodeId, Payload, Run, Version};
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, Row, inspect};
use redb::{AccessGuard, Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fs;
use std::path::Path;

const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("raft_log");

/// A membership of version 2 with an address of `size` bytes.
fn membership(size: usize) -> Membership {
    let member = Member { priority: 3, ..Member::new("a".repeat(size)) };
    Membership::of_voters([(NodeId(1), member)].into()).upgraded(Version(2))
}

fn entry(group: u64, index: u64, term: u64, membership: Membership) -> GroupOp {
    let payload = Payload::Membership(membership.into());
    append(group, Run::new(vec![Entry { id: LogId::new(index, term), payload }]).unwrap())
}

/// Writes one batch after the other into one log, which is closed then.
fn written(dir: &Path, writes: &[Vec<GroupOp>]) -> Model {
    let mut log = RedbLog::open(dir).unwrap();
    let mut model = Model::default();
    for ops in writes {
        log.write(ops).unwrap();
        model.apply(ops);
    }
    model
}

fn rows(dir: &Path) -> Vec<Row> {
    inspect(dir).unwrap().rows().unwrap().collect::<Result<_, _>>().unwrap()
}

fn versions(dir: &Path) -> Vec<u16> {
    rows(dir).iter().map(|row| row.version.0).collect()
}

#[test]
fn a_row_has_the_oldest_version_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut older = boundary(2, 1);
    older.membership = older.membership.upgraded(Version(1));
    let newer = |index| {
        let mut meta = boundary(index, 1);
        meta.membership = membership(9);
        meta
    };
    let group = GroupId(0);
    let model = written(
        dir.path(),
        &[
            vec![identity(0, 1), hard_state(0, 1, 1), append(0, run(1, 3, 1, 10))],
            vec![entry(0, 4, 1, older.membership.clone())],
            vec![GroupOp { group, op: LogOp::Compact(older) }],
            vec![append(0, run(5, 5, 1, 10)), entry(0, 6, 1, membership(9)), hard_state(0, 2, 1)],
            vec![append(0, run(7, 7, 1, 10))],
            vec![GroupOp { group, op: LogOp::Compact(newer(7)) }],
            vec![GroupOp { group, op: LogOp::Reset(newer(9)) }],
            vec![append(0, run(10, 10, 1, 10))],
        ],
    );
    assert_eq!(versions(dir.path()), [1, 1, 1, 2, 1, 2, 2, 1]);
    let text = rows(dir.path())[3].to_string();
    assert!(text.lines().next().unwrap().ends_with(" version=2"), "{text}");
    assert!(text.contains("\n  g0 append 6@1 membership voters=[n1] version=2\n"), "{text}");
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn every_row_of_a_long_record_has_its_version_and_no_other_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut batch = vec![append(0, run(1, 1, 1, 10)), entry(0, 2, 1, membership(150_000))];
    batch.extend([append(0, run(3, 3, 1, 10)), append(0, run(4, 4, 1, 150_000))]);
    let model = written(dir.path(), &[batch, vec![hard_state(0, 1, 1)]]);
    assert_eq!(versions(dir.path()), [1, 2, 2, 2, 1, 1, 1, 1, 1]);
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn what_is_carried_forward_keeps_its_version() {
    let mut meta = boundary(1, 1);
    meta.membership = membership(9);
    let boundary = GroupOp { group: GroupId(1), op: LogOp::Reset(meta) };
    let idle = [(entry(1, 1, 1, membership(9)), "g1 carry 1@1"), (boundary, "g1 compact 1@1")];
    for (op, carried) in idle {
        let dir = tempfile::tempdir().unwrap();
        let mut writes = vec![vec![identity(1, 1), op]];
        for index in 1..=200 {
            let compacted = compact(0, index - 1, 1);
            writes.push(vec![append(0, run(index, index, 1, 16_000)), compacted]);
        }
        let model = written(dir.path(), &writes);
        let rows = rows(dir.path());
        assert!(rows[0].seq > 1, "the first row was purged");
        for row in &rows {
            let text = row.to_string();
            let version = if text.contains(carried) { 2 } else { 1 };
            assert_eq!(row.version, Version(version), "{text}");
        }
        assert_eq!(rows.iter().filter(|row| row.version == Version(2)).count(), 1);
        model.check(&mut RedbLog::open(dir.path()).unwrap());
    }
}

/// A leader of the old version may have taken back what only a newer one reads.
#[test]
fn a_log_without_anything_newer_is_readable_to_all_again() {
    let dir = tempfile::tempdir().unwrap();
    let writes = [
        vec![hard_state(0, 1, 1), append(0, run(1, 1, 1, 10)), entry(0, 2, 1, membership(9))],
        vec![hard_state(0, 2, 2), append(0, run(1, 2, 2, 10))],
    ];
    written(dir.path(), &writes);
    assert_eq!(versions(dir.path()), [2, 1]);
    // What nobody needs any more is purged as the rows go into the database.
    drop(RedbLog::open(dir.path()).unwrap());
    assert_eq!(versions(dir.path()), [1, 1]);
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &[vec![hard_state(0, 1, 1)], vec![append(0, run(1, 9, 1, 100))]]);
    settle(dir.path());
    let path = dir.path().join(LOG_FILE);
    let newer = Version::CURRENT.0 as u8 + 1;
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    // What follows its version only that version knows.
    let row = [&[newer][..], &[0xff; 40]].concat();
    write.open_table(TABLE).unwrap().insert(3, &row[..]).unwrap();
    write.commit().unwrap();
    drop(database);
    // redb keeps books of its own in the file as it is opened and closed.
    let contents = || {
        let database = Database::open(&path).unwrap();
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        let row = |row: Result<(AccessGuard<'_, u64>, AccessGuard<'_, &[u8]>), _>| {
            let (seq, row) = row.unwrap();
            (seq.value(), row.value().to_vec())
        };
        let rows: Vec<_> = table.iter().unwrap().map(row).collect();
        (rows, fs::read(dir.path().join(ACK_FILE)).unwrap())
    };
    let before = contents();
    let mut errors = vec![RedbLog::open(dir.path()).unwrap_err()];
    let file = fs::read(&path).unwrap();
    let inspection = inspect(dir.path()).unwrap();
    let mut rows = inspection.rows().unwrap();
    for seq in 1..=2 {
        assert_eq!(rows.next().unwrap().unwrap().seq, seq);
    }
    errors.push(rows.next().unwrap().unwrap_err());
    for error in &errors {
        assert!(matches!(error, StorageError::Format(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("row 3 was written by a newer version"), "{text}");
        assert!(
            text.contains(&format!("version {newer}, this one reads up to {}", Version::CURRENT.0)),
            "{text}"
        );
    }
    drop((rows, inspection));
    assert!(fs::read(&path).unwrap() == file, "looking changes not a byte");
    assert!(contents() == before);
}
