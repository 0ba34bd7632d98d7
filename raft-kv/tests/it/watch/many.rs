//! Many watchers, and some that do not listen.

use super::{Lines, is_slow};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{EventKind, Keys, Revision, Watch, WatchId, WatchRequest};
use raft_kv::client::Watcher;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

fn key(number: usize) -> Bytes {
    format!("key/{number:03}").into()
}

/// Takes every change of a key: each once, in order.
async fn all(mut watcher: Watcher, rounds: u64) {
    let mut version = 0;
    while version < rounds {
        for event in watcher.next().await.unwrap().unwrap().events {
            let EventKind::Put(pair) = event.kind else { panic!("nothing is deleted") };
            assert_eq!(pair.version, version + 1, "an event is missing, doubled or late");
            version = pair.version;
        }
    }
    assert_eq!(version, rounds);
}

/// Writes some keys in turn, on schedule: what is late is made up for.
async fn write(client: Client, keys: Vec<Bytes>, rounds: u64, every: Duration) {
    let mut schedule = tokio::time::interval(every);
    for round in 1..=rounds {
        for key in &keys {
            schedule.tick().await;
            client.put(key.clone(), round.to_string()).await.unwrap();
        }
    }
}

/// Bytes of memory that the process holds, where the system says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

/// Watchers of all clients on a hundred keys; the keys are written in turn, a thousand times a
/// second. One watcher of everything takes nothing until all is over, and one stream is not read
/// at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_see_every_event_once_in_order() {
    const WRITERS: usize = 20;
    const RATE: u32 = 1000;
    let (watchers, keys, rounds) = if is_slow() { (10_000, 100, 100) } else { (1000, 20, 10) };
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let clients: Vec<_> = cluster.nodes.keys().map(|id| cluster.client(*id)).collect();
    let writing = cluster.client(leader);
    let first = writing.put("begin", "").await.unwrap().revision;
    let from = Some(Revision(first.0 + 1));
    let mut stalled = cluster.client(leader).watch(Watch { from, ..Watch::of(Keys::all()) });
    let mut unread = super::Talk::begin(&cluster, leader, false).await;
    unread.say(&[WatchRequest::Create(WatchId(1), Watch::of(Keys::all()))]).await;
    let before = resident();
    let watched: Vec<_> = (0..watchers)
        .map(|number| {
            let watch = Watch { from, ..Watch::of(Keys::One(key(number % keys))) };
            clients[number % clients.len()].watch(watch)
        })
        .collect();
    for watcher in &watched {
        watcher.begun().await;
    }
    let each = resident().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
    let mut tasks = JoinSet::new();
    for watcher in watched {
        tasks.spawn(all(watcher, rounds));
    }
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let keys = (writer..keys).step_by(WRITERS).map(key).collect();
        let every = Duration::from_secs(1) * WRITERS as u32 / RATE;
        writers.spawn(write(writing.clone(), keys, rounds, every));
    }
    writers.join_all().await;
    let written = started.elapsed();
    tasks.join_all().await;
    let writes = keys as u64 * rounds;
    println!(
        "{watchers} watchers on {keys} keys, {} bytes each with both ends: {writes} writes in \
         {written:.2?}, {:.0} a second; {} events told {:.2?} after the last write",
        each / watchers as u64,
        writes as f64 / written.as_secs_f64(),
        watchers as u64 * rounds,
        started.elapsed() - written,
    );
    let told = super::events(&mut stalled, writes as usize).await;
    assert!(told.iter().map(|event| event.revision().0).eq(first.0 + 1..=first.0 + writes));
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
    unread.say(&[WatchRequest::Create(WatchId(1), everything)]).await;
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
