//! What a process measures of itself, in the text form of Prometheus: what the node reports through
//! the facade `metrics`, and what the system knows of the process.

use crate::stat::Stat;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use raft_core::node::metrics::{LEADER_CHANGES, PROPOSALS_REFUSED, WRITE_SECONDS};
use raft_core::types::NodeId;
use raft_net_quic::{QuicTransport, Traffic};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Upper bounds in seconds: 1 ms to 8 s, each twice the one before, as etcd has them.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192,
];
/// Upper bounds of counts and bytes: each four times the one before.
const AMOUNTS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// Upper bounds of how long there and back takes, in seconds: 0.1 ms to 3.3 s, as etcd has them.
const ROUND_TRIPS: [f64; 16] = [
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
    0.4096, 0.8192, 1.6384, 3.2768,
];

/// Etcd's name of how long there and back takes, by peer.
const ROUND_TRIP_SECONDS: &str = "etcd_network_peer_round_trip_time_seconds";

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Labels that are the same of everything a process reports.
const OWN: [&str; 2] = ["node", "group"];

/// Under which name something is told: etcd's where it is the same.
fn told_as(name: &str) -> &str {
    match name {
        LEADER_CHANGES => "etcd_server_leader_changes_seen_total",
        WRITE_SECONDS => "etcd_disk_wal_fsync_duration_seconds",
        name => name,
    }
}

#[derive(Clone)]
enum Metric {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// A histogram.
struct Buckets {
    bounds: &'static [f64],
    /// How many were recorded up to each bound, and above the one before.
    counts: Vec<AtomicU64>,
    count: AtomicU64,
    /// The bits of a float.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        if let Some(bucket) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // It never says no.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// All that was registered, by name and then by labels.
#[derive(Default)]
pub(super) struct Metrics(Mutex<BTreeMap<String, BTreeMap<String, Metric>>>);

/// What a node reports to; it outlives every life of the node in this process.
struct Reporter(Arc<Metrics>);

/// The metrics of this process, to which nodes that are started from now on report.
pub(super) fn install() -> Arc<Metrics> {
    static INSTALLED: OnceLock<Arc<Metrics>> = OnceLock::new();
    let metrics = INSTALLED.get_or_init(|| {
        let metrics = Arc::<Metrics>::default();
        // Should there be another one already, it is the one that is told.
        let _ = metrics::set_global_recorder(Reporter(Arc::clone(&metrics)));
        metrics
    });
    Arc::clone(metrics)
}

impl Metrics {
    fn register(&self, key: &Key, new: impl FnOnce() -> Metric) -> Metric {
        let labels = key.labels().filter(|label| !OWN.contains(&label.key()));
        let labels: Vec<String> =
            labels.map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = all.entry(told_as(key.name()).to_owned()).or_default();
        of_name.entry(labels.join(",")).or_insert_with(new).clone()
    }

    /// Appends all of it.
    pub(super) fn write(&self, text: &mut String) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, metrics) in &all {
            let kind = match metrics.values().next() {
                Some(Metric::Counter(_)) => "counter",
                Some(Metric::Gauge(_)) => "gauge",
                Some(Metric::Histogram(_)) => "histogram",
                None => continue,
            };
            line(text, format_args!("# TYPE {name} {kind}"));
            for (labels, metric) in metrics {
                metric.write(text, name, labels);
            }
        }
        let refused = all.get(PROPOSALS_REFUSED).into_iter().flat_map(BTreeMap::values);
        let refused: u64 = refused.map(Metric::value).sum();
        line(text, format_args!("# TYPE etcd_server_proposals_failed_total counter"));
        line(text, format_args!("etcd_server_proposals_failed_total {refused}"));
        write_process(text);
    }
}

