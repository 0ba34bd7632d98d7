//! A cache that is never wrong, only a little late: it reads some keys once, and then follows their
//! changes, also when the node that tells of them dies.

mod support;

use raft_core::types::NodeId;
use raft_kv::api::{Consistency, Keys, Op, Put, Range, Txn};
use raft_kv::recipes::Mirror;
use support::{Cluster, Shown, ensure};

const CHANGES: u64 = 200;

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let mut cluster = Cluster::start()?;
    let leader = cluster.leader().await;
    let other = if leader == NodeId(1) { 2 } else { 1 };
    let writer = cluster.client(other);
    writer.put("settings/limit", "0").await?;
    // It follows through the node that is going to die.
    let follower = cluster.client(leader.0);
    let mut cache = Mirror::open(&follower, Keys::prefix("settings/")).await?;

    let writes = tokio::spawn(async move {
        for number in 1..=CHANGES {
            let limit = Op::Put(Put::new("settings/limit", number.to_string()));
            let double = Op::Put(Put::new("settings/double", (2 * number).to_string()));
            writer.txn(Txn { success: vec![limit, double], ..Txn::default() }).await?;
        }
        Ok::<_, raft_kv::client::ClientError>(writer)
    });
    let number = |cache: &Mirror, key: &str| -> Option<u64> {
        std::str::from_utf8(&cache.pairs().get(key.as_bytes())?.value).ok()?.parse().ok()
    };
    for expected in 1..=CHANGES {
        if expected == CHANGES / 4 {
            cluster.kill(leader).await;
            println!("node {leader} dies after change {expected}; the cache goes on");
        }
        cache.changed().await?;
        ensure(number(&cache, "settings/limit") == Some(expected), "every change is shown once")?;
        let both = number(&cache, "settings/double") == Some(2 * expected);
        ensure(both, "no half of a transaction is ever shown")?;
    }
    let writer = writes.await??;
    let range = Range::of(Keys::prefix("settings/"));
    let stored = writer.get(range, Consistency::Linearizable).await?;
    println!("{CHANGES} changes seen in order; the cache as of revision {}:", cache.revision());
    for pair in cache.pairs().values() {
        println!("  {} = {}", pair.key.escape_ascii(), pair.value.escape_ascii());
    }
    ensure(stored.kvs.iter().eq(cache.pairs().values()), "the cache is what is stored")
}
