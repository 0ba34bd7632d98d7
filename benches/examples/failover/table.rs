//! The times as a table.

use crate::fault::Fault;
use benches::processes::{Kind, Processes};
use benches::quantile;
use comfy_table::{CellAlignment, Table, presets};
use std::time::Duration;

/// How many times faster ours has to be, and is meant to be.
const AT_LEAST: f64 = 2.0;
const AIM: f64 = 4.0;

/// One fault of one store.
pub(super) struct Row {
    fault: Fault,
    kind: Kind,
    count: usize,
    /// In milliseconds.
    median: f64,
    p90: f64,
    longest: f64,
    /// How many times ours takes: of the others.
    times_ours: Option<f64>,
}

impl Row {
    /// Those of one fault; ours is the first.
    pub(super) fn all(fault: Fault, clusters: &[Processes], times: &[Vec<Duration>]) -> Vec<Self> {
        let ours = times.first().map(|times| quantile(times, 500));
        let row = |(cluster, times): (&Processes, &Vec<Duration>)| {
            let [median, p90, longest] = [500, 900, 1000].map(|part| quantile(times, part));
            let kind = cluster.kind();
            let times_ours = ours.filter(|_| kind != Kind::Ours).map(|ours| median / ours);
            Self { fault, kind, count: times.len(), median, p90, longest, times_ours }
        };
        clusters.iter().zip(times).map(row).collect()
    }

    /// What is asked for is asked for beside etcd.
    fn bounds(&self) -> Option<(f64, f64)> {
        (self.kind == Kind::Etcd).then_some((AT_LEAST, AIM))
    }

    pub(super) fn is_kept(&self) -> bool {
        let Some((at_least, _)) = self.bounds() else { return true };
        self.times_ours.is_some_and(|times| times >= at_least)
    }

    fn verdict(&self) -> &'static str {
        match (self.bounds(), self.times_ours) {
            (Some((_, aim)), Some(times)) if times >= aim => "aim",
            (Some(_), _) if self.is_kept() => "kept",
            (Some(_), _) => "MISSED",
            (None, _) => "",
        }
    }
}

/// A line for each.
pub(super) fn of(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let titles =
        ["leader", "store", "times", "median", "p90", "longest", "better", "at least", "aim", ""];
    table.set_header(titles);
    for row in rows {
        let ms = |time: f64| format!("{time:.0} ms");
        let number = |number: Option<f64>| number.map_or_else(String::new, |it| format!("{it:.2}"));
        table.add_row([
            row.fault.name().to_owned(),
            row.kind.name().to_owned(),
            row.count.to_string(),
            ms(row.median),
            ms(row.p90),
            ms(row.longest),
            number(row.times_ours),
            number(row.bounds().map(|(at_least, _)| at_least)),
            number(row.bounds().map(|(_, aim)| aim)),
            row.verdict().to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
