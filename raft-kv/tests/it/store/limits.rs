//! What is too much is refused, alike before it is proposed and when it is applied.

use super::support::{Fed, one, put, put_bytes};
use bytes::Bytes;
use raft_core::types::Payload;
use raft_kv::api::*;
use raft_kv::codec::{self, WireError};
use raft_kv::store::validate;

fn refused(fed: &mut Fed, action: Action, matches: impl Fn(&KvError) -> bool) {
    let before = fed.store.summary();
    let error = validate(&action).unwrap_err();
    assert!(matches(&error), "{error:?}");
    assert_eq!(fed.run(action).unwrap_err(), error);
    assert_eq!(fed.store.summary().revision, before.revision);
    assert_eq!(fed.store.summary().keys, before.keys);
}

fn delete(keys: Keys) -> Op {
    Op::Delete { keys, prev_kv: false }
}

fn txn(success: Vec<Op>) -> Action {
    Action::Txn(Txn { success, ..Txn::default() })
}

#[test]
fn keys_and_values() {
    let mut fed = Fed::in_memory();
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let empty = |error: &KvError| *error == KvError::KeyEmpty;
    let large = |error: &KvError| matches!(error, KvError::TooLarge { .. });
    for op in [put("", "v"), delete(one("")), Op::Range(Range::of(one("")))] {
        refused(&mut fed, Action::Op(op.clone()), empty);
        refused(&mut fed, txn(vec![put("a", "1"), op]), empty);
    }
    for op in [put(&long, "v"), delete(one(&long)), Op::Range(Range::of(one(&long)))] {
        refused(&mut fed, Action::Op(op), large);
    }
    let value = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    refused(&mut fed, Action::Op(put_bytes("a", value.clone())), large);
    let target = Target::Value(value);
    let compares = vec![Compare { keys: one("a"), operator: Operator::Equal, target }];
    refused(&mut fed, Action::Txn(Txn { compares, ..Txn::default() }), large);

    let key = "k".repeat(KEY_BYTES_MAX);
    fed.op(put_bytes(&key, vec![1; VALUE_BYTES_MAX].into())).unwrap();
    let after = Keys::Range { start: format!("{key}\0").into(), end: None };
    assert_eq!(fed.read(Range::of(after)).unwrap().count, 0, "right after the longest key");
    assert!(matches!(fed.read(Range::of(one(&long))), Err(KvError::TooLarge { .. })));
    assert!(matches!(fed.read(Range::of(one(""))), Err(KvError::KeyEmpty)));
}

#[test]
fn operations_in_a_transaction() {
    let mut fed = Fed::in_memory();
    let ops: Vec<Op> = (0..=TXN_OPS_MAX).map(|n| put(&n.to_string(), "v")).collect();
    let many = |error: &KvError| matches!(error, KvError::TooManyOps { count: 1025, limit: 1024 });
    refused(&mut fed, txn(ops.clone()), many);
    refused(&mut fed, Action::Txn(Txn { failure: ops.clone(), ..Txn::default() }), many);
    let compare = Compare { keys: one("a"), operator: Operator::Equal, target: Target::Version(0) };
    let compares = vec![compare; TXN_OPS_MAX + 1];
    refused(&mut fed, Action::Txn(Txn { compares, ..Txn::default() }), many);
    assert!(fed.run(txn(ops[1..].to_vec())).is_ok());
}

#[test]
fn a_list_is_bounded_before_it_is_decoded_whole() {
    let success = vec![Op::Range(Range::of(Keys::all())); 100_000];
    let command = Command { request: None, fence: None, action: txn(success) };
    let bytes = codec::encode(&command);
    assert!(bytes.len() < REQUEST_BYTES_MAX);
    assert_eq!(codec::decode::<Command>(&bytes), Err(WireError::Malformed));
}

#[test]
fn duplicate_keys() {
    let mut fed = Fed::in_memory();
    let duplicate = |error: &KvError| matches!(error, KvError::DuplicateKey(key) if key == "b");
    let range = Keys::Range { start: "a".into(), end: Some("c".into()) };
    refused(&mut fed, txn(vec![put("b", "1"), put("b", "2")]), duplicate);
    refused(&mut fed, txn(vec![put("b", "1"), delete(one("b"))]), duplicate);
    refused(&mut fed, txn(vec![delete(range), put("b", "1")]), duplicate);
    refused(&mut fed, txn(vec![delete(Keys::all()), put("b", "1")]), duplicate);
    let fine = Txn {
        success: vec![put("b", "1"), put("c", "1"), delete(Keys::prefix("a"))],
        failure: vec![put("b", "2"), delete(one("c"))],
        ..Txn::default()
    };
    assert!(fed.txn(fine).unwrap().succeeded);
    assert!(
        fed.txn(Txn { success: vec![put("c", "2"), delete(Keys::prefix("b"))], ..Txn::default() })
            .is_ok(),
        "the end of a range is not in it"
    );
}

