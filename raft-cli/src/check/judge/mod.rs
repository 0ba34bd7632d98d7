//! Whether a history can be explained by a system that keeps its promises. One file per workload;
//! what is linearizable is left to `raft_core::testing::linear`. Looks at the history only, and
//! asks no cluster.

mod explain;
mod list;
mod lock;
mod register;
mod set;
mod watch;

use super::history::{Ending, History, Operation, Workload};
use serde::Serialize;
use std::collections::BTreeMap;

/// Violations told of one workload; there may be more.
const VIOLATIONS_MAX: usize = 8;

/// Something that no system does that keeps its promises.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// What it is about.
    pub key: String,
    /// What is wrong, in one sentence without a full stop.
    pub what: String,
    /// How that shows, line by line.
    pub detail: String,
    /// From here on no explanation is possible, in microseconds.
    pub at: u64,
    /// The fewest operations that show it: positions in the history, in order of time.
    pub involved: Vec<usize>,
    /// Those of them that cannot be explained.
    pub decisive: Vec<usize>,
}

/// What came of one workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// The workload.
    pub workload: Workload,
    /// Operations asked.
    pub operations: u64,
    /// Those that were answered.
    pub ok: u64,
    /// Those that were certainly not done.
    pub failed: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
    /// Keys judged.
    pub keys: usize,
    /// What is wrong; the first of each key, and not more than some.
    pub violations: Vec<Violation>,
    /// Keys for which the search for an explanation was given up.
    pub undecided: Vec<String>,
}

/// What is wrong with one key, or that nobody knows.
enum Trouble {
    Violation(Box<Violation>),
    Undecided,
}

/// Operations of one key, with their positions in the history, by when they were asked.
type Numbered<'a> = Vec<(usize, &'a Operation)>;

/// Judges every workload that there is in the history. `progress` is told how many operations have
/// been judged.
pub fn judge(history: &History, mut progress: impl FnMut(u64)) -> Vec<Judged> {
    let mut done = 0;
    let mut all = Vec::new();
    for workload in Workload::ALL {
        let of_it = history.operations.iter().enumerate();
        let of_it: Numbered<'_> = of_it.filter(|(_, it)| it.workload == workload).collect();
        if of_it.is_empty() {
            continue;
        }
        let count = |ending| of_it.iter().filter(|(_, it)| it.outcome == ending).count() as u64;
        let mut judged = Judged {
            workload,
            operations: of_it.len() as u64,
            ok: count(Ending::Ok),
            failed: count(Ending::Failed),
            unknown: count(Ending::Unknown),
            keys: 0,
            violations: Vec::new(),
            undecided: Vec::new(),
        };
        // Watchers watch all keys: what they are told is one order.
        let mut keys: BTreeMap<&str, Numbered<'_>> = BTreeMap::new();
        for (at, operation) in &of_it {
            let key = if workload == Workload::Watch { "" } else { operation.key.as_str() };
            keys.entry(key).or_default().push((*at, operation));
        }
        judged.keys = keys.len();
        for (key, operations) in &keys {
            judged.take(key, judge_key(workload, key, operations));
            done += operations.len() as u64;
            progress(done);
        }
        all.push(judged);
    }
    all
}

fn judge_key(workload: Workload, key: &str, operations: &Numbered<'_>) -> Result<(), Trouble> {
    match workload {
        Workload::Register => register::judge(key, operations),
        Workload::Append => list::judge(key, operations),
        Workload::Set => set::judge(key, operations),
        Workload::Watch => watch::judge(operations),
        Workload::Lock => lock::judge(key, operations),
    }
}

impl Judged {
    fn take(&mut self, key: &str, outcome: Result<(), Trouble>) {
        match outcome {
            Ok(()) => {}
            Err(Trouble::Violation(violation)) if self.violations.len() < VIOLATIONS_MAX => {
                self.violations.push(*violation);
            }
            Err(Trouble::Violation(_)) => {}
            Err(Trouble::Undecided) => self.undecided.push(key.to_owned()),
        }
    }

    /// Its verdict in a word or two.
    pub const fn verdict(&self) -> &'static str {
        match (self.violations.is_empty(), self.undecided.is_empty()) {
            (false, _) => "VIOLATION",
            (true, false) => "undecided",
            (true, true) => "no violation",
        }
    }
}

/// A violation that `culprit` shows, with what else it takes to see it.
fn violation(
    key: &str,
    what: impl Into<String>,
    culprit: (usize, &Operation),
    others: &[(usize, &Operation)],
) -> Trouble {
    let mut involved: Vec<(usize, &Operation)> = others.to_vec();
    involved.push(culprit);
    involved.sort_by_key(|(at, it)| (it.start, *at));
    involved.dedup_by_key(|(at, _)| *at);
    let lines: Vec<String> = involved.iter().map(|(_, it)| describe(it)).collect();
    Trouble::Violation(Box::new(Violation {
        key: key.to_owned(),
        what: what.into(),
        detail: lines.join("\n"),
        at: culprit.1.end,
        involved: involved.iter().map(|(at, _)| *at).collect(),
        decisive: vec![culprit.0],
    }))
}

/// One operation in a line.
pub(super) fn describe(operation: &Operation) -> String {
    let Operation { client, start, end, .. } = operation;
    let (start, end) = (seconds(*start), seconds(*end));
    format!("client {client} at {start}..{end}: {operation}")
}

/// Microseconds as seconds.
pub fn seconds(microseconds: u64) -> String {
    format!("{}.{:06} s", microseconds / 1_000_000, microseconds % 1_000_000)
}
