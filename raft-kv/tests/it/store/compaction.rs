//! Compaction: what it refuses, what it keeps, that it gives memory and disk back, and that no
//! crash in the midst of it loses anything.

use super::support::{Fed, between, bytes_of, contents, one, put, put_bytes, replayed, restored};
use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::types::Payload;
use raft_kv::api::*;
use raft_kv::store::{BackupInfo, KvStore};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

const CHANGES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("changes");
const USELESS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("useless");

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    (directory, path)
}

fn compact(fed: &mut Fed, revision: u64) {
    let current = fed.store.summary().revision;
    assert_eq!(fed.run(Action::Compact(Revision(revision))), Ok(ActionReply::Compacted(current)));
}

/// The value of `key` at `revision`, or why it cannot be read.
fn at(fed: &Fed, key: &str, revision: u64) -> Result<Option<Bytes>, KvError> {
    let range = Range { revision: Some(Revision(revision)), ..Range::of(one(key)) };
    fed.read(range).map(|reply| reply.kvs.first().map(|kv| kv.value.clone()))
}

/// Lets everything be purged from memory.
fn purge(fed: &mut Fed) {
    while fed.store.handle().gauges().purge_pending > 0 {
        fed.entry(Payload::Noop);
    }
}

/// What a quota counts of a record without a lease.
const fn quota(key: usize, value: usize) -> u64 {
    (32 + 64 + key + value) as u64
}

/// The rows of changes in the file: their lengths, and the changes in them.
fn rows(path: &Path) -> (Vec<usize>, usize) {
    let database = Database::open(path).unwrap();
    let table = database.begin_read().unwrap().open_table(CHANGES).unwrap();
    let (mut lengths, mut changes) = (Vec::new(), 0);
    for row in table.iter().unwrap() {
        let row = row.unwrap().1.value().to_vec();
        let mut rest = &row[8..];
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            rest = &tail[u32::from_le_bytes(*length) as usize..];
            changes += 1;
        }
        lengths.push(row.len());
    }
    (lengths, changes)
}

#[test]
fn what_was_before_is_refused_and_the_revision_itself_stays() {
    let mut fed = Fed::in_memory();
    for value in ["1", "2", "3"] {
        fed.put("a", value);
    }
    fed.put("b", "1");
    let [before, hash] = [fed.store.summary().revision.0, fed.hash()];
    compact(&mut fed, 3);
    assert_eq!(fed.store.summary().revision.0, before, "it takes no revision");
    assert_ne!(fed.hash(), hash);
    assert_eq!(fed.store.summary().compacted, Revision(3));
    let refused = |requested| KvError::Compacted { requested, compacted: Revision(3) };
    assert_eq!(at(&fed, "a", 2), Err(refused(Revision(2))));
    assert_eq!(at(&fed, "a", 0), Err(refused(Revision(0))));
    assert_eq!(at(&fed, "a", 3), Ok(Some("2".into())));
    assert_eq!(at(&fed, "a", 4), Ok(Some("3".into())));
    assert_eq!(at(&fed, "b", 4), Ok(None));
    for revision in [0, 1, 2, 3] {
        let again = fed.run(Action::Compact(Revision(revision)));
        assert_eq!(again, Err(refused(Revision(revision))));
    }
    let future = KvError::FutureRevision { requested: Revision(6), current: Revision(5) };
    assert_eq!(fed.run(Action::Compact(Revision(6))), Err(future));
    compact(&mut fed, 5);
    assert_eq!(at(&fed, "a", 5), Ok(Some("3".into())));
    assert_eq!(at(&fed, "b", 5), Ok(Some("1".into())));
}

#[test]
fn an_empty_store_has_nothing_to_compact_but_its_beginning() {
    let mut fed = Fed::in_memory();
    let refused = KvError::Compacted { requested: Revision(0), compacted: Revision(0) };
    assert_eq!(fed.run(Action::Compact(Revision(0))), Err(refused));
    compact(&mut fed, 1);
    assert_eq!(fed.put("a", "1"), 2);
}

