//! The page that draws a history: a lane per client, trouble as bands, and for a violation the
//! operations that show it. One file that loads nothing from anywhere, in light and dark.

mod overview;
mod window;

use super::history::Fault;
use super::judge::{Judged, Violation, seconds};
use super::report::{Report, longest_silence};
use std::fmt::{self, Write};

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    draw(report, &mut html).expect("writing to a String does not fail");
    html
}

fn draw(report: &Report, html: &mut String) -> fmt::Result {
    let (badge, verdict) = match (report.is_violated(), report.is_undecided()) {
        (true, _) => ("bad", "violation found"),
        (false, true) => ("none", "undecided"),
        (false, false) if report.answered() == 0 => ("none", "nothing was answered"),
        (false, false) => ("", "no violation"),
    };
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>raft check: {verdict}</title><style>{STYLE}</style></head><body><main>\
         <header><h1>raft check</h1><span class=\"badge {badge}\">{verdict}</span></header>"
    )?;
    let seed = report.history.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let (start, end) = report.history.span();
    writeln!(
        html,
        "<p class=\"dim\">What clients saw in {:.1} s{seed}. A history without a violation proves \
         nothing of other histories.</p>",
        (end - start) as f64 / 1e6
    )?;
    tiles(report, html)?;
    for judged in &report.judged {
        for violation in &judged.violations {
            violated(report, judged, violation, html)?;
        }
    }
    workloads(report, html)?;
    overview::draw(report, html)?;
    faults(report, html)?;
    html.write_str("</main></body></html>\n")
}

fn tiles(report: &Report, html: &mut String) -> fmt::Result {
    let sum = |count: fn(&Judged) -> u64| report.judged.iter().map(count).sum::<u64>().to_string();
    let silence = format!("{} ms", report.longest_silence.length / 1000);
    html.write_str("<div class=\"tiles\">")?;
    for (value, name) in [
        (sum(|judged| judged.operations), "operations"),
        (sum(|judged| judged.ok), "answered"),
        (sum(|judged| judged.failed), "not done"),
        (sum(|judged| judged.unknown), "outcome unknown"),
        (silence, "longest time without an answer"),
        (report.history.faults.len().to_string(), "faults"),
    ] {
        write!(html, "<div class=\"tile\"><b>{value}</b><span class=\"dim\">{name}</span></div>")?;
    }
    html.write_str("</div>\n")
}

fn violated(
    report: &Report,
    judged: &Judged,
    violation: &Violation,
    html: &mut String,
) -> fmt::Result {
    let Violation { key, what, detail, at, .. } = violation;
    let (name, at) = (judged.workload.name(), seconds(*at));
    let key = if key.is_empty() { String::new() } else { format!(" {}", escaped(key)) };
    write!(
        html,
        "<section class=\"bad\"><h2>Violation of {name}{key}</h2><p>{}.</p>\
         <p class=\"dim\">Up to {at} there was an explanation; from then on there is none, \
         whatever came later. These operations are enough to see it:</p>",
        escaped(&capitalized(what))
    )?;
    window::draw(report, violation, html)?;
    writeln!(html, "<pre>{}</pre></section>", escaped(detail))
}

fn workloads(report: &Report, html: &mut String) -> fmt::Result {
    html.write_str("<section><h2>Workloads</h2><table><tr><th>workload</th>")?;
    for name in ["operations", "answered", "not done", "unknown", "keys", "longest silence"] {
        write!(html, "<th class=\"number\">{name}</th>")?;
    }
    html.write_str("<th>verdict</th></tr>")?;
    for judged in &report.judged {
        let silence = longest_silence(&report.history, Some(judged.workload)).length / 1000;
        let Judged { operations, ok, failed, unknown, keys, .. } = judged;
        write!(html, "<tr><td>{}</td>", judged.workload.name())?;
        for number in [operations, ok, failed, unknown, &(*keys as u64)] {
            write!(html, "<td class=\"number\">{number}</td>")?;
        }
        let class = match (judged.violations.is_empty(), judged.undecided.is_empty()) {
            (false, _) => "bad",
            (true, true) => "good",
            (true, false) => "",
        };
        let verdict = judged.verdict().to_lowercase();
        write!(
            html,
            "<td class=\"number\">{silence} ms</td><td class=\"{class}\">{verdict}</td></tr>"
        )?;
    }
    html.write_str("</table></section>\n")
}

fn faults(report: &Report, html: &mut String) -> fmt::Result {
    if report.history.faults.is_empty() {
        return Ok(());
    }
    html.write_str(
        "<section><h2>Trouble</h2><table><tr><th class=\"number\">from</th>\
         <th class=\"number\">for</th><th class=\"number\">next write after</th>\
         <th>what was done</th></tr>",
    )?;
    for (fault, recovery) in report.history.faults.iter().zip(&report.recoveries) {
        let Fault { what, start, end, .. } = fault;
        let back = recovery.after.map(|after| format!("{} ms", after / 1000));
        write!(
            html,
            "<tr><td class=\"number\">{:.2} s</td><td class=\"number\">{} ms</td>\
             <td class=\"number\">{}</td><td>{}</td></tr>",
            *start as f64 / 1e6,
            (end - start) / 1000,
            back.as_deref().unwrap_or("never"),
            escaped(what)
        )?;
    }
    html.write_str("</table></section>\n")
}

/// Text that is only text.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// Whether a fault is of a process; the others are of the network.
fn is_of_process(fault: &Fault) -> bool {
    matches!(fault.fault.as_str(), "kill" | "pause")
}
