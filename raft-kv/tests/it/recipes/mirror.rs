//! Mirrors.

use super::client;
use super::histories::Histories;
use crate::cluster::Cluster;
use raft_core::types::NodeId;
use raft_kv::api::{Consistency, Keys, KvError, Op, Put, Range, Revision, Txn};
use raft_kv::client::ClientError;
use raft_kv::recipes::Mirror;

/// Every state in turn, while the node that tells of them dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_shows_the_state_at_every_revision() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let writer = client(&cluster, cluster.other(leader).0 - 1);
    writer.put("m/before", "").await.unwrap();
    // It watches through the node that will die.
    let watcher = client(&cluster, leader.0 - 1);
    let mut mirror = Mirror::open(&watcher, Keys::prefix("m/")).await.unwrap();
    let begun = mirror.revision();
    let writes = tokio::spawn(async move {
        let mut revisions = Vec::new();
        for number in 0..100 {
            let ops = vec![
                Op::Put(Put::new("m/a", number.to_string())),
                Op::Put(Put::new("m/b", number.to_string())),
                Op::Put(Put::new("other", "")),
            ];
            let txn = Txn { success: ops, ..Txn::default() };
            revisions.push(writer.txn(txn).await.unwrap().revision);
            if number % 10 == 0 {
                revisions.push(writer.delete(Keys::One("m/a".into())).await.unwrap().revision);
            }
        }
        revisions
    });
    let mut shown = Vec::new();
    for change in 0..110 {
        if change == 30 {
            cluster.kill(leader);
        }
        mirror.changed().await.unwrap();
        shown.push(mirror.revision());
        let value = |key: &str| mirror.pairs().get(key.as_bytes()).map(|pair| &pair.value);
        assert!(value("m/a").is_none_or(|a| value("m/b") == Some(a)), "half a transaction");
    }
    assert_eq!(shown, writes.await.unwrap());
    assert!(shown[0] > begun);
    let range = Range { revision: Some(mirror.revision()), ..Range::of(Keys::prefix("m/")) };
    let other = client(&cluster, cluster.other(leader).0 - 1);
    let found = other.get(range, Consistency::Linearizable).await.unwrap();
    assert!(found.kvs.iter().eq(mirror.pairs().values()));
}

/// What was compacted before it has been seen is passed over; the state is right again after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_was_overtaken_by_a_compaction_reads_anew() {
    let cluster = Cluster::start(1);
    let client = cluster.client(NodeId(1));
    client.put("m/kept", "1").await.unwrap();
    client.put("m/gone", "1").await.unwrap();
    let mut mirror = Mirror::open(&client, Keys::prefix("m/")).await.unwrap();
    client.delete(Keys::One("m/gone".into())).await.unwrap();
    client.put("m/kept", "2").await.unwrap();
    let now = client.put("m/new", "1").await.unwrap().revision;
    client.compact(now).await.unwrap();
    // Whether it was told before the compaction or not, in the end it shows what there is.
    while mirror.revision() < now {
        mirror.changed().await.unwrap();
    }
    let pairs: Vec<_> =
        mirror.pairs().values().map(|pair| (&pair.key[..], &pair.value[..])).collect();
    assert_eq!(pairs, [(&b"m/kept"[..], &b"2"[..]), (&b"m/new"[..], &b"1"[..])]);
    assert!(mirror.revision() > Revision(0));
}

/// It tells so, and shows the one there is: of the other one nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_another_history_reads_anew() {
    let cluster = Cluster::start(1);
    let writer = cluster.client(NodeId(1));
    writer.put("m/kept", "1").await.unwrap();
    writer.put("m/lost", "1").await.unwrap();
    let histories = Histories::of(&cluster);
    let mut mirror = Mirror::open(&histories.client(), Keys::prefix("m/")).await.unwrap();
    writer.put("m/kept", "2").await.unwrap();
    mirror.changed().await.unwrap();
    // The cluster is made anew from a backup in which that one never was, nor is told as deleted.
    histories.begin(7);
    let error = ClientError::Refused(KvError::OtherHistory { asked: 0, current: 7 });
    assert_eq!(mirror.changed().await, Err(error));
    writer.delete(Keys::One("m/lost".into())).await.unwrap();
    let now = writer.put("m/kept", "3").await.unwrap().revision;
    let changes = mirror.changed().await.unwrap();
    assert_eq!((changes.len(), mirror.revision()), (2, now));
    let shown: Vec<_> = mirror.pairs().values().map(|pair| pair.value.clone()).collect();
    assert_eq!(shown, ["3"]);
    writer.put("m/new", "1").await.unwrap();
    assert_eq!(mirror.changed().await.unwrap().len(), 1);
}
