//! The state of the store: the commands that make it, its snapshots and its file.

use super::disk::Disk;
use super::target::Target;
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{Snapshot, StateMachine};
use raft_core::types::{
    Entry, LogId, Member, Membership, NodeId, Payload, Run, SnapshotMeta, Version,
};
use raft_kv::api::{Action, Command, Keys, Op, Put};
use raft_kv::codec::encode;
use raft_kv::store::{BackupInfo, KvStore};
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "kv_apply", run: apply, mutants: 100 },
    Target { name: "kv_snapshot", run: snapshot, mutants: 200 },
    Target { name: "kv_file", run: file, mutants: 5 },
];

const MAGIC: &[u8; 8] = b"raft-kv\n";

/// Commands, each behind its length (two bytes), of any version. One after the other or all at
/// once, they come to the same state, which survives a snapshot.
fn apply(bytes: &[u8]) -> bool {
    let mut entries = vec![first_entry()];
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((command, tail)) = tail.split_at_checked(length) else { return false };
        let payload = Payload::Command(Bytes::copy_from_slice(command));
        entries.push(Entry { id: LogId::new(entries.len() as u64 + 1, 1), payload });
        rest = tail;
    }
    let (mut one_by_one, mut at_once) = (KvStore::in_memory(), KvStore::in_memory());
    let run = |entries: &[Entry]| Run::new(entries.to_vec()).expect("there are entries");
    let replies: Vec<Bytes> =
        entries.chunks(1).flat_map(|entry| one_by_one.apply(&run(entry))).collect();
    assert_eq!(at_once.apply(&run(&entries)), replies);
    assert_eq!(contents(&one_by_one), contents(&at_once));
    let restored = restored(contents(&at_once)).expect("a snapshot of its own");
    assert_eq!(contents(&restored), contents(&at_once));
    rest.is_empty()
}

/// What a store is told first.
fn first_entry() -> Entry {
    let member = |id| (NodeId(id), Member::new(format!("n{id}:1")));
    let membership = Membership::of_voters([1, 2].map(member).into());
    Entry { id: LogId::new(1, 1), payload: Payload::Membership(membership.into()) }
}

/// What a store holds, as a snapshot.
fn contents(store: &KvStore) -> (SnapshotMeta, Vec<u8>) {
    let Snapshot { meta, mut data } = store.snapshot().expect("a store in memory has one");
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("it is in memory");
    (meta, bytes)
}

fn restored((meta, bytes): (SnapshotMeta, Vec<u8>)) -> Result<KvStore, StorageError> {
    let mut store = KvStore::in_memory();
    store.restore(Snapshot { meta, data: Box::new(Cursor::new(bytes)) })?;
    Ok(store)
}

/// A snapshot or a backup: as it is if the first byte is 0, else put together with the right
/// checksums of what follows: the version (two bytes), then frames, each a kind (one byte), the
/// length of its body (two bytes), and the body. What is taken can be worked with.
fn snapshot(bytes: &[u8]) -> bool {
    let stream = match bytes.split_first() {
        Some((0, stream)) => stream.to_vec(),
        Some((_, told)) => match sealed(told) {
            Some(stream) => stream,
            None => return false,
        },
        None => return false,
    };
    let Ok(info) = BackupInfo::read(Cursor::new(stream.clone())) else {
        assert!(restored((SnapshotMeta::default(), stream)).is_err(), "a backup would refuse it");
        return false;
    };
    let mut store = restored((info.meta.clone(), stream)).expect("the backup is whole");
    assert_eq!(store.applied(), info.meta);
    let again = contents(&store);
    assert_eq!(contents(&restored(again.clone()).expect("its own")), again);
    let last = info.meta.last;
    let (put, delete) =
        (Op::Put(Put::new("key", "value")), Op::Delete { keys: Keys::all(), prev_kv: true });
    for (op, index) in [put, delete].into_iter().zip(last.index.0 + 1..) {
        let command = Command { request: None, fence: None, action: Action::Op(op) };
        let payload = Payload::Command(encode(&command));
        let entry = Entry { id: LogId::new(index, last.term.0), payload };
        store.apply(&Run::new(vec![entry]).expect("one entry"));
    }
    true
}

