//! Queues.

use super::client;
use crate::cluster::Cluster;
use raft_kv::api::{Consistency, Keys, Op, Put, Range};
use raft_kv::recipes::Queue;
use std::collections::BTreeSet;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_in_order_within_each_rank() {
    let cluster = Cluster::start(3);
    let queue = Queue::new(&client(&cluster, 0), "queue");
    assert_eq!(queue.try_take().await.unwrap(), None);
    for number in 0..20 {
        queue.put(format!("normal {number:02}")).await.unwrap();
    }
    queue.put_at(7, "urgent").await.unwrap();
    queue.put_at(u16::MAX, "some day").await.unwrap();
    queue.put("normal 20").await.unwrap();
    assert_eq!(queue.waiting().await.unwrap(), 23);
    let mut taken = Vec::new();
    while let Some(item) = queue.try_take().await.unwrap() {
        taken.push(item.value);
    }
    assert_eq!((&taken[0][..], &taken[22][..]), (&b"urgent"[..], &b"some day"[..]));
    let normal = (0..21).map(|number| format!("normal {number:02}"));
    assert!(taken[1..22].iter().eq(normal.collect::<Vec<_>>().iter()));
    // Whoever waits is told.
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take().await.unwrap() }
    });
    let put = queue.put("at last").await.unwrap();
    let item = waiting.await.unwrap();
    assert_eq!((item.value, item.revision), ("at last".into(), put));
}

/// Items put and taken by many at once while the leader dies. Each taking also writes down what was
/// taken, in one transaction: not once too often, not once too few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_is_taken_once_although_the_leader_dies() {
    const ITEMS: usize = 300;
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let (mut putting, mut taking) = (JoinSet::new(), JoinSet::new());
    for number in 0..3 {
        let queue = Queue::new(&client(&cluster, number), "queue");
        putting.spawn(async move {
            for item in 0..ITEMS / 3 {
                queue.put(format!("{number}/{item}")).await.unwrap();
            }
        });
    }
    for number in 0..5 {
        let queue = Queue::new(&client(&cluster, number), "queue");
        taking.spawn(async move {
            let mut taken = Vec::new();
            let work = |item: &raft_kv::recipes::Item| {
                let key = [b"done/", &item.value[..]].concat();
                vec![Op::Put(Put::new(key, number.to_string()))]
            };
            while taken.len() < ITEMS / 5 {
                taken.push(queue.take_with(work).await.unwrap().value);
            }
            taken
        });
    }
    Queue::new(&client(&cluster, 1), "queue").waiting().await.unwrap();
    cluster.kill(leader);
    putting.join_all().await;
    let taken = taking.join_all().await.concat();
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), ITEMS, "an item was taken twice");
    let other = client(&cluster, cluster.other(leader).0 - 1);
    let done = Range { count_only: true, ..Range::of(Keys::prefix("done/")) };
    assert_eq!(other.get(done.clone(), Consistency::Linearizable).await.unwrap().count, 300);
    for pair in
        other.get(Range { count_only: false, ..done }, Consistency::default()).await.unwrap().kvs
    {
        assert_eq!(pair.version, 1, "{:?} was done twice", pair.key);
    }
    assert_eq!(Queue::new(&other, "queue").waiting().await.unwrap(), 0);
}
