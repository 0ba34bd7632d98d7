//! The page that plots what was measured: one file that loads nothing from anywhere, in light and
//! dark.

use crate::check::page::escaped;
use crate::output::bench::{Measurement, Ratio, duration};
use std::fmt::{self, Write};

const STYLE: &str = include_str!("../check/page/style.css");

/// Size of a plot, and what is left around it for names, in pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BELOW: f64 = 30.0;
/// Quantiles that the axis names. The last one stands for the longest latency.
const TICKS: [(f64, &str); 6] =
    [(0.0, "min"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
/// Where the longest latency is drawn, in decades of operations.
const DECADES: f64 = 5.0;
/// Lines of the clusters.
const COLOURS: [&str; 2] = ["--network", "--unknown"];

/// The page.
pub(super) fn page(measurements: &[Measurement], ratios: &[Ratio]) -> String {
    let mut html = String::new();
    draw(measurements, ratios, &mut html).expect("writing to a String does not fail");
    html
}

fn draw(measurements: &[Measurement], ratios: &[Ratio], html: &mut String) -> fmt::Result {
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>raft bench</title><style>{STYLE}</style></head><body><main>\
         <header><h1>raft bench</h1></header>"
    )?;
    let servers = if ratios.is_empty() { 1 } else { 2 };
    for (position, together) in measurements.chunks(servers).enumerate() {
        let Some(first) = together.first() else { continue };
        let clients = if first.clients == 1 { "client" } else { "clients" };
        write!(html, "<section><h2>{}, {} {clients}", first.workload, first.clients)?;
        if let Some(watchers) = first.watchers {
            write!(html, ", {watchers} watchers")?;
        }
        if let Some(rate) = first.rate {
            write!(html, ", {rate} requests a second")?;
        }
        html.write_str("</h2>")?;
        figures(together, ratios.get(position), html)?;
        curves(together, html)?;
        html.write_str("</section>")?;
    }
    html.write_str("</main></body></html>\n")
}

fn figures(together: &[Measurement], ratio: Option<&Ratio>, html: &mut String) -> fmt::Result {
    html.write_str(
        "<table><thead><tr><th>Server</th><th>Operations a second</th><th>p50</th><th>p99</th>\
         <th>p99.9</th><th>Processor time each</th><th>Errors</th></tr></thead><tbody>",
    )?;
    for (measured, colour) in together.iter().zip(COLOURS) {
        let latency = &measured.latency_us;
        write!(
            html,
            "<tr><td><span style=\"color:var({colour})\">&#9632;</span> {}</td><td>{:.0}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&measured.server),
            measured.per_second,
            duration(latency.p50),
            duration(latency.p99),
            duration(latency.p999),
            measured.cpu_us.map_or_else(String::new, duration),
            measured.errors
        )?;
    }
    if let Some(ratio) = ratio {
        write!(
            html,
            "<tr><td>first/second</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td></td>\
             <td>{}</td><td></td></tr>",
            ratio.per_second,
            ratio.p50,
            ratio.p99,
            ratio.cpu.map_or_else(String::new, |cpu| format!("{cpu:.2}"))
        )?;
    }
    html.write_str("</tbody></table>")
}

/// Where a quantile stands: each step to the right leaves a tenth of the operations.
fn x(quantile: f64) -> f64 {
    let decades = if quantile >= 1.0 { DECADES } else { -(1.0 - quantile).log10() };
    LEFT + decades.min(DECADES) / DECADES * (WIDTH - LEFT - 40.0)
}

/// Latencies by quantile, one line a cluster, both axes logarithmic.
fn curves(together: &[Measurement], html: &mut String) -> fmt::Result {
    let points = || together.iter().flat_map(|measured| &measured.percentiles_us);
    let latencies = || points().map(|(_, latency)| latency.max(1.0).log10());
    let low = latencies().fold(f64::INFINITY, f64::min).floor();
    let high = latencies().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    if !low.is_finite() || !high.is_finite() {
        return Ok(());
    }
    let y = |latency: f64| {
        let up = (latency.max(1.0).log10() - low) / (high - low);
        (HEIGHT - BELOW) * (1.0 - up) + 8.0
    };
    write!(html, "<svg viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" role=\"img\">", HEIGHT + 8.0)?;
    html.write_str("<title>latency by percentile</title>")?;
    let line = |html: &mut String, from: (f64, f64), to: (f64, f64)| {
        let ((x1, y1), (x2, y2)) = (from, to);
        write!(
            html,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"var(--line)\"/>"
        )
    };
    for decade in low as i32..=high as i32 {
        let (latency, right) = (10f64.powi(decade), WIDTH - 40.0);
        line(html, (LEFT, y(latency)), (right, y(latency)))?;
        let (label, at) = (duration(latency), y(latency) + 4.0);
        write!(
            html,
            "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\" font-size=\"11\" \
             fill=\"var(--dim)\">{label}</text>",
            LEFT - 8.0
        )?;
    }
    for (quantile, name) in TICKS {
        line(html, (x(quantile), 8.0), (x(quantile), HEIGHT - BELOW + 8.0))?;
        write!(
            html,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" \
             fill=\"var(--dim)\">{name}</text>",
            x(quantile),
            HEIGHT - BELOW + 26.0
        )?;
    }
    for (measured, colour) in together.iter().zip(COLOURS) {
        write!(
            html,
            "<polyline fill=\"none\" stroke=\"var({colour})\" stroke-width=\"2\" points=\""
        )?;
        for (quantile, latency) in &measured.percentiles_us {
            write!(html, "{:.1},{:.1} ", x(*quantile), y(*latency))?;
        }
        html.write_str("\"/>")?;
    }
    html.write_str("</svg>")
}