/// The hash is of what was asked for, not of what happens to be purged.
#[test]
fn the_hash_covers_the_revision_compacted() {
    let hash_of = |revision| {
        let mut fed = Fed::in_memory();
        fed.put("a", "1");
        fed.put("a", "2");
        compact(&mut fed, revision);
        fed.hash()
    };
    assert_ne!(hash_of(2), hash_of(3));
}

#[test]
fn memory_is_given_back() {
    let mut fed = Fed::in_memory();
    for n in 0..100 {
        fed.put("a", &format!("{n:02}"));
    }
    fed.put("gone", "1");
    fed.delete(one("gone"));
    fed.put("b", "1");
    let held = 100 * quota(1, 2) + quota(4, 1) + quota(4, 0) + quota(1, 1);
    assert_eq!(fed.store.summary().bytes, held);
    compact(&mut fed, 50);
    assert_eq!(fed.store.summary().bytes, held - 48 * quota(1, 2), "49 is in force at 50");
    compact(&mut fed, 102);
    assert_eq!(fed.store.summary().bytes, held - 99 * quota(1, 2));
    // Once the deletion is compacted, nothing is left of the key.
    compact(&mut fed, 104);
    assert_eq!(fed.store.summary().bytes, quota(1, 2) + quota(1, 1));
    assert_eq!(fed.value("a"), Some("99".into()));
    fed.put("gone", "again");
    let kv = fed.read(Range::of(one("gone"))).unwrap().kvs.remove(0);
    assert_eq!((kv.version, kv.create_revision), (1, Revision(105)));
}

/// A version that was in force when its change was told of for the last time goes with the change
/// that replaces it.
#[test]
fn what_is_replaced_after_a_compaction_goes_with_the_next() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    compact(&mut fed, 2);
    fed.put("a", "2");
    fed.delete(one("a"));
    fed.put("a", "3");
    compact(&mut fed, 5);
    assert_eq!(fed.store.summary().bytes, quota(1, 1));
    assert_eq!((at(&fed, "a", 5), fed.store.summary().keys), (Ok(Some("3".into())), 1));
}

/// A put and a deletion of the same revision.
#[test]
fn several_changes_of_a_key_at_one_revision() {
    let mut fed = Fed::in_memory();
    fed.put("b", "1");
    let nested = |ops| Op::Txn(Txn { success: ops, ..Txn::default() }.into());
    let delete = Op::Delete { keys: one("a"), prev_kv: false };
    let success = vec![nested(vec![put("a", "1")]), nested(vec![delete])];
    fed.txn(Txn { success, ..Txn::default() }).unwrap();
    compact(&mut fed, 3);
    let held = 2 * quota(1, 1) + quota(1, 0);
    assert_eq!(fed.store.summary().bytes, held, "it can be watched from there");
    assert_eq!(at(&fed, "a", 3), Ok(None));
    fed.put("c", "1");
    compact(&mut fed, 4);
    assert_eq!(fed.store.summary().bytes, 2 * quota(1, 1));
    assert_eq!(at(&fed, "a", 4), Ok(None));
}

/// A stop is never noticed: only so much is done at once, and the rest while entries are applied.
#[test]
fn purging_is_spread_over_what_is_applied() {
    let mut fed = Fed::in_memory();
    for n in 0..200 {
        let success = (0..100).map(|key| put(&format!("k{key}"), &n.to_string())).collect();
        fed.txn(Txn { success, ..Txn::default() }).unwrap();
    }
    let handle = fed.store.handle();
    assert_eq!(handle.gauges().purge_pending, 0);
    let bytes = fed.store.summary().bytes;
    compact(&mut fed, 201);
    let mut pending = handle.gauges().purge_pending;
    assert!((10_000..20_000).contains(&pending), "{pending}");
    assert!(fed.store.summary().bytes < bytes);
    // What is not purged yet cannot be read all the same, and is in no snapshot.
    assert!(at(&fed, "k1", 200).is_err());
    assert_eq!(restored(&fed.store).unwrap().summary().bytes, 100 * quota(2, 3) + 90);
    while pending > 0 {
        fed.put("other", "1");
        let before = std::mem::replace(&mut pending, handle.gauges().purge_pending);
        assert!(pending < before && before - pending < 1000, "{before} to {pending}");
    }
    let others = fed.store.summary().revision.0 - 201;
    let left = 100 * quota(2, 3) + 90 + others * quota(5, 1);
    assert_eq!(fed.store.summary().bytes, left);
}

