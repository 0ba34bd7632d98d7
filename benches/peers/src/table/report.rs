//! What came of all runs.

use super::cells::{Bound, Cell};
use crate::figures::{Figures, Latency, Library};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// The runs of one workload on one library.
pub struct Measured<'a> {
    pub cell: &'a Cell,
    pub library: Library,
    pub runs: Vec<Figures>,
    pub instructions: Option<f64>,
}

/// What is told of them.
#[derive(Serialize)]
pub struct Line {
    pub cell: &'static str,
    pub library: String,
    /// The median of the runs, as every figure.
    pub commits_per_second: f64,
    pub cpu_nanos_per_commit: f64,
    pub latency: Option<Latency>,
    pub instructions_per_commit: Option<f64>,
    /// Of another library: how this project's compares with it.
    pub ahead: Option<Ahead>,
    /// Of this project's library: how the instructions compare with what they are to be.
    pub instructions_verdict: Option<Verdict>,
}

/// How this project's library compares with another.
#[derive(Serialize)]
pub struct Ahead {
    /// Times as many commits in a second.
    pub rate: f64,
    /// Times as little processor time for each.
    pub cpu: f64,
    pub verdict: Option<Verdict>,
}

/// How a figure compares with what it is to be.
#[derive(Clone, Copy, Serialize)]
pub struct Verdict {
    pub required: f64,
    pub aim: f64,
    pub met: Met,
}

/// How much of what is asked for is there.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Met {
    No,
    Required,
    Aim,
}

impl<'a> Measured<'a> {
    pub const fn new(cell: &'a Cell, library: Library) -> Self {
        Self { cell, library, runs: Vec::new(), instructions: None }
    }

    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        let mut values: Vec<f64> = self.runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn latency(&self) -> Option<Latency> {
        let measured = self.runs.iter().any(|run| run.latency.is_some());
        let median = |of: fn(Latency) -> f64| self.median(|run| run.latency.map_or(f64::NAN, of));
        measured.then(|| Latency {
            p50_micros: median(|it| it.p50_micros),
            p99_micros: median(|it| it.p99_micros),
        })
    }
}

impl Verdict {
    /// Of a figure that had better be high.
    fn at_least(Bound { required, aim }: Bound, figure: f64) -> Self {
        Self::of(Bound { required, aim }, figure >= required, figure >= aim)
    }

    /// Of a figure that had better be low.
    fn at_most(Bound { required, aim }: Bound, figure: f64) -> Self {
        Self::of(Bound { required, aim }, figure <= required, figure <= aim)
    }

    const fn of(Bound { required, aim }: Bound, meets_required: bool, meets_aim: bool) -> Self {
        let met = match (meets_required, meets_aim) {
            (_, true) => Met::Aim,
            (true, false) => Met::Required,
            (false, false) => Met::No,
        };
        Self { required, aim, met }
    }
}

/// The medians of all that was `measured`, compared.
pub fn lines(measured: &[Measured<'_>]) -> Vec<Line> {
    let line = |one: &Measured<'_>| {
        let is_ours = one.library == Library::RaftCore;
        let ours = measured
            .iter()
            .find(|it| it.cell.name == one.cell.name && it.library == Library::RaftCore);
        let rate = one.median(Figures::rate);
        let cpu = one.median(Figures::cpu_nanos);
        let ahead = ours.filter(|_| !is_ours).map(|ours| {
            let ahead = ours.median(Figures::rate) / rate;
            Ahead {
                rate: ahead,
                cpu: cpu / ours.median(Figures::cpu_nanos),
                verdict: one.cell.bound(one.library).map(|it| Verdict::at_least(it, ahead)),
            }
        });
        let bound = one.cell.instructions.filter(|_| is_ours);
        Line {
            cell: one.cell.name,
            library: one.library.to_string(),
            commits_per_second: rate,
            cpu_nanos_per_commit: cpu,
            latency: one.latency(),
            instructions_per_commit: one.instructions,
            ahead,
            instructions_verdict: bound
                .zip(one.instructions)
                .map(|(bound, count)| Verdict::at_most(bound, count)),
        }
    };
    measured.iter().map(line).collect()
}

/// A table for people, which is one in Markdown too.
pub fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let with_instructions = lines.iter().any(|line| line.instructions_per_commit.is_some());
    let mut head = vec!["workload", "library", "commits/s", "CPU ns", "p50 / p99 us"];
    head.extend(with_instructions.then_some("instructions"));
    head.extend(["ours is", "CPU", "to be", "met"]);
    table.set_header(&head);
    let mut before = "";
    for line in lines {
        let cell = if line.cell == before { "" } else { line.cell };
        before = line.cell;
        let mut row = vec![
            cell.to_owned(),
            line.library.clone(),
            grouped(line.commits_per_second),
            grouped(line.cpu_nanos_per_commit),
            line.latency.map_or_else(String::new, |it| {
                format!("{:.0} / {:.0}", it.p50_micros, it.p99_micros)
            }),
        ];
        let counted = line.instructions_per_commit;
        row.extend(with_instructions.then(|| counted.map_or_else(String::new, grouped)));
        let ahead = |of: fn(&Ahead) -> f64| {
            line.ahead.as_ref().map_or_else(String::new, |it| format!("{:.2}x", of(it)))
        };
        row.extend([ahead(|it| it.rate), ahead(|it| it.cpu)]);
        row.extend(verdict(line));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What a figure of this line is to be, and whether it is.
fn verdict(line: &Line) -> [String; 2] {
    let met = |it: Verdict| match it.met {
        Met::No => "no",
        Met::Required => "required",
        Met::Aim => "aim",
    };
    if let Some(it) = line.ahead.as_ref().and_then(|ahead| ahead.verdict) {
        return [format!("{}x, aim {}x", it.required, it.aim), met(it).into()];
    }
    if let Some(it) = line.instructions_verdict {
        return [format!("<= {} instr., aim {}", it.required, it.aim), met(it).into()];
    }
    [String::new(), String::new()]
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::{Bound, Met, Verdict, grouped};

    #[test]
    fn thousands_are_apart() {
        let texts = [0.4, 999.0, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let bound = Bound { required: 2.0, aim: 4.0 };
        let met = |figure| Verdict::at_least(bound, figure).met;
        assert!(met(f64::NAN) == Met::No && met(1.9) == Met::No);
        assert!(met(2.0) == Met::Required && met(4.0) == Met::Aim);
    }
}
