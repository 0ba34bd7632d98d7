//! The whole history in one picture: answers over time, trouble, and a lane per client. Bars that
//! are too close to be told apart are one, so that the picture stays small however long the run.

use super::{escaped, is_of_process};
use crate::check::history::{Action, Ending, History, Operation, Workload};
use crate::check::report::Report;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Pixels for a second, if that is not too wide or too narrow.
const PIXELS_PER_SECOND: f64 = 32.0;
const WIDTH_MIN: f64 = 1090.0;
const WIDTH_MAX: f64 = 12_000.0;
/// Width of the names.
const NAMES: u32 = 130;
/// Height of the names of faults, of the curve of answers, and of a lane.
const TABS: f64 = 20.0;
const CURVE: f64 = 56.0;
const LANE: f64 = 12.0;
const GAP: f64 = 10.0;
/// Bars nearer than this are one, and none is narrower, in pixels.
const NEAR: f64 = 0.5;
const NARROW: f64 = 1.2;

/// Width of a step of the curve of answers.
const PART: f64 = 6.0;

/// Where things are.
struct Scale {
    start: u64,
    span: f64,
    width: f64,
}

impl Scale {
    fn x(&self, time: u64) -> f64 {
        time.saturating_sub(self.start) as f64 / self.span * self.width
    }
}

/// The lanes of one workload.
struct Group<'a> {
    workload: Workload,
    clients: BTreeMap<u64, Vec<&'a Operation>>,
}

pub(super) fn draw(report: &Report, html: &mut String) -> fmt::Result {
    let history = &report.history;
    if history.operations.is_empty() {
        return Ok(());
    }
    let (start, end) = history.span();
    let span = ((end - start) as f64).max(1.0);
    let width = (span / 1e6 * PIXELS_PER_SECOND).clamp(WIDTH_MIN, WIDTH_MAX);
    let scale = Scale { start, span, width };
    let groups = groups(history);
    let lanes: usize = groups.iter().map(|group| group.clients.len()).sum();
    let height = TABS + CURVE + GAP + lanes as f64 * LANE + groups.len() as f64 * GAP + 24.0;
    html.write_str("<section><h2>History</h2><div class=\"lanes\">")?;
    names(&groups, height, html)?;
    write!(
        html,
        "<div><svg role=\"img\" aria-label=\"all operations over time\" width=\"{width:.0}\" \
         height=\"{height:.0}\">"
    )?;
    bands(report, &scale, height, html)?;
    curve(history, &scale, html)?;
    let mut y = TABS + CURVE + GAP;
    for group in &groups {
        for operations in group.clients.values() {
            lane(operations, &scale, y, html)?;
            y += LANE;
        }
        y += GAP;
    }
    points(report, &scale, y, html)?;
    axis(&scale, y, html)?;
    html.write_str(
        "</svg></div></div><div class=\"legend\">\
         <span><i class=\"ok\"></i>answered</span><span><i class=\"failed\"></i>not done</span>\
         <span><i class=\"unknown\"></i>outcome unknown</span>\
         <span><i class=\"area\"></i>answers over time</span>\
         <span><i class=\"process\"></i>a process is down</span>\
         <span><i class=\"network\"></i>the network is bad</span></div></section>\n",
    )
}

fn groups(history: &History) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<Workload, BTreeMap<u64, Vec<&Operation>>> = BTreeMap::new();
    for operation in &history.operations {
        // It spans the whole run, and says only what a watcher was told.
        if matches!(operation.action, Action::Watched { .. }) {
            continue;
        }
        let clients = groups.entry(operation.workload).or_default();
        clients.entry(operation.client).or_default().push(operation);
    }
    let group = |(workload, clients)| Group { workload, clients };
    groups.into_iter().map(group).collect()
}