#[test]
fn a_restart_and_a_restore_know_what_was_compacted() {
    let (directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for value in ["1", "2", "3", "4"] {
        fed.put("a", value);
    }
    fed.delete(one("a"));
    fed.put("b", "1");
    fed.checkpoint();
    compact(&mut fed, 6);
    fed.checkpoint();
    let expected = fed.store.summary();
    let mut other = KvStore::open(&directory.path().join("other.redb")).unwrap();
    other.restore(fed.store.snapshot().unwrap()).unwrap();
    assert_eq!(other.summary(), expected);
    assert_eq!(restored(&fed.store).unwrap().summary(), expected);
    let fed = fed.crash(&path);
    assert_eq!(fed.store.summary(), expected);
    assert!(matches!(at(&fed, "a", 5), Err(KvError::Compacted { .. })));
    assert_eq!(at(&fed, "a", 6), Ok(None));
    assert_eq!(at(&fed, "b", 7), Ok(Some("1".into())));
}

/// The last change is a deletion, everything up to it is compacted, and nothing but it is left in
/// the file: the revision must not go back (etcd's issues 17780 and 19179).
#[test]
fn the_revision_does_not_go_down_when_the_last_change_is_compacted() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    fed.put("b", "1");
    fed.delete(Keys::all());
    compact(&mut fed, 4);
    fed.checkpoint();
    let (summary, log) = (fed.store.summary(), fed.log.clone());
    drop(fed);
    assert_eq!(rows(&path).1, 2);
    let mut fed = Fed { store: KvStore::open(&path).unwrap(), log };
    assert_eq!(fed.store.summary(), summary);
    assert_eq!((summary.revision, summary.bytes, summary.keys), (Revision(4), 2 * quota(1, 0), 0));
    let future = KvError::FutureRevision { requested: Revision(5), current: Revision(4) };
    assert_eq!(at(&fed, "a", 5), Err(future));
    assert_eq!(fed.put("c", "1"), 5);
    assert_eq!(fed.crash(&path).store.summary().revision, Revision(5));
}

/// Reads at the revision compacted are the same before, after and in a restored copy, be the last
/// change there a deletion (etcd's issues 18089 and 19179).
#[test]
fn a_deletion_at_the_revision_compacted() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    fed.put("a", "1");
    fed.delete(one("a"));
    fed.put("a", "2");
    compact(&mut fed, 3);
    for _ in 0..2 {
        assert_eq!((at(&fed, "a", 3), at(&fed, "a", 4)), (Ok(None), Ok(Some("2".into()))));
        let kv = fed.read(Range::of(one("a"))).unwrap().kvs.remove(0);
        assert_eq!((kv.version, kv.create_revision), (1, Revision(4)));
        fed.checkpoint();
        fed = fed.crash(&path);
        fed.entry(Payload::Noop);
    }
}

