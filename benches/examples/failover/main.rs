//! How long nobody can write after a leader has died or was frozen: this project's store, etcd and
//! ZooKeeper, three processes of each with their default timeouts, in turn.
//!
//! ```text
//! cargo build --release -p raft-cli
//! cargo run --release -p benches --example failover
//! cargo run --release -p benches --example failover -- --times 20 --load 60s
//! ```
//!
//! A fault is kill -9, or SIGSTOP, which leaves the connections open. Every few milliseconds a
//! write is sent to one of the others, on a connection of its own, and given up soon; counted is
//! the time from the fault to the first answer to a write that was sent after it. Then every store
//! is written to by as many clients as it can take, and nobody must stand for election. It fails if
//! ours takes more than half of etcd's time, or elects under load. etcd must be installed.

mod fault;
mod load;
mod table;

use benches::Fallible;
use benches::processes::{Processes, Stores};
use clap::Parser;
use fault::Fault;
use raft_cli::args::values;
use std::process::ExitCode;
use std::time::Duration;
use table::Row;

/// Measures how long nobody can write after a fault of the leader.
#[derive(Parser)]
struct Arguments {
    /// How often each fault happens to each store.
    #[arg(long, value_name = "N", default_value_t = 10)]
    times: u32,
    /// How long each is written to without a fault.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = values::duration)]
    load: Duration,
    #[command(flatten)]
    stores: Stores,
}

fn main() -> ExitCode {
    benches::ended(run(&Arguments::parse()))
}

/// Whether every bound was kept.
fn run(arguments: &Arguments) -> Fallible<bool> {
    let stores = arguments.stores.all()?;
    let raft = stores[0].program.clone();
    let start = |store| Processes::start(store, &arguments.stores.folder());
    let mut clusters: Vec<_> = stores.into_iter().map(start).collect::<Fallible<_>>()?;
    let mut rows = Vec::new();
    for fault in [Fault::Killed, Fault::Frozen] {
        let mut times: Vec<Vec<Duration>> = clusters.iter().map(|_| Vec::new()).collect();
        for round in 0..arguments.times {
            for (cluster, times) in clusters.iter_mut().zip(&mut times) {
                let time = fault.measure(cluster, round)?;
                eprintln!("{} {}: {} ms", cluster.kind().name(), fault.name(), time.as_millis());
                times.push(time);
            }
        }
        rows.extend(Row::all(fault, &clusters, &times));
    }
    println!("{}", table::of(&rows));
    let mut kept = rows.iter().all(Row::is_kept);
    for cluster in &mut clusters {
        let elections = load::elections(cluster, &raft, arguments.load)?;
        let name = cluster.kind().name();
        println!("{name}: {elections} elections in {:?} of writes by 256 clients", arguments.load);
        kept &= elections == 0 || cluster.kind() != benches::processes::Kind::Ours;
    }
    Ok(kept)
}
