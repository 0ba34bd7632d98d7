//! Service KV but for its transactions.

use super::{Doors, assert_refused, between, get, keys_of, put};
use pb::range_request::{SortOrder, SortTarget};
use raft_kv::etcd::proto::etcdserverpb as pb;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_read_on_every_node() {
    let doors = Doors::start(3).await;
    let mut expected = 1;
    for id in doors.addresses.keys() {
        let connection = doors.connect(*id).await;
        expected += 1;
        assert_eq!(connection.put("colour", &id.to_string()).await, expected);
        for other in doors.addresses.keys() {
            let found = doors.connect(*other).await.range(get("colour")).await;
            let header = found.header.unwrap();
            assert_eq!((header.cluster_id, header.member_id), (7, other.0));
            assert_eq!(header.revision, expected);
            assert!(header.raft_term > 0);
            assert_eq!((found.count, found.more), (1, false));
            let pair = &found.kvs[0];
            assert_eq!(pair.value, id.to_string());
            assert_eq!((pair.create_revision, pair.mod_revision), (2, expected));
            assert_eq!((pair.version, pair.lease), (expected - 1, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_obey_every_option() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    // Created in another order than that of the keys; b is changed twice.
    for (key, value) in [("c", "1"), ("a", "3"), ("b", "2"), ("b", "9"), ("d", "0")] {
        connection.put(key, value).await;
    }
    let range = async |change: &dyn Fn(&mut pb::RangeRequest)| {
        let mut request = between("a", "\0");
        change(&mut request);
        connection.range(request).await
    };
    assert_eq!(keys_of(&range(&|_| {}).await), ["a", "b", "c", "d"]);
    let limited = range(&|asked| asked.limit = 2).await;
    assert_eq!(keys_of(&limited), ["a", "b"]);
    assert_eq!((limited.count, limited.more), (4, true));
    let counted = range(&|asked| asked.count_only = true).await;
    assert_eq!((counted.count, counted.kvs.len(), counted.more), (4, 0, false));
    let named = range(&|asked| asked.keys_only = true).await;
    assert!(named.kvs.iter().all(|pair| pair.value.is_empty()) && named.kvs.len() == 4);
    let sorted = async |target: SortTarget, order: SortOrder| {
        keys_of(
            &range(&|asked| {
                asked.sort_target = target.into();
                asked.sort_order = order.into();
            })
            .await,
        )
    };
    assert_eq!(sorted(SortTarget::Key, SortOrder::Descend).await, ["d", "c", "b", "a"]);
    assert_eq!(sorted(SortTarget::Create, SortOrder::Ascend).await, ["c", "a", "b", "d"]);
    // An order that is left out is ascending, except that of the keys.
    assert_eq!(sorted(SortTarget::Mod, SortOrder::None).await, ["c", "a", "b", "d"]);
    assert_eq!(sorted(SortTarget::Value, SortOrder::Ascend).await, ["d", "c", "a", "b"]);
    assert_eq!(sorted(SortTarget::Version, SortOrder::Descend).await[0], "b");
    let filtered = range(&|asked| asked.min_mod_revision = 4).await;
    assert_eq!((keys_of(&filtered).concat(), filtered.count), ("bd".into(), 4));
    let filtered = range(&|asked| asked.max_create_revision = 3).await;
    assert_eq!((keys_of(&filtered).concat(), filtered.count), ("ac".into(), 4));
    let old = range(&|asked| asked.revision = 4).await;
    assert_eq!(keys_of(&old), ["a", "b", "c"]);
    assert_eq!(old.header.unwrap().revision, 6, "the store's revision, not the one read");
    let local = range(&|asked| asked.serializable = true).await;
    assert_eq!(local.count, 4);
    assert_eq!(keys_of(&connection.range(between("b", "c")).await), ["b"]);
    assert_eq!(connection.range(between("c", "b")).await.count, 0, "ends before it begins");
    assert_eq!(connection.range(between("\0", "\0")).await.count, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_ranges_come_whole_and_as_of_one_revision() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let value = "x".repeat(300 * 1024);
    for number in 0..9 {
        connection.put(&format!("key/{number}"), &format!("{}{value}", 9 - number)).await;
    }
    let all = connection.range(between("key/", "key0")).await;
    assert_eq!((all.kvs.len(), all.count, all.more), (9, 9, false));
    let ascending: Vec<String> = (0..9).map(|number| format!("key/{number}")).collect();
    assert_eq!(keys_of(&all), ascending);
    let descending: Vec<String> = ascending.iter().rev().cloned().collect();
    for target in [SortTarget::Key, SortTarget::Mod] {
        let mut request = between("key/", "key0");
        (request.sort_order, request.sort_target) = (SortOrder::Descend.into(), target.into());
        assert_eq!(keys_of(&connection.range(request).await), descending);
    }
    let mut by_value = between("key/", "key0");
    (by_value.sort_target, by_value.limit) = (SortTarget::Value.into(), 7);
    let found = connection.range(by_value).await;
    assert_eq!(keys_of(&found), descending[..7]);
    assert_eq!((found.count, found.more), (9, true));
    let mut limited = between("key/", "key0");
    limited.limit = 6;
    let found = connection.range(limited).await;
    assert_eq!((found.kvs.len(), found.count, found.more), (6, 9, true));
    // Also within a transaction.
    let op = pb::request_op::Request::RequestRange(between("key/", "key0"));
    let request =
        pb::TxnRequest { success: vec![pb::RequestOp { request: Some(op) }], ..Default::default() };
    let mut reply = connection.kv().txn(request).await.unwrap().into_inner();
    let Some(pb::response_op::Response::ResponseRange(found)) = reply.responses.remove(0).response
    else {
        panic!("another answer");
    };
    assert_eq!((found.kvs.len(), found.more), (9, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_and_deletions_return_what_was_there() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut kv = connection.kv();
    connection.put("a", "1").await;
    let request = pb::PutRequest { prev_kv: true, ..put("a", "2") };
    let previous = kv.put(request).await.unwrap().into_inner().prev_kv.unwrap();
    assert_eq!((&previous.value[..], previous.mod_revision), (&b"1"[..], 2));
    let keep = pb::PutRequest { ignore_value: true, ..put("a", "") };
    kv.put(keep.clone()).await.unwrap();
    assert_eq!(&connection.range(get("a")).await.kvs[0].value[..], b"2");
    let keep = pb::PutRequest { key: "none".into(), ..keep };
    assert_refused(kv.put(keep).await, Code::InvalidArgument, "etcdserver: key not found");
    let request = pb::DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true };
    let deleted = kv.delete_range(request.clone()).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, &deleted.prev_kvs[0].value[..]), (1, &b"2"[..]));
    assert_eq!(deleted.header.unwrap().revision, 5);
    let nothing = kv.delete_range(request).await.unwrap().into_inner();
    assert_eq!((nothing.deleted, nothing.header.unwrap().revision), (0, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_the_texts_clients_know() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut kv = connection.kv();
    let invalid = Code::InvalidArgument;
    let no_key = "etcdserver: key is not provided";
    assert_refused(kv.range(get("")).await, invalid, no_key);
    assert_refused(kv.put(put("", "v")).await, invalid, no_key);
    assert_refused(kv.delete_range(pb::DeleteRangeRequest::default()).await, invalid, no_key);
    let request = pb::RangeRequest { sort_order: 7, ..get("a") };
    assert_refused(kv.range(request).await, invalid, "etcdserver: invalid sort option");
    let request = pb::PutRequest { ignore_value: true, ..put("a", "v") };
    assert_refused(kv.put(request).await, invalid, "etcdserver: value is provided");
    let request = pb::PutRequest { ignore_lease: true, lease: 5, ..put("a", "v") };
    assert_refused(kv.put(request).await, invalid, "etcdserver: lease is provided");
    let request = pb::PutRequest { lease: 5, ..put("a", "v") };
    let not_found = "etcdserver: requested lease not found";
    assert_refused(kv.put(request).await, Code::NotFound, not_found);
    let request = pb::RangeRequest { revision: 99, ..get("a") };
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(kv.range(request).await, Code::OutOfRange, future);
    // Too large for the store, for a request, and for the decoder.
    for size in [1024 * 1024 + 1, 1600 * 1024, 3 * 1024 * 1024] {
        let refused = kv.put(put("a", &"x".repeat(size))).await;
        assert_refused(refused, invalid, "etcdserver: request is too large");
    }
    assert_eq!(connection.put("a", &"x".repeat(1024 * 1024)).await, 2);
}

/// `--max-request-bytes`: of writes, whatever is read may be asked for at any length.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_as_long_as_the_door_allows() {
    let mut doors = Doors::start(1).await;
    let node = *doors.addresses.keys().next().unwrap();
    doors.open_with(node, |config| config.request_bytes_max = 1000).await;
    let connection = doors.any().await;
    let mut kv = connection.kv();
    connection.put("a", &"x".repeat(990)).await;
    let long = "x".repeat(1000);
    let large = "etcdserver: request is too large";
    assert_refused(kv.put(put("a", &long)).await, Code::InvalidArgument, large);
    let delete = pb::DeleteRangeRequest { key: long.clone().into(), ..Default::default() };
    assert_refused(kv.delete_range(delete).await, Code::InvalidArgument, large);
    let request = Some(pb::request_op::Request::RequestPut(put("a", &long[..990])));
    let success = vec![pb::RequestOp { request }];
    let txn = pb::TxnRequest { success, ..Default::default() };
    assert_refused(kv.txn(txn).await, Code::InvalidArgument, large);
    assert_eq!(connection.range(get(&long)).await.count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_forgets_and_says_so() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut kv = connection.kv();
    for value in ["1", "2", "3"] {
        connection.put("a", value).await;
    }
    let compact = |revision| pb::CompactionRequest { revision, physical: true };
    let done = kv.compact(compact(3)).await.unwrap().into_inner();
    assert_eq!(done.header.unwrap().revision, 4);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    for revision in [-1, 2, 3] {
        assert_refused(kv.compact(compact(revision)).await, Code::OutOfRange, compacted);
    }
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(kv.compact(compact(5)).await, Code::OutOfRange, future);
    let at = |revision| pb::RangeRequest { revision, ..get("a") };
    assert_refused(kv.range(at(2)).await, Code::OutOfRange, compacted);
    assert_eq!(&connection.range(at(3)).await.kvs[0].value[..], b"2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_still_takes_what_makes_room() {
    let doors = Doors::of(crate::cluster::Cluster::with_quota(1, 64 * 1024)).await;
    let connection = doors.any().await;
    let mut kv = connection.kv();
    let value = "x".repeat(20 * 1024);
    let full = "etcdserver: mvcc: database space exceeded";
    let refused = loop {
        let done = kv.put(put("a", &value)).await;
        if done.is_err() {
            break done;
        }
    };
    assert_refused(refused, Code::ResourceExhausted, full);
    let alarm = connection.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap();
    let alarms = alarm.into_inner().alarms;
    assert_eq!(alarms, [pb::AlarmMember { member_id: 1, alarm: pb::AlarmType::Nospace.into() }]);
    let (status, body) = doors.http("GET", "/health", "").await;
    assert_eq!((status, &*body), (503, "{\"health\":\"false\"}"));
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    assert_refused(connection.lease().lease_grant(grant).await, Code::ResourceExhausted, full);
    let now = connection.range(get("a")).await.header.unwrap().revision;
    kv.compact(pb::CompactionRequest { revision: now, physical: true }).await.unwrap();
    connection.put("a", "small").await;
    let alarm = connection.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap();
    assert_eq!(alarm.into_inner().alarms, []);
}