/// What is purged goes from the file once half of its row is useless; nothing else is touched.
#[test]
fn only_rows_that_are_half_useless_are_written_again() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    let value = || Bytes::from(vec![7; 1000]);
    for n in 0..300 {
        fed.op(put_bytes(&format!("k{n:03}"), value())).unwrap();
    }
    fed.checkpoint();
    let log = fed.log.clone();
    drop(fed);
    let (before, changes) = rows(&path);
    assert_eq!((before.len(), changes), (5, 300));
    // A third of the first row, all of the second, a little more than half of the third.
    let per_row = before[0] / 1039;
    let mut fed = Fed { store: KvStore::open(&path).unwrap(), log };
    let mut overwrite = |from: usize, count: usize| {
        for n in from..from + count {
            fed.put(&format!("k{n:03}"), "");
        }
    };
    overwrite(0, per_row / 3);
    overwrite(per_row, per_row);
    overwrite(2 * per_row, per_row / 2 + 2);
    let revision = fed.store.summary().revision.0;
    compact(&mut fed, revision);
    purge(&mut fed);
    let expected = fed.store.summary();
    fed.checkpoint();
    let log = fed.log.clone();
    drop(fed);
    let (after, changes) = rows(&path);
    assert_eq!((after[0], &after[2..4]), (before[0], &before[3..]), "untouched");
    assert_eq!(after.len(), 5, "{before:?} {after:?}");
    assert!(after[1] < before[2] / 2, "{before:?} {after:?}");
    assert_eq!(changes, 300 + per_row / 3);
    // What is useless in the file is of no use to whoever loads it, and goes later.
    let mut fed = Fed { store: KvStore::open(&path).unwrap(), log };
    assert_eq!(fed.store.summary(), expected);
    assert_eq!(contents(&restored(&fed.store).unwrap()), contents(&replayed(&fed.log)));
    for n in per_row / 3..per_row {
        fed.put(&format!("k{n:03}"), "");
    }
    write_newest(fed);
    assert_eq!(rows(&path).1, 300, "of each key one change");
}

/// Has all but the newest versions compacted, purged and gone from the file.
fn write_newest(mut fed: Fed) {
    let revision = fed.store.summary().revision.0;
    compact(&mut fed, revision);
    purge(&mut fed);
    fed.checkpoint();
}

