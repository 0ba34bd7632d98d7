//! Service Maintenance, and gRPC's health service.

use super::auth::signed;
use super::{Doors, assert_refused, get, put};
use crate::cluster::{Cluster, GROUP};
use bytes::Bytes;
use raft_core::transport::{BoxFuture, Caller, Service};
use raft_core::types::{Change, NodeId, Version};
use raft_kv::api::{ROOT, Request, RequestBody};
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::health::health_check_response::ServingStatus;
use raft_kv::etcd::proto::health::{HealthCheckRequest, health_client::HealthClient};
use raft_kv::service::KvService;
use raft_kv::store::BackupInfo;
use raft_kv::wire::decode_request;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Code, Status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_how_it_is() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let connection = doors.connect(leader).await;
    connection.put("k", "v").await;
    let status = connection.maintenance().status(pb::StatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!(status.leader, leader.0);
    assert_eq!(status.version, "3.4.23");
    assert_eq!(status.header.unwrap().revision, 2);
    assert!(status.raft_term > 0 && status.raft_applied_index > 0);
    assert!(status.raft_index >= status.raft_applied_index);
    assert!(status.db_size > 0 && status.db_size_in_use > 0);
    assert!(!status.is_learner);
    assert_eq!(status.errors, [""; 0]);
    connection.maintenance().defragment(pb::DefragmentRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_of_all_members_are_listed_at_each() {
    let doors = Doors::of(Cluster::with_quota(3, 64 * 1024)).await;
    let connection = doors.any().await;
    while connection.kv().put(put("k", &"v".repeat(8 * 1024))).await.is_ok() {}
    let alarms = async |id: &NodeId, member_id, alarm| {
        let mut maintenance = doors.connect(*id).await.maintenance();
        // So that the node has applied everything, and says so.
        doors.connect(*id).await.range(get("k")).await;
        let request = pb::AlarmRequest { action: 0, member_id, alarm };
        let answer = maintenance.alarm(request).await.unwrap().into_inner();
        listed(&answer)
    };
    for id in doors.addresses.keys() {
        doors.connect(*id).await.range(get("k")).await;
    }
    for id in doors.addresses.keys() {
        assert_eq!(alarms(id, 0, 0).await, [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(alarms(id, 2, 1).await, [(2, 1)]);
        assert_eq!(alarms(id, 0, 2).await, []);
    }
}

/// As with etcd, a quota of 0 is the usual one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_0_is_the_default() {
    let doors = Doors::of(Cluster::with_quota(1, 0)).await;
    let connection = doors.any().await;
    connection.put("k", "v").await;
    let all = pb::AlarmRequest::default();
    let alarms = connection.maintenance().alarm(all).await.unwrap().into_inner();
    assert_eq!(listed(&alarms), []);
    let (_, metrics) = doors.http("GET", "/metrics", "").await;
    assert!(metrics.contains("\netcd_server_quota_backend_bytes 2147483648\n"), "{metrics}");
}

/// An alarm that is raised counts on every member, whoever it names, until it is cleared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_that_is_raised_counts_everywhere_until_it_is_cleared() {
    let doors = Doors::start(3).await;
    let ids: Vec<NodeId> = doors.addresses.keys().copied().collect();
    let change = async |id: NodeId, action, member_id, alarm| {
        let request = pb::AlarmRequest { action, member_id, alarm };
        let answer = doors.connect(id).await.maintenance().alarm(request).await;
        answer.map(|answer| listed(&answer.into_inner()))
    };
    let [get_all, raise, clear] = [0, 1, 2];
    doors.any().await.put("k", "v").await;
    assert_eq!(change(ids[0], raise, 9, 1).await.unwrap(), [(9, 1)]);
    assert_eq!(change(ids[1], raise, 0, 1).await.unwrap(), [(0, 1)]);
    assert_eq!(change(ids[2], raise, 0, 1).await.unwrap(), [(0, 1)]);
    let full = "etcdserver: mvcc: database space exceeded";
    for id in &ids {
        assert_eq!(change(*id, get_all, 0, 0).await.unwrap(), [(0, 1), (9, 1)]);
        assert_eq!(change(*id, get_all, 9, 0).await.unwrap(), [(9, 1)]);
        assert_eq!(change(*id, get_all, 0, 2).await.unwrap(), []);
        let connection = doors.connect(*id).await;
        let refused = connection.kv().put(put("k", "w")).await;
        assert_refused(refused, Code::ResourceExhausted, full);
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
        let refused = connection.lease().lease_grant(grant).await;
        assert_refused(refused, Code::ResourceExhausted, full);
        let status = connection.maintenance().status(pb::StatusRequest {}).await.unwrap();
        let errors = ["alarm:NOSPACE ", "memberID:9 alarm:NOSPACE "];
        assert_eq!(status.into_inner().errors, errors);
        let health = super::http_at(doors.addresses[id], "GET", "/health", "").await;
        assert_eq!(health.status(), 503);
    }
    assert_eq!(change(ids[0], clear, 0, 1).await.unwrap(), [(0, 1)]);
    assert_eq!(change(ids[1], clear, 0, 1).await.unwrap(), []);
    let refused = doors.any().await.kv().put(put("k", "w")).await;
    assert_refused(refused, Code::ResourceExhausted, full);
    assert_eq!(change(ids[2], clear, 9, 1).await.unwrap(), [(9, 1)]);
    for id in &ids {
        doors.connect(*id).await.put("k", "w").await;
        assert_eq!(change(*id, get_all, 0, 0).await.unwrap(), []);
    }
    for wrong in [0, 7] {
        let refused = change(ids[0], raise, 0, wrong).await;
        assert_refused(refused, Code::InvalidArgument, "etcdserver: there is no such alarm");
    }
}

/// A member of before knows no alarms: as long as it is there none is raised, whoever is asked, and
/// none is there to be cleared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_alarm_is_raised_while_a_member_is_old() {
    let old = NodeId(3);
    let doors = Doors::of(Cluster::configured(3, |config| {
        if config.raft.id == old {
            config.raft.version = Version(3);
        }
    }))
    .await;
    let change = async |id: NodeId, action| {
        let request = pb::AlarmRequest { action, member_id: 9, alarm: 1 };
        let answer = doors.connect(id).await.maintenance().alarm(request).await;
        answer.map(|answer| listed(&answer.into_inner()))
    };
    let [raise, clear] = [1, 2];
    let assert_upgrading = |refused: Status| {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let text = refused.message();
        assert!(text.starts_with("etcdserver: the cluster is being upgraded: "), "{text}");
        text.contains("n3")
    };
    for id in [NodeId(1), NodeId(2)] {
        assert!(assert_upgrading(change(id, raise).await.unwrap_err()), "it names the member");
        assert_eq!(change(id, clear).await.unwrap(), []);
        doors.connect(id).await.put("k", "v").await;
    }
    let client = doors.cluster.client(NodeId(1));
    client.change_members(vec![Change::Remove { node: old }]).await.unwrap();
    let raised = loop {
        match change(NodeId(1), raise).await {
            Ok(raised) => break raised,
            Err(refused) => _ = assert_upgrading(refused),
        }
    };
    assert_eq!((raised, change(NodeId(2), clear).await.unwrap()), (vec![(9, 1)], vec![(9, 1)]));
}

/// Whoever may not do everything could stop all writes with an alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_are_raised_and_cleared_by_root() {
    let doors = Doors::of(Cluster::with_cheap_passwords(1)).await;
    let client = doors.cluster.client(doors.cluster.leader().await);
    crate::auth::prepare(&client).await;
    client.enable_auth().await.unwrap();
    let connection = doors.any().await;
    for action in [1, 2] {
        for (user, allowed) in [("alice", false), (ROOT, true)] {
            let token = client.authenticate(user, format!("{user}-pw")).await.unwrap();
            let request = pb::AlarmRequest { action, member_id: 0, alarm: 1 };
            let answer = connection.maintenance().alarm(signed(&token, request)).await;
            match allowed {
                true => assert_eq!(listed(&answer.unwrap().into_inner()), [(0, 1)]),
                false => {
                    assert_refused(answer, Code::PermissionDenied, "etcdserver: permission denied")
                }
            }
        }
    }
}

