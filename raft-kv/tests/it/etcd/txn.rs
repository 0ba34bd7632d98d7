//! Transactions.

use super::{Connection, Doors, assert_refused, between, get, put};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use raft_kv::etcd::proto::etcdserverpb as pb;
use tonic::Code;

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put_op(key: &str, value: &str) -> pb::RequestOp {
    op(Request::RequestPut(put(key, value)))
}

fn delete_op(key: &str, range_end: &str) -> pb::RequestOp {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    op(Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: false }))
}

fn txn_op(txn: pb::TxnRequest) -> pb::RequestOp {
    op(Request::RequestTxn(txn))
}

fn compare(key: &str, result: CompareResult, union: TargetUnion) -> pb::Compare {
    let target = match &union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Default::default()
    }
}

async fn holds(connection: &Connection, compare: pb::Compare) -> bool {
    let request = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    connection.kv().txn(request).await.unwrap().into_inner().succeeded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compares_see_what_is_there() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    connection.put("a", "5").await;
    connection.put("b", "5").await;
    let (equal, not_equal) = (CompareResult::Equal, CompareResult::NotEqual);
    let (greater, less) = (CompareResult::Greater, CompareResult::Less);
    for (key, result, union, expected) in [
        ("a", equal, TargetUnion::Version(1), true),
        ("a", equal, TargetUnion::CreateRevision(2), true),
        ("a", less, TargetUnion::ModRevision(2), false),
        ("a", greater, TargetUnion::ModRevision(1), true),
        ("a", greater, TargetUnion::ModRevision(-1), true),
        ("a", equal, TargetUnion::Value("5".into()), true),
        ("a", greater, TargetUnion::Value("49".into()), true),
        ("a", equal, TargetUnion::Lease(0), true),
        ("none", equal, TargetUnion::Version(0), true),
        ("none", equal, TargetUnion::CreateRevision(0), true),
        ("none", not_equal, TargetUnion::Value("".into()), false),
        ("none", equal, TargetUnion::Value("".into()), false),
    ] {
        let compare = compare(key, result, union.clone());
        assert_eq!(holds(&connection, compare).await, expected, "{key} {result:?} {union:?}");
    }
    let ranged = |value: &str| pb::Compare {
        range_end: "c".into(),
        ..compare("a", equal, TargetUnion::Value(value.to_owned().into()))
    };
    assert!(holds(&connection, ranged("5")).await);
    connection.put("b", "6").await;
    assert!(!holds(&connection, ranged("5")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_takes_one_revision_and_reads_its_own_writes() {
    let doors = Doors::start(3).await;
    let connection = doors.any().await;
    let inner = pb::TxnRequest {
        compare: vec![compare("x", CompareResult::Equal, TargetUnion::Version(0))],
        success: vec![put_op("x", "1"), op(Request::RequestRange(get("x")))],
        failure: vec![put_op("y", "1")],
    };
    let request = pb::TxnRequest {
        compare: vec![compare("w", CompareResult::Equal, TargetUnion::Version(0))],
        success: vec![
            put_op("w", "1"),
            txn_op(inner),
            op(Request::RequestRange(between("a", "z"))),
        ],
        failure: vec![],
    };
    let reply = connection.kv().txn(request.clone()).await.unwrap().into_inner();
    assert!(reply.succeeded);
    assert_eq!(reply.header.unwrap().revision, 2);
    let [put, nested, range] = &reply.responses[..] else { panic!("{reply:?}") };
    let Some(Response::ResponsePut(put)) = &put.response else { panic!("{put:?}") };
    assert_eq!(put.header.unwrap().revision, 2);
    let Some(Response::ResponseTxn(nested)) = &nested.response else { panic!("{nested:?}") };
    assert!(nested.succeeded && nested.responses.len() == 2);
    let Some(Response::ResponseRange(range)) = &range.response else { panic!("{range:?}") };
    let revisions: Vec<i64> = range.kvs.iter().map(|pair| pair.mod_revision).collect();
    assert_eq!(revisions, [2, 2]);
    // Nothing is to be done the second time, and no revision taken.
    let reply = connection.kv().txn(request).await.unwrap().into_inner();
    assert!(!reply.succeeded && reply.responses.is_empty());
    assert_eq!(reply.header.unwrap().revision, 2);
}

/// What an operator sets is what the door takes, up to what the store does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_operations_are_taken_as_the_door_is_told() {
    let mut doors = Doors::start(1).await;
    let id = *doors.addresses.keys().next().unwrap();
    let puts = |count: usize| pb::TxnRequest {
        success: (0..count).map(|number| put_op(&number.to_string(), "")).collect(),
        ..Default::default()
    };
    let too_many = "etcdserver: too many operations in txn request";
    for (most, taken) in [(4, 4), (500, 500), (9999, 1024)] {
        doors.open_with(id, |config| config.txn_ops_max = most).await;
        let connection = doors.any().await;
        connection.kv().txn(puts(taken)).await.unwrap();
        let refused = connection.kv().txn(puts(taken + 1)).await;
        assert_refused(refused, Code::InvalidArgument, too_many);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_make_no_sense_have_no_effect() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let refuse = async |success: Vec<pb::RequestOp>, code, text: &str| {
        let request = pb::TxnRequest { success, ..Default::default() };
        assert_refused(connection.kv().txn(request).await, code, text);
    };
    let invalid = Code::InvalidArgument;
    let duplicate = "etcdserver: duplicate key given in txn request";
    refuse(vec![put_op("a", "1"), put_op("a", "2")], invalid, duplicate).await;
    refuse(vec![delete_op("a", "c"), put_op("b", "2")], invalid, duplicate).await;
    let nested = pb::TxnRequest { failure: vec![put_op("a", "1")], ..Default::default() };
    refuse(vec![put_op("a", "1"), txn_op(nested)], invalid, duplicate).await;
    let many: Vec<_> = (0..129).map(|number| put_op(&number.to_string(), "")).collect();
    let too_many = "etcdserver: too many operations in txn request";
    refuse(many, invalid, too_many).await;
    refuse(vec![pb::RequestOp::default()], invalid, "etcdserver: key not found").await;
    refuse(vec![put_op("", "")], invalid, "etcdserver: key is not provided").await;
    let old = pb::RangeRequest { revision: 9, ..get("a") };
    let future = "etcdserver: mvcc: required revision is a future revision";
    refuse(vec![put_op("a", "1"), op(Request::RequestRange(old))], Code::OutOfRange, future).await;
    let deep = (0..20).fold(pb::TxnRequest::default(), |inner, _| pb::TxnRequest {
        success: vec![txn_op(inner)],
        ..Default::default()
    });
    assert_refused(connection.kv().txn(deep).await, invalid, too_many);
    let none = pb::TxnRequest {
        compare: vec![compare("", CompareResult::Equal, TargetUnion::Version(0))],
        ..Default::default()
    };
    assert_refused(connection.kv().txn(none).await, invalid, "etcdserver: key is not provided");
    let all = connection.range(between("\0", "\0")).await;
    assert_eq!((all.count, all.header.unwrap().revision), (0, 1));
    // Deleting twice is allowed, and so are both branches writing the same.
    let request = pb::TxnRequest {
        success: vec![delete_op("a", "c"), delete_op("b", "d")],
        failure: vec![delete_op("a", "c")],
        ..Default::default()
    };
    connection.kv().txn(request).await.unwrap();
}
