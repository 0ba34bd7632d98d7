//! Transactions within transactions, compares of ranges, and what makes a transaction fail, as in
//! etcd.

use super::support::{Fed, between, one, put};
use raft_kv::api::*;
use raft_kv::codec::{self, WireError};
use raft_kv::store::validate;

fn compare(keys: Keys, operator: Operator, target: Target) -> Compare {
    Compare { keys, operator, target }
}

/// Holds if `key` does not exist.
fn missing(key: &str) -> Vec<Compare> {
    vec![compare(one(key), Operator::Equal, Target::Version(0))]
}

fn of(success: Vec<Op>) -> Txn {
    Txn { success, ..Txn::default() }
}

fn nested(success: Vec<Op>) -> Op {
    Op::Txn(Box::new(of(success)))
}

/// `depth` transactions within each other, the innermost around `op`.
fn deep(depth: usize, op: Op) -> Txn {
    (1..depth).fold(of(vec![op]), |txn, _| of(vec![Op::Txn(txn.into())]))
}

fn delete(keys: Keys) -> Op {
    Op::Delete { keys, prev_kv: true }
}

#[test]
fn a_transaction_within_a_transaction() {
    let mut fed = Fed::in_memory();
    fed.put("a", "0");
    let inner = Txn {
        compares: missing("a"),
        success: vec![put("wrong", "1")],
        failure: vec![put("b", "1"), Op::Range(Range::of(Keys::all()))],
    };
    let success = vec![put("a", "1"), Op::Txn(inner.into()), nested(vec![]), put("c", "1")];
    let reply = fed.txn(of(success)).unwrap();
    assert_eq!(reply.revision, Revision(3));
    let OpReply::Txn(inner) = &reply.replies[1] else { panic!() };
    assert_eq!((inner.succeeded, inner.revision), (false, Revision(3)));
    let OpReply::Range(range) = &inner.replies[1] else { panic!() };
    let read: Vec<_> = range.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    assert_eq!(read, [(&b"a"[..], &b"1"[..]), (b"b", b"1")], "it sees the writes before it");
    let OpReply::Txn(empty) = &reply.replies[2] else { panic!() };
    assert!(empty.succeeded && empty.replies.is_empty());
    let all = fed.read(Range::of(Keys::all())).unwrap().kvs;
    assert!(all.iter().all(|kv| kv.mod_revision == Revision(3)), "one revision for all");
    // Alone it is a transaction too.
    let (4, OpReply::Txn(reply)) = fed.op(nested(vec![put("d", "1")])).unwrap() else { panic!() };
    assert_eq!(reply.revision, Revision(4));
}

/// As in etcd: which branches run is decided before anything is written.
#[test]
fn a_compare_within_sees_what_was_there_before_all() {
    let mut fed = Fed::in_memory();
    let inner = Txn {
        compares: missing("a"),
        success: vec![put("b", "a was missing")],
        failure: vec![put("b", "a was there")],
    };
    fed.txn(of(vec![put("a", "1"), Op::Txn(inner.into())])).unwrap();
    assert_eq!(fed.value("b"), Some("a was missing".into()));
}

#[test]
fn a_failing_read_anywhere_that_runs_fails_all_of_it() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    fed.put("a", "2");
    fed.run(Action::Compact(Revision(3))).unwrap();
    let read =
        |revision| Op::Range(Range { revision: Some(Revision(revision)), ..Range::of(one("a")) });
    let (current, compacted) = (Revision(3), Revision(3));
    for (revision, error) in [
        (2, KvError::Compacted { requested: Revision(2), compacted }),
        (4, KvError::FutureRevision { requested: Revision(4), current }),
    ] {
        let within = of(vec![put("b", "1"), nested(vec![nested(vec![read(revision)])])]);
        assert_eq!(fed.txn(within), Err(error));
        assert_eq!((fed.value("b"), fed.store.summary().revision), (None, current));
    }
    let other =
        Txn { compares: missing("a"), success: vec![read(2)], failure: vec![put("b", "1")] };
    assert!(fed.txn(of(vec![Op::Txn(other.into())])).is_ok(), "what does not run does no harm");
    assert!(fed.txn(of(vec![put("c", "1"), read(3)])).is_ok());
}

