//! Logs as every released version has written them: they are read for good, and written on.
//!
//! `MAKE_FIXTURES=dir cargo test -p raft-storage-redb --test it fixtures` writes those of the
//! present version into `dir`.

use crate::packed::{pack, unpack};
use crate::support::{Model, append, entry, hard_state, identity, run};
use raft_core::log_store::LogStore;
use raft_core::raft::{GroupOp, LogOp};
use raft_core::types::{
    Change, Entry, GroupId, Incarnation, LogId, Member, Membership, NodeId, Payload, Run,
    SnapshotMeta, Version,
};
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE, inspect};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The two memberships in the log of a version: with all that the version has.
fn memberships(version: Version) -> [Membership; 2] {
    let member = |id: u64| {
        let incarnation = (id < 3).then_some(Incarnation(id << 40));
        (NodeId(id), Member { incarnation, ..Member::new(format!("node{id}:7000")) })
    };
    let first = Membership::of_voters((1..=3).map(member).collect()).upgraded(version);
    if version == Version(1) {
        return [first.clone(), first];
    }
    let survivor =
        first.recovered(NodeId(1), first.members()[&NodeId(1)].clone()).upgraded(version);
    let add = |id| Change::Add { node: NodeId(id), address: format!("new{id}:1"), promote: true };
    let added = survivor.changed(&[add(2), add(3)]).unwrap();
    let bound = added.bound(NodeId(2), Incarnation(9)).bound(NodeId(3), Incarnation(10));
    let changes = [
        Change::Promote { node: NodeId(2) },
        Change::Prioritize { node: NodeId(2), priority: 5 },
        Change::Remove { node: NodeId(1) },
    ];
    let joint = bound.changed(&changes).unwrap();
    assert!(joint.is_joint() && joint.epoch() == 1);
    [bound, joint]
}

fn boundary(group: u64, meta: (u64, u64), membership: &Membership, reset: bool) -> GroupOp {
    let meta = SnapshotMeta { last: LogId::new(meta.0, meta.1), membership: membership.clone() };
    let op = if reset { LogOp::Reset(meta) } else { LogOp::Compact(meta) };
    GroupOp { group: GroupId(group), op }
}

fn membership_entry(group: u64, index: u64, term: u64, membership: &Membership) -> GroupOp {
    let payload = Payload::Membership(membership.clone().into());
    append(group, Run::new(vec![Entry { id: LogId::new(index, term), payload }]).unwrap())
}

/// What was written into the log of a version: every kind of record, entries that span rows, a
/// truncation, rows that were purged. The log was closed and opened between these.
fn writes(version: Version) -> Vec<Vec<GroupOp>> {
    let [first, second] = memberships(version);
    let noop = Entry { id: LogId::new(2, 1), payload: Payload::Noop };
    vec![
        vec![identity(0, 5), hard_state(0, 1, 1), membership_entry(0, 1, 1, &first)],
        vec![append(0, Run::new(vec![noop, entry(3, 1, 0)]).unwrap()), hard_state(0, 2, 0)],
        vec![append(0, run(4, 9, 2, 300)), append(7, run(1, 4, 3, 10)), identity(7, 6)],
        // Truncates 7 to 9.
        vec![hard_state(0, 3, 2), append(0, run(7, 8, 3, 20)), hard_state(7, 3, 1)],
        vec![membership_entry(0, 9, 3, &second), append(0, run(10, 10, 3, 150_000))],
        vec![boundary(0, (5, 2), &first, false), append(7, run(3, 5, 4, 5))],
        vec![boundary(7, (40, 4), &second, true), append(7, run(41, 60, 5, 30))],
        // So much that what lives in the oldest rows is carried forward.
        vec![append(0, run(11, 14, 4, 400_000)), hard_state(0, 4, 0)],
        vec![boundary(0, (13, 4), &second, false), append(0, run(14, 14, 4, 25))],
        vec![hard_state(7, 5, 1)],
        vec![hard_state(7, 6, 0), boundary(8, (7, 2), &first, true), append(8, run(8, 9, 2, 9))],
        // And what of all this is to be seen at the end: 9 is truncated, 11 spans rows.
        vec![append(8, run(9, 9, 3, 40)), membership_entry(8, 10, 3, &second)],
        vec![append(8, run(11, 11, 3, 150_000))],
    ]
}

