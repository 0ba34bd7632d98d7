//! Snapshots: the same state on the other side, or nothing.

use super::support::{
    Fed, bytes_of, contents, membership, one, put_bytes, replayed, restored, snapshot_of,
};
use raft_core::log_store::StorageError;
use raft_core::state_machine::{Snapshot, StateMachine};
use raft_core::types::{LogId, Payload, SnapshotMeta};
use raft_kv::api::*;
use raft_kv::store::KvStore;
use std::fs;
use std::io::{self, Read};

fn filled(fed: &mut Fed) {
    fed.entry(Payload::Membership(membership("a:1").into()));
    let session = fed.open_session();
    for n in 1..=5 {
        let request = Some(RequestId { session, seq: n, unanswered_from: 2 });
        let _ = fed.command(request, Action::Op(put_bytes(&format!("k{n}"), "value".into())));
    }
    fed.delete(one("k2"));
    fed.put("k3", "again");
}

#[test]
fn from_file_to_file_and_to_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut fed = Fed::at(&directory.path().join("a.redb"));
    filled(&mut fed);
    let meta = fed.checkpoint();
    fed.put("later", "is not in the snapshot");
    let expected = replayed(&fed.log[..meta.last.index.0 as usize]);

    let copy = restored(&fed.store).unwrap();
    assert_eq!(contents(&copy), contents(&expected));

    let path = directory.path().join("b.redb");
    let mut other = KvStore::open(&path).unwrap();
    other.restore(fed.store.snapshot().unwrap()).unwrap();
    assert_eq!((other.applied(), other.summary()), (meta.clone(), expected.summary()));
    drop(other);
    let other = KvStore::open(&path).unwrap();
    assert_eq!((other.applied(), other.summary()), (meta.clone(), expected.summary()));
    assert_eq!(contents(&restored(&other).unwrap()), contents(&expected));

    // It goes on from there, with checkpoints of its own.
    let mut other = Fed { store: other, log: fed.log[..meta.last.index.0 as usize].to_vec() };
    other.put("more", "1");
    other.checkpoint();
    let other = other.crash(&path);
    assert_eq!(other.store.summary(), replayed(&other.log).summary());
}

#[test]
fn a_restore_replaces_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.redb");
    let mut other = Fed::at(&path);
    for n in 0..100 {
        other.put(&format!("other{n}"), "1");
    }
    other.checkpoint();
    other.put("not", "checkpointed");
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    other.store.restore(fed.store.snapshot().unwrap()).unwrap();
    assert_eq!(other.store.summary(), fed.store.summary());
    assert!(other.store.checkpoint().is_none(), "it is durable already");
    drop(other.store);
    assert_eq!(KvStore::open(&path).unwrap().summary(), fed.store.summary());
}

#[test]
fn a_snapshot_stays_as_it_was_while_writing_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut fed = Fed::at(&directory.path().join("a.redb"));
    for n in 0..50 {
        fed.op(put_bytes(&format!("k{n}"), vec![n; 50_000].into())).unwrap();
    }
    let meta = fed.checkpoint();
    let Snapshot { meta: covered, mut data } = fed.store.snapshot().unwrap();
    assert_eq!(covered, meta);
    let mut bytes = vec![0; 100_000];
    data.read_exact(&mut bytes).unwrap();
    for _ in 0..3 {
        fed.delete(Keys::prefix("k1"));
        fed.put("k1", "new");
        fed.checkpoint();
    }
    data.read_to_end(&mut bytes).unwrap();
    let mut copy = KvStore::in_memory();
    copy.restore(snapshot_of(&meta, &bytes)).unwrap();
    assert_eq!(copy.summary(), replayed(&fed.log[..50]).summary());
    // And of a store in memory alike.
    let before = contents(&copy);
    let frozen = copy.snapshot().unwrap();
    let mut copy = Fed { store: copy, log: fed.log[..50].to_vec() };
    copy.put("k1", "newer");
    assert_eq!(bytes_of(frozen).1, before);
}

/// Every way to damage a stream a little.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let cut = (0..bytes.len()).map(|length| (format!("cut to {length}"), bytes[..length].to_vec()));
    let flipped = (0..bytes.len()).map(|at| {
        let mut copy = bytes.to_vec();
        copy[at] ^= 1 << (at % 8);
        (format!("flipped at {at}"), copy)
    });
    let longer = [("longer".into(), [bytes, &[0]].concat())];
    cut.chain(flipped).chain(longer)
}

#[test]
fn a_damaged_stream_is_refused_and_changes_nothing() {
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let mut other = Fed::in_memory();
    other.put("a", "1");
    let before = contents(&other.store);
    for (what, bytes) in damaged(&bytes) {
        let refused = other.store.restore(snapshot_of(&meta, &bytes));
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{what}: {refused:?}");
    }
    assert_eq!(contents(&other.store), before);
    other.store.restore(snapshot_of(&meta, &bytes)).unwrap();
}

#[test]
fn a_damaged_stream_leaves_the_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let mut other = Fed::at(&path);
    other.put("a", "1");
    other.checkpoint();
    other.put("b", "1");
    let before = other.store.summary();
    for (what, bytes) in damaged(&bytes).step_by(37) {
        let refused = other.store.restore(snapshot_of(&meta, &bytes));
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{what}: {refused:?}");
        assert!(!directory.path().join("kv.redb.restore").exists(), "{what}");
    }
    assert_eq!(other.store.summary(), before);
    // What was applied and not yet written still gets into the next checkpoint.
    other.checkpoint();
    let other = other.crash(&path);
    assert_eq!(other.store.summary(), before);
}

