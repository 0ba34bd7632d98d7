//! Service Lease.

use super::{Doors, assert_refused, get, put};
use raft_kv::etcd::proto::etcdserverpb as pb;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_with_its_keys() {
    let doors = Doors::start(3).await;
    let connection = doors.any().await;
    let mut lease = connection.lease();
    let granted = lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 77 }).await.unwrap();
    let granted = granted.into_inner();
    assert_eq!((granted.id, granted.ttl, &*granted.error), (77, 60, ""));
    let again = lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 77 }).await;
    assert_refused(again, Code::FailedPrecondition, "etcdserver: lease already exists");
    let short = lease.lease_grant(pb::LeaseGrantRequest { ttl: -5, id: 0 }).await.unwrap();
    let short = short.into_inner();
    assert!(short.id > 0);
    assert_eq!(short.ttl, 2, "raised to the least there is");
    let long = pb::LeaseGrantRequest { ttl: i64::MAX, id: 0 };
    let too_long = "etcdserver: too large lease TTL";
    assert_refused(lease.lease_grant(long).await, Code::OutOfRange, too_long);

    let request = pb::PutRequest { lease: 77, ..put("leased", "v") };
    connection.kv().put(request).await.unwrap();
    assert_eq!(connection.range(get("leased")).await.kvs[0].lease, 77);
    let asked = pb::LeaseTimeToLiveRequest { id: 77, keys: true };
    let found = lease.lease_time_to_live(asked).await.unwrap().into_inner();
    assert_eq!((found.id, found.granted_ttl), (77, 60));
    assert!((55..=60).contains(&found.ttl), "{found:?}");
    assert_eq!(found.keys, ["leased"]);
    let all = lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert!(all.leases.contains(&pb::LeaseStatus { id: 77 }));

    let revoked = lease.lease_revoke(pb::LeaseRevokeRequest { id: 77 }).await.unwrap();
    assert_eq!(revoked.into_inner().header.unwrap().revision, 3);
    assert_eq!(connection.range(get("leased")).await.count, 0);
    for id in [77, 0, -1] {
        let gone = lease.lease_revoke(pb::LeaseRevokeRequest { id }).await;
        assert_refused(gone, Code::NotFound, "etcdserver: requested lease not found");
        let asked = pb::LeaseTimeToLiveRequest { id, keys: false };
        let found = lease.lease_time_to_live(asked).await.unwrap().into_inner();
        assert_eq!((found.id, found.ttl, found.granted_ttl), (id, -1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_alive_over_one_stream() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let connection = doors.connect(doors.cluster.other(leader)).await;
    let mut lease = connection.lease();
    let mut ids = Vec::new();
    for ttl in [30, 60] {
        let granted = lease.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await.unwrap();
        ids.push(granted.into_inner().id);
    }
    let (requests, receiver) = mpsc::channel(16);
    let mut answers =
        lease.lease_keep_alive(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for _ in 0..3 {
        for id in [ids[0], 12345, ids[1], -4] {
            requests.send(pb::LeaseKeepAliveRequest { id }).await.unwrap();
        }
        for (id, ttl) in [(ids[0], 30), (12345, 0), (ids[1], 60), (-4, 0)] {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.id, answer.ttl), (id, ttl));
            assert!(answer.header.is_some());
        }
    }
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_keeps_alive_expires() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut lease = connection.lease();
    let granted = lease.lease_grant(pb::LeaseGrantRequest { ttl: 2, id: 0 }).await.unwrap();
    let id = granted.into_inner().id;
    connection.kv().put(pb::PutRequest { lease: id, ..put("leased", "v") }).await.unwrap();
    let mut watching = super::watch::Watching::start(&connection).await;
    watching.create(pb::WatchCreateRequest { key: "leased".into(), ..Default::default() }).await;
    let created = watching.next().await;
    assert!(created.created);
    let expired = tokio::time::timeout(Duration::from_secs(60), watching.next()).await.unwrap();
    assert_eq!(expired.events[0].r#type, 1, "deleted");
    assert_eq!(connection.range(get("leased")).await.count, 0);
}
