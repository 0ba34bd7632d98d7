//! etcd's data model, one rule after the other.

use super::support::{Fed, between, membership, one, put};
use raft_core::state_machine::StateMachine;
use raft_core::types::Payload;
use raft_kv::api::*;
use raft_kv::codec;

fn compare(key: &str, operator: Operator, target: Target) -> Compare {
    Compare { keys: one(key), operator, target }
}

fn get(key: &str) -> Op {
    Op::Range(Range::of(one(key)))
}

#[test]
fn revisions_begin_at_one_and_the_first_write_gets_two() {
    let mut fed = Fed::in_memory();
    assert_eq!(fed.store.summary().revision, Revision(1));
    assert_eq!(fed.put("a", "1"), 2);
    assert_eq!(fed.put("b", "1"), 3);
    assert_eq!(fed.read(Range::of(one("a"))).unwrap().revision, Revision(3));
}

#[test]
fn a_write_that_changes_nothing_takes_no_revision() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    assert_eq!(fed.delete(one("b")), (2, 0));
    assert_eq!(fed.txn(Txn::default()).unwrap().revision, Revision(2));
    let delete = Op::Delete { keys: between("x", "z"), prev_kv: true };
    let txn = Txn { success: vec![delete, get("a")], ..Txn::default() };
    assert_eq!(fed.txn(txn).unwrap().revision, Revision(2));
    assert_eq!(fed.put("a", "1"), 3, "the same value again is a change");
}

#[test]
fn a_transaction_takes_one_revision_and_sees_its_own_writes() {
    let mut fed = Fed::in_memory();
    fed.put("old", "0");
    let success = vec![
        get("a"),
        put("a", "1"),
        put("b", "2"),
        Op::Delete { keys: one("old"), prev_kv: true },
        Op::Range(Range::of(Keys::all())),
    ];
    let reply = fed.txn(Txn { success, ..Txn::default() }).unwrap();
    assert_eq!((reply.revision, reply.succeeded), (Revision(3), true));
    let OpReply::Range(before) = &reply.replies[0] else { panic!() };
    assert_eq!((before.count, before.revision), (0, Revision(2)));
    let OpReply::Delete { deleted: 1, prev_kvs } = &reply.replies[3] else { panic!() };
    assert_eq!(&prev_kvs[0].value[..], b"0");
    let OpReply::Range(after) = &reply.replies[4] else { panic!() };
    let keys: Vec<&[u8]> = after.kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!((keys, after.revision), (vec![&b"a"[..], b"b"], Revision(3)));
    assert!(after.kvs.iter().all(|kv| kv.mod_revision == Revision(3)));
}

#[test]
fn versions_count_from_creation() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    fed.put("a", "2");
    let kv = fed.read(Range::of(one("a"))).unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(2), Revision(3), 2));
    fed.delete(one("a"));
    assert_eq!(fed.store.summary().keys, 0);
    fed.put("a", "3");
    let kv = fed.read(Range::of(one("a"))).unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(5), Revision(5), 1));
}

#[test]
fn old_revisions_stay_readable_and_future_ones_are_refused() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    fed.put("a", "2");
    fed.delete(one("a"));
    let at = |revision| {
        let range = Range { revision: Some(Revision(revision)), ..Range::of(one("a")) };
        fed.read(range).map(|reply| {
            assert_eq!(reply.revision, Revision(4), "the reply tells the current revision");
            reply.kvs.first().map(|kv| kv.value.clone())
        })
    };
    assert_eq!(at(1), Ok(None));
    assert_eq!(at(2), Ok(Some("1".into())));
    assert_eq!(at(3), Ok(Some("2".into())));
    assert_eq!(at(4), Ok(None));
    let future = KvError::FutureRevision { requested: Revision(5), current: Revision(4) };
    assert_eq!(at(5), Err(future));
}

#[test]
fn a_failing_read_fails_the_whole_transaction_before_it_writes() {
    let mut fed = Fed::in_memory();
    let read = Op::Range(Range { revision: Some(Revision(2)), ..Range::of(one("a")) });
    let txn = Txn { success: vec![put("a", "1"), read], ..Txn::default() };
    let future = KvError::FutureRevision { requested: Revision(2), current: Revision(1) };
    assert_eq!(fed.txn(txn.clone()), Err(future));
    assert_eq!((fed.value("a"), fed.store.summary().revision), (None, Revision(1)));
    // In the branch that does not run it does no harm.
    let other = Txn { success: vec![], failure: txn.success, compares: vec![] };
    assert!(fed.txn(other).is_ok());
}

#[test]
fn ranges() {
    let mut fed = Fed::in_memory();
    for key in ["a", "b", "ba", "bb", "c"] {
        fed.put(key, "v");
    }
    let found = |range: Range| {
        let reply = fed.read(range).unwrap();
        let keys: Vec<String> =
            reply.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into()).collect();
        (keys.join(" "), reply.more, reply.count)
    };
    let of = |keys| found(Range::of(keys));
    assert_eq!(of(Keys::all()), ("a b ba bb c".into(), false, 5));
    assert_eq!(of(Keys::prefix("b")), ("b ba bb".into(), false, 3));
    assert_eq!(of(between("b", "bb")), ("b ba".into(), false, 2));
    assert_eq!(of(between("b", "b")), (String::new(), false, 0));
    assert_eq!(of(between("c", "a")), (String::new(), false, 0));
    assert_eq!(of(one("bb")), ("bb".into(), false, 1));
    let limited = Range { limit: 2, ..Range::of(Keys::all()) };
    assert_eq!(found(limited.clone()), ("a b".into(), true, 2));
    let of_all = Range { count_all: true, ..limited };
    assert_eq!(found(of_all), ("a b".into(), true, 5));
    let exact = Range { limit: 5, ..Range::of(Keys::all()) };
    assert_eq!(found(exact), ("a b ba bb c".into(), false, 5));
    let counted = Range { count_only: true, ..Range::of(Keys::prefix("b")) };
    assert_eq!(found(counted.clone()), (String::new(), false, 3));
    assert_eq!(found(Range { limit: 1, count_all: true, ..counted }), (String::new(), false, 3));
    let keys = fed.read(Range { keys_only: true, ..Range::of(one("a")) }).unwrap().kvs;
    assert_eq!((&keys[0].value[..], keys[0].version), (&b""[..], 1));
}

