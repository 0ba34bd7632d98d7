//! What looks after a store: chunks of its keys that are equal where the keys are, and its file.

use super::support::{Fed, between, one, put, put_bytes, restored};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Index, Payload};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::fs;
use std::ops::ControlFlow;

fn point(key: &str) -> Point {
    Point::before(Bytes::copy_from_slice(key.as_bytes()))
}

fn chunk(revision: Option<u64>, start: &str, end: Option<&str>, keys: u32) -> Chunk {
    let (revision, floor) = (revision.map(Revision), None);
    Chunk { revision, floor, start: point(start), end: end.map(point), keys }
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

/// All chunks, from the first key to the last.
fn chunks(store: &KvStore, keys: u32) -> Vec<ChunkDigest> {
    let mut start = Point::default();
    let mut chunks = Vec::new();
    loop {
        let found = digest(store, Chunk { start, ..chunk(None, "", None, keys) }).unwrap();
        chunks.push(found.clone());
        match found.end {
            Some(end) => start = end,
            None => return chunks,
        }
    }
}

/// How many keys are in each, and where it ends.
fn ends(store: &KvStore, keys: u32) -> Vec<(u32, String)> {
    let end = |found: ChunkDigest| {
        let end = found.end.unwrap_or_default();
        (found.keys, String::from_utf8(end.key.to_vec()).unwrap())
    };
    chunks(store, keys).into_iter().map(end).collect()
}

fn roll(store: &KvStore, of: Roll, since: Option<Moment>) -> RollDigest {
    let part = RollPart { of, start: 0, end: None, since };
    codec::decode::<RollAnswer>(&store.query(&codec::encode(&Query::Roll(part)))).unwrap().unwrap()
}

fn compact(fed: &mut Fed) {
    let revision = fed.store.summary().revision;
    fed.run(Action::Compact(revision)).unwrap();
}

fn purge_pending(fed: &Fed) -> u64 {
    fed.store.handle().gauges().purge_pending
}

#[test]
fn chunks_end_after_so_many_keys_or_bytes() {
    let mut fed = filled(2500);
    let most = u32::MAX;
    let expected = [(1024, "01024"), (1024, "02048"), (452, "")];
    assert_eq!(ends(&fed.store, most), expected.map(|(keys, end)| (keys, end.to_owned())));
    assert_eq!(ends(&fed.store, 1000).len(), 3);
    // Keys that are gone count as long as they can be read, those that come do.
    fed.delete(between("00000", "00500"));
    assert_eq!(ends(&fed.store, most)[0], (1024, "01024".into()));
    compact(&mut fed);
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
    assert_eq!((same.keys, same.end.clone()), (10, Some(point("00020"))));
    assert_eq!(digest(&filled(100).store, asked()), Ok(same.clone()));
    // What comes later, or elsewhere, does not matter.
    let mut later = filled(100);
    later.put("00015", "other");
    later.delete(one("00012"));
    assert_eq!(digest(&later.store, asked()), Ok(same.clone()));
    let now = digest(&later.store, Chunk { revision: None, ..asked() }).unwrap();
    assert_eq!((now.keys, now.revision.0), (10, at + 2));
    assert_ne!(now.digest, same.digest);
    // The same values, put at another revision.
    let mut other = Fed::in_memory();
    for number in (0..100).rev() {
        other.put(&format!("{number:05}"), "value");
    }
    assert_ne!(digest(&other.store, asked()).unwrap().digest, same.digest);
    // A key too many is told by where it ends.
    let full = digest(&fed.store, chunk(Some(at), "00010", Some("00020"), 10)).unwrap();
    assert_eq!((full.keys, full.end), (10, Some(point("00020"))));
    let cut = digest(&fed.store, chunk(Some(at), "00010", Some("00020"), 9)).unwrap();
    assert_eq!((cut.keys, cut.end), (9, Some(point("00019"))));
}

#[test]
fn a_chunk_of_no_revision_there_is_is_refused() {
    let fed = filled(3);
    let error = digest(&fed.store, chunk(Some(99), "", None, 1)).unwrap_err();
    assert!(matches!(error, KvError::FutureRevision { .. }), "{error:?}");
    // Nonsense is bounded like anything else.
    let backwards = digest(&fed.store, chunk(None, "z", Some("a"), 0)).unwrap();
    assert_eq!((backwards.keys, backwards.end), (0, Some(point("a"))));
}

/// As long as an older version can be read, it is compared.
#[test]
fn every_version_that_can_be_read_counts() {
    let of = |value: &str| {
        let mut fed = filled(5);
        fed.put("00003", value);
        fed.put("00003", "newest");
        fed.delete(one("00004"));
        fed
    };
    let (mut a, mut b) = (of("1"), of("2"));
    let all = |fed: &Fed| digest(&fed.store, chunk(None, "", None, 1024)).unwrap();
    assert_ne!(all(&a).digest, all(&b).digest);
    // Of one key alone, too, and of a part of its versions.
    let at = Point { change: Some((Revision(7), 0)), ..point("00003") };
    let after = Point { change: Some((Revision(8), 0)), ..point("00003") };
    let of = |fed: &Fed, start: &Point, end: &Point| {
        let (start, end) = (start.clone(), Some(end.clone()));
        digest(&fed.store, Chunk { start, end, ..chunk(None, "", None, 9) }).unwrap().digest
    };
    assert_ne!(of(&a, &at, &after), of(&b, &at, &after));
    assert_eq!(of(&a, &point("00003"), &at), of(&b, &point("00003"), &at));
    assert_eq!(of(&a, &after, &point("00009")), of(&b, &after, &point("00009")));
    // Whoever has compacted it cannot say.
    compact(&mut a);
    let floor = Some(Revision(0));
    let refused = digest(&a.store, Chunk { floor, ..chunk(None, "", None, 9) }).unwrap_err();
    assert!(matches!(refused, KvError::Compacted { .. }), "{refused:?}");
    compact(&mut b);
    assert_eq!((all(&a).digest, all(&a).keys), (all(&b).digest, 4));
}

/// One member has purged what the other still holds: that makes no difference to anybody.
#[test]
fn how_much_was_purged_makes_no_difference() {
    let mut fed = filled(3000);
    for number in 0..3000 {
        fed.put(&format!("{number:05}"), "again");
    }
    fed.delete(between("00100", "01200"));
    let middle = fed.store.summary().revision;
    for number in 1000..2000 {
        fed.put(&format!("{number:05}"), "once more");
    }
    fed.delete(between("01900", "02100"));
    fed.run(Action::Compact(middle)).unwrap();
    assert!(purge_pending(&fed) > 1000, "{}", purge_pending(&fed));
    let other = restored(&fed.store).unwrap();
    assert!(other.summary().bytes < fed.store.summary().bytes);
    assert_eq!(chunks(&fed.store, 700), chunks(&other, 700));
    let purged = chunks(&other, 100);
    assert_eq!(purged, chunks(&fed.store, 100));
    let mut start = Point::default();
    for found in purged {
        let (revision, floor) = (Some(found.revision), Some(found.floor));
        let asked = Chunk { revision, floor, start, end: found.end.clone(), keys: 100 };
        assert_eq!(digest(&fed.store, asked), Ok(found.clone()));
        start = found.end.unwrap_or_default();
    }
}

#[test]
fn a_key_with_many_versions_takes_several_chunks() {
    let of = |odd: u32| {
        let mut fed = filled(2);
        for number in 0..25_000 {
            fed.put("00001", if number == odd { "odd" } else { "val" });
        }
        fed
    };
    let (all, other) = (chunks(&of(u32::MAX).store, 1024), chunks(&of(24_000).store, 1024));
    assert_eq!(all.len(), 3);
    for (place, found) in all[..2].iter().enumerate() {
        let end = found.end.as_ref().unwrap();
        assert_eq!((&end.key[..], end.change.is_some()), (&b"00001"[..], true));
        assert_eq!((found.keys, found), (2 - place as u32, &other[place]));
    }
    assert_ne!(all[2].digest, other[2].digest);
}

/// Deleted keys that were not purged yet cost time and say nothing.
#[test]
fn deleted_keys_are_looked_at_within_bounds() {
    const KEYS: u32 = 70_000;
    let mut fed = filled(KEYS);
    fed.delete(Keys::all());
    // The revision that is compacted stays whole.
    fed.put("zz", "later");
    compact(&mut fed);
    let part = digest(&fed.store, chunk(None, "", None, 1024)).unwrap();
    assert_eq!((part.keys, part.end.is_some()), (0, true));
    let to_end = || chunk(None, "", Some("z"), 1024);
    assert_eq!(digest(&fed.store, to_end()), Err(KvError::Overloaded));
    while purge_pending(&fed) > 0 {
        fed.entry(Payload::Noop);
    }
    assert_eq!(digest(&fed.store, to_end()).map(|found| found.keys), Ok(0));
}

#[test]
fn leases_and_sessions_are_told_by_number_and_those_that_change_are_left_out() {
    let mut fed = Fed::in_memory();
    let grant = |id| Action::Grant { id: Some(LeaseId(id)), ttl_ms: 60_000 };
    for id in [5, 9] {
        fed.run(grant(id)).unwrap();
    }
    let sessions = [fed.open_session(), fed.open_session()];
    let advance = |fed: &mut Fed, time_ms, renewed: &[u64]| {
        let (seen, since) = (Index(fed.log.len() as u64), fed.store.summary().stamped);
        let renewed = renewed.iter().copied().map(LeaseId).collect();
        fed.run(Action::Advance(Advance { time_ms, seen, since, renewed })).unwrap();
    };
    advance(&mut fed, 1_000, &[]);
    advance(&mut fed, 2_000, &[]);
    let ids =
        |found: &RollDigest| -> Vec<u64> { found.entries.iter().map(|(id, _)| *id).collect() };
    let before = [roll(&fed.store, Roll::Leases, None), roll(&fed.store, Roll::Sessions, None)];
    assert_eq!(ids(&before[0]), [5, 9]);
    assert_eq!(ids(&before[1]), sessions.map(|id| id.0));
    let copy = restored(&fed.store).unwrap();
    assert_eq!(roll(&copy, Roll::Leases, None), before[0]);
    assert_eq!(roll(&copy, Roll::Sessions, None), before[1]);

    let request = RequestId { session: sessions[1], seq: 1, unanswered_from: 1 };
    fed.command(Some(request), Action::Op(put("key", "value"))).unwrap();
    fed.run(grant(7)).unwrap();
    advance(&mut fed, 3_000, &[9]);
    let (leases, all) = (roll(&fed.store, Roll::Leases, Some(before[0].at)), before[0].clone());
    assert_eq!((leases.entries, leases.changed), (vec![all.entries[0]], vec![7, 9]));
    let later = roll(&fed.store, Roll::Sessions, Some(before[1].at));
    assert_eq!((later.entries, later.changed), (vec![before[1].entries[0]], vec![sessions[1].0]));
    // What has changed is another one.
    let now = [roll(&fed.store, Roll::Leases, None), roll(&fed.store, Roll::Sessions, None)];
    assert_eq!((ids(&now[0]), ids(&now[1])), (vec![5, 7, 9], sessions.map(|id| id.0).to_vec()));
    assert_ne!(now[0].entries[2], before[0].entries[1]);
    assert_ne!(now[1].entries[1], before[1].entries[1]);
}

#[test]
fn a_long_roll_comes_in_parts() {
    let mut fed = Fed::in_memory();
    for id in 1..=2_500 {
        fed.run(Action::Grant { id: Some(LeaseId(id)), ttl_ms: 60_000 }).unwrap();
    }
    let (mut start, mut parts) = (0, Vec::new());
    loop {
        let part = RollPart { of: Roll::Leases, start, end: None, since: None };
        let found = fed.store.query(&codec::encode(&Query::Roll(part.clone())));
        let found = codec::decode::<RollAnswer>(&found).unwrap().unwrap();
        let again = RollPart { end: found.end, since: Some(found.at), ..part };
        let again = fed.store.query(&codec::encode(&Query::Roll(again)));
        assert_eq!(codec::decode::<RollAnswer>(&again).unwrap(), Ok(found.clone()));
        parts.push(found.entries.len());
        match found.end {
            Some(end) => start = end,
            None => break,
        }
    }
    assert_eq!(parts, [1024, 1024, 452]);
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
