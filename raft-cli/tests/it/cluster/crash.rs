//! Processes are killed: what was acknowledged stays.

use super::support::{GUARD, TestCluster, slow};
use raft_kv::api::{Consistency, Keys, Range};
use raft_kv::client::Client;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The leader dies: the others go on, and it catches up when it is back.
#[tokio::test]
async fn a_killed_leader_is_replaced_and_catches_up() {
    let mut cluster = TestCluster::start().await;
    cluster.put("before", "1").await;
    let old = cluster.leader().await;
    cluster.processes.kill(old).await;

    cluster.put("after", "2").await;
    assert_eq!(cluster.value("before").await.unwrap(), "1");
    assert_eq!(cluster.value("after").await.unwrap(), "2");
    assert_ne!(cluster.leader().await, old);

    cluster.processes.start(old).await.unwrap();
    let status = cluster.observer.converged(GUARD).await.unwrap();
    assert_eq!(status.keys, 2);
}

/// All processes die at once while clients write: every acknowledged write is there afterwards.
#[tokio::test]
async fn no_acknowledged_write_is_lost_when_all_are_killed() {
    let cycles = if slow() { 20 } else { 3 };
    let mut cluster = TestCluster::start().await;
    let mut all = BTreeSet::new();
    for cycle in 0..cycles {
        let load = Load::start(&cluster.client(), cycle);
        load.until_acknowledged(200).await;
        cluster.processes.kill_all().await;
        all.extend(load.stop().await);

        cluster.processes.start_all().await.unwrap();
        cluster.leader().await;
        let there = keys(&cluster.client()).await;
        let lost: Vec<&String> = all.difference(&there).collect();
        assert!(lost.is_empty(), "cycle {cycle}: lost {lost:?}");
    }
    cluster.observer.converged(GUARD).await.unwrap();
}

/// The leader dies under load, ten times: writes are possible again within two seconds, in the
/// median, at default settings. Asserted on an idle machine only, with RUN_SLOW_TESTS=1.
#[tokio::test]
async fn writes_are_soon_possible_after_the_leader_died() {
    if !slow() {
        return;
    }
    let mut cluster = TestCluster::start().await;
    let mut pauses = Vec::new();
    for round in 0..10 {
        let load = Load::start(&cluster.client(), round);
        load.until_acknowledged(200).await;
        let leader = cluster.leader().await;
        cluster.processes.kill(leader).await;
        let killed = Instant::now();
        cluster.put("probe", "value").await;
        pauses.push(killed.elapsed());
        load.stop().await;
        cluster.processes.start(leader).await.unwrap();
        cluster.observer.converged(GUARD).await.unwrap();
    }
    pauses.sort();
    println!("until the next write: {pauses:.2?}");
    assert!(pauses[5] < Duration::from_secs(2), "{pauses:.2?}");
}

/// All nodes stopped cleanly, one after the other, start again with everything.
#[tokio::test]
async fn a_clean_stop_and_start_keeps_everything() {
    let mut cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    assert_eq!(cluster.processes.stop_all().await, vec![]);
    cluster.processes.start_all().await.unwrap();
    assert_eq!(cluster.value("key").await.unwrap(), "value");
}

/// Clients that write one key after the other, and the keys whose writes were acknowledged.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    progress: Arc<Notify>,
    writers: JoinSet<()>,
}

impl Load {
    fn start(client: &Client, cycle: u32) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let progress = Arc::new(Notify::new());
        let mut writers = JoinSet::new();
        for writer in 0..16 {
            // Failing soon is as good as late: what is not acknowledged is not counted.
            let client = client.with_deadline(Duration::from_secs(2));
            let (acknowledged, progress) = (Arc::clone(&acknowledged), Arc::clone(&progress));
            writers.spawn(async move {
                for number in 0.. {
                    let key = format!("load/{cycle}/{writer}/{number}");
                    if client.put(key.clone(), key.clone()).await.is_ok() {
                        acknowledged.lock().unwrap().insert(key);
                        progress.notify_one();
                    }
                }
            });
        }
        Self { acknowledged, progress, writers }
    }

    async fn until_acknowledged(&self, count: usize) {
        let enough = async {
            while self.acknowledged.lock().unwrap().len() < count {
                self.progress.notified().await;
            }
        };
        tokio::time::timeout(GUARD, enough).await.expect("writes go on");
    }

    async fn stop(mut self) -> BTreeSet<String> {
        self.writers.shutdown().await;
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}

/// All keys of the load, read page by page.
async fn keys(client: &Client) -> BTreeSet<String> {
    let mut range = Range { keys_only: true, ..Range::of(Keys::prefix("load/")) };
    let mut keys = BTreeSet::new();
    loop {
        let page = client.get(range.clone(), Consistency::Linearizable).await.unwrap();
        keys.extend(page.kvs.iter().map(|pair| String::from_utf8(pair.key.to_vec()).unwrap()));
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return keys };
        let Keys::Range { end, .. } = range.keys else { unreachable!() };
        range.keys = Keys::Range { start: [&last.key[..], &[0]].concat().into(), end };
    }
}
