//! What watches are told by a store, before and after it is loaded from what it has written.

use super::support::{Fed, one, put, read, restored};
use raft_core::state_machine::StateMachine;
use raft_kv::api::*;
use raft_kv::codec::decode_sequence;
use raft_kv::service::{LocalWatches, WatchOptions};
use raft_kv::store::KvStore;

/// What a watch of everything from `from` on is told.
fn told(store: &KvStore, from: u64) -> Result<Vec<Event>, KvError> {
    let watches = LocalWatches::new(&store.handle(), WatchOptions::default());
    let mut stream = watches.open();
    let watch = Watch { from: Some(Revision(from)), prev_kv: true, ..Watch::of(Keys::all()) };
    stream.ask(&WatchRequest::Create(WatchId(1), watch)).unwrap();
    let mut told = Vec::new();
    while let Some(frame) = stream.say() {
        for reply in decode_sequence::<WatchReply>(&frame) {
            match reply.unwrap() {
                WatchReply::Created(..) => {}
                WatchReply::Events { events, .. } => told.extend(events),
                WatchReply::Canceled(_, Some(error)) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(told)
}

/// Everything that watches and reads are answered at and about this revision.
fn answers(store: &KvStore, at: u64) -> impl PartialEq + std::fmt::Debug + use<> {
    [at - 1, at, at + 1].map(|revision| {
        let range = Range { revision: Some(Revision(revision)), ..Range::of(Keys::all()) };
        (told(store, revision), read(store, range))
    })
}

/// Members that have compacted alike answer alike, be they running all the time, started again,
/// sent a snapshot, or both: from the very revision that was compacted everything is told, as etcd
/// does, and below it nothing.
#[test]
fn all_answer_alike_at_the_revision_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv.redb");
    let mut fed = Fed::at(&path);
    for key in ["a", "b", "c", "d"] {
        fed.put(key, "1");
    }
    // Of one revision: a key that comes and goes, one that goes, one that is set again.
    let nested = |ops| Op::Txn(Txn { success: ops, ..Txn::default() }.into());
    let delete = |key| Op::Delete { keys: one(key), prev_kv: false };
    let success =
        vec![nested(vec![put("e", "1")]), nested(vec![delete("e")]), delete("b"), put("c", "2")];
    fed.txn(Txn { success, ..Txn::default() }).unwrap();
    fed.delete(one("a"));
    fed.put("b", "2");
    for (compacted, events) in [(6, 6), (7, 2), (8, 1)] {
        fed.run(Action::Compact(Revision(compacted))).unwrap();
        let expected = answers(&fed.store, compacted);
        assert_eq!(told(&fed.store, compacted).unwrap().len(), events);
        assert!(told(&fed.store, compacted - 1).is_err());
        // From a file that is written on, and from what was sent, also once that is read back.
        fed.checkpoint();
        assert_eq!(answers(&restored(&fed.store).unwrap(), compacted), expected);
        let to = directory.path().join(format!("{compacted}.redb"));
        let mut other = KvStore::open(&to).unwrap();
        other.restore(fed.store.snapshot().unwrap()).unwrap();
        assert_eq!(answers(&other, compacted), expected);
        drop(other);
        assert_eq!(answers(&KvStore::open(&to).unwrap(), compacted), expected);
        fed = fed.crash(&path);
        assert_eq!(answers(&fed.store, compacted), expected);
    }
    // Nothing of it is kept for ever.
    fed.put("f", "1");
    fed.run(Action::Compact(Revision(9))).unwrap();
    let Summary { bytes, keys, .. } = fed.store.summary();
    assert_eq!((bytes, keys), (4 * (32 + 64 + 2), 4));
}
