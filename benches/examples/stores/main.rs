//! This project's store beside etcd: three processes of each on this machine, the same flags, every
//! write durable on a quorum, asked in turn by `raft bench`.
//!
//! ```text
//! cargo build --release -p raft-cli
//! cargo run --release -p benches --example stores
//! cargo run --release -p benches --example stores -- --rounds 5 --duration 10s put txn
//! ```
//!
//! The two are measured in interleaved rounds, so that whatever else the machine does hits both;
//! judge by the ratios, and by processor time where the machine is noisy. `etcd` must be installed.

mod cells;
mod processes;

use cells::{CELLS, Cell};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use processes::{Kind, Processes};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Measures this project's store and etcd in turn.
#[derive(Parser)]
struct Arguments {
    /// What to measure: parts of the names of the cells. Default: all.
    cells: Vec<String>,
    /// How often each is measured.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    duration: String,
    /// The binary of this project.
    #[arg(long, value_name = "FILE")]
    raft: Option<PathBuf>,
    /// The binary of etcd.
    #[arg(long, value_name = "FILE", default_value = "etcd")]
    etcd: PathBuf,
    /// Where both keep their data: a folder on the disk that is to be measured. Default: where this
    /// project is built.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    benches::ended(run(&Arguments::parse()))
}

/// What was measured of one cell.
struct Result {
    cell: &'static Cell,
    /// Ours first.
    measurements: [Value; 2],
    ratio: Value,
}

/// Whether every bound was kept.
fn run(arguments: &Arguments) -> std::result::Result<bool, Box<dyn Error>> {
    let chosen = |cell: &&Cell| {
        let named = |part: &String| cell.name.contains(part.as_str());
        arguments.cells.is_empty() || arguments.cells.iter().any(named)
    };
    let cells: Vec<_> = CELLS.iter().filter(chosen).collect();
    if cells.is_empty() {
        let names: Vec<_> = CELLS.iter().map(|cell| cell.name).collect();
        return Err(format!("there are these: {}", names.join(", ")).into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in it");
    let built = workspace.join("target/release/raft");
    let raft = arguments.raft.clone().unwrap_or(built);
    if !raft.is_file() {
        let missing = format!("no {}: cargo build --release -p raft-cli", raft.display());
        return Err(missing.into());
    }
    let folder = arguments.folder.clone().unwrap_or_else(|| workspace.join("target"));
    let ours = Processes::start(Kind::Ours, &raft, &folder)?;
    let theirs = Processes::start(Kind::Etcd, &arguments.etcd, &folder)?;
    let mut results = Vec::new();
    for cell in cells {
        eprintln!("{}", cell.name);
        results.push(measure(cell, &raft, arguments, &ours, &theirs)?);
    }
    let kept = results.iter().all(Result::is_kept);
    match arguments.json {
        true => println!("{}", json!(results.iter().map(Result::json).collect::<Vec<_>>())),
        false => println!("{}", table(&results)),
    }
    Ok(kept)
}

fn measure(
    cell: &'static Cell,
    raft: &Path,
    arguments: &Arguments,
    ours: &Processes,
    theirs: &Processes,
) -> std::result::Result<Result, Box<dyn Error>> {
    let mut command = Command::new(raft);
    command.arg("bench").args(cell.words.split_whitespace()).arg("--json");
    match cell.native {
        // With etcd's flags and no certificates, members prove nothing.
        true => command.args(["--insecure", "--endpoints", &ours.peers.join(",")]),
        false => command.args(["--api", "etcd", "--endpoints", &ours.clients.join(",")]),
    };
    let numbers = |processes: &Processes| {
        let numbers = processes.ids().map(|id| id.to_string());
        numbers.collect::<Vec<_>>().join(",")
    };
    command
        .args(["--compare", &theirs.clients.join(","), "--connections", "9"])
        .args(["--pids", &numbers(ours), "--compare-pids", &numbers(theirs)])
        .args(["--rounds", &arguments.rounds.to_string(), "--duration", &arguments.duration])
        .stderr(Stdio::inherit());
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{}: raft bench failed", cell.name).into());
    }
    let mut measured: Value = serde_json::from_slice(&output.stdout)?;
    let [first, second] = [0, 1].map(|at| measured["measurements"][at].take());
    Ok(Result { cell, measurements: [first, second], ratio: measured["ratios"][0].take() })
}

impl Result {
    /// How many times better than etcd, in what the cell is about.
    fn better(&self) -> f64 {
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
            cells::Judged::Rate => ratio("per_second"),
            cells::Judged::P50 => 1.0 / ratio("p50"),
            cells::Judged::P99 => 1.0 / ratio("p99"),
        }
    }

    /// Of either: operations that failed, and requests that were due and had no answer.
    fn errors(&self) -> String {
        let of = |side: &Value| {
            let count = |name| side[name].as_u64().unwrap_or(0);
            count("errors") + count("unanswered")
        };
        let [ours, theirs] = [0, 1].map(|side| of(&self.measurements[side]));
        format!("{ours}/{theirs}")
    }

    fn is_kept(&self) -> bool {
        self.better() >= self.cell.at_least
    }

    fn json(&self) -> Value {
        json!({
            "cell": self.cell.name,
            "better": self.better(),
            "at_least": self.cell.at_least,
            "aim": self.cell.aim,
            "measurements": self.measurements,
            "ratio": self.ratio,
        })
    }
}

fn table(results: &[Result]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "cell", "ours /s", "etcd /s", "ours p50", "etcd p50", "ours p99", "etcd p99", "ours CPU",
        "etcd CPU", "errors", "better", "at least", "aim", "",
    ]);
    for result in results {
        let of = |side: usize, name: &str| result.measurements[side][name].as_f64();
        let latency = |side: usize, name: &str| {
            let latency = result.measurements[side]["latency_us"][name].as_f64();
            latency.map_or_else(String::new, |us| format!("{:.2} ms", us / 1e3))
        };
        let rate = |side| of(side, "per_second").map_or_else(String::new, |it| format!("{it:.0}"));
        let cpu = |side| of(side, "cpu_us").map_or_else(String::new, |it| format!("{it:.1} us"));
        let verdict = match result.better() {
            better if better >= result.cell.aim => "aim",
            better if better >= result.cell.at_least => "kept",
            _ => "MISSED",
        };
        table.add_row([
            result.cell.name.to_owned(),
            rate(0),
            rate(1),
            latency(0, "p50"),
            latency(1, "p50"),
            latency(0, "p99"),
            latency(1, "p99"),
            cpu(0),
            cpu(1),
            result.errors(),
            format!("{:.2}", result.better()),
            format!("{:.1}", result.cell.at_least),
            format!("{:.1}", result.cell.aim),
            verdict.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
