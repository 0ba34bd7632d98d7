//! Measurements, printed.

use super::Table;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// One measurement: a workload under a number of clients, once or in several rounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measurement {
    /// The API, and the first endpoint.
    pub server: String,
    /// `put`, `get`, `get --causal`, `get --serializable`, `mixed`, `txn` or `watch`.
    pub workload: &'static str,
    /// Clients at once, each with one request on its way.
    pub clients: u32,
    /// Who is told of what the clients write; then operations are events told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchers: Option<u32>,
    /// Connections they shared.
    pub connections: usize,
    /// Bytes of each value.
    pub value_size: u32,
    /// Requests that begin in a second, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How long each round was measured.
    pub seconds: f64,
    /// Operations answered in that time, of all rounds.
    pub operations: u64,
    /// Requests that were due in an open loop, and had no answer by the end of their round. Their
    /// latencies count as far as they had come.
    #[serde(skip_serializing_if = "is_zero")]
    pub unanswered: u64,
    /// Operations that failed in that time.
    pub errors: u64,
    /// Operations divided by seconds: the median of the rounds.
    pub per_second: f64,
    /// The same of each round.
    pub rounds_per_second: Vec<f64>,
    /// Latencies, in microseconds.
    pub latency_us: Latency,
    /// The same as a curve: a quantile and its latency each.
    pub percentiles_us: Vec<(f64, f64)>,
    /// Processor time of the servers for one operation, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<f64>,
    /// The first error, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The first cluster in figures of the second.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub workload: &'static str,
    /// With how many clients.
    pub clients: u32,
    /// Operations in a second: the median of the rounds, each held against the one beside it.
    pub per_second: f64,
    /// The median of the latencies.
    pub p50: f64,
    /// Their 99th percentile.
    pub p99: f64,
    /// Processor time of the servers for one operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
}

impl Ratio {
    /// `first` in figures of `second`, which was measured in turn with it.
    pub fn of(first: &Measurement, second: &Measurement) -> Self {
        let rounds = first.rounds_per_second.iter().zip(&second.rounds_per_second);
        let rates: Vec<f64> = rounds.map(|(first, second)| first / second).collect();
        Self {
            workload: first.workload,
            clients: first.clients,
            per_second: median(&rates),
            p50: first.latency_us.p50 / second.latency_us.p50,
            p99: first.latency_us.p99 / second.latency_us.p99,
            cpu: first.cpu_us.zip(second.cpu_us).map(|(first, second)| first / second),
        }
    }
}

/// The middle one, or what is between the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    sorted.get(lower).zip(sorted.get(upper)).map_or(0.0, |(a, b)| f64::midpoint(*a, *b))
}

/// Points of the curve of latencies.
const QUANTILES: [f64; 14] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];

/// The curve of a histogram of nanoseconds, in microseconds.
pub fn percentiles(nanoseconds: &Histogram<u64>) -> Vec<(f64, f64)> {
    let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
    QUANTILES.iter().map(|quantile| (*quantile, at(*quantile))).collect()
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

/// Measurements as a table, one row each, the ratios, and the first errors. Columns that say the
/// same of all are left out.
pub fn text(measurements: &[Measurement], ratios: &[Ratio]) -> String {
    let servers = measurements.windows(2).any(|pair| pair[0].server != pair[1].server);
    let cpu = measurements.iter().any(|measured| measured.cpu_us.is_some());
    let mut columns =
        vec!["WORKLOAD", ">CLIENTS", ">OPS/S", ">P50", ">P90", ">P99", ">P99.9", ">MAX", ">ERRORS"];
    if servers {
        columns.insert(0, "SERVER");
    }
    if cpu {
        columns.insert(columns.len() - 1, ">CPU/OP");
    }
    let mut table = Table::new(&columns);
    let mut errors = String::new();
    for measured in measurements {
        let Latency { p50, p90, p99, p999, max, .. } = measured.latency_us;
        let mut cells = Vec::new();
        if servers {
            cells.push(measured.server.clone());
        }
        cells.push(measured.workload.to_owned());
        cells.push(measured.clients.to_string());
        cells.push(format!("{:.0}", measured.per_second));
        cells.extend([p50, p90, p99, p999, max].map(duration));
        if cpu {
            cells.push(measured.cpu_us.map_or_else(String::new, duration));
        }
        cells.push(measured.errors.to_string());
        table.row(cells);
        if let Some(error) = &measured.first_error {
            errors.push_str(&format!("first error with {} clients: {error}\n", measured.clients));
        }
        if measured.unanswered > 0 {
            let (unanswered, clients) = (measured.unanswered, measured.clients);
            errors.push_str(&format!(
                "with {clients} clients {unanswered} requests that were due had no answer\n"
            ));
        }
    }
    format!("{}{}{errors}", table.render(), ratios_text(ratios))
}

fn ratios_text(ratios: &[Ratio]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["FIRST/SECOND", ">CLIENTS", ">OPS/S", ">P50", ">P99", ">CPU/OP"]);
    let factor = |value: f64| format!("{value:.2}");
    for ratio in ratios {
        table.row(vec![
            ratio.workload.to_owned(),
            ratio.clients.to_string(),
            factor(ratio.per_second),
            factor(ratio.p50),
            factor(ratio.p99),
            ratio.cpu.map_or_else(String::new, factor),
        ]);
    }
    format!("\n{}", table.render())
}

/// Microseconds with three significant digits and the unit that suits them.
pub(crate) fn duration(microseconds: f64) -> String {
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
