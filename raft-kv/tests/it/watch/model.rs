//! Random writes, compactions and watches against a plain list of what was written, while streams
//! break, nodes are cut off and come back by a snapshot, and some watchers are slow.

use super::{Lines, compact, is_slow, short};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{Event, Keys, KvError, Op, Put, Revision, Txn, Watch};
use raft_kv::client::{ClientError, Watcher};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const KEYS: u64 = 16;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}

/// A change as the model knows it.
#[derive(Clone)]
struct Known {
    revision: u64,
    key: Bytes,
    value: Option<Bytes>,
}

/// Everything that was written, by the one who writes.
#[derive(Default)]
struct Truth {
    changes: Mutex<Vec<Known>>,
    /// At least up to here compactions were asked for.
    compacted: AtomicU64,
}

fn key(number: u64) -> Bytes {
    format!("k{number:02}").into()
}

/// Writes at random, and notes what that has changed.
async fn write(client: &Client, truth: &Truth, random: &mut Random, writes: u64) -> u64 {
    let mut current: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let mut revision = 1;
    for number in 0..writes {
        let mut made = Vec::new();
        let value: Bytes = format!("{number}").into();
        let first = random.below(KEYS);
        match random.below(10) {
            0 => {
                let keys = Keys::Range { start: key(first), end: Some(key(first + 4)) };
                let deleted: Vec<_> =
                    current.keys().filter(|key| keys.contains(key)).cloned().collect();
                let reply = client.delete(keys).await.unwrap();
                assert_eq!(reply.deleted, deleted.len() as u64);
                if !deleted.is_empty() {
                    revision += 1;
                    assert_eq!(reply.revision, Revision(revision));
                }
                made.extend(deleted.into_iter().map(|key| (key, None)));
            }
            1 | 2 => {
                let keys = [first, first + 3, first + 1].map(key);
                let put = |key: &Bytes| Op::Put(Put::new(key.clone(), value.clone()));
                let success = keys.iter().map(put).collect();
                let reply = client.txn(Txn { success, ..Txn::default() }).await.unwrap();
                revision += 1;
                assert_eq!(reply.revision, Revision(revision));
                made.extend(keys.into_iter().map(|key| (key, Some(value.clone()))));
            }
            _ => {
                let reply = client.put(key(first), value.clone()).await.unwrap();
                revision += 1;
                assert_eq!(reply.revision, Revision(revision));
                made.push((key(first), Some(value)));
            }
        }
        let mut changes = truth.changes.lock().unwrap();
        for (key, value) in made {
            match &value {
                Some(value) => current.insert(key.clone(), value.clone()),
                None => current.remove(&key),
            };
            changes.push(Known { revision, key, value });
        }
    }
    revision
}

/// Where a watch is, and what it was told.
struct Told {
    watch: Watch,
    /// The first revision it had to tell.
    from: u64,
    events: Vec<Event>,
    /// It cannot tell from here on.
    ended: Option<u64>,
}

