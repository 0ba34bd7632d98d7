//! A lock that is safe even for a holder who does not know that it has lost it.
//!
//! Two workers add to an account under a lock. Then one of them falls asleep with the lock in its
//! hand: its lease expires, the other one works on, and when the first wakes up the store refuses
//! its write, because it carries the fence of a lock that is held no more.

mod support;

use raft_kv::Client;
use raft_kv::api::KvError;
use raft_kv::client::ClientError;
use raft_kv::recipes::Lock;
use std::time::Duration;
use support::{Cluster, Failed, Shown, ensure};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const TTL: Duration = Duration::from_secs(2);

async fn balance(client: &Client) -> Result<u64, Failed> {
    match client.get_one("account").await? {
        Some(pair) => Ok(std::str::from_utf8(&pair.value)?.parse()?),
        None => Ok(0),
    }
}

/// Reads, adds one, writes: wrong without a lock.
async fn deposit(client: &Client) -> Shown {
    let lock = Lock::acquire(client, "locks/account", TTL).await?;
    let sum = balance(client).await? + 1;
    client.fenced(lock.fence()).put("account", sum.to_string()).await?;
    lock.release().await?;
    Ok(())
}

async fn deposit_in_turn(cluster: &Cluster) -> Shown {
    let mut workers = JoinSet::new();
    for id in 1..=2 {
        let client = cluster.client(id);
        workers.spawn(async move {
            for _ in 0..20 {
                deposit(&client).await?;
            }
            Shown::Ok(())
        });
    }
    workers.join_all().await.into_iter().collect::<Shown>()?;
    let sum = balance(&cluster.client(3)).await?;
    println!("2 workers have made 20 deposits each, one at a time: {sum}");
    ensure(sum == 40, "no deposit is lost under the lock")
}

pub(crate) fn main() -> Shown {
    let world = Runtime::new()?;
    let cluster = world.block_on(async { Cluster::start() })?;
    world.block_on(deposit_in_turn(&cluster))?;

    // A process of its own, which runs only while it is told to: it can be paused.
    let process = Builder::new_current_thread().enable_all().build()?;
    let (sleepy, other) = (cluster.client(1), cluster.client(2));
    let lock = process.block_on(Lock::acquire(&sleepy, "locks/account", TTL))?;
    println!("one worker falls asleep with the lock, the other one waits for it");
    world.block_on(deposit(&other))?;
    println!("its lease has expired, and the other one has made its deposit");

    let late = process.block_on(sleepy.fenced(lock.fence()).put("account", "0"));
    println!("the first one wakes up and writes: {late:?}");
    let refused = matches!(late, Err(ClientError::Refused(KvError::Fenced { .. })));
    ensure(refused, "a write that comes too late is refused")?;
    let sum = world.block_on(balance(&other))?;
    ensure(sum == 41, "the late write has no effect")
}
