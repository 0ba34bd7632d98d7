//! Causal reads: what a client has seen it sees everywhere, with the token that it carries from
//! node to node, and hands to others.

use super::client;
use crate::cluster::Cluster;
use raft_kv::Client;
use raft_kv::api::{Consistency, Keys, Position, Range, Revision};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const KEYS: u64 = 5;

/// A client that asks another node each time, with what it has seen.
struct Hopper {
    nodes: Vec<Client>,
    random: u64,
    token: Position,
    /// The newest revision of each key that it has seen or written.
    seen: BTreeMap<u64, Revision>,
}

impl Hopper {
    fn draw(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn node(&mut self) -> Client {
        let node = self.draw(self.nodes.len() as u64);
        self.nodes[node as usize].clone()
    }

    async fn write(&mut self, key: u64) {
        let put = self.node().put(key.to_string(), "").await.unwrap();
        assert!(put.revision > self.token.revision, "writes follow reads");
        self.token.revision = put.revision;
        self.seen.insert(key, put.revision);
    }

    async fn read(&mut self, key: u64) {
        let range = Range::of(Keys::One(key.to_string().into()));
        let read = self.node().read(range, Consistency::AtLeast(self.token)).await.unwrap();
        assert!(read.position >= self.token, "reads are monotonic");
        self.token = read.position;
        let found = read.range.kvs.first().map_or(Revision(0), |pair| pair.mod_revision);
        let before = self.seen.insert(key, found).unwrap_or_default();
        assert!(found >= before, "{key} was seen at {before}, and then at {found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hop_between_nodes_keep_the_session_guarantees_through_failover() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let (mut hoppers, (done, mut steps)) = (JoinSet::new(), mpsc::unbounded_channel());
    for seed in 1..=8 {
        let nodes: Vec<Client> = (0..3).map(|node| client(&cluster, node)).collect();
        let first = nodes[0].read(Range::of(Keys::all()), Consistency::Linearizable).await;
        let (token, seen) = (first.unwrap().position, BTreeMap::new());
        let random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        let mut hopper = Hopper { nodes, random, token, seen };
        let done = done.clone();
        hoppers.spawn(async move {
            for _ in 0..150 {
                let key = hopper.draw(KEYS);
                if hopper.draw(3) == 0 {
                    hopper.write(key).await
                } else {
                    hopper.read(key).await
                }
                done.send(()).unwrap();
            }
        });
    }
    drop(done);
    for _ in 0..400 {
        // None if a hopper has failed, which is told at the end.
        steps.recv().await;
    }
    cluster.kill(leader);
    hoppers.join_all().await;
}

/// Somebody writes and tells somebody else, who looks through a node that does not know of it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_handed_over_by_other_means_is_never_too_new_for_a_node() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let behind = cluster.other(leader);
    let range = || Range::of(Keys::One("key".into()));
    let writer = cluster.client(leader);
    writer.put("key", "old").await.unwrap();
    let reader = client(&cluster, behind.0 - 1);
    let read = reader.read(range(), Consistency::Linearizable).await.unwrap();
    cluster.isolate(behind);

    let put = writer.put("key", "new").await.unwrap();
    let token = Position { revision: put.revision, ..read.position };
    let alone = cluster.client(behind);
    let stale = alone.read(range(), Consistency::Serializable).await.unwrap();
    assert_eq!(stale.range.kvs[0].value, "old", "it does not know");
    let read = reader.read(range(), Consistency::AtLeast(token)).await.unwrap();
    assert_eq!(read.range.kvs[0].value, "new");
    assert!(read.position >= token);
}
