//! The lock and the election service.

use super::{Connection, Doors, assert_refused, between, get};
use crate::cluster::Cluster;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::v3electionpb::{self as election, election_client::ElectionClient};
use raft_kv::etcd::proto::v3lockpb::{self as lock, lock_client::LockClient};
use tokio::task::JoinSet;
use tonic::Code;

async fn lease(connection: &Connection) -> i64 {
    let request = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    connection.lease().lease_grant(request).await.unwrap().into_inner().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_held_by_one_at_a_time() {
    let doors = Doors::start(3).await;
    let connection = doors.any().await;
    let other = doors.connect(*doors.addresses.keys().last().unwrap()).await;
    let (first, second) = (lease(&connection).await, lease(&connection).await);
    let request = |lease| lock::LockRequest { name: "l".into(), lease };
    let mut client = LockClient::new(connection.clone());
    let held = client.lock(request(first)).await.unwrap().into_inner();
    assert_eq!(held.key, format!("l/{first:x}"));
    // Whoever has it has it.
    assert_eq!(client.lock(request(first)).await.unwrap().into_inner().key, held.key);
    let waiting = tokio::spawn(async move { LockClient::new(other).lock(request(second)).await });
    while connection.range(between("l/", "l0")).await.count < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    client.unlock(lock::UnlockRequest { key: held.key }).await.unwrap();
    let held = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(held.key, format!("l/{second:x}"));
    assert!(held.header.unwrap().revision >= 4);

    let unknown = client.lock(request(12345)).await;
    assert_refused(unknown, Code::NotFound, "etcdserver: requested lease not found");
    let unnamed = lock::LockRequest { name: Default::default(), lease: first };
    let held = client.lock(unnamed).await.unwrap().into_inner();
    assert_eq!(held.key, format!("/{first:x}"), "no name is one, too, as with etcd");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_no_more_leaves_the_line() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let (first, second) = (lease(&connection).await, lease(&connection).await);
    let request = |lease| lock::LockRequest { name: "l".into(), lease };
    LockClient::new(connection.clone()).lock(request(first)).await.unwrap();
    let given_up = Connection::open(*doors.addresses.values().next().unwrap()).await;
    let waiting =
        tokio::spawn(async move { LockClient::new(given_up).lock(request(second)).await });
    while connection.range(between("l/", "l0")).await.count < 2 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while connection.range(between("l/", "l0")).await.count > 1 {
        tokio::task::yield_now().await;
    }
    // A lease that ends while its holder waits ends the wait.
    let third = lease(&connection).await;
    let other = connection.clone();
    let waiting = tokio::spawn(async move { LockClient::new(other).lock(request(third)).await });
    while connection.range(between("l/", "l0")).await.count < 2 {
        tokio::task::yield_now().await;
    }
    connection.lease().lease_revoke(pb::LeaseRevokeRequest { id: third }).await.unwrap();
    let ended = waiting.await.unwrap();
    assert_refused(ended, Code::Unknown, "mutex: session is expired");
}

/// Those who wait at one connection take no room from those at others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_has_its_own_who_wait() {
    let doors = Doors::of(Cluster::with_few_watches(1, 4)).await;
    let address = *doors.addresses.values().next().unwrap();
    let connection = doors.any().await;
    let request = |lease| lock::LockRequest { name: "l".into(), lease };
    LockClient::new(connection.clone()).lock(request(lease(&connection).await)).await.unwrap();
    // Each waits for the one before, and for its own key to be deleted.
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let (mut client, lease) = (LockClient::new(connection.clone()), lease(&connection).await);
        waiting.spawn(async move { client.lock(request(lease)).await });
    }
    let refused = waiting.join_next().await.unwrap().unwrap();
    assert_refused(refused, Code::ResourceExhausted, "etcdserver: too many requests");
    let other = Connection::open(address).await;
    let lease = lease(&other).await;
    waiting.spawn(async move { LockClient::new(other).lock(request(lease)).await });
    // All three keys stand in the line, and nobody is refused any more.
    while connection.range(between("l/", "l0")).await.count < 4 {
        tokio::select! {
            biased;
            ended = waiting.join_next() => panic!("one was refused: {ended:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    loop {
        let first = connection.range(between("l/", "l0")).await;
        let Some(first) = first.kvs.into_iter().min_by_key(|pair| pair.create_revision) else {
            break;
        };
        let unlock = lock::UnlockRequest { key: first.key };
        LockClient::new(connection.clone()).unlock(unlock).await.unwrap();
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_proclaims_until_it_resigns() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut client = ElectionClient::new(connection.clone());
    let name = election::LeaderRequest { name: "e".into() };
    let none = client.leader(name.clone()).await;
    assert_refused(none, Code::Unknown, "election: no leader");
    let mut observing = client.observe(name.clone()).await.unwrap().into_inner();
    let campaign = |lease, value: &'static str| election::CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    };
    let (first, second) = (lease(&connection).await, lease(&connection).await);
    let won = client.campaign(campaign(first, "one")).await.unwrap().into_inner();
    let leader = won.leader.unwrap();
    assert_eq!((leader.key.clone(), leader.lease), (format!("e/{first:x}").into(), first));
    let mut told = async || {
        let answer = observing.message().await.unwrap().unwrap();
        let pair = answer.kv.unwrap();
        (pair.key, pair.value)
    };
    assert_eq!(told().await, (leader.key.clone(), "one".into()));
    let mut rival = client.clone();
    let waiting = tokio::spawn(async move { rival.campaign(campaign(second, "two")).await });
    let request =
        |leader, value: &'static str| election::ProclaimRequest { leader, value: value.into() };
    client.proclaim(request(Some(leader.clone()), "uno")).await.unwrap();
    assert_eq!(told().await, (leader.key.clone(), "uno".into()));
    let found = client.leader(name).await.unwrap().into_inner().kv.unwrap();
    assert_eq!(found.value, "uno");
    let resignation = election::ResignRequest { leader: Some(leader.clone()) };
    client.resign(resignation.clone()).await.unwrap();
    let won = waiting.await.unwrap().unwrap().into_inner().leader.unwrap();
    assert_eq!(told().await, (won.key, "two".into()));
    client.resign(resignation).await.unwrap();
    let late = client.proclaim(request(Some(leader), "uno")).await;
    assert_refused(late, Code::Unknown, "election: not leader");
    let nobody = client.proclaim(request(None, "uno")).await;
    assert_refused(nobody, Code::Unknown, "\"leader\" field must be provided");
    assert_eq!(connection.range(get(&format!("e/{first:x}"))).await.count, 0);
    let unnamed = election::CampaignRequest { lease: first, ..Default::default() };
    let won = client.campaign(unnamed).await.unwrap().into_inner().leader.unwrap();
    assert_eq!(won.key, format!("/{first:x}"));
    let leader = client.leader(election::LeaderRequest::default()).await.unwrap().into_inner();
    assert_eq!(leader.kv.unwrap().key, won.key);
}
