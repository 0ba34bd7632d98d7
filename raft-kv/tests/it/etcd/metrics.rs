//! What is told at /metrics: in the form that is asked for, and right.

use super::watch::Watching;
use super::{Doors, get};
use http::Request;
use raft_kv::etcd::proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use std::collections::BTreeMap;
use tonic::body::Body;
use tower_service::Service;

/// The samples of a text in Prometheus's form; panics if it is none.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(kinds.insert(name.to_owned(), kind).is_none(), "{name} twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(name.bytes().all(plain), "{line}");
        assert!(kinds.contains_key(name), "{name} has no type");
        assert!(!series.contains('{') || series.ends_with("\"}"), "{line}");
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}");
    }
    samples
}

async fn told(doors: &Doors) -> BTreeMap<String, f64> {
    let (status, text) = doors.http("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    samples(&text)
}

fn calls(method: &str, code: Option<&str>) -> String {
    let kind = if method == "Watch" { "bidi_stream" } else { "unary" };
    let service = if method == "Watch" { "Watch" } else { "KV" };
    let labels = format!(
        "grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\""
    );
    match code {
        Some(code) => format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}"),
        None => format!("grpc_server_started_total{{{labels}}}"),
    }
}

/// The messages of a method that have come, and those that have gone.
fn messages(told: &BTreeMap<String, f64>, method: &str) -> (f64, f64) {
    let of = |name: &str| told[&calls(method, None).replace("grpc_server_started_total", name)];
    (of("grpc_server_msg_received_total"), of("grpc_server_msg_sent_total"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_say_how_the_node_stands_and_what_it_was_asked() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let before = told(&doors).await;
    assert_eq!(before["etcd_server_has_leader"], 1.0);
    assert_eq!(before["etcd_server_is_leader"], 1.0);
    assert_eq!(before["etcd_server_is_learner"], 0.0);
    assert!(before["etcd_server_quota_backend_bytes"] > 0.0);
    assert_eq!(before["etcd_server_id{server_id=\"1\"}"], 1.0);
    assert_eq!(before["etcd_debugging_auth_revision"], 1.0, "as with etcd");
    assert_eq!(doors.http("GET", "/health", "").await.0, 200);
    connection.put("a", "1").await;
    connection.put("b", "2").await;
    connection.range(get("a")).await;
    let future = RangeRequest { revision: 99, ..get("a") };
    connection.kv().range(future).await.unwrap_err();
    // A name that is made up is not kept.
    let made_up = Request::post("/etcdserverpb.KV/MadeUp");
    let made_up = made_up.header("content-type", "application/grpc").body(Body::empty());
    connection.clone().call(made_up.unwrap()).await.unwrap();
    let after = told(&doors).await;
    assert_eq!(after["etcd_debugging_mvcc_keys_total"], 2.0);
    assert_eq!(after["etcd_debugging_mvcc_current_revision"], 3.0);
    let grown = |name: &str| after[name] > before[name];
    let grown_by = |name: &str| after[name] - before[name];
    assert!(grown_by("etcd_network_client_grpc_received_bytes_total") > 4.0 * 5.0);
    assert!(grown_by("etcd_network_client_grpc_sent_bytes_total") > 3.0 * 5.0);
    assert!(grown("etcd_mvcc_db_total_size_in_bytes"));
    assert_eq!(grown_by("etcd_server_health_success"), 1.0);
    assert_eq!(grown_by("etcd_server_health_failures"), 0.0);
    assert!(grown("etcd_server_proposals_applied_total"));
    assert_eq!(after[&calls("Put", None)], 2.0);
    assert_eq!(after[&calls("Put", Some("OK"))], 2.0);
    assert_eq!(after[&calls("Range", None)], 2.0);
    assert_eq!(after[&calls("Range", Some("OutOfRange"))], 1.0);
    assert_eq!((messages(&after, "Put"), messages(&after, "Range")), ((2.0, 2.0), (2.0, 1.0)));
    assert!(!after.keys().any(|series| series.contains("MadeUp")), "{after:?}");
    let (status, _) = doors.http("POST", "/metrics", "").await;
    assert_eq!(status, 405);
}

/// A stream that its client leaves has ended, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_counted_when_it_begins_and_when_it_ends() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut stream = Watching::start(&connection).await;
    let open = told(&doors).await;
    assert_eq!(open[&calls("Watch", None)], 1.0);
    assert_eq!(open["etcd_debugging_mvcc_watch_stream_total"], 1.0);
    assert!(!open.contains_key(&calls("Watch", Some("Canceled"))));
    let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
    stream.create(create).await;
    assert!(stream.next().await.created);
    connection.put("a", "1").await;
    assert_eq!(stream.next().await.events.len(), 1);
    let watched = told(&doors).await;
    assert_eq!(messages(&watched, "Watch"), (1.0, 2.0));
    assert_eq!(watched["etcd_debugging_mvcc_watcher_total"], 1.0);
    assert_eq!(watched["etcd_debugging_mvcc_slow_watcher_total"], 0.0);
    assert_eq!(watched["etcd_debugging_mvcc_events_total"], 1.0);
    drop(stream);
    loop {
        if told(&doors).await.get(&calls("Watch", Some("Canceled"))) == Some(&1.0) {
            return;
        }
        tokio::task::yield_now().await;
    }
}
