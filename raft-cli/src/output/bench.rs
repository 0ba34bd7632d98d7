//! Measurements, printed.

use super::Table;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// One measurement: a workload under a number of clients.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measurement {
    /// `put`, `get`, or `get --serializable`.
    pub workload: &'static str,
    /// Clients at once, each with one request on its way.
    pub clients: u32,
    /// Connections they shared.
    pub connections: usize,
    /// Bytes of each value.
    pub value_size: u32,
    /// How long it was measured.
    pub seconds: f64,
    /// Operations answered in that time.
    pub operations: u64,
    /// Operations that failed in that time.
    pub errors: u64,
    /// Operations divided by seconds.
    pub per_second: f64,
    /// Latencies, in microseconds.
    pub latency_us: Latency,
    /// The first error, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// Percentiles of the latency, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[expect(missing_docs, reason = "each is the percentile that its name says")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// The percentiles of a histogram of nanoseconds.
    pub fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            mean: nanoseconds.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: nanoseconds.max() as f64 / 1e3,
        }
    }
}

/// Measurements as a table, one row each, and the first errors.
pub fn text(measurements: &[Measurement]) -> String {
    let mut table = Table::new(&[
        "WORKLOAD", ">CLIENTS", ">OPS/S", ">P50", ">P90", ">P99", ">P99.9", ">MAX", ">ERRORS",
    ]);
    let mut errors = String::new();
    for measured in measurements {
        let Latency { p50, p90, p99, p999, max, .. } = measured.latency_us;
        let mut cells = vec![
            measured.workload.to_owned(),
            measured.clients.to_string(),
            format!("{:.0}", measured.per_second),
        ];
        cells.extend([p50, p90, p99, p999, max].map(latency));
        cells.push(measured.errors.to_string());
        table.row(cells);
        if let Some(error) = &measured.first_error {
            errors.push_str(&format!("first error with {} clients: {error}\n", measured.clients));
        }
    }
    format!("{}{errors}", table.render())
}

/// Microseconds with three significant digits and the unit that suits them.
fn latency(microseconds: f64) -> String {
    let (value, unit) = match microseconds {
        us if us < 999.5 => (us, "us"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// An empty histogram of nanoseconds: three digits, up to an hour.
pub fn histogram() -> Histogram<u64> {
    let hour = Duration::from_secs(3600).as_nanos() as u64;
    Histogram::new_with_max(hour, 3).expect("the bounds are constants that fit")
}
