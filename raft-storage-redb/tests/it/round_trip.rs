//! What is written is what is loaded.

use crate::support::{
    Model, append, boundary, compact, entries, entry, hard_state, identity, reset, run,
};
use bytes::Bytes;
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::{Entry, GroupId, Incarnation, LogId, Member, NodeId, Payload, Run};
use raft_storage_redb::RedbLog;

fn write_and_reopen(writes: &[Vec<GroupOp>]) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut log = RedbLog::open(dir.path()).unwrap();
    for ops in writes {
        log.write(ops).unwrap();
        model.apply(ops);
        model.check(&mut log);
    }
    drop(log);
    model.check(&mut RedbLog::open(dir.path()).unwrap());
}

#[test]
fn a_new_log_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut log = RedbLog::open(&dir.path().join("made/for/it")).unwrap();
        assert_eq!(log.load(GroupId(0)).unwrap(), Loaded::default());
        log.write(&[]).unwrap();
    }
}

#[test]
fn every_operation() {
    write_and_reopen(&[
        vec![identity(0, 5), hard_state(0, 1, 1), append(0, run(1, 5, 1, 10))],
        vec![append(0, run(4, 8, 2, 20)), hard_state(0, 2, 0)],
        vec![compact(0, 6, 2)],
        vec![append(0, run(9, 9, 3, 0))],
        vec![reset(0, 50, 4), append(0, run(51, 52, 5, 1))],
        vec![compact(0, 60, 6)],
        vec![append(0, run(61, 61, 7, 7))],
    ]);
}

/// A log made from what was saved of another, with a membership of its own at the boundary.
#[test]
fn a_log_from_scratch() {
    let saved = [run(41, 43, 4, 10), run(44, 600, 5, 30), run(601, 602, 9, 100_000)];
    let survivor = Member { incarnation: Some(Incarnation(5)), ..Member::new("node1:7000") };
    let mut meta = boundary(40, 4);
    meta.membership = meta.membership.recovered(NodeId(1), survivor);
    for (vote, runs) in [(0, &saved[..]), (1, &saved[..1]), (2, &[])] {
        let reset = GroupOp { group: GroupId(0), op: LogOp::Reset(meta.clone()) };
        let mut ops = vec![identity(0, 5), reset];
        ops.extend(runs.iter().map(|run| append(0, run.clone())));
        ops.push(hard_state(0, 9, vote));
        write_and_reopen(&[ops, vec![hard_state(0, 10, 1)]]);
    }
}

#[test]
fn every_payload() {
    let payloads = [
        Payload::Noop,
        Payload::Command(Bytes::new()),
        Payload::Command(Bytes::from_static(b"command")),
        Payload::Membership(boundary(1, 1).membership.into()),
    ];
    let entries = payloads.into_iter().zip(1..);
    let entries = entries.map(|(payload, index)| Entry { id: LogId::new(index, 1), payload });
    write_and_reopen(&[vec![append(3, Run::new(entries.collect()).unwrap())]]);
}

#[test]
fn operations_in_one_write_apply_in_order() {
    write_and_reopen(&[vec![
        append(0, run(1, 9, 1, 10)),
        append(0, run(3, 4, 2, 10)),
        append(0, run(4, 6, 3, 10)),
        compact(0, 2, 1),
        hard_state(0, 1, 0),
        hard_state(0, 3, 2),
        append(1, run(1, 1, 1, 1)),
        reset(1, 7, 1),
        append(1, run(8, 9, 2, 2)),
    ]]);
}

#[test]
fn entries_around_the_size_of_a_row() {
    for size in [16_250, 16_300, 16_320, 16_400, 65_300, 65_380, 65_400, 65_500, 130_800, 200_000] {
        write_and_reopen(&[
            vec![append(0, run(1, 3, 1, size))],
            vec![append(0, Run::new(vec![entry(4, 1, 5), entry(5, 1, size)]).unwrap())],
            vec![append(0, run(6, 6, 1, size)), hard_state(0, 1, 1)],
        ]);
    }
}

#[test]
fn entries_of_megabytes() {
    write_and_reopen(&[
        vec![append(0, run(1, 4, 1, 3 << 19)), hard_state(0, 2, 1)],
        vec![append(0, run(3, 3, 2, 3 << 19)), append(1, run(1, 2000, 1, 1000))],
    ]);
}

#[test]
fn groups_do_not_see_each_other() {
    let groups = 0..300_u64;
    let writes = (1..5).map(|index| {
        groups.clone().map(|group| append(group, run(index, index, group + 1, 16))).collect()
    });
    write_and_reopen(&writes.collect::<Vec<_>>());
}

#[test]
fn an_append_that_leaves_a_gap_is_refused() {
    let bad = [append(0, run(7, 7, 1, 1)), append(0, run(2, 3, 1, 1)), compact(0, 1, 1)];
    for op in bad {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RedbLog::open(dir.path()).unwrap();
        let ops = [append(0, run(1, 5, 1, 1)), compact(0, 3, 1)];
        log.write(&ops).unwrap();
        let refused = log.write(&[hard_state(0, 9, 1), op]);
        assert!(matches!(refused, Err(StorageError::Corrupt(_))), "{refused:?}");
        drop(log);
        // All or nothing.
        let mut model = Model::default();
        model.apply(&ops);
        model.check(&mut RedbLog::open(dir.path()).unwrap());
    }
}

#[test]
fn loaded_entries_come_in_short_runs() {
    // A run is freed as a whole.
    let dir = tempfile::tempdir().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    log.write(&[append(0, run(1, 5000, 1, 10))]).unwrap();
    let loaded = log.load(GroupId(0)).unwrap();
    assert_eq!(entries(&loaded).len(), 5000);
    assert!(loaded.entries.iter().all(|run| run.len() <= 256));
    let op = GroupOp { group: GroupId(0), op: LogOp::Append(loaded.entries[3].clone()) };
    log.write(&[op]).unwrap();
}
