//! What `raft doctor` found, printed.

use super::Table;
use hdrhistogram::Histogram;
use raft_core::node::Timing;
use serde_json::{Value, json};
use std::time::Duration;

/// How long something took, again and again.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The endpoint, or the directory.
    pub what: String,
    /// Nanoseconds.
    pub times: Histogram<u64>,
    /// Why it ended early.
    pub error: Option<String>,
}

impl Measured {
    /// What 99 of 100 did not exceed; `None` if nothing was measured.
    pub fn usual_most(&self) -> Option<Duration> {
        (!self.times.is_empty()).then(|| Duration::from_nanos(self.times.value_at_quantile(0.99)))
    }

    fn json(&self, name: &str) -> Value {
        let at = |quantile| self.times.value_at_quantile(quantile) as f64 / 1e3;
        let mut object = json!({ "samples": self.times.len() });
        object[name] = json!(self.what);
        if !self.times.is_empty() {
            (object["p50_us"], object["p99_us"]) = (json!(at(0.5)), json!(at(0.99)));
        }
        if let Some(error) = &self.error {
            object["error"] = json!(error);
        }
        object
    }

    fn cells(&self, kind: &str) -> Vec<String> {
        let at = |quantile| match self.times.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.2} ms", self.times.value_at_quantile(quantile) as f64 / 1e6),
        };
        vec![kind.into(), self.what.clone(), self.times.len().to_string(), at(0.5), at(0.99)]
    }
}

/// Everything that was measured, and what it means.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Round trips.
    pub endpoints: Vec<Measured>,
    /// Flushes, if a directory was given.
    pub flush: Option<Measured>,
    /// The verdict.
    pub timing: Timing,
}

impl Findings {
    /// The first endpoint that failed to answer, and why.
    pub fn unanswered(&self) -> Option<(&str, &str)> {
        let mut failed = self.endpoints.iter();
        failed.find_map(|one| Some((one.what.as_str(), one.error.as_deref()?)))
    }

    /// As JSON. Times in microseconds, timeouts in milliseconds.
    pub fn json(&self) -> Value {
        let Timing { election_timeout_min, suggested, .. } = self.timing;
        let round_trips: Vec<Value> =
            self.endpoints.iter().map(|one| one.json("endpoint")).collect();
        json!({
            "round_trips": round_trips,
            "flush": self.flush.as_ref().map(|one| one.json("dir")),
            "election_timeout_ms": election_timeout_min.as_millis() as u64,
            "ok": suggested.is_none() && self.unanswered().is_none(),
            "suggested_ms": suggested.map(|time| time.as_millis() as u64),
        })
    }

    /// As a table, and the verdict in one line.
    pub fn text(&self) -> String {
        let mut table = Table::new(&["MEASURED", "WHERE", ">SAMPLES", ">P50", ">P99"]);
        for endpoint in &self.endpoints {
            table.row(endpoint.cells("round trip"));
        }
        if let Some(flush) = &self.flush {
            table.row(flush.cells("flush"));
        }
        let mut text = table.render();
        text.push_str("\nA round trip includes what the node does for a request.\n");
        if self.flush.is_none() {
            text.push_str("No disk was measured: give --data-dir.\n");
        }
        if self.unanswered().is_none() && self.timing.suggested.is_none() {
            text.push_str(&format!("OK: {}.\n", self.timing));
        }
        text
    }
}