#[test]
fn every_key_of_a_range_must_fulfil_a_compare() {
    let mut fed = Fed::in_memory();
    for (key, value) in [("k1", "m"), ("k2", "m"), ("k2", "n")] {
        fed.put(key, value);
    }
    let mut holds = |keys: Keys, operator, target| {
        let compares = vec![compare(keys, operator, target)];
        fed.txn(Txn { compares, ..Txn::default() }).unwrap().succeeded
    };
    use Operator::{Equal, Greater, Less, NotEqual};
    let all = || Keys::prefix("k");
    assert!(holds(all(), Greater, Target::Version(0)));
    assert!(!holds(all(), Equal, Target::Version(1)), "k2 has version 2");
    assert!(holds(between("k1", "k2"), Equal, Target::Version(1)), "the end is not in it");
    assert!(holds(all(), Less, Target::CreateRevision(Revision(4))));
    assert!(!holds(all(), Less, Target::ModRevision(Revision(4))));
    assert!(holds(all(), Greater, Target::Value("l".into())));
    assert!(!holds(all(), NotEqual, Target::Value("n".into())));
    assert!(holds(all(), Equal, Target::Lease(None)));
    assert!(!holds(all(), Greater, Target::Lease(None)));
    // A range without any key is like a key that is missing.
    let none = || Keys::prefix("x");
    assert!(holds(none(), Equal, Target::Version(0)));
    assert!(!holds(none(), Greater, Target::Version(0)));
    assert!(holds(none(), Equal, Target::CreateRevision(Revision(0))));
    assert!(holds(none(), Equal, Target::Lease(None)));
    assert!(holds(none(), Less, Target::Lease(Some(LeaseId(1)))));
    for operator in [Equal, NotEqual, Greater, Less] {
        assert!(!holds(none(), operator, Target::Value("".into())), "{operator:?}");
    }
}

fn refused(txn: Txn) -> Option<KvError> {
    let mut fed = Fed::in_memory();
    let action = Action::Txn(txn);
    let error = validate(&action).err();
    assert_eq!(fed.run(action).err(), error);
    assert_eq!(fed.store.summary().revision == Revision(1), error.is_some());
    error
}

#[test]
fn depth_is_bounded() {
    assert_eq!(refused(deep(TXN_DEPTH_MAX, put("a", "1"))), None);
    assert_eq!(refused(deep(TXN_DEPTH_MAX + 1, put("a", "1"))), Some(KvError::TooDeep(9)));
}

/// Transactions within each other, as deep as a request is long: neither decoding nor what is
/// decoded may take room on the stack for each.
#[test]
fn a_hundred_thousand_levels_are_refused() {
    // Version, no request, no fence; a transaction of no compares, one operation: a transaction of.
    let mut bytes = vec![VERSION, 0, 0, 2];
    for _ in 0..100_000 {
        bytes.extend([0, 1, 3]);
    }
    bytes.extend([0; 100_000]);
    assert!(bytes.len() < REQUEST_BYTES_MAX);
    assert_eq!(codec::decode::<Command>(&bytes), Err(WireError::Malformed));
    let shallow =
        Command { request: None, fence: None, action: Action::Txn(deep(60, put("a", "1"))) };
    let bytes = codec::encode(&shallow);
    assert_eq!(&bytes[..10], [VERSION, 0, 0, 2, 0, 1, 3, 0, 1, 3], "that is what was meant");
    assert_eq!(
        codec::decode::<Command>(&bytes),
        Ok(shallow),
        "refused by its depth, not malformed"
    );
}

/// A list of lists is bounded as a whole, before it is in memory.
#[test]
fn lists_within_lists_are_bounded_together() {
    let wide = |outer: usize, inner: usize| {
        let ops = vec![Op::Range(Range::of(Keys::all())); inner];
        let action = Action::Txn(of(vec![nested(ops); outer]));
        codec::encode(&Command { request: None, fence: None, action })
    };
    assert!(codec::decode::<Command>(&wide(1000, 8)).is_ok());
    let bytes = wide(1000, 9);
    assert!(bytes.len() < REQUEST_BYTES_MAX);
    assert_eq!(codec::decode::<Command>(&bytes), Err(WireError::Malformed));
    assert!(codec::decode::<Command>(&wide(1000, 8)).is_ok(), "each is counted anew");
}

#[test]
fn operations_within_are_counted() {
    let reads = |count| vec![Op::Range(Range::of(one("a"))); count];
    let compares = vec![compare(one("a"), Operator::Equal, Target::Version(0)); 1000];
    let many = |count| Some(KvError::TooManyOps { count, limit: 1024 });
    let with = |within| of(vec![nested(reads(within)), put("a", "1")]);
    assert_eq!(refused(Txn { compares: compares.clone(), ..with(22) }), None);
    assert_eq!(refused(Txn { compares, ..with(23) }), many(1025));
    let mut ops = vec![nested(reads(100)); 10];
    ops.push(put("a", "1"));
    assert_eq!(refused(of(ops.clone())), None);
    ops.push(nested(reads(100)));
    let total = (12 + 11 * 100) as u64;
    assert_eq!(refused(of(ops)), many(total));
}

#[test]
fn limits_hold_within() {
    assert_eq!(refused(deep(3, put("", "1"))), Some(KvError::KeyEmpty));
    assert_eq!(refused(deep(3, delete(one("")))), Some(KvError::KeyEmpty));
    let compares = missing("");
    let within = Op::Txn(Txn { compares, ..Txn::default() }.into());
    assert_eq!(refused(of(vec![within])), Some(KvError::KeyEmpty));
    let long = "k".repeat(KEY_BYTES_MAX - SEQUENCE_DIGITS + 1);
    let sequential = |key: &str| Op::Put(Put { sequential: true, ..Put::new(key.to_owned(), "") });
    let error = refused(deep(2, sequential(&long)));
    assert!(matches!(error, Some(KvError::TooLarge { what, .. }) if what == "key"));
    assert_eq!(refused(deep(2, sequential(&long[1..]))), None);
}

