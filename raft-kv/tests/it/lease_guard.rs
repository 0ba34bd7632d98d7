//! Leases that a client keeps alive, on a paused clock: it must never believe in one for longer
//! than the cluster keeps it.

use crate::fake::{Cluster, FakeConnector, Fault};
use raft_kv::Client;
use raft_kv::api::{KvError, LeaseId};
use raft_kv::client::{ClientError, ClientOptions, Lease};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_secs(9);

fn client(cluster: &Arc<Cluster>) -> Client {
    let options = ClientOptions::new(["1:1", "2:1", "3:1"]);
    Client::new(Arc::new(FakeConnector(Arc::clone(cluster))), options)
}

fn set_all(cluster: &Cluster, fault: &Fault) {
    (1..=3).for_each(|node| cluster.set(node, fault.clone()));
}

fn kept_alive(cluster: &Cluster) -> Vec<Vec<LeaseId>> {
    cluster.with(|state| std::mem::take(&mut state.kept_alive))
}

async fn live(client: &Client) -> Vec<LeaseId> {
    client.leases().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_as_long_as_its_guard() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(TTL).await.unwrap();
    assert_eq!((lease.ttl(), lease.remaining()), (TTL, TTL));
    sleep(TTL * 10 + Duration::from_secs(1)).await;
    assert!(!lease.is_lost() && lease.remaining() > TTL / 2);
    assert_eq!(live(&client).await, [lease.id()]);
    let rounds = kept_alive(&cluster).len();
    assert!((29..=31).contains(&rounds), "{rounds} renewals in ten times its time");

    let id = lease.id();
    let lost = lease.lost();
    lease.revoke().await.unwrap();
    lost.await;
    assert_eq!(live(&client).await, []);
    assert_eq!(
        client.revoke_lease(id).await,
        Err(ClientError::Refused(KvError::LeaseNotFound(id)))
    );
    sleep(TTL * 10).await;
    assert_eq!(kept_alive(&cluster), [[]; 0], "what is revoked was kept alive");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_lease_revokes_it() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let (one, other) = (client.lease(TTL).await.unwrap(), client.lease(TTL).await.unwrap());
    let lost = one.lost();
    drop(one);
    lost.await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(live(&client).await, [other.id()]);
    sleep(TTL * 3).await;
    assert_eq!(live(&client).await, [other.id()]);
    assert!(kept_alive(&cluster).iter().all(|ids| *ids == [other.id()]));
}

#[tokio::test(start_paused = true)]
async fn several_leases_are_kept_alive_in_one_request() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..50 {
        leases.push(client.lease(TTL).await.unwrap());
        sleep(Duration::from_millis(20)).await;
    }
    let short = client.lease(Duration::from_secs(2)).await.unwrap();
    kept_alive(&cluster);
    sleep(TTL * 3).await;
    assert!(leases.iter().chain([&short]).all(|lease| !lease.is_lost()));
    // The shortest lease sets the pace, and takes along whichever others are due.
    let requests = kept_alive(&cluster);
    assert!((38..=42).contains(&requests.len()), "{} requests", requests.len());
    let renewals: usize = requests.iter().map(Vec::len).sum();
    assert!(renewals >= requests.len() + 50 * 8, "{renewals} renewals");
    assert_eq!(live(&client).await.len(), 51);
}

/// The renewal takes half a second back to the client. The cluster counts from when it came.
#[tokio::test(start_paused = true)]
async fn a_lease_is_given_up_counting_from_when_its_renewal_was_sent() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let granted = Instant::now();
    let lease = client.lease(TTL).await.unwrap();
    set_all(&cluster, &Fault::Slow(Duration::from_millis(500)));
    sleep(TTL / 2).await;
    assert_eq!(kept_alive(&cluster).len(), 1);
    set_all(&cluster, &Fault::Gone);
    lease.lost().await;
    // A third of its time after it was granted the renewal was sent.
    let due = granted + TTL + TTL / 3;
    let late = Instant::now() - due;
    assert!(late < Duration::from_millis(5), "{late:?} too late");
    assert!(lease.is_lost() && lease.remaining().is_zero());
}

/// All is well again a moment later, and the cluster would still have it: the client has told that
/// it is lost, and somebody may have acted on that.
#[tokio::test(start_paused = true)]
async fn a_lease_once_lost_stays_lost() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(TTL).await.unwrap();
    sleep(TTL / 2).await;
    set_all(&cluster, &Fault::Mute);
    lease.lost().await;
    set_all(&cluster, &Fault::None);
    assert_eq!(live(&client).await, [lease.id()], "mute nodes have kept it alive");
    kept_alive(&cluster);
    sleep(TTL / 2).await;
    assert!(lease.is_lost());
    assert!(kept_alive(&cluster).is_empty(), "a lost lease was kept alive");
}

#[tokio::test(start_paused = true)]
async fn a_lease_revoked_by_somebody_else_is_lost() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(TTL).await.unwrap();
    client.revoke_lease(lease.id()).await.unwrap();
    let revoked = Instant::now();
    lease.lost().await;
    assert!(revoked.elapsed() < TTL / 2, "the next renewal tells");
}

/// The first node is silent; the shortest lease there is survives the search for another one.
#[tokio::test(start_paused = true)]
async fn a_silent_node_does_not_cost_a_lease() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(Duration::ZERO).await.unwrap();
    assert_eq!(lease.ttl(), Duration::from_secs(2));
    sleep(Duration::from_secs(3)).await;
    cluster.set(1, Fault::Mute);
    sleep(Duration::from_secs(20)).await;
    assert!(!lease.is_lost());
}

/// Every request takes longer than one node is given otherwise.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_costs_no_lease() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(TTL).await.unwrap();
    set_all(&cluster, &Fault::Slow(TTL / 5));
    sleep(TTL * 3).await;
    assert!(!lease.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lease_survives_a_while_without_quorum() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.lease(TTL).await.unwrap();
    sleep(TTL / 3).await;
    set_all(&cluster, &Fault::Gone);
    sleep(TTL / 2).await;
    set_all(&cluster, &Fault::None);
    sleep(TTL * 2).await;
    assert!(!lease.is_lost());
}
