//! What is told at /metrics: under etcd's names only what etcd tells too, of the same type; and
//! what is counted there is what etcd counts.

use super::gateway::send;
use super::side::Side;
use crate::cluster::support::GUARD;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use tokio::time::timeout;

async fn asked(side: &Side, method: &str, path: &str, body: &str) -> String {
    let response = send(&side.clients[0], method, path, body).await;
    assert_eq!(response.status(), 200, "{} {path} {body}", side.name);
    let body = timeout(GUARD, response.into_body().collect()).await.expect("it ends").unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// The type of each name.
fn types(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn value(text: &str, name: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

/// What is written.
const WRITES: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
    ("/v3/kv/put", r#"{"key":"Yg==","value":"MQ=="}"#),
    ("/v3/kv/deleterange", r#"{"key":"Yg=="}"#),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"Yw=="}},{"request_put":{"key":"ZA=="}},
                       {"request_delete_range":{"key":"YQ=="}}]}"#,
    ),
    ("/v3/lease/grant", r#"{"TTL":600,"ID":7}"#),
    ("/v3/lease/grant", r#"{"TTL":600,"ID":8}"#),
    ("/v3/lease/revoke", r#"{"ID":7}"#),
];

/// By how much that makes counters grow.
const COUNTED: &[(&str, f64)] = &[
    ("etcd_mvcc_put_total", 4.0),
    ("etcd_debugging_mvcc_put_total", 4.0),
    ("etcd_mvcc_delete_total", 2.0),
    ("etcd_debugging_mvcc_delete_total", 2.0),
    ("etcd_mvcc_txn_total", 1.0),
    ("etcd_debugging_mvcc_txn_total", 1.0),
    ("etcd_debugging_lease_granted_total", 2.0),
    ("etcd_debugging_lease_revoked_total", 1.0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_called_and_counted_as_with_etcd() {
    let (ours, theirs) = tokio::join!(Side::ours(), Side::theirs());
    let mut told = Vec::new();
    for side in [&ours, &theirs] {
        let before = asked(side, "GET", "/metrics", "").await;
        for (path, body) in WRITES {
            asked(side, "POST", path, body).await;
        }
        // Leases have no revision: a read that sees them all is what has waited for them.
        asked(side, "POST", "/v3/kv/range", r#"{"key":"YQ=="}"#).await;
        asked(side, "POST", "/v3/lease/keepalive", r#"{"ID":8}"#).await;
        let after = asked(side, "GET", "/metrics", "").await;
        for (name, count) in COUNTED {
            assert_eq!(value(&after, name) - value(&before, name), *count, "{}: {name}", side.name);
        }
        for name in ["etcd_mvcc_range_total", "etcd_debugging_mvcc_range_total"] {
            assert!(value(&after, name) > value(&before, name), "{}: {name}", side.name);
        }
        value(&after, "etcd_debugging_lease_renewed_total");
        told.push(after);
    }
    let renewed = value(&told[0], "etcd_debugging_lease_renewed_total");
    assert_eq!(renewed, 1.0, "each member counts what it applies");
    let active = told.iter().map(|told| {
        told.lines().filter(|line| line.starts_with("etcd_network_active_peers{Local=")).count()
    });
    assert_eq!(active.collect::<Vec<_>>(), [2, 2]);
    let (here, there) = (types(&told[0]), types(&told[1]));
    let is_theirs =
        |name: &str| ["etcd_", "grpc_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    let other =
        here.iter().filter(|(name, kind)| is_theirs(name) && there.get(*name) != Some(*kind));
    let other: Vec<_> = other.map(|(name, kind)| (name, kind, there.get(name))).collect();
    assert!(other.is_empty(), "not as etcd tells it: {other:?}");
}
