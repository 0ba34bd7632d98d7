//! Orders, filters and counts of reads, as etcd has them.

use super::support::{Fed, one, put_bytes};
use bytes::Bytes;
use raft_kv::api::*;

/// Keys of which every number differs: (create, mod, version, value) of a is (2, 8, 3, "2"), of b
/// (3, 3, 1, "9"), of c (4, 7, 2, "5"), of d (6, 6, 1, "5").
fn filled() -> Fed {
    let mut fed = Fed::in_memory();
    for (key, value) in
        [("a", "0"), ("b", "9"), ("c", "0"), ("a", "1"), ("d", "5"), ("c", "5"), ("a", "2")]
    {
        fed.put(key, value);
    }
    fed
}

/// The keys found, whether there are more, and the count.
fn found(fed: &Fed, range: Range) -> (String, bool, u64) {
    let reply = fed.read(range).unwrap();
    let keys = reply.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
    (keys.collect(), reply.more, reply.count)
}

fn ordered(by: OrderBy, descending: bool) -> Range {
    Range { order: Some(Order { by, descending }), ..Range::of(Keys::all()) }
}

#[test]
fn every_order() {
    let fed = filled();
    for (by, ascending, descending) in [
        (OrderBy::Key, "abcd", "dcba"),
        (OrderBy::Version, "bdca", "acbd"),
        (OrderBy::CreateRevision, "abcd", "dcba"),
        (OrderBy::ModRevision, "bdca", "acdb"),
        (OrderBy::Value, "acdb", "bcda"),
    ] {
        let all = |keys: &str| (keys.to_owned(), false, 4);
        assert_eq!(found(&fed, ordered(by, false)), all(ascending), "{by:?}");
        assert_eq!(found(&fed, ordered(by, true)), all(descending), "{by:?}, descending");
    }
}

#[test]
fn a_limit_holds_after_the_order() {
    let fed = filled();
    let limited = |by, limit| Range { limit, ..ordered(by, true) };
    assert_eq!(found(&fed, limited(OrderBy::ModRevision, 2)), ("ac".into(), true, 2));
    assert_eq!(found(&fed, limited(OrderBy::ModRevision, 4)), ("acdb".into(), false, 4));
    assert_eq!(found(&fed, limited(OrderBy::Key, 1)), ("d".into(), true, 1));
    let counted = Range { count_all: true, ..limited(OrderBy::Value, 1) };
    assert_eq!(found(&fed, counted), ("b".into(), true, 4));
    let old = Range { revision: Some(Revision(4)), ..limited(OrderBy::Value, 2) };
    assert_eq!(found(&fed, old), ("ba".into(), true, 2), "as it was then");
}

#[test]
fn filters_leave_pairs_out_and_count_them_all_the_same() {
    let fed = filled();
    let revision = |number| Some(Revision(number));
    let filtered = |filter| Range { filter, ..Range::of(Keys::all()) };
    let min_mod = filtered(Filter { min_mod_revision: revision(7), ..Filter::NONE });
    assert_eq!(found(&fed, min_mod.clone()), ("ac".into(), false, 2));
    let counted = Range { count_all: true, ..min_mod.clone() };
    assert_eq!(found(&fed, counted), ("ac".into(), false, 4));
    let only_counted = Range { count_only: true, ..min_mod.clone() };
    assert_eq!(found(&fed, only_counted), (String::new(), false, 4));
    let limited = Range { limit: 1, ..min_mod };
    assert_eq!(found(&fed, limited), ("a".into(), true, 1), "the limit holds after the filter");
    let last =
        Range { limit: 1, ..filtered(Filter { max_mod_revision: revision(3), ..Filter::NONE }) };
    assert_eq!(found(&fed, last), ("b".into(), false, 1), "what is left out is not more");
    let max_mod = filtered(Filter { max_mod_revision: revision(6), ..Filter::NONE });
    assert_eq!(found(&fed, max_mod), ("bd".into(), false, 2));
    let created = Filter {
        min_create_revision: revision(3),
        max_create_revision: revision(4),
        ..Filter::NONE
    };
    assert_eq!(found(&fed, filtered(created)), ("bc".into(), false, 2));
    let both = Filter { min_mod_revision: revision(7), ..created };
    assert_eq!(found(&fed, filtered(both)), ("c".into(), false, 1));
    let ordered = Range { filter: created, ..ordered(OrderBy::ModRevision, true) };
    assert_eq!(found(&fed, ordered), ("cb".into(), false, 2));
}

/// Whatever the order, a reply holds a mebibyte, and the first pairs of the order are in it.
#[test]
fn an_ordered_reply_is_bounded_alike() {
    let mut fed = Fed::in_memory();
    let value = |n: u8| Bytes::from(vec![n; 300 * 1024]);
    for n in 0..10 {
        fed.op(put_bytes(&format!("k{}", (n * 7) % 10), value(n))).unwrap();
    }
    for by in [OrderBy::Value, OrderBy::ModRevision, OrderBy::CreateRevision] {
        let reply = fed.read(Range { count_all: true, ..ordered(by, true) }).unwrap();
        let newest: Vec<u8> = reply.kvs.iter().map(|kv| kv.value[0]).collect();
        assert_eq!((newest, reply.more, reply.count), (vec![9, 8, 7], true, 10), "{by:?}");
    }
}