/// What was written into the tail of a log after all that.
fn last_writes() -> Vec<Vec<GroupOp>> {
    let term = |group, term| hard_state(group, term, 2);
    vec![vec![term(7, 7), append(7, run(61, 64, 6, 70))], vec![term(0, 5)], vec![term(7, 8)]]
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The log of a version, in a new directory, and what it must hold. It had no tail.
fn fixture(version: Version) -> (tempfile::TempDir, Model) {
    let mut model = Model::default();
    writes(version).iter().for_each(|ops| model.apply(ops));
    (unpacked(&folder(&version.to_string()), &[LOG_FILE, ACK_FILE]), model)
}

fn unpacked(from: &Path, files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let packed = fs::read(from.join(format!("{file}.packed"))).unwrap();
        fs::write(dir.path().join(file), unpack(&packed)).unwrap();
    }
    dir
}

fn loads(dir: &Path, model: &Model) {
    model.check(&mut RedbLog::open(dir).unwrap());
}

/// Reads the fixture, writes on with what each version from then to now has, and reads that.
fn is_read_and_written_on(version: Version) {
    let (dir, mut model) = fixture(version);
    let rows = inspect(dir.path()).unwrap().rows().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let text: Vec<_> = rows.iter().map(ToString::to_string).collect();
    for kind in ["purged", "identity", "append", "carry", "compact", "reset", "membership"] {
        assert!(text.iter().any(|row| row.contains(kind)), "the fixture has no {kind}");
    }
    assert_eq!(rows.iter().map(|row| row.version).max(), Some(version));
    for (what, times) in [("g8 append 9@", 2), ("g8 append 11@3", 1)] {
        assert_eq!(text.iter().filter(|row| row.contains(what)).count(), times, "{what}");
    }
    loads(dir.path(), &model);
    for (version, first) in [version, Version::CURRENT].into_iter().zip([15, 17]) {
        let [_, membership] = memberships(version);
        let writes = [
            vec![membership_entry(0, first, 5, &membership), hard_state(0, 5, 1)],
            vec![append(0, run(first + 1, first + 3, 5, 100))],
            vec![boundary(0, (first, 5), &membership, false), append(7, run(50, 51, 6, 8))],
        ];
        for ops in writes {
            let mut log = RedbLog::open(dir.path()).unwrap();
            log.write(&ops).unwrap();
            model.apply(&ops);
            model.check(&mut log);
        }
        loads(dir.path(), &model);
    }
}

#[test]
fn a_log_of_version_1_is_read_and_written_on() {
    is_read_and_written_on(Version(1));
}

#[test]
fn a_log_of_version_2_is_read_and_written_on() {
    is_read_and_written_on(Version(2));
}

#[test]
fn a_log_of_version_3_is_read_and_written_on() {
    is_read_and_written_on(Version(3));
}

/// A process was killed while some rows were in the tail.
#[test]
fn a_log_with_a_tail_is_read_and_written_on() {
    let dir = unpacked(&folder("tail"), &[LOG_FILE, TAIL_FILE, ACK_FILE]);
    let mut model = Model::default();
    let writes = writes(Version(3));
    writes.iter().chain(&last_writes()).for_each(|ops| model.apply(ops));
    let inspection = inspect(dir.path()).unwrap();
    let rows = inspection.rows().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(rows.last().unwrap().to_string().contains("g7 hard_state term=8"));
    drop(inspection);
    loads(dir.path(), &model);
    let ops = vec![append(7, run(65, 66, 8, 8))];
    RedbLog::open(dir.path()).unwrap().write(&ops).unwrap();
    model.apply(&ops);
    loads(dir.path(), &model);
}

#[test]
fn fixtures_are_made_on_request() {
    let Some(folder) = env::var_os("MAKE_FIXTURES") else { return };
    let dir = tempfile::tempdir().unwrap();
    for ops in writes(Version::CURRENT) {
        RedbLog::open(dir.path()).unwrap().write(&ops).unwrap();
    }
    let mut log = RedbLog::open(dir.path()).unwrap();
    last_writes().iter().for_each(|ops| log.write(ops).unwrap());
    for file in [LOG_FILE, TAIL_FILE, ACK_FILE] {
        let packed = pack(&fs::read(dir.path().join(file)).unwrap());
        fs::write(Path::new(&folder).join(format!("{file}.packed")), packed).unwrap();
    }
}
