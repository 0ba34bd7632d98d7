//! What came of a history, summed up: verdicts, counts, and how long nothing was answered.

use super::causal::Trace;
use super::history::{Action, Ending, Fault, History, Workload};
use super::judge::{self, Judged};
use serde::Serialize;

/// A history that was judged.
pub struct Report {
    /// The history.
    pub history: History,
    /// Each workload that there is in it.
    pub judged: Vec<Judged>,
    /// The longest time in which nothing was answered.
    pub longest_silence: Silence,
    /// The same without the times of trouble: how much of a silence came before and after.
    pub longest_unprovoked: Silence,
    /// How soon writes were done again.
    pub recoveries: Vec<Recovery>,
    /// What could have known of what, among the operations that show what is wrong.
    pub trace: Trace,
}

/// A time without answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Silence {
    /// When it began, in microseconds.
    pub start: u64,
    /// How long it was, in microseconds.
    pub length: u64,
}

/// How soon the first write was done that was asked after something broke, from when that began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Recovery {
    /// Which of the history's faults.
    pub fault: usize,
    /// Microseconds; `None` if no write was done any more.
    pub after: Option<u64>,
}

impl Report {
    /// Judges a history; `progress` is told how many operations have been judged.
    pub fn of(history: History, progress: impl FnMut(u64)) -> Self {
        let judged = judge::judge(&history, progress);
        let longest_silence = longest_silence(&history, None);
        let longest_unprovoked = longest_unprovoked(&history);
        let recoveries = recoveries(&history);
        let violations = judged.iter().flat_map(|judged| &judged.violations);
        let wanted = violations.flat_map(|violation| &violation.involved).copied().collect();
        let trace = Trace::of(&history, &wanted);
        Self { history, judged, longest_silence, longest_unprovoked, recoveries, trace }
    }

    /// Whether something is wrong.
    pub fn is_violated(&self) -> bool {
        self.judged.iter().any(|judged| !judged.violations.is_empty())
    }

    /// Whether nothing is known to be wrong, and not all was judged.
    pub fn is_undecided(&self) -> bool {
        !self.is_violated() && self.judged.iter().any(|judged| !judged.undecided.is_empty())
    }

    /// Operations that were answered.
    pub fn answered(&self) -> u64 {
        self.judged.iter().map(|judged| judged.ok).sum()
    }
}

/// The longest time in which nothing was answered, of one workload or of all.
pub fn longest_silence(history: &History, of: Option<Workload>) -> Silence {
    silences(history, of).into_iter().max_by_key(|silence| silence.length).unwrap_or_default()
}

/// The longest time in which nothing was answered, of which trouble counts for nothing.
fn longest_unprovoked(history: &History) -> Silence {
    let mut longest = Silence::default();
    for silence in silences(history, None) {
        if silence.length <= longest.length {
            continue;
        }
        let (mut at, end, mut length) = (silence.start, silence.start + silence.length, 0);
        // By when they began; they may overlap.
        for fault in &history.faults {
            length += fault.start.clamp(at, end) - at;
            at = fault.end.clamp(at, end);
        }
        length += end - at;
        if length > longest.length {
            longest = Silence { length, ..silence };
        }
    }
    longest
}

/// The times between two answers that follow each other, before the first and after the last.
fn silences(history: &History, of: Option<Workload>) -> Vec<Silence> {
    let asked = history.operations.iter().filter(|it| of.is_none_or(|of| it.workload == of));
    // What a watcher sums up at its end is no answer of the cluster.
    let asked = asked.filter(|it| !matches!(it.action, Action::Watched { .. }));
    let begin = asked.clone().map(|it| it.start).min().unwrap_or_default();
    let end = asked.clone().map(|it| it.end).max().unwrap_or_default();
    let ok = asked.filter(|it| it.outcome == Ending::Ok);
    let mut answered: Vec<u64> = ok.map(|it| it.end).collect();
    answered.extend([begin, end]);
    answered.sort_unstable();
    let pairs = answered.windows(2).filter_map(|pair| match pair {
        [start, next] => Some(Silence { start: *start, length: next - start }),
        _ => None,
    });
    pairs.collect()
}

/// For each fault: how soon a write was done that was asked after it was made.
pub fn recoveries(history: &History) -> Vec<Recovery> {
    let is_write = |action: &Action| {
        matches!(action, Action::Write { .. } | Action::Append { .. } | Action::Add { .. })
    };
    let writes = history.operations.iter();
    let writes: Vec<(u64, u64)> = writes
        .filter(|it| it.outcome == Ending::Ok && is_write(&it.action))
        .map(|it| (it.start, it.end))
        .collect();
    let recovery = |(at, fault): (usize, &Fault)| {
        // What was asked a moment earlier may have been answered by the victim.
        let made = fault.made.unwrap_or_default().max(fault.start);
        // By when they were asked: the first that matters is found by halving.
        let from = writes.partition_point(|(start, _)| *start < made);
        let mut first: Option<u64> = None;
        for (start, end) in &writes[from..] {
            if first.is_some_and(|first| *start > first) {
                break;
            }
            first = Some(first.map_or(*end, |first| first.min(*end)));
        }
        Recovery { fault: at, after: first.map(|end| end - fault.start) }
    };
    history.faults.iter().enumerate().map(recovery).collect()
}