/// A service that counts how often its node is asked how it is.
struct Counting {
    service: Arc<KvService>,
    asked: AtomicUsize,
}

impl Service for Counting {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        if matches!(decode_request(&request), Ok(Request { body: RequestBody::Health, .. })) {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        self.service.call(caller, request)
    }
}

/// Who lists the alarms of one member has no other asked, and many who list them at a time share
/// what is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_list_alarms_share_what_members_tell() {
    const MANY: usize = 200;
    let doors = Doors::start(3).await;
    let counting = |id: u64| {
        let id = NodeId(id);
        let service = doors.cluster.services[&id].clone();
        let counting = Arc::new(Counting { service, asked: AtomicUsize::new(0) });
        doors.cluster.network.serve(GROUP, id, counting.clone());
        counting
    };
    let [second, third] = [counting(2), counting(3)];
    let asked = || [&second, &third].map(|service| service.asked.load(Ordering::Relaxed));
    let maintenance = doors.connect(NodeId(1)).await.maintenance();
    let list = async |member_id| {
        let request = pb::AlarmRequest { action: 0, member_id, alarm: 0 };
        maintenance.clone().alarm(request).await.unwrap()
    };
    list(1).await;
    assert_eq!(asked(), [0, 0], "it needs to ask nobody of itself");
    list(2).await;
    assert_eq!(asked(), [1, 0]);
    let mut listing = JoinSet::new();
    for _ in 0..MANY {
        let (mut maintenance, all) = (maintenance.clone(), pb::AlarmRequest::default());
        listing.spawn(async move { maintenance.alarm(all).await.unwrap() });
    }
    listing.join_all().await;
    let [of_second, of_third] = asked();
    assert!((1..MANY / 2).contains(&of_third), "{of_third}");
    assert!((1..MANY / 2).contains(&of_second), "{of_second}");
}

