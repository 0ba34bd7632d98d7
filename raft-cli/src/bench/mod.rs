//! `raft bench`: how fast a cluster is, over its own protocol or over etcd's API, so that it can be
//! held against another one. Owns the loads and what is made of them; knows no numbers of requests
//! a server would like.

pub mod grpc;
mod load;
mod page;
pub mod side;
mod usage;

use crate::args::bench::{Api, Bench, GetLoad, Load, MixedLoad, WatchLoad, Workload};
use crate::args::connection::Target;
use crate::failure::Failure;
use crate::output::bench::{Latency, Measurement, Ratio, histogram, median, percentiles, text};
use crate::output::{Format, Output};
use crate::pages;
use load::{Operation, Seen, measure, prepare};
use serde_json::json;
use side::{Mode, Side};
use std::rc::Rc;
use tokio::task::LocalSet;

/// Where etcd listens when nothing else is said.
const ETCD_ENDPOINT: &str = "127.0.0.1:2379";

/// Opens the clusters that are to be measured. `target` is how the first one is reached.
///
/// # Errors
/// See [`Side::open`].
pub async fn open(args: &Bench, target: &Target) -> Result<Vec<Side>, Failure> {
    pages::small();
    let load = args.load();
    if let Workload::Get(get) = &args.workload {
        get.check()?;
    }
    let first = match load.api {
        Api::Etcd => {
            let named = &load.connection.endpoints;
            let default = [ETCD_ENDPOINT.to_owned()];
            let endpoints = if named.is_empty() { &default } else { named.as_slice() };
            unless_encrypted(load, Target { endpoints: endpoints.to_vec(), ..target.clone() })
        }
        Api::Native => target.clone(),
    };
    let mut sides = vec![Side::open(load.api, &first, load.connections, load.pids.clone()).await?];
    if !load.compare.is_empty() {
        let second = Target { endpoints: load.compare.clone(), ..target.clone() };
        let second = match load.compare_api {
            Api::Etcd => unless_encrypted(load, second),
            Api::Native => second,
        };
        let processes = load.compare_pids.clone();
        sides.push(Side::open(load.compare_api, &second, load.connections, processes).await?);
    }
    Ok(sides)
}

/// Over etcd's API, encryption is asked for by flags only: a file that tells how the cluster is
/// reached natively says nothing of it.
fn unless_encrypted(load: &Load, target: Target) -> Target {
    match load.connection.ca {
        Some(_) => target,
        None => Target { ca: None, identity: None, ..target },
    }
}

/// Measures, one number of clients after the other, all clusters in turn.
///
/// # Errors
/// If a cluster does not answer before a measurement, or not one operation succeeds in it; failed
/// operations are otherwise counted. Of kind `Local` if the page cannot be written.
pub async fn run(sides: Vec<Side>, args: &Bench, output: &mut Output<'_>) -> Result<(), Failure> {
    let load = args.load();
    if load.json {
        output.format = Format::Json;
    }
    let sides: Vec<_> = sides.into_iter().map(Rc::new).collect();
    let local = LocalSet::new();
    let mut measurements = Vec::new();
    for operation in operations(&args.workload) {
        for side in &sides {
            local.run_until(prepare(side, load, operation)).await?;
        }
        for &clients in &load.clients {
            let mut rounds: Vec<Vec<Seen>> = sides.iter().map(|_| Vec::new()).collect();
            for round in 0..load.rounds() {
                for (side, seen) in sides.iter().zip(&mut rounds) {
                    let measured = measure(side, load, operation, clients, round);
                    seen.push(local.run_until(measured).await?);
                }
            }
            for (side, seen) in sides.iter().zip(rounds) {
                measurements.push(measurement(side, load, operation, clients, &seen));
            }
        }
    }
    let ratios = match sides.len() {
        2 => measurements.chunks(2).map(|pair| Ratio::of(&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    };
    if let Some(path) = &load.html {
        let html = page::page(&measurements, &ratios);
        std::fs::write(path, html)
            .map_err(|error| Failure::local(format!("cannot write {}", path.display()), &error))?;
    }
    let json = json!({ "measurements": measurements, "ratios": ratios });
    output.print(&json, || text(&measurements, &ratios))
}

/// What is measured, one after the other.
fn operations(workload: &Workload) -> Vec<Operation> {
    use Mode::{Causal, Linearizable, Serializable};
    match workload {
        Workload::Put(_) => vec![Operation::Put],
        Workload::Get(GetLoad { all_modes: true, .. }) => {
            [Linearizable, Causal, Serializable].map(Operation::Get).into()
        }
        Workload::Get(GetLoad { serializable: true, .. }) => vec![Operation::Get(Serializable)],
        Workload::Get(GetLoad { causal: true, .. }) => vec![Operation::Get(Causal)],
        Workload::Get(_) => vec![Operation::Get(Linearizable)],
        Workload::Mixed(MixedLoad { reads, .. }) => vec![Operation::Mixed(*reads)],
        Workload::Txn(_) => vec![Operation::Swap],
        Workload::Watch(WatchLoad { watchers, .. }) => vec![Operation::Watch(*watchers)],
    }
}

fn measurement(
    side: &Side,
    load: &Load,
    operation: Operation,
    clients: u32,
    rounds: &[Seen],
) -> Measurement {
    let mut nanoseconds = histogram();
    for seen in rounds {
        nanoseconds.add(&seen.nanoseconds).expect("all have the same bounds");
    }
    let seconds = load.duration.as_secs_f64();
    let answered = |seen: &Seen| seen.nanoseconds.len() - seen.unanswered;
    let operations: u64 = rounds.iter().map(answered).sum();
    let cpu: Option<f64> = rounds.iter().map(|seen| seen.cpu.map(|cpu| cpu.as_secs_f64())).sum();
    let first_error = rounds.iter().find_map(|seen| seen.first_error.as_ref());
    let rounds_per_second: Vec<f64> =
        rounds.iter().map(|seen| answered(seen) as f64 / seconds).collect();
    Measurement {
        server: side.name.clone(),
        workload: operation.name(),
        clients,
        watchers: match operation {
            Operation::Watch(watchers) => Some(watchers),
            _ => None,
        },
        connections: side.servers.connections().min(clients as usize),
        value_size: load.value_size,
        rate: load.rate,
        seconds,
        operations,
        unanswered: rounds.iter().map(|seen| seen.unanswered).sum(),
        errors: rounds.iter().map(|seen| seen.errors).sum(),
        per_second: median(&rounds_per_second),
        rounds_per_second,
        latency_us: Latency::of(&nanoseconds),
        percentiles_us: percentiles(&nanoseconds),
        cpu_us: cpu.map(|cpu| cpu * 1e6 / operations.max(1) as f64),
        first_error: first_error.map(ToString::to_string),
    }
}
