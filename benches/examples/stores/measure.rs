//! How one cell is measured.

use crate::Arguments;
use crate::cells::{Beside, Cell, Judged};
use benches::processes::Processes;
use benches::zookeeper::{self, Load, Measured, Operation};
use benches::{Fallible, PAYLOAD_BYTES};
use raft_cli::output::bench::median;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Connections of every load, spread over the nodes.
const CONNECTIONS: u32 = 9;
/// Keys that are written and read: as many as `raft bench` takes.
const KEYS: u64 = 10_000;
/// How long to run before measuring, as `raft bench` does.
const WARMUP: Duration = Duration::from_secs(1);
/// How long ZooKeeper does each of what is measured before it is.
const COMPILING: Duration = Duration::from_secs(10);

/// Those that are measured, as far as a cell asks for them.
pub(super) struct Clusters {
    /// This project's binary.
    pub(super) raft: PathBuf,
    pub(super) ours: Processes,
    pub(super) etcd: Option<Processes>,
    pub(super) zookeeper: Option<Processes>,
}

/// What was measured of one cell.
pub(super) struct Outcome {
    pub(super) cell: &'static Cell,
    /// Ours first, each as `raft bench` tells it.
    pub(super) measurements: [Value; 2],
    ratio: Value,
    pub(super) at_least: f64,
    pub(super) aim: f64,
}

impl Clusters {
    /// Measures both stores of a cell in turn.
    pub(super) fn measure(
        &self,
        cell: &'static Cell,
        (at_least, aim): (f64, f64),
        arguments: &Arguments,
    ) -> Fallible<Outcome> {
        let (measurements, ratio) = match (cell.beside, &self.etcd, &self.zookeeper) {
            (Beside::ZooKeeper(operation), _, Some(theirs)) => {
                self.beside_zookeeper(cell, operation, arguments, theirs)?
            }
            (Beside::Etcd | Beside::NativeEtcd, Some(theirs), _) => {
                self.beside_etcd(cell, arguments, theirs)?
            }
            _ => return Err(format!("{}: the other store does not run", cell.name).into()),
        };
        if let Some(delay) = arguments.flush_delay.filter(|_| cell.is_of_writes()) {
            measurements.iter().try_for_each(|it| waited_for_flushes(cell, it, delay))?;
        }
        Ok(Outcome { cell, measurements, ratio, at_least, aim })
    }

    fn beside_etcd(
        &self,
        cell: &Cell,
        arguments: &Arguments,
        theirs: &Processes,
    ) -> Fallible<([Value; 2], Value)> {
        let mut command = self.bench(cell, arguments);
        command
            .args(["--compare", &theirs.clients().join(","), "--compare-pids", &numbers(theirs)])
            .args(["--rounds", &arguments.rounds.to_string()]);
        let mut told = told(cell, command)?;
        let [first, second] = [0, 1].map(|at| told["measurements"][at].take());
        Ok(([first, second], told["ratios"][0].take()))
    }

    fn beside_zookeeper(
        &self,
        cell: &Cell,
        operation: Operation,
        arguments: &Arguments,
        theirs: &Processes,
    ) -> Fallible<([Value; 2], Value)> {
        let addresses = theirs.clients();
        let load = Load { clients: cell.clients, ..load(operation, arguments.duration) };
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 0..arguments.rounds {
            let mut command = self.bench(cell, arguments);
            command.args(["--rounds", "1"]);
            rounds[0].push(told(cell, command)?["measurements"][0].take());
            let load = Load { seed: u64::from(round), ..load.clone() };
            let measured = zookeeper::measure(&addresses, &load, &theirs.ids())?;
            rounds[1].push(as_told(&measured, load.duration));
        }
        let ratio = ratio(&rounds);
        Ok((rounds.map(|rounds| merged(&rounds)), ratio))
    }

    /// `raft bench` of this project's store.
    fn bench(&self, cell: &Cell, arguments: &Arguments) -> Command {
        let mut command = Command::new(&self.raft);
        command.arg("bench").args(cell.words.split_whitespace()).arg("--json");
        match cell.beside {
            Beside::Etcd => {
                command.args(["--api", "etcd", "--endpoints", &self.ours.clients().join(",")])
            }
            // With etcd's flags and no certificates, members prove nothing.
            Beside::NativeEtcd | Beside::ZooKeeper(_) => {
                command.args(["--insecure", "--endpoints", &self.ours.peers().join(",")])
            }
        };
        let duration = format!("{}ms", arguments.duration.as_millis());
        command
            .args(["--clients", &cell.clients.to_string(), "--duration", &duration])
            .args(["--connections", &CONNECTIONS.to_string(), "--pids", &numbers(&self.ours)])
            .stderr(Stdio::inherit());
        command
    }
}

