//! This project's store beside etcd and ZooKeeper: three processes of each on this machine, every
//! write durable on a quorum, asked in turn; this store and etcd by `raft bench`, ZooKeeper by a
//! closed loop of as many clients on as many connections.
//!
//! ```text
//! cargo build --release -p raft-cli
//! cargo run --release -p benches --example stores
//! cargo run --release -p benches --example stores -- --rounds 5 --duration 10s put txn
//! cargo run --release -p benches --example stores -- --flush-delay 5ms put setData
//! ```
//!
//! Two are measured in interleaved rounds, so that whatever else the machine does hits both; judge
//! by the ratios, and by processor time where the machine is noisy. `etcd` must be installed, and
//! ZooKeeper for its cells. `--flush-delay` has every flush of all stores take longer, and needs
//! `strace`; ours and etcd then have to be ahead, and no more.

mod cells;
mod measure;
mod table;

use benches::Fallible;
use benches::processes::{Processes, Store, Stores};
use cells::{CELLS, Cell};
use clap::Parser;
use measure::{Clusters, Outcome};
use raft_cli::args::values;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// Measures this project's store and others in turn.
#[derive(Parser)]
struct Arguments {
    /// What to measure: parts of the names of the cells. Default: all.
    cells: Vec<String>,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    duration: Duration,
    /// By how much longer each flush takes, of all stores.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    flush_delay: Option<Duration>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stores: Stores,
}

fn main() -> ExitCode {
    benches::ended(run(&Arguments::parse()))
}

/// Whether every bound was kept.
fn run(arguments: &Arguments) -> Fallible<bool> {
    let cells = chosen(arguments)?;
    let start = |store| {
        let delayed = Store { flush_delay: arguments.flush_delay, ..store };
        Processes::start(delayed, &arguments.stores.folder())
    };
    let ours = arguments.stores.ours()?;
    let raft = ours.program.clone();
    let mut clusters = Clusters { raft, ours: start(ours)?, etcd: None, zookeeper: None };
    if cells.iter().any(|cell| !cell.is_of_zookeeper()) {
        clusters.etcd = Some(start(arguments.stores.etcd())?);
    }
    if cells.iter().any(|cell| cell.is_of_zookeeper()) {
        let zookeeper = start(arguments.stores.zookeeper()?)?;
        measure::warm_up(&zookeeper)?;
        clusters.zookeeper = Some(zookeeper);
    }
    let mut results = Vec::new();
    for cell in cells {
        eprintln!("{}", cell.name);
        let bounds = cell.bounds(arguments.flush_delay.is_some());
        results.push(clusters.measure(cell, bounds, arguments)?);
    }
    let kept = results.iter().all(Outcome::is_kept);
    match arguments.json {
        true => println!("{}", json!(results.iter().map(Outcome::json).collect::<Vec<_>>())),
        false => println!("{}", table::of(&results)),
    }
    Ok(kept)
}

/// The cells that were asked for. Those of ZooKeeper are left out if nobody named one, and it is
/// not installed.
fn chosen(arguments: &Arguments) -> Fallible<Vec<&'static Cell>> {
    let named = |cell: &&Cell| arguments.cells.iter().any(|part| cell.name.contains(part.as_str()));
    if arguments.cells.is_empty() {
        let missing = arguments.stores.zookeeper().err();
        if let Some(missing) = &missing {
            eprintln!("{missing}; its cells are left out");
        }
        return Ok(CELLS.iter().filter(|it| missing.is_none() || !it.is_of_zookeeper()).collect());
    }
    let cells: Vec<_> = CELLS.iter().filter(named).collect();
    match cells.is_empty() {
        true => {
            let names: Vec<_> = CELLS.iter().map(|cell| cell.name).collect();
            Err(format!("there are these: {}", names.join(", ")).into())
        }
        false => Ok(cells),
    }
}
