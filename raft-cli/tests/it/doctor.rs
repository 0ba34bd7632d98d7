//! `raft doctor` measures, and says whether the election timeout is long enough.

use crate::fake::{ADDRESSES, Cluster, Faults, printed};
use crate::parse;
use raft_cli::failure::{Failure, Kind};
use raft_cli::output::Format;
use raft_cli::verbs::doctor;
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

/// Guard against a test that hangs.
const MOST: Duration = Duration::from_secs(60);

fn examine(delay: u64, format: Format, more: &[&str]) -> (String, Result<(), Failure>) {
    let cluster = Cluster::new(Faults { delay: Duration::from_millis(delay), ..Faults::default() });
    let endpoints = [ADDRESSES[0].to_owned()];
    let words = ["raft", "doctor", "--samples", "10"].into_iter().chain(more.iter().copied());
    let cli = <raft_cli::args::Cli as clap::Parser>::try_parse_from(words).unwrap();
    let raft_cli::args::Verb::Doctor(args) = cli.verb else { panic!("not doctor") };
    printed(format, async |output| doctor::run(&cluster, &endpoints, MOST, &args, output).await)
}

/// Row 1 of the requirements: 80 ms away, 100 ms are too short and 1 s is long enough.
#[test]
fn a_timeout_must_be_ten_times_what_is_measured() {
    let (text, outcome) = examine(80, Format::Json, &["--election-timeout", "100ms"]);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::No);
    assert!(failure.message.contains("100 ms is too short"), "{failure}");
    assert!(failure.message.contains("use at least"), "{failure}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["ok"], false);
    let p99 = json["round_trips"][0]["p99_us"].as_f64().unwrap() / 1e3;
    let suggested = json["suggested_ms"].as_f64().unwrap();
    assert!(p99 >= 80.0);
    // Rounded up, to a tenth of a second at most.
    assert!(suggested >= 10.0 * p99 && suggested <= 10.0 * p99 + 100.0, "{text}");

    let enough = format!("{}ms", suggested * 10.0);
    let (text, outcome) = examine(80, Format::Table, &["--election-timeout", &enough]);
    outcome.unwrap();
    assert!(text.contains("OK: the election timeout of"), "{text}");
    assert!(text.contains("No disk was measured"), "{text}");
}

#[test]
fn the_disk_is_measured_and_left_as_it_was() {
    let dir = TempDir::new().unwrap();
    let name = dir.path().to_str().unwrap();
    let more = ["--data-dir", name, "--election-timeout", "1h"];
    let (text, outcome) = examine(0, Format::Json, &more);
    outcome.unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["flush"]["samples"], 10);
    assert!(json["flush"]["p99_us"].as_f64().unwrap() > 0.0, "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let absent = dir.path().join("absent").display().to_string();
    let (_, outcome) = examine(0, Format::Json, &["--data-dir", &absent]);
    assert_eq!(outcome.unwrap_err().kind, Kind::Local);
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let cluster = Cluster::new(Faults::default());
    let args = parse!(Doctor, "doctor", "--samples", "10");
    let endpoints = ADDRESSES.map(str::to_owned);
    let (text, outcome) = printed(Format::Table, async |output| {
        doctor::run(&cluster, &endpoints, MOST, &args, output).await
    });
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(failure.message.contains(ADDRESSES[2]), "{failure}");
    assert!(text.contains(ADDRESSES[0]) && !text.contains("OK"), "{text}");
}
