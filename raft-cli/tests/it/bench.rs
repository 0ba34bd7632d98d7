//! The closed loop: it counts what it did, and says when nothing works.

use crate::fake::{Cluster, Faults, printed};
use crate::parse;
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use raft_cli::verbs;
use serde_json::Value;
use std::time::Duration;

#[test]
fn it_measures_puts_and_gets() {
    let cluster = Cluster::new(Faults::default());
    let common = ["--clients", "1,8", "--duration", "30ms", "--warmup", "1ms", "--keys", "50"];
    let [clients, list, duration, time, warmup, short, keys, many] = common;
    for (kind, workload) in [("put", "put"), ("get", "get")] {
        let words = parse!(
            Bench, "bench", kind, clients, list, duration, time, warmup, short, keys, many,
            "--json"
        );
        let stores = vec![cluster.client(), cluster.client()];
        let (text, outcome) =
            printed(Format::Table, async |output| verbs::bench::run(stores, &words, output).await);
        outcome.expect("measured");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let measurements = json["measurements"].as_array().expect("a list");
        assert_eq!(measurements.len(), 2);
        for (measured, clients) in measurements.iter().zip([1, 8]) {
            assert_eq!(measured["workload"], workload);
            assert_eq!(measured["clients"], clients);
            assert_eq!(measured["errors"], 0);
            assert!(measured["operations"].is_u64());
            assert!(measured["latency_us"]["p999"].is_f64());
        }
        assert!(cluster.most_at_once() >= 1);
    }
    let args = parse!(Get, "get", "--prefix", "bench/", "--count-only");
    let (count, _) = printed(Format::Table, async |output| {
        verbs::get::run(&cluster.client(), &args, output).await
    });
    assert_eq!(count, "50\n");
}

#[test]
fn it_fails_if_nothing_works() {
    let cluster = Cluster::new(Faults { no_quorum: true, ..Faults::default() });
    let args = parse!(Bench, "bench", "put", "--duration", "30ms", "--warmup", "1ms");
    let stores = vec![cluster.patient_client(Duration::from_millis(5))];
    let (text, outcome) =
        printed(Format::Table, async |output| verbs::bench::run(stores, &args, output).await);
    assert_eq!(text, "");
    assert_eq!(outcome.expect_err("no quorum").kind, Kind::Unavailable);
}
