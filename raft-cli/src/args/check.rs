//! Arguments of `raft check`.

use super::connection::Connection;
use super::values;
use crate::check::history::Workload;
use crate::check::nemesis::Kind;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  raft check --dir /tmp/trio --duration 30s
  raft check --nemesis --duration 1m --seed 7 --html check.html
  raft check --nemesis=kill,partition --workload register,lock
  raft check --dir /tmp/trio --record history.jsonl
  raft check --history history.jsonl --html check.html

Clients run workloads on keys of their own, check-..., which are removed at the end. What they
asked, when, and what came of it is the history; it is judged once they have stopped:

  register  reads, writes and compare-and-set of single keys: linearizable
  append    lists that grow: linearizable, and no element is lost or there twice
  set       members are created if absent: linearizable, member by member
  watch     every change is told once, in order, none is left out, whatever node tells it
  lock      tokens grow from holder to holder, and no earlier holder's fenced write comes late

With --nemesis it starts three nodes on this machine, which reach each other through proxies, and
does to them what the list says: kill, pause, partition, one-way, loss, delay, duplicate, reorder.
The plan follows from the seed; what the processes make of it does not.

It never says that a cluster is right: only that in this history nothing was wrong.

Exit codes: 0 no violation; 1 a violation; 2 the history file is wrong; 4 nothing was answered;
5 no verdict, the search for an explanation was given up; 6 a file, a node that did not start, or
--nemesis was stopped early. A run that is broken off is judged as far as it went.";

/// Check that what clients see is what a cluster promises.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// How long to run workloads.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    pub duration: Duration,
    /// Clients of each workload.
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=64))]
    pub clients: u16,
    /// How long a client waits on average between two operations.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = values::duration)]
    pub pause: Duration,
    /// What to run: register, append, set, watch, lock, or all.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all")]
    #[arg(value_parser = workload, hide_possible_values = true)]
    pub workload: Vec<Choice<Workload>>,
    /// Run on three nodes of its own and make trouble: kill, pause, partition, one-way, loss,
    /// delay, duplicate, reorder, or all.
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "all", value_parser = kind)]
    #[arg(hide_possible_values = true, conflicts_with = "history")]
    pub nemesis: Vec<Choice<Kind>>,
    /// What the plan of the trouble follows from; drawn at random if left out.
    #[arg(long, value_name = "N", requires = "nemesis")]
    pub seed: Option<u64>,
    /// Judge this history (JSON lines) instead of making one.
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub history: Option<PathBuf>,
    /// Write the history to this file.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Draw the history, and what is wrong with it, on a page of HTML.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// One of a list, or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice<T> {
    /// All.
    All,
    /// This one.
    One(T),
}

impl Check {
    /// The workloads to run, each once.
    pub fn workloads(&self) -> Vec<Workload> {
        chosen(&self.workload)
    }

    /// The trouble to make, each kind once.
    pub fn troubles(&self) -> Vec<Kind> {
        chosen(&self.nemesis)
    }
}

fn chosen<T: ValueEnum + PartialEq + Copy>(choices: &[Choice<T>]) -> Vec<T> {
    let all = choices.contains(&Choice::All);
    let every = T::value_variants().iter().copied();
    every.filter(|one| all || choices.contains(&Choice::One(*one))).collect()
}

fn workload(text: &str) -> Result<Choice<Workload>, String> {
    choice(text)
}

fn kind(text: &str) -> Result<Choice<Kind>, String> {
    choice(text)
}

fn choice<T: ValueEnum>(text: &str) -> Result<Choice<T>, String> {
    if text == "all" {
        return Ok(Choice::All);
    }
    T::from_str(text, false).map(Choice::One).map_err(|_| {
        let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        format!("choose among {} and all", names.join(", "))
    })
}