impl Metric {
    /// Of a counter, how far it is.
    fn value(&self) -> u64 {
        match self {
            Self::Counter(count) => count.load(Ordering::Relaxed),
            Self::Gauge(_) | Self::Histogram(_) => 0,
        }
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match self {
            Self::Counter(count) => {
                let count = count.load(Ordering::Relaxed);
                line(text, format_args!("{name}{braced} {count}"));
            }
            Self::Gauge(bits) => {
                let value = f64::from_bits(bits.load(Ordering::Relaxed));
                line(text, format_args!("{name}{braced} {value}"));
            }
            Self::Histogram(buckets) => {
                let comma = if labels.is_empty() { "" } else { "," };
                let mut so_far = 0;
                for (bound, count) in buckets.bounds.iter().zip(&buckets.counts) {
                    so_far += count.load(Ordering::Relaxed);
                    let bucket = format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}}");
                    line(text, format_args!("{bucket} {so_far}"));
                }
                // Something may have been recorded meanwhile; the numbers must not fall.
                let count = buckets.count.load(Ordering::Relaxed).max(so_far);
                line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
                let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
                line(text, format_args!("{name}_sum{braced} {sum}"));
                line(text, format_args!("{name}_count{braced} {count}"));
            }
        }
    }
}

impl Recorder for Reporter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.0.register(key, || Metric::Counter(Arc::default())) {
            Metric::Counter(count) => Counter::from_arc(count),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.0.register(key, || Metric::Gauge(Arc::default())) {
            Metric::Gauge(bits) => Gauge::from_arc(bits),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds: &[f64] = match key.name() {
            ROUND_TRIP_SECONDS => &ROUND_TRIPS,
            name if name.ends_with("_seconds") => &SECONDS,
            _ => &AMOUNTS,
        };
        let counts = bounds.iter().map(|_| AtomicU64::default()).collect();
        let (count, sum) = (AtomicU64::default(), AtomicU64::default());
        let buckets = || Buckets { bounds, counts, count, sum };
        match self.0.register(key, || Metric::Histogram(Arc::new(buckets()))) {
            Metric::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

/// Notes how long there and back takes to each peer, for as long as there is a transport.
pub(super) async fn follow_peers(transport: Weak<QuicTransport>) {
    loop {
        let Some(known) = transport.upgrade() else { return };
        for traffic in known.traffic() {
            let Some(round_trip) = traffic.round_trip else { continue };
            metrics::histogram!(ROUND_TRIP_SECONDS, "To" => id(traffic.peer)).record(round_trip);
        }
        drop(known);
        tokio::time::sleep(LOOK).await;
    }
}

/// Appends which peers `own` is connected with, what went to them, and has come from them.
pub(super) fn write_traffic(own: NodeId, traffic: &[Traffic], text: &mut String) {
    const ACTIVE: &str = "etcd_network_active_peers";
    line(text, format_args!("# TYPE {ACTIVE} gauge"));
    for Traffic { peer, round_trip, .. } in traffic {
        let (own, peer) = (id(own), id(*peer));
        let is_active = u8::from(round_trip.is_some());
        line(text, format_args!("{ACTIVE}{{Local=\"{own}\",Remote=\"{peer}\"}} {is_active}"));
    }
    type Bytes = fn(&Traffic) -> u64;
    let told: [(&str, &str, Bytes); 2] = [
        ("etcd_network_peer_sent_bytes_total", "To", |traffic| traffic.sent),
        ("etcd_network_peer_received_bytes_total", "From", |traffic| traffic.received),
    ];
    for (name, label, bytes) in told {
        line(text, format_args!("# TYPE {name} counter"));
        for traffic in traffic {
            let (peer, bytes) = (id(traffic.peer), bytes(traffic));
            line(text, format_args!("{name}{{{label}=\"{peer}\"}} {bytes}"));
        }
    }
}

/// A member's id as etcd writes it.
fn id(node: NodeId) -> String {
    format!("{:x}", node.0)
}

/// What Linux knows of this process; elsewhere nothing is told.
fn write_process(text: &mut String) {
    for (name, kind, value) in process().into_iter().flatten() {
        line(text, format_args!("# TYPE {name} {kind}"));
        line(text, format_args!("{name} {value}"));
    }
}

/// By the names that every exporter of Prometheus has for it.
fn process() -> Option<[(&'static str, &'static str, f64); 7]> {
    const KIB: f64 = 1024.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let stat = Stat::parse(&stat)?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    // Not from `stat`, which counts in pages: those differ from machine to machine.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident: f64 = resident.split_whitespace().next()?.parse().ok()?;
    // But the one that they are counted with.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let limit = |name| {
        let most = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let most = most.split_whitespace().next()?;
        // Without one, as Go has it: the largest number there is.
        Some(most.parse().unwrap_or(u64::MAX as f64))
    };
    Some([
        ("process_cpu_seconds_total", "counter", stat.processor_time()?.as_secs_f64()),
        ("process_start_time_seconds", "gauge", boot + stat.started()?.as_secs_f64()),
        ("process_virtual_memory_bytes", "gauge", stat.field(23)? as f64),
        ("process_resident_memory_bytes", "gauge", resident * KIB),
        ("process_virtual_memory_max_bytes", "gauge", limit("Max address space")?),
        ("process_open_fds", "gauge", open as f64),
        ("process_max_fds", "gauge", limit("Max open files")?),
    ])
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reported_is_told() {
        const META: Metadata<'_> = Metadata::new("", metrics::Level::INFO, None);
        let metrics = Arc::<Metrics>::default();
        let reporter = Reporter(Arc::clone(&metrics));
        let labels = [("node", "n1"), ("reason", "overloaded")];
        let refused = Key::from_parts(PROPOSALS_REFUSED, &labels);
        reporter.register_counter(&refused, &META).increment(2);
        // Another life of the node goes on where the first one was.
        reporter.register_counter(&refused, &META).increment(1);
        reporter.register_gauge(&Key::from_name("raft_term"), &META).set(7.0);
        let written = reporter.register_histogram(&Key::from_name(WRITE_SECONDS), &META);
        [0.0015, 0.0015, 100.0].into_iter().for_each(|seconds| written.record(seconds));
        let mut text = String::new();
        metrics.write(&mut text);
        for expected in [
            "# TYPE raft_proposals_refused_total counter",
            "raft_proposals_refused_total{reason=\"overloaded\"} 3",
            "etcd_server_proposals_failed_total 3",
            "raft_term 7",
            "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 2",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 2",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 3",
            "etcd_disk_wal_fsync_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}: {text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_process_takes_is_told() {
        let mut text = String::new();
        write_process(&mut text);
        let told = |name: &str| -> f64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
        };
        let resident = told("process_resident_memory_bytes");
        assert!(resident > 1e6 && resident < told("process_virtual_memory_bytes"));
        assert!(told("process_virtual_memory_bytes") <= told("process_virtual_memory_max_bytes"));
        let open = told("process_open_fds");
        assert!(open >= 3.0 && open <= told("process_max_fds"));
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - told("process_start_time_seconds");
        // It is told in hundredths of a second, of a start in whole ones.
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(told("process_cpu_seconds_total") <= (age + 2.0) * 1000.0);
    }

    #[test]
    fn peers_are_told_by_their_ids() {
        const META: Metadata<'_> = Metadata::new("", metrics::Level::INFO, None);
        let metrics = Arc::<Metrics>::default();
        let reporter = Reporter(Arc::clone(&metrics));
        let key = Key::from_parts(ROUND_TRIP_SECONDS, &[("To", "1f")]);
        reporter.register_histogram(&key, &META).record(0.0003);
        let traffic = Traffic {
            peer: NodeId(31),
            sent: 5,
            received: 7,
            round_trip: None,
            packet_bytes: None,
        };
        let mut text = String::new();
        metrics.write(&mut text);
        write_traffic(NodeId(10), &[traffic], &mut text);
        for expected in [
            "etcd_network_active_peers{Local=\"a\",Remote=\"1f\"} 0",
            "etcd_network_peer_sent_bytes_total{To=\"1f\"} 5",
            "etcd_network_peer_received_bytes_total{From=\"1f\"} 7",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"1f\",le=\"0.0002\"} 0",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"1f\",le=\"0.0004\"} 1",
            "etcd_network_peer_round_trip_time_seconds_count{To=\"1f\"} 1",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}: {text}");
        }
    }
}
