//! What `raft check` found, printed.

use super::Table;
use crate::check::history::Fault;
use crate::check::judge::{Judged, Violation, seconds};
use crate::check::report::{Report, longest_silence};
use serde::Serialize;
use serde_json::{Value, json};

/// Faults listed in the text, at most.
const FAULTS_SHOWN: usize = 20;

#[derive(Serialize)]
struct WorkloadJson<'a> {
    workload: &'static str,
    operations: u64,
    ok: u64,
    failed: u64,
    unknown: u64,
    keys: usize,
    verdict: &'static str,
    longest_unavailability_ms: u64,
    violations: &'a [Violation],
    undecided: &'a [String],
}

/// The report for programs.
pub fn json(report: &Report) -> Value {
    let workload = |judged: &Judged| {
        let silence = longest_silence(&report.history, Some(judged.workload));
        let Judged { operations, ok, failed, unknown, keys, .. } = *judged;
        serde_json::to_value(WorkloadJson {
            workload: judged.workload.name(),
            operations,
            ok,
            failed,
            unknown,
            keys,
            verdict: word(judged),
            longest_unavailability_ms: silence.length / 1000,
            violations: &judged.violations,
            undecided: &judged.undecided,
        })
        .unwrap_or_default()
    };
    let faults = report.history.faults.iter().zip(&report.recoveries);
    let faults = faults.map(|(fault, recovery)| {
        let Fault { fault, what, start, end, .. } = fault;
        let back_ms = recovery.after.map(|after| after / 1000);
        json!({ "fault": fault, "what": what, "start_ms": start / 1000, "end_ms": end / 1000,
                "first_write_after_ms": back_ms })
    });
    json!({
        "verdict": verdict(report),
        "seed": report.history.seed,
        "longest_unavailability_ms": report.longest_silence.length / 1000,
        "longest_unprovoked_ms": report.longest_unprovoked.length / 1000,
        "workloads": report.judged.iter().map(workload).collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
    })
}

/// Its verdict, for programs.
fn verdict(report: &Report) -> &'static str {
    match (report.is_violated(), report.is_undecided()) {
        (true, _) => "violation",
        (false, true) => "undecided",
        (false, false) => "no_violation",
    }
}

fn word(judged: &Judged) -> &'static str {
    match judged.verdict() {
        "VIOLATION" => "violation",
        "undecided" => "undecided",
        _ => "no_violation",
    }
}

/// The report for people: a table, the trouble, and every violation.
pub fn text(report: &Report) -> String {
    let mut table = Table::new(&[
        "WORKLOAD", ">OPS", ">OK", ">FAILED", ">UNKNOWN", ">KEYS", ">SILENT", "VERDICT",
    ]);
    for judged in &report.judged {
        let silence = longest_silence(&report.history, Some(judged.workload));
        table.row(vec![
            judged.workload.name().to_owned(),
            judged.operations.to_string(),
            judged.ok.to_string(),
            judged.failed.to_string(),
            judged.unknown.to_string(),
            judged.keys.to_string(),
            milliseconds(silence.length),
            judged.verdict().to_owned(),
        ]);
    }
    let mut text = table.render();
    text.push_str(&format!(
        "\nlongest time without any answer: {}, from {} on\n",
        milliseconds(report.longest_silence.length),
        seconds(report.longest_silence.start)
    ));
    if !report.history.faults.is_empty() {
        let silence = milliseconds(report.longest_unprovoked.length);
        text.push_str(&format!("the longest while there was no trouble: {silence}\n"));
    }
    faults(report, &mut text);
    for judged in &report.judged {
        for key in &judged.undecided {
            let name = judged.workload.name();
            text.push_str(&format!("\n{name} {key}: no verdict, too many orders to try\n"));
        }
        for violation in &judged.violations {
            let Violation { key, what, detail, at, .. } = violation;
            let name = judged.workload.name();
            let key = if key.is_empty() { String::new() } else { format!(" {key}") };
            let at = seconds(*at);
            text.push_str(&format!("\nVIOLATION of {name}{key} at {at}: {what}\n{detail}\n"));
        }
    }
    text
}

fn faults(report: &Report, text: &mut String) {
    let faults = &report.history.faults;
    if let Some(seed) = report.history.seed {
        text.push_str(&format!("seed {seed}\n"));
    }
    if faults.is_empty() {
        return;
    }
    let mut table = Table::new(&[">FROM", ">FOR", ">NEXT WRITE AFTER", "TROUBLE"]);
    for (fault, recovery) in faults.iter().zip(&report.recoveries).take(FAULTS_SHOWN) {
        table.row(vec![
            format!("{:.1} s", fault.start as f64 / 1e6),
            milliseconds(fault.end - fault.start),
            recovery.after.map_or_else(|| "never".into(), milliseconds),
            fault.what.clone(),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    if faults.len() > FAULTS_SHOWN {
        text.push_str(&format!("and {} more\n", faults.len() - FAULTS_SHOWN));
    }
}

/// Microseconds as milliseconds or seconds.
fn milliseconds(microseconds: u64) -> String {
    match microseconds {
        short @ 0..=9_999_999 => format!("{} ms", short / 1000),
        long => format!("{:.1} s", long as f64 / 1e6),
    }
}
