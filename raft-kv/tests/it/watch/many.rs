//! Many watchers, and some that do not listen.

use super::{Lines, is_slow};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::api::{Keys, Revision, Watch};
use raft_kv::client::Watcher;
use std::sync::Arc;
use tokio::task::JoinSet;

fn key(number: usize) -> Bytes {
    format!("key/{number:03}").into()
}

/// Takes everything up to `last`: every event once, in order, as many as there must be.
async fn all(mut watcher: Watcher, from: Revision, last: Revision, every: u64) {
    let mut seen = from;
    let mut count = 0;
    while seen < last {
        let batch = watcher.next().await.unwrap().unwrap();
        for event in batch.events {
            let expected = if count == 0 { event.revision().0 } else { seen.0 + every };
            assert_eq!(event.revision().0, expected, "an event is missing, doubled or late");
            seen = event.revision();
            count += 1;
            if seen.0 + every > last.0 {
                assert_eq!(count, (last.0 - from.0).div_ceil(every).min(count));
                return;
            }
        }
    }
}

/// Watchers of all clients on a hundred keys; the keys are written in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_see_every_event_once_in_order() {
    let (watchers, keys, rounds) = if is_slow() { (10_000, 100, 50) } else { (1000, 20, 5) };
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let clients: Vec<_> = cluster.nodes.keys().map(|id| cluster.client(*id)).collect();
    let writing = cluster.client(leader);
    let first = writing.put("begin", "").await.unwrap().revision;
    let watched: Vec<_> = (0..watchers)
        .map(|number| {
            let from = Some(Revision(first.0 + 1));
            let watch = Watch { from, ..Watch::of(Keys::One(key(number % keys))) };
            clients[number % clients.len()].watch(watch)
        })
        .collect();
    for watcher in &watched {
        watcher.begun().await;
    }
    let last = Revision(first.0 + (keys * rounds) as u64);
    let mut tasks = JoinSet::new();
    let started = std::time::Instant::now();
    for watcher in watched {
        tasks.spawn(all(watcher, first, last, keys as u64));
    }
    for number in 0..keys * rounds {
        writing.put(key(number % keys), "value").await.unwrap();
    }
    let written = started.elapsed();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let events = watchers / keys * keys * rounds;
    println!(
        "{watchers} watchers on {keys} keys: {} writes in {written:.2?}, {events} events told \
         {:.2?} after the first write",
        keys * rounds,
        started.elapsed()
    );
}

/// One watcher takes nothing, one stream is not read at all: the others are told everything
/// meanwhile, and later so is the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_watcher_changes_nothing_for_the_rest() {
    let rounds = if is_slow() { 2000 } else { 200 };
    let cluster = Cluster::start(1);
    let lines = Lines::of(&cluster);
    let client = lines.client(&[NodeId(1)]);
    let mut stalled = client.watch(Watch::of(Keys::all()));
    let mut beside = client.watch(Watch::of(Keys::prefix("key/")));
    let other = cluster.client(NodeId(1));
    let mut apart = other.watch(Watch::of(Keys::prefix("key/")));
    for watcher in [&stalled, &beside, &apart] {
        watcher.begun().await;
    }
    // A stream that nobody reads, with a watch of everything.
    let mut unread = super::Talk::begin(&cluster, NodeId(1), false).await;
    let everything = Watch::of(Keys::all());
    let create = raft_kv::api::WatchRequest::Create(raft_kv::api::WatchId(1), everything);
    unread.say(&[create]).await;
    let value: Bytes = vec![7; 64 * 1024].into();
    for number in 0..rounds {
        other.put(key(number % 100), value.clone()).await.unwrap();
        // Each event has come before the next is written.
        for watcher in [&mut beside, &mut apart] {
            let batch = watcher.next().await.unwrap().unwrap();
            assert_eq!(batch.events.len(), 1);
            assert_eq!(batch.events[0].revision(), Revision(number as u64 + 2));
        }
    }
    let mut seen = 1;
    while seen < rounds as u64 + 1 {
        for event in stalled.next().await.unwrap().unwrap().events {
            assert_eq!(event.revision().0, seen + 1);
            seen += 1;
        }
    }
    drop(Arc::clone(&lines));
}
