//! What the node's loop may do itself: few keys, each by its name.

use super::support::*;
use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, LogId, Payload, Run};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;

fn run_of(actions: impl IntoIterator<Item = Action>) -> Run {
    let entry = |(index, action): (usize, Action)| {
        let command = Command { request: None, fence: None, action };
        let payload = Payload::Command(codec::encode(&command));
        Entry { id: LogId::new(index as u64 + 1, 1), payload }
    };
    Run::new(actions.into_iter().enumerate().map(entry).collect()).unwrap()
}

fn is_quick(actions: impl IntoIterator<Item = Action>) -> bool {
    KvStore::in_memory().is_quick(&run_of(actions))
}

fn set(value: &[u8]) -> Action {
    Action::Op(Op::Put(Put::new("key", Bytes::copy_from_slice(value))))
}

fn delete(keys: Keys) -> Op {
    Op::Delete { keys, prev_kv: true }
}

fn one() -> Keys {
    Keys::One("key".into())
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> Action {
    let target = Target::Version(0);
    let compares = vec![Compare { keys: one(), operator: Operator::Equal, target }];
    Action::Txn(Txn { compares, success, failure })
}

#[test]
fn a_few_keys_by_name_are_quick() {
    assert!(is_quick([set(b"value")]));
    assert!(is_quick([Action::Op(delete(one()))]));
    assert!(is_quick([Action::Grant { id: None, ttl_ms: 1000 }]));
    assert!(is_quick([txn(vec![delete(one())], vec![Op::Range(Range::of(one()))])]));
    assert!(is_quick(vec![set(b"value"); 32]));
}

#[test]
fn nothing_else_is() {
    let prefix = || Keys::prefix("k");
    assert!(!is_quick([Action::Op(delete(prefix()))]));
    // In whichever branch it is, and however deep.
    let nested = Op::Txn(Box::new(Txn { failure: vec![delete(prefix())], ..Txn::default() }));
    assert!(!is_quick([txn(vec![], vec![nested])]));
    let compares =
        vec![Compare { keys: prefix(), operator: Operator::Equal, target: Target::Version(0) }];
    assert!(!is_quick([Action::Txn(Txn { compares, ..Txn::default() })]));
    for action in [
        Action::Compact(Revision(1)),
        Action::Revoke(LeaseId(1)),
        Action::Advance(Advance::default()),
        Action::OpenSession,
    ] {
        assert!(!is_quick([action]));
    }
    assert!(!is_quick(vec![set(b"value"); 33]));
    assert!(!is_quick([txn(vec![delete(one()); 20], vec![delete(one()); 20])]));
    assert!(!is_quick([set(&[0; 64 * 1024])]));
    let payload = Payload::Membership(Box::default());
    let entry = Entry { id: LogId::new(1, 1), payload };
    assert!(!KvStore::in_memory().is_quick(&Run::new(vec![entry]).unwrap()));
}

/// What is read counts, not only what comes.
#[test]
fn much_that_is_there_is_not_quick() {
    let mut fed = Fed::in_memory();
    let quick = |fed: &Fed, action: Action| fed.store.is_quick(&run_of([action]));
    let read = || Range::of(one());
    let reads = || {
        let put = Put { prev_kv: true, ..Put::new("key", "") };
        let kept = Put { value: None, ..Put::new("key", "") };
        [put, kept].map(Op::Put).into_iter().chain([delete(one()), Op::Range(read())])
    };
    fed.run(set(&[0; 1000])).unwrap();
    assert!(reads().all(|op| quick(&fed, Action::Op(op))));
    fed.run(set(&[0; 64 * 1024])).unwrap();
    assert!(!reads().any(|op| quick(&fed, Action::Op(op))));
    assert!(!quick(&fed, txn(vec![], vec![])));
    assert!(quick(&fed, set(b"value")));
    assert_eq!(fed.store.quick_query(&codec::encode(&Query::Range(read()))), None);
    // How much there was is not known.
    fed.run(set(b"value")).unwrap();
    let earlier = Range { revision: Some(Revision(3)), ..read() };
    assert!(!quick(&fed, Action::Op(Op::Range(earlier))));
}

#[test]
fn a_quick_answer_is_the_answer() {
    let mut fed = Fed::in_memory();
    fed.run(set(b"value")).unwrap();
    let answers = |query: &Query| {
        let query = codec::encode(query);
        (fed.store.query(&query), fed.store.quick_query(&query))
    };
    for query in [
        Query::Range(Range::of(one())),
        Query::Range(Range::of(Keys::One("none".into()))),
        Query::Summary,
    ] {
        let (answer, quick) = answers(&query);
        assert_eq!(quick, Some(answer), "{query:?}");
    }
    for query in [Query::Range(Range::of(Keys::prefix("k"))), Query::Leases] {
        assert_eq!(answers(&query).1, None, "{query:?}");
    }
    assert_eq!(fed.store.quick_query(b"damaged"), None);
}