/// A range of far more keys than a reply holds is sorted without holding on to them all.
#[test]
fn many_keys_in_order() {
    let mut fed = Fed::in_memory();
    const KEYS: u64 = 50_000;
    for chunk in 0..KEYS / 100 {
        let name = |n: u64| format!("{:05}", (chunk * 100 + n) * 7919 % KEYS);
        let success = (0..100).map(|n| put_bytes(&name(n), Bytes::new())).collect();
        fed.txn(Txn { success, ..Txn::default() }).unwrap();
    }
    let range = Range { keys_only: true, ..ordered(OrderBy::ModRevision, true) };
    let reply = fed.read(Range { count_all: true, ..range.clone() }).unwrap();
    let size = 5 + PAIR_OVERHEAD_BYTES;
    assert_eq!(reply.kvs.len(), RANGE_BYTES_MAX / size);
    assert_eq!((reply.more, reply.count), (true, KEYS));
    let place = |kv: &KeyValue| (u64::MAX - kv.mod_revision.0, kv.key.clone());
    assert!(reply.kvs.is_sorted_by_key(place));
    assert_eq!(reply.kvs[0].mod_revision, reply.revision);
    let first = fed.read(Range { limit: 150, ..range }).unwrap();
    assert_eq!(first.kvs[..], reply.kvs[..150]);
}

#[test]
fn sequential_keys_end_with_the_revision_that_made_them() {
    let mut fed = Fed::in_memory();
    let sequential = |key: &'static str| Op::Put(Put { sequential: true, ..Put::new(key, "v") });
    let key_of = |reply: &OpReply| match reply {
        OpReply::Put { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    };
    let (2, reply) = fed.op(sequential("q/")).unwrap() else { panic!() };
    assert_eq!(key_of(&reply), Some("q/00000000000000000002".into()));
    fed.put("other", "1");
    let success = vec![sequential("q/"), sequential("r/"), super::support::put("s", "1")];
    let reply = fed.txn(Txn { success, ..Txn::default() }).unwrap();
    let keys: Vec<_> = reply.replies.iter().map(key_of).collect();
    let expected = [Some("q/00000000000000000004"), Some("r/00000000000000000004"), None];
    assert_eq!(keys, expected.map(|key| key.map(Bytes::from)));
    assert_eq!(found(&fed, Range::of(Keys::prefix("q/"))).2, 2);
    assert_eq!(fed.value("q/00000000000000000004"), Some("v".into()));
    assert_eq!(fed.value("q/"), None);
}

#[test]
fn a_value_is_kept_if_there_is_one() {
    let mut fed = Fed::in_memory();
    let keep = |key: &'static str| Op::Put(Put { value: None, ..Put::new(key, "") });
    assert_eq!(fed.op(keep("a")).unwrap_err(), KvError::KeyNotFound("a".into()));
    assert_eq!(fed.store.summary().revision, Revision(1));
    fed.put("a", "1");
    assert_eq!(fed.op(keep("a")).unwrap().0, 3);
    let kv = fed.read(Range::of(one("a"))).unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.version, kv.mod_revision), (&b"1"[..], 2, Revision(3)));
    fed.delete(one("a"));
    assert_eq!(fed.op(keep("a")).unwrap_err(), KvError::KeyNotFound("a".into()));
    let keep_lease = Op::Put(Put { lease: Attach::Keep, ..Put::new("a", "2") });
    assert_eq!(fed.op(keep_lease.clone()).unwrap_err(), KvError::KeyNotFound("a".into()));
    fed.put("a", "3");
    assert_eq!(fed.op(keep_lease).unwrap().0, 6);
    // In a transaction, before anything is written.
    let success = vec![super::support::put("b", "1"), keep("missing")];
    let refused = fed.txn(Txn { success: success.clone(), ..Txn::default() });
    assert_eq!(refused, Err(KvError::KeyNotFound("missing".into())));
    assert_eq!((fed.value("b"), fed.store.summary().revision), (None, Revision(6)));
    assert!(fed.txn(Txn { failure: success, ..Txn::default() }).is_ok(), "it does not run");
}

#[test]
fn a_lease_must_live_for_a_key_to_hang_on_it() {
    let mut fed = Fed::in_memory();
    let leased = Put::new("a", "1").with_lease(LeaseId(9));
    let missing = KvError::LeaseNotFound(LeaseId(9));
    assert_eq!(fed.op(Op::Put(leased.clone())).unwrap_err(), missing);
    let success = vec![super::support::put("b", "1"), Op::Put(leased)];
    assert_eq!(fed.txn(Txn { success, ..Txn::default() }), Err(missing));
    assert_eq!(fed.store.summary().revision, Revision(1));
}
