//! Shared set-up of the benches: cores without I/O, entries to write, certificates, a whole cluster
//! in one process, and clusters of processes of this store and of others.

mod cluster;
mod cores;
pub mod processes;
mod steady;
pub mod zookeeper;

pub use cluster::{Certificates, Cluster};
pub use cores::Cores;
pub use steady::{Steady, quantile};

use bytes::Bytes;
use mimalloc::MiMalloc;
use raft_core::types::{Entry, LogId, Payload, Run};
use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

/// The binary's allocator, so that each layer is measured with it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What can fail in ways that a person is told of.
pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of one command or value, in every bench.
pub const PAYLOAD_BYTES: usize = 256;

/// A run of `count` commands from `first` on, of one term.
pub fn run_of(first: u64, count: u64, command: impl Fn(u64) -> Bytes) -> Run {
    let entry = |index| {
        let payload = Payload::Command(command(index));
        Entry { id: LogId::new(index, 1), payload }
    };
    Run::new((first..first + count).map(entry).collect()).expect("count is not 0")
}

/// A key of so many, spread over them without randomness.
pub fn spread_key(number: u64, keys: u64) -> Bytes {
    format!("key/{:010}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys).into()
}

/// A command of [`PAYLOAD_BYTES`].
pub fn payload() -> Bytes {
    Bytes::from(vec![7; PAYLOAD_BYTES])
}

/// How a command ended: whether all was as it is to be, or why that could not be found out.
pub fn ended(outcome: Result<bool, impl Display>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// What measurements must not exceed. They are told as they come, and at the end by the exit code.
#[derive(Default)]
pub struct Bounds {
    broken: Vec<String>,
}

impl Bounds {
    /// Holds a measurement against the most that it may be.
    pub fn at_most(&mut self, what: &str, measured: f64, most: f64) {
        println!("  {what}: {measured:.2}, may be {most:.2}");
        // What was not measured does not hold.
        if measured.is_nan() || measured > most {
            self.broken.push(what.to_owned());
        }
    }

    /// Success, if all were kept.
    pub fn end(self) -> ExitCode {
        for what in &self.broken {
            eprintln!("more than it may be: {what}");
        }
        if self.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
