//! One member that is killed, and how long it takes until it serves again.

use benches::Fallible;
use benches::processes::{Kind, MEMBERS, Processes, keys_of, linearizable_read};
use std::thread;
use std::time::{Duration, Instant};

/// How long a healthy cluster is left alone before a member is killed.
const SETTLING: Duration = Duration::from_secs(3);
/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kills a member that does not lead and starts it again: how long until it serves.
pub(super) fn start_again(cluster: &mut Processes) -> Fallible<Duration> {
    let follower = kill(cluster)?;
    let began = Instant::now();
    cluster.start_again(follower)?;
    serves(cluster, follower)?;
    Ok(began.elapsed())
}

/// The same without its data.
pub(super) fn start_wiped(cluster: &mut Processes, keys: u64) -> Fallible<Duration> {
    let follower = kill(cluster)?;
    let began = cluster.start_wiped(follower)?;
    serves(cluster, follower)?;
    let took = began.elapsed();
    if cluster.kind() != Kind::ZooKeeper {
        let has = keys_of(&cluster.clients()[follower])?;
        if has < keys {
            return Err(format!("it answered a linearizable read and has {has} keys").into());
        }
    }
    Ok(took)
}

fn kill(cluster: &mut Processes) -> Fallible<usize> {
    thread::sleep(SETTLING);
    let follower = (cluster.leader()? + 1) % MEMBERS;
    cluster.kill(follower)?;
    Ok(follower)
}

fn serves(cluster: &mut Processes, position: usize) -> Fallible<()> {
    let (kind, address) = (cluster.kind(), cluster.clients()[position].clone());
    cluster.until(position, |_| linearizable_read(kind, &address, PATIENCE).is_ok())
}