#[test]
fn compares_on_a_missing_key() {
    let mut fed = Fed::in_memory();
    fed.put("a", "m");
    let mut holds = |key, operator, target| {
        let compares = vec![compare(key, operator, target)];
        fed.txn(Txn { compares, ..Txn::default() }).unwrap().succeeded
    };
    use Operator::{Equal, Greater, Less, NotEqual};
    assert!(holds("none", Equal, Target::Version(0)));
    assert!(holds("none", Equal, Target::CreateRevision(Revision(0))));
    assert!(holds("none", Less, Target::ModRevision(Revision(1))));
    for operator in [Equal, NotEqual, Greater, Less] {
        assert!(!holds("none", operator, Target::Value("".into())), "{operator:?}");
    }
    assert!(holds("a", Greater, Target::Value("a".into())));
    assert!(holds("a", Less, Target::Value("z".into())));
    assert!(holds("a", NotEqual, Target::Value("".into())));
    assert!(holds("a", Equal, Target::ModRevision(Revision(2))));
    assert!(!holds("a", Equal, Target::Version(0)));
}

#[test]
fn compare_and_swap() {
    let mut fed = Fed::in_memory();
    let cas = |old: u64, value: &str| Txn {
        compares: vec![compare("a", Operator::Equal, Target::ModRevision(Revision(old)))],
        success: vec![put("a", value)],
        failure: vec![get("a")],
    };
    assert!(fed.txn(cas(0, "1")).unwrap().succeeded);
    let lost = fed.txn(cas(0, "2")).unwrap();
    assert!(!lost.succeeded);
    let OpReply::Range(found) = &lost.replies[0] else { panic!() };
    assert_eq!(found.kvs[0].mod_revision, Revision(2));
    assert!(fed.txn(cas(2, "2")).unwrap().succeeded);
    assert_eq!(fed.value("a").unwrap(), "2");
}

#[test]
fn previous_pairs() {
    let mut fed = Fed::in_memory();
    let put = |value: &str| Op::Put(Put { prev_kv: true, ..Put::new("a", value.to_owned()) });
    assert_eq!(fed.op(put("1")).unwrap().1, OpReply::Put { prev_kv: None, key: None });
    let (_, OpReply::Put { prev_kv: Some(kv), .. }) = fed.op(put("2")).unwrap() else { panic!() };
    assert_eq!((&kv.value[..], kv.mod_revision, kv.version), (&b"1"[..], Revision(2), 1));
    let delete = Op::Delete { keys: Keys::all(), prev_kv: true };
    let (4, OpReply::Delete { deleted: 1, prev_kvs }) = fed.op(delete).unwrap() else { panic!() };
    assert_eq!(&prev_kvs[0].value[..], b"2");
    assert_eq!(
        fed.op(put("3")).unwrap().1,
        OpReply::Put { prev_kv: None, key: None },
        "it was deleted"
    );
}

#[test]
fn deleting_twice_in_one_transaction_is_fine() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let delete = |keys| Op::Delete { keys, prev_kv: false };
    let success = vec![delete(one("a")), delete(Keys::all())];
    let reply = fed.txn(Txn { success, ..Txn::default() }).unwrap();
    let deleted = |reply: &OpReply| match reply {
        OpReply::Delete { deleted, .. } => *deleted,
        other => panic!("{other:?}"),
    };
    assert_eq!(reply.replies.iter().map(deleted).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn entries_without_a_command_are_answered_with_nothing() {
    let mut fed = Fed::in_memory();
    assert!(fed.entry(Payload::Noop).is_empty());
    assert!(fed.entry(Payload::Membership(membership("a:1").into())).is_empty());
    assert_eq!(fed.store.applied().membership, membership("a:1"));
    assert_eq!(fed.store.applied().last.index.0, 2);
    let one = fed.hash();
    let mut other = Fed::in_memory();
    other.entry(Payload::Noop);
    other.entry(Payload::Membership(membership("b:1").into()));
    assert_ne!(one, other.hash(), "the membership is part of the hash");
}

#[test]
fn the_summary_is_a_query() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    let answer = fed.store.query(&codec::encode(&Query::Summary));
    let summary: Summary = codec::decode(&answer).unwrap();
    assert_eq!(summary, fed.store.summary());
    assert_eq!((summary.keys, summary.last_applied.0), (1, 1));
}

#[test]
#[should_panic(expected = "does not follow")]
fn a_gap_in_the_log_stops_the_node() {
    let mut fed = Fed::in_memory();
    fed.put("a", "1");
    fed.log.push(fed.log[0].clone());
    fed.put("b", "1");
}
