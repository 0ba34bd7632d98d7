//! A node that takes its time for everything: what is put together of several steps has the time of
//! one request, however many they are.

use super::{Late, Pace};
use crate::cluster::{Cluster, initial_configs};
use crate::etcd::{Connection, Doors, between};
use raft_core::types::NodeId;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::v3electionpb::{self as election, election_client::ElectionClient};
use raft_kv::etcd::proto::v3lockpb::{self as lock, lock_client::LockClient};
use raft_kv::service::IntegrityConfig;
use raft_kv::store::KvStore;
use std::fmt::Debug;
use std::time::Duration;
use tonic::{Code, Status};

/// What a request has.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What each write takes, of which two take longer than that.
const STEP: Duration = Duration::from_millis(1000);
/// What each page takes: all of them take longer, and none longer than any may.
const PAGE: Duration = Duration::from_millis(300);
/// How many there are.
const PAGES: usize = 8;

/// One node, how fast it is, and a connection to a door of it that is patient.
async fn doors() -> (Doors, Pace, Connection) {
    let mut cluster = Cluster::empty();
    let (store, pace) = (KvStore::in_memory(), Pace::default());
    let (handle, integrity) =
        (store.handle(), IntegrityConfig { compare_every: None, scrub_every: None });
    let config = initial_configs(1).next().unwrap();
    let late = Late { store, gate: Default::default(), pace: pace.clone() };
    cluster.run_on(config, late, handle, integrity);
    let mut doors = Doors::of(cluster).await;
    doors.open_with(NodeId(1), |config| config.request_timeout = 40 * PATIENCE).await;
    let patient = doors.any().await;
    doors.open_with(NodeId(1), |config| config.request_timeout = PATIENCE).await;
    (doors, pace, patient)
}

#[track_caller]
fn assert_late<T: Debug>(what: &str, answer: Result<T, Status>) {
    let status = answer.expect_err(what);
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    assert!(status.message().starts_with("etcdserver: request timed out"), "{what}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_has_the_time_of_one_request() {
    let (doors, pace, patient) = doors().await;
    let connection = doors.any().await;
    let value = "x".repeat(700 * 1024);
    for number in 0..PAGES {
        patient.put(&format!("k/{number}"), &value).await;
    }
    let all = between("k/", "k0");
    assert_eq!(patient.range(all.clone()).await.kvs.len(), PAGES);
    let sorted = pb::RangeRequest { sort_order: 2, sort_target: 3, ..all.clone() };
    pace.set(PAGE);
    for asked in [all.clone(), sorted] {
        assert_late(&format!("{asked:?}"), connection.kv().range(asked).await);
    }
    // A transaction that only reads is as one read.
    let read = pb::request_op::Request::RequestRange(all);
    let read = pb::RequestOp { request: Some(read) };
    let txn = pb::TxnRequest { success: vec![read], ..Default::default() };
    assert_late("a transaction", connection.kv().txn(txn).await);
    pace.set(Duration::ZERO);
}

/// To come into a line takes as long as a request may; to stand in it, as long as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_in_a_line_is_taken_in_the_time_of_one_request() {
    let (doors, pace, patient) = doors().await;
    let connection = doors.any().await;
    pace.set(STEP);
    // A lease is made for it, and then the key.
    let request = lock::LockRequest { name: "slow".into(), lease: 0 };
    assert_late("a lock", LockClient::new(connection.clone()).lock(request).await);
    let request = election::CampaignRequest { name: "slow".into(), ..Default::default() };
    assert_late("an election", ElectionClient::new(connection.clone()).campaign(request).await);
    pace.set(Duration::ZERO);

    let first = LockClient::new(patient.clone()).lock(named("l")).await.unwrap().into_inner();
    let other = Connection::open(doors.addresses[&NodeId(1)]).await;
    let waiting = tokio::spawn(async move { LockClient::new(other).lock(named("l")).await });
    while patient.range(between("l/", "l0")).await.count < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(PATIENCE + STEP).await;
    assert!(!waiting.is_finished(), "{:?}", waiting.await);
    LockClient::new(patient).unlock(lock::UnlockRequest { key: first.key }).await.unwrap();
    waiting.await.unwrap().unwrap();
}

fn named(name: &'static str) -> lock::LockRequest {
    lock::LockRequest { name: name.into(), lease: 0 }
}