/// Rows that came with a snapshot are known like those that were loaded: what becomes useless goes.
#[test]
fn rows_that_were_received_are_written_again() {
    let (directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for n in 0..300 {
        fed.op(put_bytes(&format!("k{n:03}"), Bytes::from(vec![7; 1000]))).unwrap();
    }
    fed.checkpoint();
    let other = directory.path().join("other.redb");
    let mut store = KvStore::open(&other).unwrap();
    store.restore(fed.store.snapshot().unwrap()).unwrap();
    let mut fed = Fed { store, log: fed.log };
    for n in 0..300 {
        fed.put(&format!("k{n:03}"), "");
    }
    write_newest(fed);
    assert_eq!(rows(&other).1, 300, "of each key one change");
}

/// A value that was deleted and compacted is still in its row, which is not worth writing again,
/// while its deletion never came into the file. The first version of this came up with the value
/// again.
#[test]
fn what_is_deleted_does_not_come_back() {
    let (directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for key in ["a", "b", "c", "d"] {
        fed.put(key, "1");
    }
    fed.checkpoint();
    fed.delete(one("c"));
    fed.put("e", "1");
    compact(&mut fed, 7);
    fed.checkpoint();
    let expected = fed.store.summary();
    assert_eq!(expected.keys, 4);
    assert_eq!(restored(&fed.store).unwrap().summary(), expected);
    let mut other = KvStore::open(&directory.path().join("other.redb")).unwrap();
    other.restore(fed.store.snapshot().unwrap()).unwrap();
    assert_eq!(other.summary(), expected);
    let log = fed.log.clone();
    drop(fed);
    assert_eq!(rows(&path).1, 5, "it is there and known to be useless");
    // That is known after a restart too, and when more of the row is.
    let mut fed = Fed { store: KvStore::open(&path).unwrap(), log };
    assert_eq!(fed.store.summary(), expected);
    fed.delete(between("b", "e"));
    fed.put("f", "1");
    compact(&mut fed, 9);
    fed.checkpoint();
    let (expected, log) = (fed.store.summary(), fed.log.clone());
    drop(fed);
    assert_eq!(rows(&path).1, 3, "more than half of it was useless");
    let fed = Fed { store: KvStore::open(&path).unwrap(), log };
    assert_eq!(fed.store.summary(), expected);
}

/// What opening says of a file in which a change is useless, after `tamper` was at the list of it.
fn opened(tamper: impl FnOnce(&mut Table<'_, (u64, u32), &'static [u8]>)) -> Result<u64, String> {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for n in 0..10 {
        fed.put(&n.to_string(), "1");
    }
    fed.checkpoint();
    fed.delete(one("3"));
    fed.put("other", "1");
    compact(&mut fed, 13);
    fed.checkpoint();
    drop(fed);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    tamper(&mut transaction.open_table(USELESS).unwrap());
    transaction.commit().unwrap();
    drop(database);
    KvStore::open(&path).map(|store| store.summary().keys).map_err(|error| error.to_string())
}

/// What says of a row that some of it is useless is checked like all else.
#[test]
fn a_list_of_what_is_useless_is_not_made_up_for() {
    let refused = |opened: Result<u64, String>, why: &str| {
        let text = opened.unwrap_err();
        assert!(text.contains(why), "{text}");
    };
    assert_eq!(opened(|_| ()), Ok(10));
    refused(opened(|table| drop(table.remove((2, 0)).unwrap())), "rows were exchanged");
    let moved = opened(|table| {
        let row = table.remove((2, 0)).unwrap().unwrap().value().to_vec();
        table.insert((3, 0), &row[..]).unwrap();
    });
    refused(moved, "a list of useless changes is damaged");
    let rotten = opened(|table| {
        let mut row = table.remove((2, 0)).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        table.insert((2, 0), &row[..]).unwrap();
    });
    refused(rotten, "a list of useless changes is damaged");
}

/// Rows that have become small are made one, so that there are not ever more of them.
#[test]
fn small_rows_are_merged() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    let keys = || (0..1000).map(|n| format!("{n:04}"));
    for key in keys() {
        fed.op(put_bytes(&key, vec![7; 1000].into())).unwrap();
    }
    fed.checkpoint();
    // One change in fifty stays.
    for key in keys().filter(|key| key[2..] != *"00" && key[2..] != *"50") {
        fed.delete(one(&key));
    }
    fed.put("0000", "again");
    let revision = fed.store.summary().revision.0;
    compact(&mut fed, revision);
    purge(&mut fed);
    fed.checkpoint();
    let log = fed.log.clone();
    drop(fed);
    let (lengths, changes) = rows(&path);
    // And a row of what was written last.
    assert_eq!((lengths.len(), changes), (2, 20), "{lengths:?}");
    let fed = Fed { store: KvStore::open(&path).unwrap(), log };
    assert_eq!(contents(&restored(&fed.store).unwrap()), contents(&replayed(&fed.log)));
}

/// The file does not grow with what was ever written, only with what is held.
#[test]
fn disk_is_used_again() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    let mut size_after_some = 0;
    for round in 0..60_u8 {
        for key in 0..100 {
            fed.op(put_bytes(&format!("k{}", (key * 37) % 100), vec![round; 2000].into())).unwrap();
        }
        let revision = fed.store.summary().revision.0;
        compact(&mut fed, revision - 50);
        fed.checkpoint();
        if round == 20 {
            size_after_some = fs::metadata(&path).unwrap().len();
        }
    }
    let size = fs::metadata(&path).unwrap().len();
    assert!(size <= size_after_some, "{size_after_some} bytes, then {size}");
    let fed = fed.crash(&path);
    assert_eq!(fed.store.summary().keys, 100);
}

/// A history with changes of every kind and some compactions.
fn eventful(step: usize) -> Action {
    let key = format!("k{}", step * 7 % 5);
    match step % 8 {
        7 => Action::Compact(Revision((step / 2) as u64)),
        3 => Action::Op(Op::Delete { keys: one(&key), prev_kv: false }),
        _ => Action::Op(put_bytes(&key, vec![step as u8; 5000].into())),
    }
}

