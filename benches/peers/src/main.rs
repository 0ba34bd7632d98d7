//! The same work on this project's crates and on other consensus libraries.

mod core;
mod driver;
mod figures;
mod table;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use driver::Load;
use figures::{Effort, Figures, Library};
use std::process::ExitCode;
use std::time::Duration;

/// Bytes of a command.
const COMMAND_BYTES: usize = 256;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One run of a core: three of them, on one thread.
    Core {
        library: Library,
        /// Commands that are proposed together.
        in_flight: u64,
        /// How long, in milliseconds.
        #[arg(long, default_value = "1000")]
        millis: u64,
        /// Instead: how many times, for tools that count instructions.
        #[arg(long)]
        rounds: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// One run of a driver: three nodes on a runtime.
    Driver {
        library: Library,
        /// Tasks that write.
        writers: usize,
        /// Commands that a task hands over by one call.
        #[arg(long, default_value = "1")]
        batch: usize,
        /// Worker threads of the runtime; 0 for a runtime of the calling thread alone.
        #[arg(long, default_value = "2")]
        workers: usize,
        /// How long, in milliseconds.
        #[arg(long, default_value = "2000")]
        millis: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every workload on every library, compared.
    Table(table::Options),
}

/// A command, in memory of its own.
pub fn command() -> Bytes {
    Bytes::from(vec![7; COMMAND_BYTES])
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), String> {
    match what {
        What::Core { library, in_flight, millis, rounds, json } => {
            let time = Effort::Time(Duration::from_millis(millis));
            let effort = rounds.map_or(time, Effort::Rounds);
            print(core::run(library, in_flight.max(1), effort)?, json)
        }
        What::Driver { library, writers, batch, workers, millis, json } => {
            let time = Duration::from_millis(millis);
            print(
                driver::run(library, Load { writers: writers.max(1), batch, workers, time })?,
                json,
            )
        }
        What::Table(options) => table::run(&options),
    }
}

fn print(figures: Figures, json: bool) -> Result<(), String> {
    if json {
        let text = serde_json::to_string(&figures).map_err(|error| error.to_string())?;
        println!("{text}");
        return Ok(());
    }
    let (rate, cpu) = (figures.rate(), figures.cpu_nanos());
    print!("{rate:.0} commits/s, {cpu:.0} ns of processor time each");
    if let Some(it) = figures.latency {
        print!(", p50 {:.1} us, p99 {:.1} us", it.p50_micros, it.p99_micros);
    }
    println!();
    Ok(())
}
