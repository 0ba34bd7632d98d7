//! A store that is full, and how it gets room again.

use crate::cluster::Cluster;
use bytes::Bytes;
use raft_core::types::NodeId;
use raft_kv::api::{Keys, KvError, Op, Put, Txn};
use raft_kv::client::{Client, ClientError};
use std::time::Duration;
use tokio::time::sleep;

/// Some ten thousand small versions.
const QUOTA_BYTES: u64 = 1 << 20;

/// Overwrites the same keys until the store is full.
async fn fill(client: &Client) {
    loop {
        let puts = (0..100).map(|key| Op::Put(Put::new(format!("key {key}"), "value")));
        let txn = Txn { success: puts.collect(), ..Txn::default() };
        match client.txn(txn).await {
            Ok(_) => {}
            Err(ClientError::Refused(KvError::Full { bytes, quota })) => {
                assert!(bytes >= quota && quota == QUOTA_BYTES);
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Nothing is written by anybody while the store purges what was compacted: the leader has to see
/// to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_takes_writes_again_once_it_is_compacted() {
    let cluster = Cluster::with_quota(3, QUOTA_BYTES);
    let client = cluster.client(NodeId(1));
    fill(&client).await;
    assert!(client.get_one("key 1").await.unwrap().is_some(), "reads take no room");
    let revision = client.delete(Keys::One("key 1".into())).await.unwrap().revision;
    client.compact(revision).await.unwrap();
    while let Err(error) = client.put("new", Bytes::new()).await {
        assert!(matches!(error, ClientError::Refused(KvError::Full { .. })), "{error}");
        sleep(Duration::from_millis(10)).await;
    }
    cluster.assert_equal_states().await;
}