/// Takes what a watch tells until it has told everything up to the last revision.
async fn follow(
    mut watcher: Watcher,
    watch: Watch,
    slow: bool,
    last: tokio::sync::watch::Receiver<u64>,
) -> Told {
    let begun = watcher.begun().await.0;
    let from = watch.from.map_or(begun + 1, |from| from.0);
    let mut told = Told { watch, from, events: Vec::new(), ended: None };
    let mut ending = last.clone();
    loop {
        let next = tokio::select! {
            next = watcher.next() => next,
            _ = ending.wait_for(|last| *last > 0) => None,
        };
        let next = match next {
            Some(next) => next,
            None => {
                let end = Revision(*last.borrow());
                match watcher.caught_up(end).await {
                    Ok(batches) => {
                        told.events.extend(batches.into_iter().flat_map(|batch| batch.events));
                        return told;
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match next {
            Ok(batch) => told.events.extend(batch.events),
            Err(ClientError::Refused(KvError::Compacted { requested, .. })) => {
                told.ended = Some(requested.0);
                return told;
            }
            Err(error) => panic!("{error}"),
        }
        if slow {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Told {
    /// It is what the model says, no more and no less.
    fn check(&self, truth: &Truth) {
        let changes = truth.changes.lock().unwrap();
        let wanted = changes.iter().filter(|change| {
            let kept = match change.value {
                Some(_) => !self.watch.no_puts,
                None => !self.watch.no_deletes,
            };
            let until = self.ended.unwrap_or(u64::MAX);
            let within = (self.from..until).contains(&change.revision);
            kept && within && self.watch.keys.contains(&change.key)
        });
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut wanted: Vec<(u64, Bytes, String)> = wanted
            .map(|Known { revision, key, value }| {
                let text = match value {
                    Some(value) => format!("{}={}@{revision}", text(key), text(value)),
                    None => format!("-{}@{revision}", text(key)),
                };
                (*revision, key.clone(), text)
            })
            .collect();
        // Within a revision the store's order counts, which is not the model's concern.
        wanted.sort();
        assert!(self.events.is_sorted_by_key(Event::revision));
        let mut events: Vec<_> = self.events.iter().collect();
        events.sort_by_key(|event| (event.revision(), event.key().clone()));
        let events: Vec<Event> = events.into_iter().cloned().collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(.., text)| text).collect();
        assert_eq!(short(&events), wanted, "{:?} from {}", self.watch, self.from);
        if let Some(ended) = self.ended {
            assert!(ended <= truth.compacted.load(Ordering::Relaxed), "it could have gone on");
        }
    }
}

fn some_watch(random: &mut Random, now: u64) -> Watch {
    let start = random.below(KEYS);
    let keys = match random.below(4) {
        0 => Keys::all(),
        1 => Keys::Range { start: key(start), end: Some(key(start + 5)) },
        _ => Keys::One(key(start)),
    };
    let from = match random.below(4) {
        0 => None,
        1 => Some(now + random.below(80)),
        _ => Some(now.saturating_sub(random.below(400)).max(1)),
    };
    Watch {
        from: from.map(Revision),
        no_puts: random.below(8) == 0,
        no_deletes: random.below(8) == 0,
        prev_kv: random.below(3) == 0,
        progress: random.below(3) == 0,
        fragments: random.below(3) == 0,
        ..Watch::of(keys)
    }
}

async fn run(seed: u64, writes: u64) {
    let mut random = Random(seed);
    let cluster = Cluster::on_disk(3, |config| {
        config.raft.log_trailing_bytes = 0;
        config.raft.log_trailing_entries = 0;
        config.checkpoint_bytes = 4096;
    });
    let truth = Arc::new(Truth::default());
    let (ended, last) = tokio::sync::watch::channel(0);
    let lines = Lines::of(&cluster);
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    let orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1]].map(|order| order.map(|at| ids[at]));
    let clients: Vec<_> = orders.iter().map(|order| lines.client(order)).collect();
    let writer = {
        let (truth, mut random) = (Arc::clone(&truth), Random(seed + 1));
        let client = cluster.client(ids[0]).with_deadline(Duration::from_secs(60));
        tokio::spawn(async move { write(&client, &truth, &mut random, writes).await })
    };
    let mut watching = JoinSet::new();
    let mut isolated = None;
    let mut tally = Tally::default();
    let now = || truth.changes.lock().unwrap().last().map_or(1, |change| change.revision);
    while !writer.is_finished() {
        while let Some(watch) = watching.try_join_next() {
            tally.add(&watch.unwrap(), &truth);
        }
        match random.below(12) {
            0..=5 if watching.len() < 120 => {
                let watch = some_watch(&mut random, now());
                let client = &clients[random.below(3) as usize];
                let watcher = client.watch(watch.clone());
                let slow = random.below(6) == 0;
                watching.spawn(follow(watcher, watch, slow, last.clone()));
            }
            6 => drop(lines.cut()),
            7 => {
                let revision = now().saturating_sub(random.below(1000));
                if revision > truth.compacted.load(Ordering::Relaxed) {
                    truth.compacted.store(revision, Ordering::Relaxed);
                    compact(&cluster, Revision(revision)).await;
                }
            }
            8 => {
                // Long enough and the log it has missed is gone: it is given a snapshot.
                match isolated.take() {
                    Some(node) => cluster.network.isolate(node, false),
                    None => {
                        let node = ids[random.below(3) as usize];
                        cluster.isolate(node);
                        isolated = Some(node);
                    }
                }
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.below(30))).await;
    }
    if let Some(node) = isolated {
        cluster.network.isolate(node, false);
    }
    ended.send_replace(writer.await.unwrap());
    while let Some(watch) = watching.join_next().await {
        tally.add(&watch.unwrap(), &truth);
    }
    println!("seed {seed}: {tally:?}");
}

/// What came of the watches.
#[derive(Debug, Default)]
struct Tally {
    /// They told everything to the end.
    whole: u64,
    /// They were overtaken by a compaction.
    compacted: u64,
    events: usize,
}

impl Tally {
    fn add(&mut self, told: &Told, truth: &Truth) {
        told.check(truth);
        self.events += told.events.len();
        *(if told.ended.is_some() { &mut self.compacted } else { &mut self.whole }) += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_tell_what_was_written_whatever_happens() {
    let (seeds, writes) = if is_slow() { (20, 6000) } else { (1, 800) };
    for seed in 0..seeds {
        run(seed, writes).await;
    }
}