#[test]
fn a_request_over_the_limit_is_answered() {
    let mut fed = Fed::in_memory();
    let bytes = vec![VERSION; REQUEST_BYTES_MAX + 2048];
    let reply = fed.entry(Payload::Command(bytes.into()));
    let reply: CommandReply = codec::decode(&reply).unwrap();
    assert!(matches!(reply, Err(KvError::TooLarge { what, .. }) if what == "request"));
}

#[test]
fn a_range_is_cut_at_a_mebibyte_and_can_be_continued() {
    let mut fed = Fed::in_memory();
    let value = Bytes::from(vec![7; 100 * 1024]);
    for n in 0..25 {
        fed.op(put_bytes(&format!("k{n:02}"), value.clone())).unwrap();
    }
    let mut start = Bytes::from("k");
    let mut seen = Vec::new();
    loop {
        let range = Range::of(Keys::Range { start: start.clone(), end: None });
        let counted = fed.read(Range { count_all: true, ..range.clone() }).unwrap();
        assert_eq!(counted.count, 25 - seen.len() as u64);
        let reply = fed.read(range).unwrap();
        assert_eq!(reply.count, reply.kvs.len() as u64);
        assert_eq!((&reply.kvs, reply.more), (&counted.kvs, counted.more));
        assert!(codec::encode(&reply).len() <= RANGE_BYTES_MAX + 100);
        assert!(!reply.kvs.is_empty());
        seen.extend(reply.kvs.iter().map(|kv| kv.key.clone()));
        if !reply.more {
            break;
        }
        start = [seen.last().unwrap(), &b"\0"[..]].concat().into();
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());

    let range = Range { keys_only: true, ..Range::of(Keys::all()) };
    assert_eq!(fed.read(range).unwrap().kvs.len(), 25, "without values they fit");
}

#[test]
fn one_pair_comes_whatever_its_size() {
    let mut fed = Fed::in_memory();
    for key in ["a", "b"] {
        fed.op(put_bytes(key, vec![7; VALUE_BYTES_MAX].into())).unwrap();
    }
    let reply = fed.read(Range::of(Keys::all())).unwrap();
    assert_eq!((reply.kvs.len(), reply.more, reply.count), (1, true, 1));
}

#[test]
fn no_reply_is_longer_than_stated() {
    let mut fed = Fed::in_memory();
    for n in 0..4 {
        fed.op(put_bytes(&format!("k{n}"), vec![7; VALUE_BYTES_MAX - 512].into())).unwrap();
    }
    let before = fed.store.summary().revision;
    let take = |keys| Op::Delete { keys, prev_kv: true };
    let error = fed.op(take(Keys::all())).unwrap_err();
    assert!(matches!(error, KvError::TooLarge { limit, .. } if limit == PREVIOUS_BYTES_MAX as u64));
    assert_eq!(fed.store.summary().revision, before, "nothing was deleted");

    let two = Keys::Range { start: "k0".into(), end: Some("k2".into()) };
    let mut success = vec![take(two)];
    success.resize(TXN_OPS_MAX, Op::Range(Range { count_all: true, ..Range::of(Keys::all()) }));
    let bytes = codec::encode(&Command { request: None, fence: None, action: txn(success) });
    let reply = fed.entry(Payload::Command(bytes));
    assert!(reply.len() > PREVIOUS_BYTES_MAX && reply.len() <= REPLY_BYTES_MAX);
    let reply: CommandReply = codec::decode(&reply).unwrap();
    let Ok(ActionReply::Txn(reply)) = reply else { panic!() };
    let pairs = |reply: &OpReply| match reply {
        OpReply::Range(range) => {
            assert_eq!(range.count, 2);
            assert_eq!(range.more, range.kvs.len() < 2);
            range.kvs.len()
        }
        _ => 0,
    };
    assert_eq!(reply.replies.iter().map(pairs).sum::<usize>(), 1, "the ranges share the bytes");
}

/// It would keep every node busy for long.
#[test]
fn a_request_that_looks_at_all_keys_again_and_again_is_refused() {
    let mut fed = Fed::in_memory();
    for first in (0..10_000).step_by(TXN_OPS_MAX) {
        let keys = first..10_000.min(first + TXN_OPS_MAX);
        fed.run(txn(keys.map(|key| put(&format!("key {key}"), "v")).collect())).unwrap();
    }
    let counts = |times| {
        let count = Op::Range(Range { count_only: true, ..Range::of(Keys::all()) });
        txn(vec![count; times])
    };
    fed.run(counts(100)).unwrap();
    let compare =
        Compare { keys: Keys::all(), operator: Operator::Greater, target: Target::Version(0) };
    let compares = Txn { compares: vec![compare; 110], ..Txn::default() };
    let deletes = vec![delete(Keys::all()); 110];
    let before = fed.store.summary();
    for action in [
        counts(110),
        Action::Txn(compares.clone()),
        txn(vec![Op::Txn(Box::new(compares))]),
        txn(deletes),
    ] {
        let error = fed.run(action).unwrap_err();
        assert!(matches!(error, KvError::TooManyKeys { limit: 1_058_576, .. }), "{error}");
    }
    assert_eq!(fed.store.summary().revision, before.revision);
}