/// That a write took as long as one flush, at the least: that the delay was there.
fn waited_for_flushes(cell: &Cell, measurement: &Value, delay: Duration) -> Fallible<()> {
    let p50 = figure(measurement, "/latency_us/p50");
    match p50 >= delay.as_secs_f64() * 1e6 {
        true => Ok(()),
        false => Err(format!("{}: a write took {p50} us, less than one flush", cell.name).into()),
    }
}

/// Makes ZooKeeper's nodes, and has it do what is to be measured: a JVM compiles what it has run
/// often.
pub(super) fn warm_up(zookeeper: &Processes) -> Fallible<()> {
    let addresses = zookeeper.clients();
    for operation in [Operation::Set, Operation::SyncGet] {
        let load = load(operation, COMPILING);
        zookeeper::fill(&addresses[0], load.keys, &load.value)?;
        zookeeper::measure(&addresses, &load, &zookeeper.ids())?;
    }
    Ok(())
}

fn load(operation: Operation, duration: Duration) -> Load {
    Load {
        operation,
        clients: 256,
        connections: CONNECTIONS,
        keys: KEYS,
        value: vec![7; PAYLOAD_BYTES],
        warmup: WARMUP,
        duration,
        seed: 0,
    }
}

fn numbers(processes: &Processes) -> String {
    let numbers: Vec<_> = processes.ids().iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// What `raft bench` tells.
fn told(cell: &Cell, mut command: Command) -> Fallible<Value> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(format!("{}: raft bench failed", cell.name).into()),
    }
}

/// One round of ZooKeeper as `raft bench` tells it.
fn as_told(measured: &Measured, duration: Duration) -> Value {
    let operations = measured.nanoseconds.len();
    let at = |quantile| measured.nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
    json!({
        "server": "ZooKeeper",
        "operations": operations,
        "errors": measured.errors,
        "per_second": operations as f64 / duration.as_secs_f64(),
        "latency_us": { "p50": at(0.5), "p99": at(0.99) },
        "cpu_us": measured.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
    })
}

/// What is looked at of a measurement.
const FIGURES: [&str; 4] = ["/per_second", "/latency_us/p50", "/latency_us/p99", "/cpu_us"];

fn figure(measurement: &Value, name: &str) -> f64 {
    measurement.pointer(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The medians of the rounds.
fn merged(rounds: &[Value]) -> Value {
    let of = |name| median(&rounds.iter().map(|it| figure(it, name)).collect::<Vec<_>>());
    let sum = |name: &str| rounds.iter().filter_map(|round| round[name].as_u64()).sum::<u64>();
    let [per_second, p50, p99, cpu] = FIGURES.map(of);
    json!({
        "operations": sum("operations"),
        "errors": sum("errors"),
        "per_second": per_second,
        "latency_us": { "p50": p50, "p99": p99 },
        "cpu_us": cpu,
    })
}

/// The medians of what each round of ours is in figures of the one beside it.
fn ratio([ours, theirs]: &[Vec<Value>; 2]) -> Value {
    let [per_second, p50, p99, cpu] = FIGURES.map(|name| {
        let pairs = ours.iter().zip(theirs);
        let ratios = pairs.map(|(ours, theirs)| figure(ours, name) / figure(theirs, name));
        median(&ratios.collect::<Vec<_>>())
    });
    json!({ "per_second": per_second, "p50": p50, "p99": p99, "cpu": cpu })
}

impl Outcome {
    /// How many times better than the other store, in what the cell is about.
    pub(super) fn better(&self) -> f64 {
        let count = |side: &Value, name| side[name].as_u64().unwrap_or(0);
        // Some are always under way when an open loop ends.
        let late = |side: &Value| count(side, "unanswered") > count(side, "operations") / 50;
        let spoiled = |side: &Value| count(side, "errors") > 0 || late(side);
        if self.measurements.iter().any(spoiled) {
            // What fails, or does not keep up, has no latency to compare.
            return 0.0;
        }
        let ratio = |name: &str| self.ratio[name].as_f64().unwrap_or(f64::NAN);
        match self.cell.judged {
            Judged::Rate => ratio("per_second"),
            Judged::P50 => 1.0 / ratio("p50"),
            Judged::P99 => 1.0 / ratio("p99"),
            Judged::Cpu => 1.0 / ratio("cpu"),
        }
    }

    /// Of either: operations that failed, and requests that were due and had no answer.
    pub(super) fn errors(&self) -> String {
        let of = |side: &Value| {
            let count = |name| side[name].as_u64().unwrap_or(0);
            count("errors") + count("unanswered")
        };
        let [ours, theirs] = [0, 1].map(|side| of(&self.measurements[side]));
        format!("{ours}/{theirs}")
    }

    pub(super) fn is_kept(&self) -> bool {
        self.better() >= self.at_least
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cell": self.cell.name,
            "better": self.better(),
            "at_least": self.at_least,
            "aim": self.aim,
            "measurements": self.measurements,
            "ratio": self.ratio,
        })
    }
}