/// A blank store takes the state in while it writes the file: nothing of either may stay.
#[test]
fn a_damaged_stream_leaves_a_blank_store_blank() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let mut store = KvStore::open(&path).unwrap();
    let before = store.summary();
    for (what, bytes) in damaged(&bytes).step_by(37) {
        let refused = store.restore(snapshot_of(&meta, &bytes));
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{what}: {refused:?}");
        assert!(!directory.path().join("kv.redb.restore").exists(), "{what}");
        assert_eq!(store.summary(), before, "{what}");
    }
    drop(store);
    let mut store = KvStore::open(&path).unwrap();
    assert_eq!(store.summary(), before);
    store.restore(snapshot_of(&meta, &bytes)).unwrap();
    assert_eq!(store.summary(), fed.store.summary());
    assert!(store.checkpoint().is_none(), "it is durable already");
}

/// More rows than are read ahead of those that are written.
#[test]
fn a_long_stream_is_taken_in_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let mut fed = Fed::in_memory();
    for number in 0..200 {
        fed.put(&format!("key{number}"), &"value".repeat(10_000));
    }
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    for from_end in [1, 60_000, 3_000_000] {
        let mut store = KvStore::open(&directory.path().join(format!("{from_end}"))).unwrap();
        let before = store.summary();
        let mut damaged = bytes.clone();
        let at = damaged.len() - from_end;
        damaged[at] ^= 1;
        let refused = store.restore(snapshot_of(&meta, &damaged));
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{from_end}: {refused:?}");
        assert_eq!(store.summary(), before);
        store.restore(snapshot_of(&meta, &bytes)).unwrap();
        assert_eq!(contents(&store), contents(&fed.store));
    }
}

#[test]
fn a_stream_of_another_kind_is_refused() {
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    let mut store = KvStore::in_memory();
    let mut newer = bytes.clone();
    newer[8] = 6;
    let error = store.restore(snapshot_of(&meta, &newer)).unwrap_err();
    assert!(matches!(error, StorageError::Stream(_)), "{error}");
    assert!(error.to_string().contains("a newer version of this program"), "{error}");
    newer[8] = 0;
    let error = store.restore(snapshot_of(&meta, &newer)).unwrap_err();
    assert!(matches!(error, StorageError::Stream(_)), "{error}");
    let error = store.restore(snapshot_of(&meta, b"GIF89a, not a snapshot")).unwrap_err();
    assert!(matches!(error, StorageError::Stream(_)), "{error}");
    let other = SnapshotMeta { last: LogId::new(9, 9), ..meta };
    let error = store.restore(snapshot_of(&other, &bytes)).unwrap_err();
    assert!(matches!(error, StorageError::Stream(_)), "{error}");
}

/// A reader that gives `bytes` and then fails.
struct Broken(io::Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_fault_of_storage() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = Fed::at(&directory.path().join("kv.redb"));
    other.put("a", "1");
    let before = other.store.summary();
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    for length in [0, 5, 30, bytes.len() / 2, bytes.len()] {
        let data = Box::new(Broken(io::Cursor::new(bytes[..length].to_vec())));
        let refused = other.store.restore(Snapshot { meta: meta.clone(), data });
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{length}: {refused:?}");
    }
    assert_eq!(other.store.summary(), before);
}

#[test]
fn storage_that_fails_is_no_fault_of_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = Fed::at(&directory.path().join("kv.redb"));
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    fs::create_dir(directory.path().join("kv.redb.restore")).unwrap();
    let refused = other.store.restore(fed.store.snapshot().unwrap());
    assert!(matches!(refused, Err(StorageError::Io { .. })), "{refused:?}");
}

#[test]
fn a_length_alone_reserves_nothing() {
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, mut bytes) = bytes_of(fed.store.snapshot().unwrap());
    bytes[11..15].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = KvStore::in_memory().restore(snapshot_of(&meta, &bytes)).unwrap_err();
    assert!(error.to_string().contains("frame of 4294967295 bytes"), "{error}");
}

#[test]
fn a_stream_with_a_frame_left_out_is_refused() {
    let mut fed = Fed::in_memory();
    filled(&mut fed);
    let (meta, bytes) = bytes_of(fed.store.snapshot().unwrap());
    // Magic and version, then frames of kind, length and payload.
    let mut frames = Vec::new();
    let mut at = 10;
    while bytes[at] != 0 {
        let length = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        frames.push(at..at + 5 + length);
        at += 5 + length;
    }
    assert_eq!(frames.len(), 3, "header, changes, session");
    for (frame, expected) in [(1, "0 changes where 6"), (2, "0 sessions where 1")] {
        let mut shorter = bytes[..at + 1].to_vec();
        shorter.drain(frames[frame].clone());
        let checksum = xxhash_rust::xxh3::xxh3_64(&shorter);
        shorter.extend_from_slice(&checksum.to_le_bytes());
        let error = KvStore::in_memory().restore(snapshot_of(&meta, &shorter)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
