//! Locks.

use super::{Process, TTL, client, until_another_lease_has_expired, world};
use crate::cluster::Cluster;
use raft_kv::Client;
use raft_kv::api::{Keys, KvError};
use raft_kv::client::ClientError;
use raft_kv::recipes::{Election, Group, Lock, Mirror, RecipeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

/// Waits until so many hold the lock or wait for it.
async fn until_in_line(client: &Client, name: &str, count: usize) {
    let line = Keys::prefix(format!("{name}/"));
    let mut line = Mirror::open(client, line).await.unwrap();
    while line.pairs().len() != count {
        line.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_held_by_one_at_a_time_in_the_order_of_asking() {
    let cluster = Cluster::start(3);
    let watching = client(&cluster, 0);
    let first = Lock::acquire(&watching, "lock", LONG).await.unwrap();
    let (order, held) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::<AtomicBool>::default());
    let mut waiting = JoinSet::new();
    for number in 0..12 {
        let client = client(&cluster, number);
        let (order, held) = (Arc::clone(&order), Arc::clone(&held));
        waiting.spawn(async move {
            let lock = Lock::acquire(&client, "lock", LONG).await.unwrap();
            assert!(!held.swap(true, Ordering::SeqCst), "two hold the lock");
            order.lock().unwrap().push((number, lock.fence().token));
            client.fenced(lock.fence()).put("guarded", number.to_string()).await.unwrap();
            held.store(false, Ordering::SeqCst);
            lock.release().await.unwrap();
        });
        until_in_line(&watching, "lock", number as usize + 2).await;
    }
    assert!(Lock::try_acquire(&watching, "lock", LONG).await.unwrap().is_none());
    let token = first.fence().token;
    first.release().await.unwrap();
    waiting.join_all().await;
    let order = order.lock().unwrap().clone();
    assert!(order.iter().map(|(number, _)| *number).eq(0..12), "{order:?}");
    assert!(order.is_sorted_by_key(|(_, token)| *token) && order[0].1 > token, "{order:?}");
    let last = Lock::try_acquire(&watching, "lock", LONG).await.unwrap().unwrap();
    assert!(last.fence().token > order[11].1);
}

/// The classic accident: the holder is paused for longer than its lease lives, another one takes
/// over and writes, the holder wakes up and writes, too.
#[test]
fn a_holder_that_wakes_up_after_its_lease_has_expired_cannot_write() {
    let (world, paused) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let sleepy = client(&cluster, 0);
    let lock = paused.run(Lock::acquire(&sleepy, "lock", TTL)).unwrap();
    let guarded = sleepy.fenced(lock.fence());
    paused.run(guarded.put("guarded", "first")).unwrap();

    // It does not run while the others do.
    world.block_on(async {
        let other = client(&cluster, 1);
        let next = Lock::acquire(&other, "lock", TTL).await.unwrap();
        assert!(next.fence().token > lock.fence().token);
        other.fenced(next.fence()).put("guarded", "second").await.unwrap();
        next.release().await.unwrap();
    });

    let refused = paused.run(guarded.put("guarded", "too late")).unwrap_err();
    let token = lock.fence().token;
    assert_eq!(refused, ClientError::Refused(KvError::Fenced { token }));
    paused.run(lock.lost());
    assert!(lock.is_lost());
    assert_eq!(paused.run(lock.release()), Err(RecipeError::Lost));
    let value = world.block_on(client(&cluster, 2).get_one("guarded")).unwrap().unwrap().value;
    assert_eq!(value, "second");
}

/// The lease is renewed through the leader, which dies. The next one neither forgets it nor counts
/// anew, and the client renews it elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_the_leader_it_was_acquired_through() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let holder = client(&cluster, leader.0 - 1);
    let ttl = TTL * 3;
    let lock = Lock::acquire(&holder, "lock", ttl).await.unwrap();
    cluster.kill(leader);
    let other = client(&cluster, cluster.other(leader).0 - 1);
    // One after the other they live for longer than the lease of the lock without renewals.
    for _ in 0..4 {
        until_another_lease_has_expired(&other).await;
    }
    assert!(!lock.is_lost());
    holder.fenced(lock.fence()).put("guarded", "").await.unwrap();
    lock.release().await.unwrap();
    assert!(Lock::try_acquire(&other, "lock", ttl).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_or_drops_a_lock_is_not_waited_for() {
    let cluster = Cluster::start(3);
    let one = client(&cluster, 0);
    let held = Lock::acquire(&one, "lock", LONG).await.unwrap();
    let (two, three) = (client(&cluster, 1), client(&cluster, 2));
    let impatient = tokio::spawn(async move { Lock::acquire(&two, "lock", LONG).await });
    until_in_line(&one, "lock", 2).await;
    let patient = tokio::spawn(async move { Lock::acquire(&three, "lock", LONG).await });
    until_in_line(&one, "lock", 3).await;
    impatient.abort();
    until_in_line(&one, "lock", 2).await;
    drop(held);
    patient.await.unwrap().unwrap().release().await.unwrap();
    until_in_line(&one, "lock", 0).await;
}

/// Somebody who deletes keys takes the place away of those who wait, and the lock of its holder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_whose_key_is_deleted_is_lost() {
    let cluster = Cluster::start(3);
    let client = client(&cluster, 0);
    let held = Lock::acquire(&client, "lock", LONG).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { Lock::acquire(&client, "lock", LONG).await.map(|_| ()) }
    });
    until_in_line(&client, "lock", 2).await;
    client.delete(Keys::prefix("lock/")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Err(RecipeError::Lost));
    let guarded = client.fenced(held.fence());
    let refused = guarded.put("guarded", "").await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused(KvError::Fenced { .. })), "{refused}");
    // Its lease lives, and yet it learns of it.
    held.lost().await;
    assert!(held.is_lost());
    assert_eq!(held.release().await, Err(RecipeError::Lost));
    assert_eq!(client.leases().await.unwrap(), [], "nothing is left of it");
}

/// The key is deleted behind the back of a holder that lets go before it could learn of that.
#[test]
fn whoever_lets_go_of_what_was_deleted_is_told() {
    let (world, paused) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let client = client(&cluster, 0);
    let (election, group) = (Election::new(&client, "held/a"), Group::new(&client, "held/b"));
    let lock = paused.run(Lock::acquire(&client, "held/c", LONG)).unwrap();
    let leadership = paused.run(election.campaign("", LONG)).unwrap();
    let membership = paused.run(group.join("one", "", LONG)).unwrap();
    let other = super::client(&cluster, 1);
    world.block_on(other.delete(Keys::prefix("held/"))).unwrap();
    assert_eq!(paused.run(lock.release()), Err(RecipeError::Lost));
    assert_eq!(paused.run(leadership.resign()), Err(RecipeError::Lost));
    assert_eq!(paused.run(membership.leave()), Err(RecipeError::Lost));
}

/// The keys are those that etcd's tools use: the lease of the holder below the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_are_laid_out_as_in_etcd() {
    let cluster = Cluster::start(1);
    let client = cluster.client(raft_core::types::NodeId(1));
    let lock = Lock::acquire(&client, "lock", LONG).await.unwrap();
    let found = client.get_one(lock.fence().key).await.unwrap().unwrap();
    let lease = found.lease.unwrap();
    assert_eq!(found.key, format!("lock/{:x}", lease.0));
    assert_eq!((found.create_revision, found.value.len()), (lock.fence().token, 0));
}