/// The process ends at every point between two steps - an entry applied, a checkpoint begun, a
/// checkpoint written - of a history with compactions, and comes up again with what is in the file
/// and in the log. Nothing is lost, and the revision is what it was (etcd's issues 14685, 17780).
#[test]
fn a_crash_at_any_point_loses_nothing() {
    const STEPS: usize = 40;
    for crash_at in 0..STEPS {
        let (_directory, path) = scratch();
        let mut fed = Fed::at(&path);
        for step in 0..STEPS {
            let _ = fed.run(eventful(step));
            let before = fed.store.summary();
            let mut job = if step % 3 == 2 { fed.store.checkpoint() } else { None };
            if step == crash_at {
                // Every other time with the checkpoint written, if there is one.
                if let Some(job) = job.take().filter(|_| crash_at % 2 == 0) {
                    job().unwrap();
                }
                fed = fed.crash(&path);
                let after = fed.store.summary();
                assert_eq!(logical(after), logical(before), "step {step}");
            }
            if let Some(job) = job {
                job().unwrap();
            }
        }
        let fresh = replayed(&fed.log);
        assert_eq!(logical(fed.store.summary()), logical(fresh.summary()));
        fed.entry(Payload::Noop);
        fed.checkpoint();
        let copy = restored(&fed.store).unwrap();
        assert_eq!(contents(&copy), contents(&replayed(&fed.log)), "crash at {crash_at}");
    }
}

/// Without what depends on how far purging is.
fn logical(summary: Summary) -> Summary {
    Summary { bytes: 0, ..summary }
}

/// A snapshot of the file is what it was when it was begun, whatever is purged meanwhile.
#[test]
fn a_snapshot_is_not_disturbed_by_purging() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for step in 0..200 {
        let _ = fed.run(eventful(step));
    }
    fed.checkpoint();
    let snapshot = fed.store.snapshot().unwrap();
    let expected = contents(&restored(&fed.store).unwrap());
    let revision = fed.store.summary().revision.0;
    compact(&mut fed, revision);
    fed.checkpoint();
    let mut copy = KvStore::in_memory();
    let (meta, bytes) = bytes_of(snapshot);
    copy.restore(super::support::snapshot_of(&meta, &bytes)).unwrap();
    assert_eq!(contents(&copy), expected);
}

/// What a backup streams of a file in which some of what is left in the rows is useless.
#[test]
fn a_backup_after_a_compaction_is_whole() {
    let (_directory, path) = scratch();
    let mut fed = Fed::at(&path);
    for step in 0..110 {
        fed.put(&format!("{:03}", step % 100), "value");
    }
    fed.delete(between("000", "003"));
    fed.put("004", "of the revision that is compacted, which stays whole");
    fed.checkpoint();
    let revision = fed.store.summary().revision.0;
    compact(&mut fed, revision);
    purge(&mut fed);
    fed.checkpoint();
    let backup = fed.store.handle().check().snapshot().unwrap().expect("there is a checkpoint");
    let (meta, bytes) = bytes_of(backup);
    let info = BackupInfo::read(Cursor::new(bytes.clone())).unwrap();
    assert_eq!((info.keys, info.changes), (97, 97));
    assert_eq!((info.revision, info.compacted), (Revision(revision), Revision(revision)));
    let mut copy = KvStore::in_memory();
    copy.restore(super::support::snapshot_of(&meta, &bytes)).unwrap();
    assert_eq!(copy.summary(), fed.store.summary());
    drop(fed);
    assert!(rows(&path).1 > 97, "nothing useless was left in the file");
}

/// The handle is of the store, not of the state it has at the moment.
#[test]
fn a_handle_outlives_a_restore() {
    let (_directory, path) = scratch();
    let mut fed = Fed::in_memory();
    for step in 0..100 {
        let _ = fed.run(eventful(step));
    }
    let mut store = KvStore::open(&path).unwrap();
    let handle = store.handle();
    assert_eq!(handle.gauges().revision, Revision(1));
    store.restore(fed.store.snapshot().unwrap()).unwrap();
    let (gauges, summary) = (handle.gauges(), fed.store.summary());
    assert_eq!(
        (gauges.revision, gauges.keys, gauges.compacted, gauges.bytes),
        (summary.revision, summary.keys, summary.compacted, summary.bytes)
    );
    let mut other = Fed { store, log: fed.log };
    other.put("more", "1");
    assert_eq!(handle.gauges().revision.0, summary.revision.0 + 1);
}
