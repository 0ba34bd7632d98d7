//! The figures as a table.

use benches::processes::Kind;
use benches::quantile;
use comfy_table::{CellAlignment, Table, presets};
use std::time::Duration;

/// What was measured of one store.
pub(super) struct Figures {
    pub(super) kind: Kind,
    /// Bytes of one member, on average.
    pub(super) resident: u64,
    pub(super) started: Vec<Duration>,
    pub(super) wiped: Vec<Duration>,
}

/// One figure of all of them.
pub(super) struct Row {
    name: &'static str,
    unit: &'static str,
    of: Vec<f64>,
    /// How many times less ours has to be than etcd's, and is meant to be.
    at_least: f64,
    aim: f64,
}

/// Ours is the first of the figures, etcd's the second.
pub(super) fn rows(figures: &[Figures]) -> [Row; 3] {
    let of = |figure: fn(&Figures) -> f64| figures.iter().map(figure).collect();
    [
        Row {
            name: "started again after kill -9, serves",
            unit: "s",
            of: of(|it| quantile(&it.started, 500) / 1e3),
            at_least: 2.0,
            aim: 5.0,
        },
        Row {
            name: "wiped, has caught up and serves",
            unit: "s",
            of: of(|it| quantile(&it.wiped, 500) / 1e3),
            at_least: 2.0,
            aim: 5.0,
        },
        Row {
            name: "resident memory of a member",
            unit: "MiB",
            of: of(|it| it.resident as f64 / f64::from(1 << 20)),
            at_least: 1.0,
            aim: 2.0,
        },
    ]
}

impl Row {
    /// How many times less ours is than etcd's.
    fn better(&self) -> f64 {
        let of = |position| self.of.get(position).copied().unwrap_or(f64::NAN);
        of(1) / of(0)
    }

    pub(super) fn is_kept(&self) -> bool {
        self.better() >= self.at_least
    }

    fn verdict(&self) -> &'static str {
        match self.better() {
            better if better >= self.aim => "aim",
            better if better >= self.at_least => "kept",
            _ => "MISSED",
        }
    }
}

/// A line for each figure, a column for each store.
pub(super) fn of(figures: &[Figures], rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let names = figures.iter().map(|figures| figures.kind.name());
    let judged = ["better", "at least", "aim", ""];
    table.set_header(["median"].into_iter().chain(names).chain(judged));
    for row in rows {
        let figures = row.of.iter().map(|figure| format!("{figure:.2} {}", row.unit));
        let judged = [row.better(), row.at_least, row.aim].map(|number| format!("{number:.2}"));
        let name = [row.name.to_owned()];
        let line = name.into_iter().chain(figures).chain(judged);
        table.add_row(line.chain([row.verdict().to_owned()]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
