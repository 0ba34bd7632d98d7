//! A violation in one picture: a row for each operation that it takes to see it, causes above their
//! effects; time is from left to right.
//! Distances are those of times only by their order: what is long is shortened, so that operations
//! of microseconds and the minutes between them are both seen.

use super::escaped;
use crate::check::history::{Action, Ending, Operation};
use crate::check::judge::{Violation, seconds};
use crate::check::report::Report;
use raft_kv::clocks::Relation;
use std::fmt::{self, Write};

const WIDTH: f64 = 1210.0;
/// Where the bars begin and end.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 1190.0;
const ROW: f64 = 44.0;
const TOP: f64 = 30.0;
/// Operations drawn; the others are in the text.
const ROWS_MAX: usize = 40;
/// About so wide is a letter.
const LETTER: f64 = 6.4;
/// Letters of an operation that are drawn.
const LETTERS_MAX: usize = 90;

/// Times, and where they are.
struct Scale(Vec<(u64, f64)>);

impl Scale {
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        times.dedup();
        // Ten times as long is one step wider.
        let weight = |from: u64, to: u64| 1.0 + (1.0 + (to - from) as f64).log10();
        let pairs = times.windows(2);
        let total: f64 = pairs.map(|pair| weight(pair[0], pair[1])).sum::<f64>().max(1.0);
        let (mut x, mut places) = (LEFT, Vec::new());
        let mut before = times.first().copied().unwrap_or_default();
        for time in times {
            if time > before {
                x += weight(before, time) / total * (RIGHT - LEFT);
            }
            places.push((time, x));
            before = time;
        }
        Self(places)
    }

    fn x(&self, time: u64) -> f64 {
        let at = self.0.partition_point(|(known, _)| *known < time);
        self.0.get(at).or_else(|| self.0.last()).map_or(LEFT, |(_, x)| *x)
    }
}

pub(super) fn draw(report: &Report, violation: &Violation, html: &mut String) -> fmt::Result {
    let operations = &report.history.operations;
    let involved: Vec<usize> = {
        let all = &violation.involved;
        // The last ones tell most.
        all[all.len().saturating_sub(ROWS_MAX)..].to_vec()
    };
    let mut rows: Vec<(usize, &Operation)> =
        involved.iter().filter_map(|at| Some((*at, operations.get(*at)?))).collect();
    rows.sort_by_key(|(at, _)| (report.trace.stamp(*at), *at));
    let mut times: Vec<u64> = rows.iter().flat_map(|(_, it)| [it.start, it.end]).collect();
    times.push(violation.at);
    let scale = Scale::of(times);
    let height = TOP + rows.len() as f64 * ROW + 16.0;
    write!(
        html,
        "<svg role=\"img\" aria-label=\"the operations that show the violation\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"100%\">"
    )?;
    let x = scale.x(violation.at);
    write!(
        html,
        "<rect class=\"beyond\" x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height:.0}\"/>\
         <path class=\"point\" d=\"M{x:.1} 0V{height:.0}\"/>",
        WIDTH - x
    )?;
    let (anchor, beside) = if x > WIDTH / 2.0 { ("end", x - 8.0) } else { ("start", x + 8.0) };
    write!(
        html,
        "<text class=\"stuck\" x=\"{beside:.1}\" y=\"16\" text-anchor=\"{anchor}\">no explanation \
         from {} on</text>",
        seconds(violation.at)
    )?;
    for (row, (at, operation)) in rows.iter().enumerate() {
        let decisive = violation.decisive.contains(at);
        let y = TOP + row as f64 * ROW;
        draw_row(operation, decisive, &scale, y, html)?;
        if let (false, Some(marked)) = (decisive, violation.decisive.first()) {
            let standing = standing(report.trace.relation(*at, *marked));
            write!(html, "<text x=\"0\" y=\"{:.1}\">{standing}</text>", y + 16.0)?;
        }
    }
    html.write_str(
        "</svg><p class=\"dim\">Left to right is time; long times are drawn shorter than they \
         are. From top to bottom, what an operation could have known of stands above it; said of \
         each is whether it was before the marked one in this sense, after it, or concurrent: \
         neither could have known of the other.</p>",
    )
}

/// How an operation stands to the one that cannot be explained.
const fn standing(relation: Option<Relation>) -> &'static str {
    match relation {
        Some(Relation::Before) => "before",
        Some(Relation::After) => "after",
        Some(Relation::Concurrent) => "concurrent",
        Some(Relation::Equal) | None => "",
    }
}

fn draw_row(
    operation: &Operation,
    decisive: bool,
    scale: &Scale,
    y: f64,
    html: &mut String,
) -> fmt::Result {
    let (from, to) = (scale.x(operation.start), scale.x(operation.end));
    let to = to.max(from + 4.0);
    let class = match (decisive, operation.outcome) {
        (true, _) => "culprit",
        (false, Ending::Ok) => "ok",
        (false, Ending::Failed) => "failed",
        (false, Ending::Unknown) => "unknown",
    };
    let times = match operation.action {
        Action::Event { .. } => seconds(operation.start),
        _ => format!("{} to {}", seconds(operation.start), seconds(operation.end)),
    };
    let mut text = operation.to_string();
    if text.chars().count() > LETTERS_MAX {
        text = text.chars().take(LETTERS_MAX).chain("...".chars()).collect();
    }
    let letters = text.chars().count() + times.chars().count() + 3;
    // Where there is no room on the right, the text ends with the bar.
    let fits = from + letters as f64 * LETTER < WIDTH;
    let (anchor, x) = if fits { ("start", from) } else { ("end", to.max(LEFT + 300.0)) };
    let emphasis = if decisive { "op stuck" } else { "op" };
    write!(
        html,
        "<g><path class=\"grid\" d=\"M{LEFT} {line:.1}H{RIGHT}\"/>\
         <text class=\"name\" x=\"0\" y=\"{name:.1}\">client {}</text>\
         <rect class=\"{class}\" x=\"{from:.1}\" y=\"{bar:.1}\" width=\"{:.1}\" height=\"12\" \
         rx=\"4\"/><text x=\"{x:.1}\" y=\"{words:.1}\" text-anchor=\"{anchor}\">\
         <tspan class=\"{emphasis}\">{}</tspan> <tspan>{times}</tspan></text></g>",
        operation.client,
        to - from,
        escaped(&text),
        line = y + 28.0,
        name = y + 32.0,
        bar = y + 22.0,
        words = y + 16.0,
    )
}