fn names(groups: &[Group<'_>], height: f64, html: &mut String) -> fmt::Result {
    write!(html, "<svg width=\"{NAMES}\" height=\"{height:.0}\" aria-hidden=\"true\">")?;
    write!(html, "<text x=\"0\" y=\"{:.0}\">answers / s</text>", TABS + CURVE - 4.0)?;
    let mut y = TABS + CURVE + GAP;
    for group in groups {
        let name = group.workload.name();
        write!(html, "<text class=\"name\" x=\"0\" y=\"{:.1}\">{name}</text>", y + 10.0)?;
        for client in group.clients.keys() {
            write!(
                html,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">client {client}</text>",
                NAMES - 10,
                y + 10.0
            )?;
            y += LANE;
        }
        y += GAP;
    }
    html.write_str("</svg>")
}

fn bands(report: &Report, scale: &Scale, height: f64, html: &mut String) -> fmt::Result {
    for fault in &report.history.faults {
        let class = if is_of_process(fault) { "process" } else { "network" };
        let (x, until) = (scale.x(fault.start), scale.x(fault.end));
        let wide = (until - x).max(1.0);
        let name = escaped(&fault.fault);
        write!(
            html,
            "<g><title>{}</title><rect class=\"{class} band\" x=\"{x:.1}\" y=\"0\" \
             width=\"{wide:.1}\" height=\"{:.0}\"/><rect class=\"{class} tab\" x=\"{x:.1}\" \
             y=\"0\" width=\"{wide:.1}\" height=\"3\"/>",
            escaped(&fault.what),
            height - 20.0
        )?;
        if wide > 6.0 * fault.fault.len() as f64 {
            write!(html, "<text x=\"{:.1}\" y=\"15\">{name}</text>", x + 3.0)?;
        }
        html.write_str("</g>")?;
    }
    Ok(())
}

/// How many operations were answered, in parts of the time.
fn curve(history: &History, scale: &Scale, html: &mut String) -> fmt::Result {
    let parts = (scale.width / PART) as usize;
    let mut counts = vec![0_u64; parts.max(1)];
    for operation in history.operations.iter().filter(|it| it.outcome == Ending::Ok) {
        let part = (scale.x(operation.end) / PART) as usize;
        let last = counts.len() - 1;
        counts[part.min(last)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let base = TABS + CURVE;
    write!(html, "<path class=\"area\" d=\"M0 {base}")?;
    for (part, count) in counts.iter().enumerate() {
        let y = base - *count as f64 / most * (CURVE - 6.0);
        write!(html, "L{} {y:.1}h{PART}", part as f64 * PART)?;
    }
    write!(html, "V{base}Z\"/>")?;
    write!(html, "<path class=\"grid\" d=\"M0 {base}H{:.0}\"/>", scale.width)
}

/// One client's operations, by how they ended.
fn lane(operations: &[&Operation], scale: &Scale, y: f64, html: &mut String) -> fmt::Result {
    let tall = LANE - 3.0;
    write!(
        html,
        "<rect class=\"lane\" x=\"0\" y=\"{y:.1}\" width=\"{:.0}\" height=\"{tall}\"/>",
        scale.width
    )?;
    let endings = [(Ending::Ok, "ok"), (Ending::Failed, "failed"), (Ending::Unknown, "unknown")];
    for (ending, class) in endings {
        let mut path = String::new();
        let mut bar: Option<(f64, f64)> = None;
        for operation in operations.iter().filter(|it| it.outcome == ending) {
            let x = scale.x(operation.start);
            let until = scale.x(operation.end).max(x + NARROW);
            bar = match bar {
                Some((from, to)) if x < to + NEAR => Some((from, to.max(until))),
                other => {
                    rectangle(other, y, tall, &mut path)?;
                    Some((x, until))
                }
            };
        }
        rectangle(bar, y, tall, &mut path)?;
        if !path.is_empty() {
            write!(html, "<path class=\"{class}\" d=\"{path}\"/>")?;
        }
    }
    Ok(())
}

fn rectangle(bar: Option<(f64, f64)>, y: f64, tall: f64, path: &mut String) -> fmt::Result {
    let Some((from, to)) = bar else { return Ok(()) };
    let wide = to - from;
    write!(path, "M{from:.1} {y:.1}h{wide:.1}v{tall}h-{wide:.1}z")
}

/// The moments from which on there is no explanation.
fn points(report: &Report, scale: &Scale, height: f64, html: &mut String) -> fmt::Result {
    for violation in report.judged.iter().flat_map(|judged| &judged.violations) {
        let x = scale.x(violation.at);
        write!(
            html,
            "<g><title>{}</title><path class=\"point\" d=\"M{x:.1} {TABS}V{height:.0}\"/></g>",
            escaped(&violation.what)
        )?;
    }
    Ok(())
}

fn axis(scale: &Scale, y: f64, html: &mut String) -> fmt::Result {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];
    let seconds = scale.span / 1e6;
    let pixels = |step: f64| step / seconds * scale.width;
    let small = [0.001, 0.01, 0.1];
    let step = small.into_iter().chain(steps).find(|step| pixels(*step) >= 60.0);
    let step = step.unwrap_or(7200.0);
    let begin = scale.start as f64 / 1e6;
    let mut at = (begin / step).ceil() * step;
    while at <= begin + seconds {
        let x = pixels(at - begin);
        let decimals = if step < 1.0 { 3 } else { 0 };
        write!(
            html,
            "<path class=\"grid\" d=\"M{x:.1} {TABS}V{y:.0}\" opacity=\"0.5\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{at:.decimals$} s</text>",
            x + 3.0,
            y + 10.0
        )?;
        at += step;
    }
    Ok(())
}
