//! A store with many keys: what it has in memory, how long a member takes that starts again after
//! kill -9, and one that has lost its data; this project's store, etcd and ZooKeeper.
//!
//! ```text
//! cargo build --release -p raft-cli
//! cargo run --release -p benches --example large
//! cargo run --release -p benches --example large -- --keys 1000000 --times 3
//! ```
//!
//! Three processes of each, one store after the other, so that none takes memory or processors from
//! another. A member serves when it answers a linearizable read; one without data, whose place a
//! new member takes, cannot do so before it has caught up. It fails if ours is not twice as fast as
//! etcd in both, or takes more memory. etcd must be installed.

mod member;
mod table;

use benches::processes::{Kind, MEMBERS, Processes, Store, Stores, resident_bytes};
use benches::{Fallible, PAYLOAD_BYTES, zookeeper};
use clap::Parser;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use table::Figures;

/// Measures stores with many keys.
#[derive(Parser)]
struct Arguments {
    /// How many keys there are.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    keys: u64,
    /// How often a member is started again, and as often wiped.
    #[arg(long, value_name = "N", default_value_t = 3)]
    times: u32,
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
    let folder = arguments.stores.folder();
    let measured = stores.into_iter().map(|store| measure(store, &raft, &folder, arguments));
    let figures: Vec<_> = measured.collect::<Fallible<_>>()?;
    let rows = table::rows(&figures);
    println!("{}", table::of(&figures, &rows));
    Ok(rows.iter().all(table::Row::is_kept))
}

fn measure(store: Store, raft: &Path, folder: &Path, arguments: &Arguments) -> Fallible<Figures> {
    let mut cluster = Processes::start(store, folder)?;
    let name = cluster.kind().name();
    let began = Instant::now();
    fill(&cluster, raft, arguments.keys)?;
    eprintln!("{name}: {} keys after {:.1} s", arguments.keys, began.elapsed().as_secs_f64());
    let mut resident = Vec::new();
    for process in cluster.ids() {
        resident.push(resident_bytes(process)?);
    }
    let (mut started, mut wiped) = (Vec::new(), Vec::new());
    for _ in 0..arguments.times {
        started.push(member::start_again(&mut cluster)?);
        eprintln!("{name}: a member started again serves after {:?}", started[started.len() - 1]);
    }
    for _ in 0..arguments.times {
        wiped.push(member::start_wiped(&mut cluster, arguments.keys)?);
        eprintln!("{name}: a wiped member serves after {:?}", wiped[wiped.len() - 1]);
    }
    let resident = resident.iter().sum::<u64>() / MEMBERS as u64;
    Ok(Figures { kind: cluster.kind(), resident, started, wiped })
}

/// Writes the keys, one by one, by many clients: `raft bench` writes those that are to be read.
fn fill(cluster: &Processes, raft: &Path, keys: u64) -> Fallible<()> {
    if cluster.kind() == Kind::ZooKeeper {
        return zookeeper::fill(&cluster.clients()[0], keys, &[7; PAYLOAD_BYTES]);
    }
    let mut command = Command::new(raft);
    command
        .args(["bench", "get", "--api", "etcd", "--endpoints", &cluster.clients().join(",")])
        .args(["--keys", &keys.to_string(), "--value-size", &PAYLOAD_BYTES.to_string()])
        .args(["--connections", "9", "--clients", "1", "--duration", "1s", "--warmup", "1ms"])
        .stdout(Stdio::null());
    match command.status()?.success() {
        true => Ok(()),
        false => Err("raft bench failed".into()),
    }
}
