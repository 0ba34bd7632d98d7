//! The loads: they count what they did, and say when nothing works.

use crate::cluster::support::{GUARD, TestCluster, raft};
use crate::etcd::side::free_ports;
use crate::fake::{Cluster, Faults, printed};
use crate::parse;
use raft_cli::args::bench::Bench;
use raft_cli::args::connection::Target;
use raft_cli::bench::side::{Servers, Side};
use raft_cli::client::Store;
use raft_cli::failure::Kind;
use raft_cli::output::Format;
use raft_cli::{bench, verbs};
use raft_kv::api::{Consistency, Keys, Range};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

fn side(stores: Vec<Store>) -> Vec<Side> {
    vec![Side { name: "fake".into(), servers: Servers::Native(stores), processes: Vec::new() }]
}

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
        let stores = side(vec![cluster.client(), cluster.client()]);
        let (text, outcome) =
            printed(Format::Table, async |output| bench::run(stores, &words, output).await);
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

/// What linearizability costs is seen beside what weaker reads cost.
#[test]
fn it_measures_every_mode_of_reading() {
    let cluster = Cluster::new(Faults::default());
    let of = |modes: &str| {
        let clients = ["--clients=2", "--keys=50", "--duration=30ms", "--warmup=1ms"];
        let [clients, keys, time, short] = clients;
        let args = parse!(Bench, "bench", "get", clients, keys, time, short, "--json", modes);
        let stores = side(vec![cluster.client()]);
        let (text, outcome) =
            printed(Format::Table, async |output| bench::run(stores, &args, output).await);
        outcome.expect("measured");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let measurements = json["measurements"].as_array().expect("a list").clone();
        assert!(measurements.iter().all(|it| it["errors"] == 0), "{json}");
        measurements.iter().map(|it| it["workload"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("--causal"), ["get --causal"]);
    assert_eq!(of("--all-modes"), ["get", "get --causal", "get --serializable"]);
}

#[test]
fn it_fails_if_nothing_works() {
    let cluster = Cluster::new(Faults { no_quorum: true, ..Faults::default() });
    let args = parse!(Bench, "bench", "put", "--duration", "30ms", "--warmup", "1ms");
    let stores = side(vec![cluster.patient_client(Duration::from_millis(5))]);
    let (text, outcome) =
        printed(Format::Table, async |output| bench::run(stores, &args, output).await);
    assert_eq!(text, "");
    assert_eq!(outcome.expect_err("no quorum").kind, Kind::Unavailable);
}

/// A cluster is held against another one, or over one API against the other.
#[tokio::test]
async fn every_workload_is_measured_over_both_apis() {
    let mut cluster = TestCluster::new(1);
    let door = format!("127.0.0.1:{}", free_ports(1)[0]);
    let id = cluster.processes.folder().ids().next().unwrap();
    cluster.processes.start_with(id, &["--etcd-listen", &door]).await.unwrap();
    cluster.leader().await;
    let page = cluster.processes.folder().dir().join("bench.html");
    let page = page.to_str().unwrap();
    let pid = std::process::id().to_string();
    for workload in ["put", "get", "mixed", "txn", "watch"] {
        let words = [
            "bench",
            workload,
            "--json",
            "--clients=4",
            "--keys=20",
            "--duration=300ms",
            "--warmup=20ms",
            "--rounds=2",
            "--pids",
            &pid,
            "--compare-pids",
            &pid,
            "--compare",
            &door,
            "--html",
            page,
        ];
        let measured = async {
            loop {
                let ended = raft(&cluster, &words).ended().await;
                assert_eq!(ended.code, 0, "{workload}: {ended:?}");
                let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
                let both = json["measurements"].as_array().expect("a list").clone();
                // On a machine that is busy with other things nothing may be done in that time.
                if both.iter().all(|it| it["operations"].as_u64() > Some(0)) {
                    return json;
                }
            }
        };
        let json = timeout(GUARD, measured).await.expect("something is done in time");
        for (measured, api) in
            json["measurements"].as_array().unwrap().iter().zip(["native", "etcd"])
        {
            assert_eq!(measured["workload"], workload);
            assert_eq!(measured["errors"], 0, "{measured}");
            assert!(measured["server"].as_str().unwrap().starts_with(api), "{measured}");
            assert_eq!(measured["rounds_per_second"].as_array().unwrap().len(), 2);
            assert!(measured["cpu_us"].is_f64());
        }
        assert_eq!(json["ratios"].as_array().unwrap().len(), 1);
        assert!(json["ratios"][0]["per_second"].as_f64() > Some(0.0), "{json}");
        let html = std::fs::read_to_string(page).unwrap();
        assert_eq!(html.matches("<polyline").count(), 2);
    }
    let own = Range::of(Keys::prefix("bench/cas/"));
    let swapped = cluster.client().get(own, Consistency::Linearizable).await.unwrap();
    assert_eq!(swapped.kvs.len(), 4);
}

/// What waits for a free client has waited since it was due.
#[test]
fn in_an_open_loop_waiting_counts() {
    let delay = Duration::from_millis(20);
    let cluster = Cluster::new(Faults { delay, ..Faults::default() });
    // One client that is busy for 20 ms at a time is asked for 10 requests in that.
    let args = parse!(
        Bench,
        "bench",
        "put",
        "--clients=1",
        "--rate=500",
        "--duration=1s",
        "--warmup=1ms",
        "--json"
    );
    let stores = side(vec![cluster.client()]);
    let (text, outcome) =
        printed(Format::Table, async |output| bench::run(stores, &args, output).await);
    outcome.expect("measured");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let latency = |name| json["measurements"][0]["latency_us"][name].as_f64().unwrap();
    // The later a request is due, the longer it waits, and most wait for longer than the run takes.
    assert!(latency("max") > 10.0 * 20_000.0, "{json}");
    let number = |name| json["measurements"][0][name].as_u64().unwrap();
    assert!(number("operations") <= 50, "{json}");
    assert!(number("unanswered") >= 450, "{json}");
    assert_eq!(json["measurements"][0]["rate"], 500);
}

#[test]
fn over_the_api_of_etcd_nobody_has_to_prove_anything() {
    let insecure = |bench: Bench| bench.load().connection().insecure;
    assert!(insecure(parse!(Bench, "bench", "put", "--api=etcd")));
    assert!(insecure(parse!(Bench, "bench", "put", "--api=etcd", "--compare=h:1")));
    assert!(!insecure(parse!(Bench, "bench", "put", "--api=etcd", "--ca=ca.pem")));
    assert!(!insecure(parse!(Bench, "bench", "put")));
    let native = "--compare-api=native";
    assert!(!insecure(parse!(Bench, "bench", "put", "--api=etcd", "--compare=h:1", native)));
}

#[test]
fn etcd_is_not_asked_what_it_does_not_know() {
    let args = parse!(Bench, "bench", "get", "--api=etcd", "--causal");
    let target = Target {
        endpoints: vec!["127.0.0.1:1".into()],
        ca: None,
        identity: None,
        user: None,
        password_file: None,
        deadline: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(bench::open(&args, &target));
    assert_eq!(outcome.err().expect("not measured").kind, Kind::Usage);
    let args = parse!(Bench, "bench", "get", "--api=etcd", "--endpoints=127.0.0.1:1");
    let outcome = runtime.block_on(bench::open(&args, &target));
    assert_eq!(outcome.err().expect("nobody there").kind, Kind::Unavailable);
}
