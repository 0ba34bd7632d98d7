//! Without a quorum nothing is promised, and the reason is told in time.

use super::support::{GUARD, TestCluster};
use raft_kv::api::{Consistency, Keys, Range};
use std::time::Duration;

/// Longer than it takes a node to be sure that it hears nobody.
const DEADLINE: Duration = Duration::from_secs(6);

/// One of three is left: writes and linearizable reads say why they fail, whoever is left; a
/// serializable read is answered. With a second node all go on.
#[tokio::test]
async fn a_minority_says_that_it_is_one() {
    let mut cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    // The last one has applied it: it can be read there without the others.
    cluster.observer.converged(GUARD).await.unwrap();
    let leader = cluster.leader().await;
    let left = cluster.others(leader)[0];
    let gone: Vec<_> = cluster.others(left);
    for id in &gone {
        cluster.processes.kill(*id).await;
    }

    let client = cluster.fresh_client().with_deadline(DEADLINE);
    let write = client.put("key", "other").await.unwrap_err();
    assert!(write.to_string().contains("no quorum 1/3"), "{write}");
    let key = Range::of(Keys::One("key".into()));
    let read = client.get(key.clone(), Consistency::Linearizable).await.unwrap_err();
    assert!(read.to_string().contains("no quorum 1/3"), "{read}");
    assert!(!read.may_have_run());
    let old = client.get(key, Consistency::Serializable).await.unwrap();
    assert_eq!(old.kvs[0].value, "value");

    cluster.processes.start(gone[0]).await.unwrap();
    cluster.put("key", "third").await;
    assert_eq!(cluster.value("key").await.unwrap(), "third");
}

/// The leader is left alone: the same from it, and nothing it took alone is ever reported as done.
#[tokio::test]
async fn a_leader_without_followers_says_that_it_has_none() {
    let mut cluster = TestCluster::start().await;
    cluster.put("key", "value").await;
    let leader = cluster.leader().await;
    for id in cluster.others(leader) {
        cluster.processes.kill(id).await;
    }
    let client = cluster.fresh_client().with_deadline(DEADLINE);
    let write = client.put("key", "other").await.unwrap_err();
    assert!(write.to_string().contains("no quorum 1/3"), "{write}");
    let read = client.get_one("key").await.unwrap_err();
    assert!(read.to_string().contains("no quorum 1/3"), "{read}");
}
