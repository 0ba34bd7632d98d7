//! Writes without a fault, of which no election may come.

use benches::processes::{Kind, Processes};
use benches::zookeeper::{Load, Operation, fill, measure};
use benches::{Fallible, PAYLOAD_BYTES};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CLIENTS: u32 = 256;
const CONNECTIONS: u32 = 9;
const KEYS: u64 = 10_000;

/// How many elections there were in the cluster meanwhile.
pub(super) fn elections(cluster: &mut Processes, raft: &Path, duration: Duration) -> Fallible<u64> {
    let before = term(cluster)?;
    match cluster.kind() {
        Kind::Ours | Kind::Etcd => bench(cluster, raft, duration)?,
        Kind::ZooKeeper => {
            let load = Load {
                operation: Operation::Set,
                clients: CLIENTS,
                connections: CONNECTIONS,
                keys: KEYS,
                value: vec![7; PAYLOAD_BYTES],
                warmup: Duration::from_secs(1),
                duration,
                seed: 0,
            };
            fill(&cluster.clients()[0], load.keys, &load.value)?;
            measure(&cluster.clients(), &load, &cluster.ids())?;
        }
    }
    Ok(term(cluster)? - before)
}

fn term(cluster: &mut Processes) -> Fallible<u64> {
    let leader = cluster.leader()?;
    Ok(cluster.status(leader).ok_or("the leader says nothing")?.term)
}

fn bench(cluster: &Processes, raft: &Path, duration: Duration) -> Fallible<()> {
    let mut command = Command::new(raft);
    command
        .args(["bench", "put", "--api", "etcd", "--endpoints", &cluster.clients().join(",")])
        .args(["--clients", &CLIENTS.to_string(), "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{}ms", duration.as_millis())])
        .stdout(Stdio::null());
    match command.status()?.success() {
        true => Ok(()),
        false => Err("raft bench failed".into()),
    }
}
