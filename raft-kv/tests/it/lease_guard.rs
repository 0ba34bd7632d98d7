//! Leases that a client keeps alive, on a paused clock: it must never believe in one for longer
//! than the cluster keeps it.

use crate::fake::{Cluster, FakeConnector, Fault};
use raft_kv::Client;
use raft_kv::api::{KvError, LeaseId};
use raft_kv::client::{ClientError, ClientOptions, Lease};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
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

/// The renewal of a long lease may take a busy node ten seconds. A short one, taken meanwhile, is
/// renewed all the same.
#[tokio::test(start_paused = true)]
async fn a_short_lease_does_not_wait_for_the_renewal_of_a_long_one() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let long = client.lease(Duration::from_secs(60)).await.unwrap();
    sleep(Duration::from_millis(19_900)).await;
    cluster.set(1, Fault::Laden(Duration::from_secs(12)));
    sleep(Duration::from_millis(200)).await;
    let asked = kept_alive(&cluster);
    assert_eq!(asked, [[long.id()]], "its renewal is under way");
    let short = client.lease(Duration::from_secs(2)).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    assert!(!short.is_lost());
    let others = kept_alive(&cluster);
    assert!(others.iter().all(|ids| *ids == [short.id()]), "one request for a lease at a time");
    sleep(Duration::from_secs(60)).await;
    assert!(!long.is_lost() && !short.is_lost());
}

/// A client outlives the runtime on which its leases were renewed first.
#[test]
fn leases_are_renewed_when_the_runtime_that_did_it_ends() {
    let runtime =
        |paused| Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    let (first, second) = (runtime(false), runtime(true));
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let one = first.block_on(client.lease(TTL)).unwrap();
    let (other, lost) = second.block_on(async {
        let other = client.lease(TTL).await.unwrap();
        let lost = tokio::spawn(other.lost());
        tokio::task::yield_now().await;
        (other, lost)
    });
    drop(first);
    second.block_on(async {
        sleep(TTL * 3).await;
        assert!(!lost.is_finished() && !other.is_lost());
        assert!(!one.is_lost());
        assert!(!kept_alive(&cluster).is_empty());
        drop((one, other));
        lost.await.unwrap();
    });
}

/// It takes longer than a node is given by other requests: what it answers counts.
#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_alive_by_a_store_that_is_slow() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.grant_lease(None, TTL).await.unwrap();
    set_all(&cluster, &Fault::Slow(Duration::from_millis(1200)));
    for _ in 0..3 {
        assert_eq!(client.keep_alive(&[lease.id]).await, Ok(vec![TTL]));
    }
    assert_eq!(kept_alive(&cluster).len(), 3, "asked once each time");
}

/// A node that hangs leaves the others time: a lease may live for little longer than the deadline.
#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_alive_beside_a_node_that_hangs() {
    let cluster = Cluster::new(3);
    let client = client(&cluster);
    let lease = client.grant_lease(None, Duration::from_secs(4)).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    cluster.set(1, Fault::Mute);
    let begun = Instant::now();
    assert_eq!(client.keep_alive(&[lease.id]).await, Ok(vec![lease.ttl]));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
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