#[test]
fn no_key_is_written_twice_in_what_could_run() {
    let duplicate = || Some(KvError::DuplicateKey("a".into()));
    let either = |success: Vec<Op>, failure: Vec<Op>| {
        Op::Txn(Txn { compares: missing("a"), success, failure }.into())
    };
    let a = || put("a", "1");
    let all = || delete(Keys::all());
    for (ops, expected) in [
        (vec![a(), nested(vec![a()])], duplicate()),
        (vec![nested(vec![a()]), a()], duplicate()),
        (vec![nested(vec![a()]), nested(vec![nested(vec![a()])])], duplicate()),
        (vec![a(), either(vec![], vec![a()])], duplicate()),
        (vec![all(), nested(vec![a()])], duplicate()),
        (vec![nested(vec![a()]), all()], duplicate()),
        (vec![nested(vec![all()]), a()], duplicate()),
        (vec![a(), nested(vec![all()])], duplicate()),
        (vec![nested(vec![all()]), nested(vec![a()])], duplicate()),
        (vec![either(vec![a()], vec![a()]), nested(vec![a()])], duplicate()),
        // One of the two branches runs.
        (vec![either(vec![a()], vec![a()])], None),
        (vec![either(vec![a()], vec![all()])], None),
        (vec![either(vec![all()], vec![a()])], None),
        (vec![put("b", "1"), nested(vec![delete(one("a"))]), delete(one("c"))], None),
        // As in etcd, one may delete what one before it has put.
        (vec![nested(vec![a()]), nested(vec![all()])], None),
    ] {
        let unchanged = Txn { failure: vec![put("a", "2")], ..of(ops.clone()) };
        if expected.is_none() {
            assert_eq!(validate(&Action::Txn(unchanged)), Ok(()), "{ops:?}");
        } else {
            assert_eq!(refused(of(ops.clone())), expected, "{ops:?}");
        }
    }
}

#[test]
fn what_one_puts_and_the_next_deletes_is_gone() {
    let mut fed = Fed::in_memory();
    fed.put("a", "0");
    let ops = vec![nested(vec![put("a", "1"), put("b", "1")]), nested(vec![delete(Keys::all())])];
    let reply = fed.txn(of(ops)).unwrap();
    let OpReply::Txn(second) = &reply.replies[1] else { panic!() };
    let OpReply::Delete { deleted: 2, prev_kvs } = &second.replies[0] else { panic!() };
    assert_eq!(&prev_kvs[0].value[..], b"1");
    assert_eq!((fed.value("a"), fed.store.summary().keys), (None, 0));
    let at = |revision| Range { revision: Some(Revision(revision)), ..Range::of(Keys::all()) };
    assert_eq!(fed.read(at(3)).unwrap().count, 0);
    assert_eq!(&fed.read(at(2)).unwrap().kvs[0].value[..], b"0");
}

#[test]
fn sequential_keys_may_not_collide() {
    let mut fed = Fed::in_memory();
    let sequential = || Op::Put(Put { sequential: true, ..Put::new("q", "1") });
    let twice = Action::Txn(of(vec![sequential(), nested(vec![sequential()])]));
    assert_eq!(validate(&twice), Err(KvError::DuplicateKey("q".into())));
    assert_eq!(fed.run(twice), Err(KvError::DuplicateKey("q".into())));
    let name = |revision| format!("q{revision:020}");
    // What it collides with depends on the revision it takes.
    let with = |op| Action::Txn(of(vec![nested(vec![sequential()]), op]));
    for op in [put(&name(2), "1"), delete(Keys::prefix("q"))] {
        assert_eq!(validate(&with(op.clone())), Ok(()));
        assert_eq!(fed.run(with(op)), Err(KvError::DuplicateKey(name(2))));
    }
    assert_eq!(fed.store.summary().revision, Revision(1));
    assert!(fed.run(with(put(&name(9), "1"))).is_ok());
    assert!(fed.run(with(delete(between(&name(0), &name(3))))).is_ok());
    assert_eq!(fed.read(Range::of(Keys::prefix("q"))).unwrap().count, 2);
}

/// Previous pairs that a request itself has written are in the bound on replies too.
#[test]
fn previous_pairs_of_the_same_transaction_are_bounded() {
    let mut fed = Fed::in_memory();
    let large = |key: &str, bytes: usize| put(key, &"v".repeat(bytes));
    fed.op(large("a", VALUE_BYTES_MAX - 100_000)).unwrap();
    fed.op(large("b", VALUE_BYTES_MAX - 100_000)).unwrap();
    let ops = |bytes| of(vec![nested(vec![large("c", bytes)]), nested(vec![delete(Keys::all())])]);
    let refused = fed.txn(ops(300_000)).unwrap_err();
    assert!(matches!(refused, KvError::TooLarge { .. }), "{refused:?}");
    assert_eq!(fed.store.summary().keys, 2);
    assert!(fed.txn(ops(100_000)).is_ok());
    assert_eq!(fed.store.summary().keys, 0);
}
