//! Divided work.

use super::{Process, TTL, client, world};
use crate::cluster::Cluster;
use bytes::Bytes;
use raft_kv::Client;
use raft_kv::api::{EventKind, Keys, KvError, Revision};
use raft_kv::client::ClientError;
use raft_kv::recipes::{Assignment, Mirror, Partitions, RecipeError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const COUNT: u32 = 12;
const LONG: Duration = Duration::from_secs(60);

fn work(client: &Client) -> Partitions {
    Partitions::new(client, "work", COUNT)
}

/// A worker that writes its name down for each partition it gains, and leaves when told to.
fn start(client: &Client, id: &'static str) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (leave, mut told) = oneshot::channel();
    let client = client.clone();
    let worker = tokio::spawn(async move {
        let mut worker = work(&client).join(id, LONG).await.unwrap();
        loop {
            let news = tokio::select! {
                news = worker.next() => news.unwrap(),
                _ = &mut told => break,
            };
            match news {
                Assignment::Gained { partition, fence } => {
                    let put = client.fenced(fence).put(format!("work/log/{partition}"), id).await;
                    put.unwrap();
                }
                Assignment::ToRelease { partition } => worker.release(partition).await.unwrap(),
                Assignment::Lost { partition } => panic!("{partition} was taken away"),
            }
        }
        worker.leave().await.unwrap();
    });
    (leave, worker)
}

/// Waits until the work is divided so; who has how many.
async fn until_divided(client: &Client, shares: &[(&'static str, usize)]) {
    let mut owners = Mirror::open(client, Keys::prefix("work/owners/")).await.unwrap();
    let expected: BTreeMap<Bytes, usize> =
        shares.iter().map(|(id, count)| (Bytes::from(*id), *count)).collect();
    loop {
        let mut found = BTreeMap::new();
        for pair in owners.pairs().values() {
            *found.entry(pair.value.clone()).or_default() += 1;
        }
        if found == expected {
            return;
        }
        owners.changed().await.unwrap();
    }
}

/// Goes through the history of the store: whoever has written for a partition owned it at that
/// revision, and nobody has taken a partition that somebody had.
async fn each_partition_had_one_owner(client: &Client, until: Revision) {
    let mut history = client.watch(raft_kv::api::Watch {
        from: Some(Revision(2)),
        ..raft_kv::api::Watch::of(Keys::prefix("work/"))
    });
    let mut owners: BTreeMap<String, Bytes> = BTreeMap::new();
    let (mut writes, mut seen) = (0, Revision(0));
    while seen < until {
        for event in history.next().await.unwrap().unwrap().events {
            seen = event.revision();
            let key = String::from_utf8(event.key().to_vec()).unwrap();
            let (kind, partition) = key["work/".len()..].split_once('/').unwrap();
            let partition = partition.trim_start_matches('0').to_owned();
            match (kind, event.kind) {
                ("owners", EventKind::Put(pair)) => {
                    let before = owners.insert(partition, pair.value);
                    assert_eq!(before, None, "{key} had an owner already");
                }
                ("owners", EventKind::Delete { .. }) => {
                    assert!(owners.remove(&partition).is_some());
                }
                ("log", EventKind::Put(pair)) => {
                    assert_eq!(owners.get(&partition), Some(&pair.value), "{key}");
                    writes += 1;
                }
                _ => {}
            }
        }
    }
    assert!(writes >= COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_divided_anew_when_workers_come_and_go() {
    let cluster = Cluster::start(3);
    let clients = [0, 1, 2].map(|number| client(&cluster, number));
    let one = start(&clients[0], "one");
    until_divided(&clients[2], &[("one", 12)]).await;
    let two = start(&clients[1], "two");
    until_divided(&clients[2], &[("one", 6), ("two", 6)]).await;
    let three = start(&clients[2], "three");
    until_divided(&clients[2], &[("one", 4), ("two", 4), ("three", 4)]).await;
    assert_eq!(work(&clients[0]).owners().await.unwrap().len(), 12);
    one.0.send(()).unwrap();
    until_divided(&clients[2], &[("two", 6), ("three", 6)]).await;
    two.0.send(()).unwrap();
    until_divided(&clients[2], &[("three", 12)]).await;
    one.1.await.unwrap();
    two.1.await.unwrap();
    let end = clients[0].put("work/log/0", "three").await.unwrap().revision;
    each_partition_had_one_owner(&clients[0], end).await;
    three.0.send(()).unwrap();
    three.1.await.unwrap();
}

/// A worker stops without a word, and wakes up after the others have taken over.
#[test]
fn the_partitions_of_a_worker_that_fails_go_to_the_others_and_its_writes_are_refused() {
    let (world, failing) = (world(), Process::start());
    let cluster = world.block_on(async { Cluster::start(3) });
    let clients = [0, 1, 2].map(|number| client(&cluster, number));
    let mut failed = failing.run(work(&clients[0]).join("failing", TTL)).unwrap();
    let mut fences = Vec::new();
    while fences.len() < COUNT as usize {
        let Assignment::Gained { fence, .. } = failing.run(failed.next()).unwrap() else {
            panic!("nobody else is there")
        };
        fences.push(fence);
    }
    let (leave, worker) = world.block_on(async {
        let started = start(&clients[1], "other");
        until_divided(&clients[2], &[("other", 12)]).await;
        started
    });
    for fence in fences {
        let refused = failing.run(clients[0].fenced(fence).put("work/log/0", "")).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(KvError::Fenced { .. })), "{refused}");
    }
    assert_eq!(failing.run(failed.next()), Err(RecipeError::Lost));
    world.block_on(async {
        leave.send(()).unwrap();
        worker.await.unwrap();
    });
}

/// The leader of the cluster dies while the work is being divided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_divided_although_the_leader_dies() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let alive = client(&cluster, cluster.other(leader).0 - 1);
    let ids = ["one", "two", "three", "four", "five"];
    let workers: Vec<_> = (0..).zip(ids).map(|(n, id)| start(&client(&cluster, n), id)).collect();
    let mut owners = Mirror::open(&alive, Keys::prefix("work/owners/")).await.unwrap();
    while owners.pairs().len() < 3 {
        owners.changed().await.unwrap();
    }
    cluster.kill(leader);
    let by_id = [("five", 3), ("four", 3), ("one", 2), ("three", 2), ("two", 2)];
    until_divided(&alive, &by_id).await;
    for (leave, worker) in workers {
        leave.send(()).unwrap();
        worker.await.unwrap();
    }
}