/// A service that says nothing of how its node is, and is asked for it again and again.
struct Silent {
    service: Arc<KvService>,
    asked: AtomicUsize,
}

impl Service for Silent {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        if matches!(decode_request(&request), Ok(Request { body: RequestBody::Health, .. })) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return Box::pin(std::future::pending());
        }
        self.service.call(caller, request)
    }
}

/// Three members that are full, the third of which does not say how it is.
async fn with_a_silent_member() -> (Doors, Arc<Silent>) {
    let doors = Doors::of(Cluster::with_quota(3, 64 * 1024)).await;
    let connection = doors.any().await;
    while connection.kv().put(put("k", &"v".repeat(8 * 1024))).await.is_ok() {}
    for id in doors.addresses.keys() {
        // So that the node has applied everything, and says so.
        doors.connect(*id).await.range(get("k")).await;
    }
    let service = doors.cluster.services[&NodeId(3)].clone();
    let silent = Arc::new(Silent { service, asked: AtomicUsize::new(0) });
    doors.cluster.network.serve(GROUP, NodeId(3), silent.clone());
    (doors, silent)
}

/// A member that keeps silent has no alarms that others could list, and keeps nobody from listing
/// those of the rest; who wait while it is asked share that, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_member_is_left_out_of_the_list() {
    const MANY: usize = 50;
    let (doors, silent) = with_a_silent_member().await;
    let maintenance = doors.connect(NodeId(1)).await.maintenance();
    let mut listing = JoinSet::new();
    for _ in 0..MANY {
        let mut maintenance = maintenance.clone();
        listing.spawn(async move {
            listed(&maintenance.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner())
        });
    }
    for alarms in listing.join_all().await {
        assert_eq!(alarms, [(1, 1), (2, 1)]);
    }
    let asked = silent.asked.load(Ordering::Relaxed);
    assert!((1..MANY / 2).contains(&asked), "{asked}");
    let of_third = pb::AlarmRequest { member_id: 3, ..Default::default() };
    assert_eq!(listed(&maintenance.clone().alarm(of_third).await.unwrap().into_inner()), []);
    // It knows of itself.
    let mut third = doors.connect(NodeId(3)).await.maintenance();
    let alarms = third.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed(&alarms), [(1, 1), (2, 1), (3, 1)]);
    let cleared = pb::AlarmRequest { action: 2, member_id: 3, alarm: 1 };
    assert_eq!(listed(&maintenance.clone().alarm(cleared).await.unwrap().into_inner()), []);
}

/// Members are asked within the time that the request has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lists_alarms_waits_no_longer_than_any_request() {
    let (mut doors, silent) = with_a_silent_member().await;
    doors.open_with(NodeId(1), |config| config.request_timeout = Duration::from_millis(200)).await;
    let mut maintenance = doors.connect(NodeId(1)).await.maintenance();
    let refused = maintenance.alarm(pb::AlarmRequest::default()).await;
    let refused = refused.unwrap_err();
    let text = "etcdserver: request timed out";
    assert!(refused.code() == Code::Unavailable && refused.message().starts_with(text));
    // What is done by then is said to be.
    let raised = pb::AlarmRequest { action: 1, member_id: 3, alarm: 2 };
    let mut other = doors.connect(NodeId(2)).await.maintenance();
    other.alarm(raised).await.unwrap();
    let asked = silent.asked.load(Ordering::Relaxed);
    let cleared = pb::AlarmRequest { action: 2, member_id: 3, alarm: 2 };
    assert_eq!(listed(&other.alarm(cleared).await.unwrap().into_inner()), [(3, 2)]);
    assert_eq!(silent.asked.load(Ordering::Relaxed), asked, "there was nothing to ask for");
}

