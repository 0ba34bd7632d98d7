//! The results as a table.

use crate::measure::Outcome;
use comfy_table::{CellAlignment, Table, presets};

/// A row for each.
pub(super) fn of(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "cell",
        "ours /s",
        "theirs /s",
        "ours p50",
        "theirs p50",
        "ours p99",
        "theirs p99",
        "ours CPU",
        "theirs CPU",
        "errors",
        "better",
        "at least",
        "aim",
        "",
    ]);
    for outcome in outcomes {
        table.add_row(row(outcome));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(outcome: &Outcome) -> [String; 14] {
    let of = |side: usize, name: &str| outcome.measurements[side][name].as_f64();
    let latency = |side: usize, name: &str| {
        let latency = outcome.measurements[side]["latency_us"][name].as_f64();
        latency.map_or_else(String::new, |us| format!("{:.2} ms", us / 1e3))
    };
    let rate = |side| of(side, "per_second").map_or_else(String::new, |it| format!("{it:.0}"));
    let cpu = |side| of(side, "cpu_us").map_or_else(String::new, |it| format!("{it:.1} us"));
    let verdict = match outcome.better() {
        better if better >= outcome.aim => "aim",
        better if better >= outcome.at_least => "kept",
        _ => "MISSED",
    };
    [
        outcome.cell.name.to_owned(),
        rate(0),
        rate(1),
        latency(0, "p50"),
        latency(1, "p50"),
        latency(0, "p99"),
        latency(1, "p99"),
        cpu(0),
        cpu(1),
        outcome.errors(),
        format!("{:.2}", outcome.better()),
        format!("{:.1}", outcome.at_least),
        format!("{:.1}", outcome.aim),
        verdict.to_owned(),
    ]
}
