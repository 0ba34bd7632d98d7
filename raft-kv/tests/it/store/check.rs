//! What looks after a store: chunks of its keys that are equal where the keys are, and its file.

use super::support::{Fed, between, one, put_bytes};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::StateMachine;
use raft_core::types::Index;
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::fs;
use std::ops::ControlFlow;

fn chunk(revision: Option<u64>, start: &str, end: Option<&str>, keys: u32) -> Chunk {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Chunk { revision: revision.map(Revision), start: bytes(start), end: end.map(bytes), keys }
}

fn digest(store: &KvStore, chunk: Chunk) -> ChunkAnswer {
    codec::decode(&store.query(&codec::encode(&Query::Chunk(chunk)))).unwrap()
}

fn hashes(store: &KvStore, at: &[u64]) -> Hashes {
    let at = at.iter().copied().map(Index).collect();
    codec::decode(&store.query(&codec::encode(&Query::Hashes(at)))).unwrap()
}

fn filled(keys: u32) -> Fed {
    let mut fed = Fed::in_memory();
    for number in 0..keys {
        fed.put(&format!("{number:05}"), "value");
    }
    fed
}

/// Where chunks end, from the first key to the last.
fn ends(store: &KvStore, keys: u32) -> Vec<(u32, String)> {
    let mut start = Bytes::new();
    let mut ends = Vec::new();
    loop {
        let found = digest(store, Chunk { start, ..chunk(None, "", None, keys) }).unwrap();
        let end = found.end.clone().unwrap_or_default();
        ends.push((found.keys, String::from_utf8(end.to_vec()).unwrap()));
        match found.end {
            Some(end) => start = end,
            None => return ends,
        }
    }
}

#[test]
fn chunks_end_after_so_many_keys_or_bytes() {
    let mut fed = filled(2500);
    let most = u32::MAX;
    let expected = [(1024, "01024"), (1024, "02048"), (452, "")];
    assert_eq!(ends(&fed.store, most), expected.map(|(keys, end)| (keys, end.to_owned())));
    assert_eq!(ends(&fed.store, 1000).len(), 3);
    // Keys that are gone do not count, those that come do.
    fed.delete(between("00000", "00500"));
    assert_eq!(ends(&fed.store, most)[0], (1024, "01524".into()));
    for number in 0..4 {
        let value = Bytes::from(vec![7; 400 * 1024]);
        fed.op(put_bytes(&format!("00{number}"), value)).unwrap();
    }
    assert_eq!(ends(&fed.store, most)[0], (3, "003".into()));
    assert_eq!(ends(&filled(0).store, most), [(0, String::new())]);
}

#[test]
fn a_chunk_tells_every_difference_in_it_and_none_outside() {
    let fed = filled(100);
    let at = fed.store.summary().revision.0;
    let asked = || chunk(Some(at), "00010", Some("00020"), 1024);
    let same = digest(&fed.store, asked()).unwrap();
    assert_eq!((same.keys, same.end.as_deref()), (10, Some(&b"00020"[..])));
    assert_eq!(digest(&filled(100).store, asked()), Ok(same.clone()));
    // What comes later, or elsewhere, does not matter.
    let mut later = filled(100);
    later.put("00015", "other");
    later.delete(one("00012"));
    assert_eq!(digest(&later.store, asked()), Ok(same.clone()));
    let now = digest(&later.store, Chunk { revision: None, ..asked() }).unwrap();
    assert_eq!((now.keys, now.revision.0), (9, at + 2));
    assert_ne!(now.digest, same.digest);
    // The same values, put at another revision.
    let mut other = Fed::in_memory();
    for number in (0..100).rev() {
        other.put(&format!("{number:05}"), "value");
    }
    assert_ne!(digest(&other.store, asked()).unwrap().digest, same.digest);
    // A key too many is told by where it ends.
    let full = digest(&fed.store, chunk(Some(at), "00010", Some("00020"), 10)).unwrap();
    assert_eq!((full.keys, full.end.as_deref()), (10, Some(&b"00020"[..])));
    let cut = digest(&fed.store, chunk(Some(at), "00010", Some("00020"), 9)).unwrap();
    assert_eq!((cut.keys, cut.end.as_deref()), (9, Some(&b"00019"[..])));
}

#[test]
fn a_chunk_of_no_revision_there_is_is_refused() {
    let fed = filled(3);
    let error = digest(&fed.store, chunk(Some(99), "", None, 1)).unwrap_err();
    assert!(matches!(error, KvError::FutureRevision { .. }), "{error:?}");
    // Nonsense is bounded like anything else.
    let backwards = digest(&fed.store, chunk(None, "z", Some("a"), 0)).unwrap();
    assert_eq!((backwards.keys, backwards.end.as_deref()), (0, Some(&b"a"[..])));
}

#[test]
fn hashes_are_kept_by_entry_and_begin_with_what_was_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    assert_eq!(hashes(&fed.store, &[0]).newest, Index(0));
    let mut expected = Vec::new();
    for number in 0..10 {
        fed.put("key", &number.to_string());
        expected.push(Some(fed.hash()));
    }
    let all = hashes(&fed.store, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!((all.oldest, all.dense, all.newest), (Index(1), Index(1), Index(10)));
    assert_eq!(all.at, expected);
    assert!(all.sound);
    fed.checkpoint();
    fed.put("key", "later");
    let fed = fed.crash(&path);
    let rest = hashes(&fed.store, &[9, 10, 11, 12]);
    assert_eq!(rest.oldest, Index(10));
    assert_eq!(rest.at, [None, expected[9], Some(fed.hash()), None]);
}

#[test]
fn a_store_that_is_not_trusted_makes_no_snapshots() {
    let mut fed = filled(3);
    fed.store.snapshot().unwrap();
    fed.store.handle().check().clone().distrust();
    assert!(fed.store.snapshot().is_err());
    assert!(!hashes(&fed.store, &[]).sound);
    // It goes on applying: what it has acknowledged counts.
    fed.put("key", "value");
}

/// What the engine has in its cache is not read again, so this takes a file larger than that.
#[test]
fn what_rots_in_the_file_is_found_by_reading_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    let check = fed.store.handle().check().clone();
    let whole = |pace| check.read_back(|_| pace);
    assert!(!whole(ControlFlow::Continue(())).unwrap(), "there is nothing yet");
    for number in 0..80_u8 {
        let value = Bytes::from(vec![number; 1024 * 1024]);
        fed.op(put_bytes(&format!("{number}"), value)).unwrap();
    }
    fed.checkpoint();
    assert!(whole(ControlFlow::Continue(())).unwrap());
    assert!(!whole(ControlFlow::Break(())).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    // Whichever of them the engine reads from the file.
    for page in bytes.chunks_exact_mut(256 * 1024) {
        if page[0] != 0 && page[..8] == [page[0]; 8] {
            page[4] ^= 1;
        }
    }
    fs::write(&path, bytes).unwrap();
    let error = whole(ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(&error, StorageError::Corrupt(_)), "{error:?}");
    // It does not keep the file open.
    drop(fed);
    assert!(!whole(ControlFlow::Continue(())).unwrap());
}
