//! A queue whose items are worked off once, whatever fails: taking an item and writing down what was
//! done with it are one transaction, and a request that is sent again is not done again.

mod support;

use raft_kv::api::{Consistency, Keys, Op, Put, Range};
use raft_kv::recipes::{Item, Queue};
use support::{Cluster, Shown, ensure};
use tokio::task::JoinSet;

const ITEMS: usize = 120;
const WORKERS: usize = 4;

#[tokio::main]
pub(crate) async fn main() -> Shown {
    let mut cluster = Cluster::start()?;
    let leader = cluster.leader().await;
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let queue = Queue::new(&cluster.client(worker as u64 % 3 + 1), "queues/example");
        workers.spawn(async move {
            let note = |item: &Item| {
                let key = [b"done/", &item.value[..]].concat();
                vec![Op::Put(Put::new(key, format!("by worker {worker}")))]
            };
            for _ in 0..ITEMS / WORKERS {
                queue.take_with(note).await?;
            }
            Ok::<_, raft_kv::client::ClientError>(())
        });
    }
    let survivor = cluster.client(if leader.0 == 1 { 2 } else { 1 });
    let queue = Queue::new(&survivor, "queues/example");
    for item in 0..ITEMS {
        if item == ITEMS / 2 {
            cluster.kill(leader).await;
            println!("the leader, node {leader}, dies");
        }
        queue.put(format!("item-{item:03}")).await?;
    }
    workers.join_all().await.into_iter().collect::<Result<(), _>>()?;
    let range = Range::of(Keys::prefix("done/"));
    let done = survivor.get(range, Consistency::Linearizable).await?;
    println!("{ITEMS} items put, {} done, {} left", done.count, queue.waiting().await?);
    ensure(done.kvs.len() == ITEMS, "every item is worked off")?;
    ensure(done.kvs.iter().all(|pair| pair.version == 1), "no item is worked off twice")
}
