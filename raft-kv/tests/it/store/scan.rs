//! Reads in parts: as if all of it was read at once, and nothing has to wait for that.

use super::support::{Fed, one, read, replayed};
use raft_core::state_machine::StateMachine;
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::{FIRST_PART_KEYS_MAX, KvStore, PART_KEYS_MAX};

/// Keys of the store, more than two parts of them.
const KEYS: u64 = 2 * (PART_KEYS_MAX + FIRST_PART_KEYS_MAX);

fn key(number: u64) -> String {
    format!("k{number:06}")
}

/// A store with so many keys, of which every tenth is deleted again.
fn filled() -> Fed {
    let mut fed = Fed::in_memory();
    let numbers: Vec<u64> = (0..KEYS).collect();
    for some in numbers.chunks(100) {
        let put = |number: &u64| {
            // The values are in another order than the keys.
            let value = format!("{:06}", number * 7919 % KEYS);
            Op::Put(Put::new(key(*number), value))
        };
        let success = some.iter().map(put).collect();
        fed.txn(Txn { success, ..Txn::default() }).unwrap();
    }
    for number in (0..KEYS).step_by(10) {
        fed.delete(one(&key(number)));
    }
    fed
}

/// Reads in parts, and does `between` after each; the answer, and how many parts there were.
fn scanned(fed: &mut Fed, range: Range, mut between: impl FnMut(&mut Fed)) -> (RangeAnswer, u64) {
    let scan = fed.store.handle().begin_scan(range);
    for parts in 1.. {
        let answer = fed.store.query(&scan.query());
        if !answer.is_empty() {
            return (codec::decode(&answer).unwrap(), parts);
        }
        between(fed);
    }
    unreachable!("an answer comes")
}

/// What a read sees that goes through everything at once.
fn at_once(store: &KvStore, range: &Range) -> RangeAnswer {
    read(store, range.clone())
}

#[test]
fn a_read_in_parts_sees_one_revision_whatever_is_written_meanwhile() {
    let mut fed = filled();
    let before = fed.store.summary().revision;
    let all = || Range::of(Keys::prefix("k"));
    let order = |by, descending| Some(Order { by, descending });
    let filter = Filter { min_mod_revision: Some(Revision(200)), ..Filter::NONE };
    let mut number = 0;
    for (range, least) in [
        // Before anything is changed that it would find early.
        (Range { filter, limit: 5, ..all() }, 3),
        (Range { count_only: true, ..all() }, 3),
        (Range { count_all: true, limit: 3, ..all() }, 3),
        (Range { order: order(OrderBy::Value, false), limit: 10, ..all() }, 3),
        (Range { order: order(OrderBy::ModRevision, true), ..all() }, 3),
        (Range { order: order(OrderBy::Key, true), ..all() }, 2),
        (Range { order: order(OrderBy::Key, true), filter, count_all: true, ..all() }, 3),
        (all(), 2),
        (Range { keys_only: true, limit: 5, ..all() }, 1),
        (Range { revision: Some(Revision(before.0 - 100)), count_only: true, ..all() }, 3),
    ] {
        let whole = at_once(&replayed(&fed.log), &range);
        let (answer, parts) = scanned(&mut fed, range.clone(), |fed| {
            // Somewhere in what was read, and in what is still to be read.
            number += 1;
            fed.put(&key(number), "changed");
            fed.put(&format!("{}+", key(KEYS - number * 10)), "new");
            fed.delete(one(&key(KEYS / 2 + number)));
        });
        assert!(parts >= least, "{parts} parts of {range:?}");
        assert_eq!(answer, whole, "{range:?}");
    }
}

/// The measure of how long what is applied waits for a read.
#[test]
fn no_query_of_a_read_in_parts_goes_through_more_keys_than_a_part_has() {
    let mut fed = filled();
    let at_once = replayed(&fed.log);
    for range in [
        Range { count_only: true, ..Range::of(Keys::all()) },
        Range {
            order: Some(Order { by: OrderBy::Value, descending: false }),
            limit: 1,
            ..Range::of(Keys::all())
        },
    ] {
        read(&at_once, range.clone()).unwrap();
        let (answer, parts) = scanned(&mut fed, range, |_| {});
        answer.unwrap();
        assert_eq!(parts, 4, "the first, two whole ones, and the rest");
    }
    assert_eq!(at_once.handle().keys_at_once(), KEYS);
    assert_eq!(fed.store.handle().keys_at_once(), PART_KEYS_MAX);
    // What is deleted but not purged has to be gone through, too.
    fed.delete(Keys::prefix("k"));
    let (answer, parts) = scanned(&mut fed, Range { limit: 1, ..Range::of(Keys::all()) }, |_| {});
    assert_eq!((answer.unwrap().kvs.len(), parts), (0, 4));
    assert_eq!(fed.store.handle().keys_at_once(), PART_KEYS_MAX);
}

#[test]
fn small_reads_end_with_the_first_part() {
    let mut fed = Fed::in_memory();
    for number in 0..FIRST_PART_KEYS_MAX - 1 {
        fed.put(&key(number), "");
    }
    let (answer, parts) = scanned(&mut fed, Range::of(Keys::all()), |_| {});
    assert_eq!((answer.unwrap().kvs.len() as u64, parts), (FIRST_PART_KEYS_MAX - 1, 1));
    let (answer, parts) = scanned(&mut fed, Range::of(one(&key(7))), |_| {});
    assert_eq!((answer.unwrap().kvs.len(), parts), (1, 1));
}

/// What it had begun to read is gone: a read of what is there now begins anew, one of the past is
/// told.
#[test]
fn a_compaction_meanwhile_is_seen() {
    let mut fed = filled();
    let count = |revision| Range { count_only: true, revision, ..Range::of(Keys::prefix("k")) };
    let compact = |fed: &mut Fed| {
        let revision = fed.put("k", "one more");
        fed.run(Action::Compact(Revision(revision))).unwrap();
    };
    let mut times = 2;
    let (answer, _) = scanned(&mut fed, count(None), |fed| {
        if times > 0 {
            times -= 1;
            compact(fed);
        }
    });
    let now = at_once(&replayed(&fed.log), &count(None));
    assert_eq!(answer, now);
    // Somebody who does nothing else.
    let (answer, _) = scanned(&mut fed, count(None), compact);
    assert_eq!(answer, Err(KvError::Overloaded));
    let past = fed.store.summary().revision;
    let (answer, _) = scanned(&mut fed, count(Some(past)), compact);
    let compacted = fed.store.summary().compacted;
    assert_eq!(answer, Err(KvError::Compacted { requested: past, compacted }));
}

#[test]
fn what_cannot_be_read_is_refused_at_once() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let future = Range { revision: Some(Revision(9)), ..Range::of(Keys::all()) };
    let (answer, parts) = scanned(&mut fed, future, |_| {});
    let error = KvError::FutureRevision { requested: Revision(9), current: Revision(2) };
    assert_eq!((answer, parts), (Err(error), 1));
    // Nobody waits for one that was dropped.
    let scan = fed.store.handle().begin_scan(Range::of(Keys::all()));
    let query = scan.query();
    drop(scan);
    let answer: RangeAnswer = codec::decode(&fed.store.query(&query)).unwrap();
    assert_eq!(answer, Err(KvError::Malformed("no such read".into())));
}