fn listed(answer: &pb::AlarmResponse) -> Vec<(u64, i32)> {
    assert_eq!(answer.header, None, "as with etcd");
    answer.alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_are_equal_where_the_keys_are() {
    let doors = Doors::start(3).await;
    let connection = doors.any().await;
    for number in 0..20 {
        connection.put(&format!("k{}", number % 7), &number.to_string()).await;
    }
    let mut hashes = Vec::new();
    for id in doors.addresses.keys() {
        let connection = doors.connect(*id).await;
        // So that the node has applied everything.
        connection.range(get("k")).await;
        let mut maintenance = connection.maintenance();
        let mut of = async |revision| {
            let request = pb::HashKvRequest { revision };
            let hash = maintenance.hash_kv(request).await.unwrap().into_inner();
            (hash.hash, hash.compact_revision)
        };
        let (now, before) = (of(0).await, of(20).await);
        assert_ne!(now, before);
        assert_eq!(of(21).await, now);
        let all = maintenance.hash(pb::HashRequest {}).await.unwrap().into_inner().hash;
        hashes.push((now, before, all));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let request = pb::HashKvRequest { revision: 22 };
    let ahead = connection.maintenance().hash_kv(request).await;
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(ahead, Code::OutOfRange, future);
    let compaction = pb::CompactionRequest { revision: 10, physical: true };
    connection.kv().compact(compaction).await.unwrap();
    let request = pb::HashKvRequest { revision: 9 };
    let behind = connection.maintenance().hash_kv(request).await;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_refused(behind, Code::OutOfRange, compacted);
    let request = pb::HashKvRequest { revision: 0 };
    let hash = connection.maintenance().hash_kv(request).await.unwrap().into_inner();
    assert_eq!(hash.compact_revision, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_to_whom_it_is_given() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let follower = doors.cluster.other(leader);
    let to = |id: NodeId| pb::MoveLeaderRequest { target_id: id.0 };
    let refused = doors.connect(follower).await.maintenance().move_leader(to(follower)).await;
    assert_refused(refused, Code::FailedPrecondition, "etcdserver: not leader");
    let mut maintenance = doors.connect(leader).await.maintenance();
    let refused = maintenance.move_leader(to(NodeId(9))).await;
    assert_refused(refused, Code::FailedPrecondition, "etcdserver: bad leader transferee");
    maintenance.move_leader(to(follower)).await.unwrap();
    let mut status = doors.connect(follower).await.maintenance();
    let status = status.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.leader, follower.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_a_backup_with_its_checksum() {
    let doors = Doors::of(Cluster::on_disk(1, |_| {})).await;
    let connection = doors.any().await;
    for number in 0..50 {
        connection.put(&format!("k{number}"), &"v".repeat(5000)).await;
    }
    let mut maintenance = connection.maintenance();
    let mut stream = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    let mut last = None;
    while let Some(piece) = stream.message().await.unwrap() {
        assert!(piece.blob.len() <= 32 * 1024);
        bytes.extend_from_slice(&piece.blob);
        last = Some(piece);
    }
    let last = last.unwrap();
    assert_eq!((last.remaining_bytes, last.blob.len()), (0, 32));
    assert_eq!(bytes.len() % 512, 32, "what etcd's tools take for a checksum at the end");
    let data = &bytes[..bytes.len() - 32];
    let sum = ring::digest::digest(&ring::digest::SHA256, data);
    assert_eq!(sum.as_ref(), &last.blob[..]);
    // A file of all of it is a backup, what follows the data notwithstanding.
    let info = BackupInfo::read(std::io::Cursor::new(bytes.clone())).unwrap();
    assert_eq!((info.keys, info.revision.0), (50, 51));
    bytes.insert(bytes.len() - 32, 1);
    let damaged = BackupInfo::read(std::io::Cursor::new(bytes)).unwrap_err();
    assert!(damaged.to_string().contains("bytes follow its end"), "{damaged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_leader() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let follower = doors.cluster.other(leader);
    let connection = doors.connect(follower).await;
    let mut health = HealthClient::new(connection);
    let all = HealthCheckRequest::default();
    let mut watching = health.watch(all.clone()).await.unwrap().into_inner();
    while watching.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let checked = health.check(all).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::Serving);
    doors.cluster.isolate(follower);
    let changed = watching.message().await.unwrap().unwrap();
    assert_eq!(changed.status(), ServingStatus::NotServing);
    let unknown = health.check(HealthCheckRequest { service: "other".into() }).await;
    assert_refused(unknown, Code::NotFound, "unknown service");
}