/// A stream, put together of what [`snapshot`] is given.
pub(crate) fn sealed(told: &[u8]) -> Option<Vec<u8>> {
    let (version, mut rest) = told.split_first_chunk::<2>()?;
    let mut stream = [&MAGIC[..], version].concat();
    while let Some(([kind, l0, l1], tail)) = rest.split_first_chunk::<3>() {
        let length = u16::from_le_bytes([*l0, *l1]);
        let (body, tail) = tail.split_at_checked(length.into())?;
        stream.push(*kind);
        stream.extend_from_slice(&(u32::from(length) + 8).to_le_bytes());
        stream.extend_from_slice(&xxh3_64(body).to_le_bytes());
        stream.extend_from_slice(body);
        rest = tail;
    }
    stream.push(0);
    let sum = xxh3_64(&stream);
    stream.extend_from_slice(&sum.to_le_bytes());
    rest.is_empty().then_some(stream)
}

/// What [`sealed`] has to be told for `stream`.
pub(crate) fn told(stream: &[u8]) -> Vec<u8> {
    let mut told = stream[8..10].to_vec();
    let mut rest = &stream[10..];
    // What ends a stream is longer than what begins a frame.
    while let Some(([kind, length @ ..], tail)) = rest.split_first_chunk::<5>()
        && *kind != 0
    {
        let length = u32::from_le_bytes(*length) as usize;
        told.push(*kind);
        told.extend_from_slice(&u16::try_from(length - 8).expect("a small one").to_le_bytes());
        told.extend_from_slice(&tail[8..length]);
        rest = &tail[length..];
    }
    told
}

/// The file of a store and what the store holds.
fn example() -> &'static (Vec<u8>, SnapshotMeta, u64) {
    static EXAMPLE: OnceLock<(Vec<u8>, SnapshotMeta, u64)> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let dir = TempDir::new().expect("a directory");
        let path = dir.path().join("kv.redb");
        let mut store = KvStore::open(&path).expect("a new store");
        store.apply(&Run::new(vec![first_entry()]).expect("one entry"));
        for index in 2..60 {
            let put = Put::new(format!("key{}", index % 20), vec![index as u8; 300]);
            let action =
                if index % 7 == 0 { Action::OpenSession } else { Action::Op(Op::Put(put)) };
            let command = encode(&Command { request: None, fence: None, action });
            let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
            store.apply(&Run::new(vec![entry]).expect("one entry"));
            if index % 20 == 0 {
                let job = store.checkpoint().expect("there is something new");
                job().expect("a healthy disk");
            }
        }
        let job = store.checkpoint().expect("there is something new");
        let meta = job().expect("a healthy disk");
        let hash = store.summary().state_hash;
        drop(store);
        (fs::read(path).expect("the file of the store"), meta, hash)
    })
}

/// A file changed at places (three bytes each) by flipping bits (one byte); 0 cuts it off. Whether
/// it opens or not; if it does, nothing is lost.
fn file(bytes: &[u8]) -> bool {
    let (whole, meta, hash) = example();
    let mut file = whole.clone();
    for change in bytes.chunks_exact(4) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        if file.is_empty() {
            return false;
        }
        let place = place % file.len();
        match change[3] {
            0 => file.truncate(place),
            flipped => file[place] ^= flipped,
        }
    }
    if file.is_empty() {
        // To an empty file a store begins anew.
        return false;
    }
    match KvStore::with_backend(Path::new("kv.redb"), Disk::of(&file)) {
        Ok(store) => {
            assert_eq!((store.applied(), store.summary().state_hash), (meta.clone(), *hash))
        }
        Err(StorageError::Corrupt(_) | StorageError::Format(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
    true
}

/// The versions that snapshots are kept of.
pub(crate) fn versions() -> impl Iterator<Item = Version> {
    // The newest has users and roles, and memberships as before.
    (Version::OLDEST.0..=Version::CURRENT.0 + 1).map(Version)
}
