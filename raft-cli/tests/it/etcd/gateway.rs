//! JSON over HTTP: the same requests to this store and to etcd have the same status, type of
//! content and answer. What cannot be alike is called by a name: ids of clusters and members,
//! terms,
//! what is left of a lease, and how a library says that a text is not JSON.

use super::side::Side;
use crate::cluster::support::GUARD;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is compared of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alike {
    /// Everything.
    Whole,
    /// Which fields there are, and what kind each is.
    Shape,
}

/// Requests of one answer each, in this order: method, path, body.
const UNARY: &[(&str, &str, &str, Alike)] = &[
    ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#, Alike::Whole),
    ("POST", "/v3beta/kv/put", r#"{"key":"Zm9v","value":"YmFy","prevKv":true}"#, Alike::Whole),
    (
        "POST",
        "/v3/kv/put",
        r#"{"key":"Zm9v","nothing":{"a":[1,null]},"value":"YmFy"}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="} {"key":"Yg=="}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="} trash"#, Alike::Whole),
    ("POST", "/v3/kv/put", "", Alike::Whole),
    ("POST", "/v3/kv/put", "null", Alike::Whole),
    ("POST", "/v3/kv/put", "{}", Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":5}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"%"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", "{", Alike::Whole),
    ("POST", "/v3/kv/put", "[]", Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"Zm9v","lease":"99"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"bm8=","ignore_value":true}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"YQ==","range_end":"eg==","limit":"1"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"YQ==","rangeEnd":"eg==","keysOnly":true}"#, Alike::Whole),
    (
        "POST",
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"eg==","count_only":true}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/kv/range", r#"{"key":"bm8="}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","limit":5,"sort_order":"DESCEND"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","sortOrder":1,"sortTarget":3}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","sort_order":"NOPE"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","limit":"x"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","revision":2}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","revision":"999"}"#, Alike::Whole),
    ("GET", "/v3/kv/range", "", Alike::Whole),
    ("PUT", "/v3/kv/range", "{}", Alike::Whole),
    ("POST", "/v3/kv/none", "{}", Alike::Whole),
    ("POST", "/v3/none", "{}", Alike::Whole),
    ("GET", "/elsewhere", "", Alike::Whole),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"CREATE","createRevision":"2"}],
            "success":[{"requestRange":{"key":"Zm9v"}}],"failure":[]}"#,
        Alike::Whole,
    ),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"VALUE","result":"NOT_EQUAL","value":"YmFy"}],
            "success":[{"request_put":{"key":"Yw==","value":"MQ=="}}],
            "failure":[{"request_put":{"key":"ZA==","value":"MQ=="}},
                       {"request_delete_range":{"key":"YQ==","prev_kv":true}},
                       {"request_txn":{"success":[{"request_range":{"key":"ZA=="}}]}}]}"#,
        Alike::Whole,
    ),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"Yw=="}},{"request_put":{"key":"Yw=="}}]}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/kv/txn", "{}", Alike::Whole),
    ("POST", "/v3/kv/deleterange", r#"{"key":"ZA==","prev_kv":true}"#, Alike::Whole),
    ("POST", "/v3/kv/deleterange", r#"{"key":"ZA=="}"#, Alike::Whole),
    ("POST", "/v3/kv/compaction", r#"{"revision":"3"}"#, Alike::Whole),
    ("POST", "/v3/kv/compaction", r#"{"revision":"3"}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"Zm9v","revision":1}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":60,"ID":7}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":"60","ID":"7"}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":"9000000001","ID":"8"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"bGVhc2Vk","value":"MQ==","lease":7}"#, Alike::Whole),
    ("POST", "/v3/lease/timetolive", r#"{"ID":7}"#, Alike::Whole),
    ("POST", "/v3/kv/lease/timetolive", r#"{"ID":7,"keys":true}"#, Alike::Whole),
    ("POST", "/v3/lease/timetolive", r#"{"ID":9}"#, Alike::Whole),
    ("POST", "/v3/lease/leases", "{}", Alike::Whole),
    ("POST", "/v3/kv/lease/leases", "{}", Alike::Whole),
    ("POST", "/v3/kv/lease/revoke", r#"{"ID":9}"#, Alike::Whole),
    ("POST", "/v3/lease/keepalive", r#"{"ID":7}"#, Alike::Whole),
    ("POST", "/v3/lease/keepalive", r#"{"ID":7}{"ID":9} {"ID":"7"}"#, Alike::Whole),
    ("POST", "/v3/lock/lock", r#"{"lease":7}"#, Alike::Whole),
    ("POST", "/v3/election/campaign", r#"{"lease":"7","value":"YQ=="}"#, Alike::Whole),
    ("POST", "/v3/election/leader", "{}", Alike::Whole),
    ("POST", "/v3/lock/unlock", r#"{"key":"Lzc="}"#, Alike::Whole),
    ("POST", "/v3/election/leader", "{}", Alike::Whole),
    ("POST", "/v3/lease/keepalive", "trash", Alike::Whole),
    ("POST", "/v3/watch", "trash", Alike::Whole),
    ("POST", "/v3/watch", "[]", Alike::Whole),
    ("POST", "/v3/lease/revoke", r#"{"ID":7}"#, Alike::Whole),
    ("POST", "/v3/cluster/member/list", "{}", Alike::Shape),
    ("POST", "/v3/cluster/member/remove", r#"{"ID":"12345"}"#, Alike::Whole),
    ("POST", "/v3/maintenance/status", "{}", Alike::Shape),
    ("POST", "/v3/maintenance/alarm", r#"{"action":"GET"}"#, Alike::Whole),
    ("POST", "/v3/maintenance/defragment", "{}", Alike::Whole),
    ("POST", "/v3/maintenance/hash", "{}", Alike::Shape),
    ("POST", "/v3/election/leader", r#"{"name":"Zm9v"}"#, Alike::Whole),
    ("POST", "/v3/auth/enable", "{}", Alike::Whole),
    ("POST", "/v3/auth/user/get", r#"{"name":"nobody"}"#, Alike::Whole),
    ("POST", "/v3/auth/role/add", r#"{"name":"r"}"#, Alike::Whole),
    ("POST", "/v3/auth/role/add", r#"{"name":"r"}"#, Alike::Whole),
    (
        "POST",
        "/v3/auth/role/grant",
        r#"{"name":"r","perm":{"permType":"WRITE","key":"YQ=="}}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/auth/role/get", r#"{"role":"r"}"#, Alike::Whole),
    ("GET", "/version", "", Alike::Whole),
    ("GET", "/health", "", Alike::Whole),
];

/// Alarms that are raised, one at a time as etcd has no order for several; what they refuse; and
/// that they end.
const ALARMS: &[(&str, &str, &str, Alike)] = &[
    ("POST", ALARM, r#"{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"7"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"7"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET","memberID":"7"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET","alarm":"NOSPACE"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET","alarm":"CORRUPT"}"#, Alike::Whole),
    ("POST", "/v3/maintenance/status", "{}", Alike::Shape),
    ("GET", "/health", "", Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, Alike::Whole),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"success":[{"request_range":{"key":"YQ=="}}],
            "failure":[{"request_put":{"key":"YQ=="}}]}"#,
        Alike::Whole,
    ),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"success":[{"request_delete_range":{"key":"YQ=="}}]}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/kv/range", r#"{"key":"YQ=="}"#, Alike::Whole),
    ("POST", "/v3/kv/deleterange", r#"{"key":"YQ=="}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":60,"ID":77}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","alarm":"NOSPACE"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","memberID":"7"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","alarm":"CORRUPT","memberID":"7"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","alarm":"NOSPACE","memberID":"7"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","alarm":"NOSPACE","memberID":"7"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":60,"ID":77}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"ACTIVATE","alarm":"CORRUPT"}"#, Alike::Whole),
    ("POST", "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, Alike::Whole),
    ("POST", "/v3/kv/deleterange", r#"{"key":"YQ=="}"#, Alike::Whole),
    ("POST", "/v3/kv/range", r#"{"key":"YQ=="}"#, Alike::Whole),
    ("POST", "/v3/kv/txn", r#"{"success":[{"request_range":{"key":"YQ=="}}]}"#, Alike::Whole),
    (
        "POST",
        "/v3/kv/txn",
        r#"{"success":[{"request_delete_range":{"key":"YQ=="}}]}"#,
        Alike::Whole,
    ),
    ("POST", "/v3/kv/compaction", r#"{"revision":"5"}"#, Alike::Whole),
    ("POST", "/v3/lease/grant", r#"{"TTL":60,"ID":78}"#, Alike::Whole),
    ("POST", "/v3/lease/keepalive", r#"{"ID":77}"#, Alike::Whole),
    ("POST", "/v3/lease/revoke", r#"{"ID":77}"#, Alike::Whole),
    ("POST", "/v3/auth/role/add", r#"{"name":"during"}"#, Alike::Whole),
    ("GET", "/health", "", Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"DEACTIVATE","alarm":"CORRUPT"}"#, Alike::Whole),
    ("POST", "/v3/lease/revoke", r#"{"ID":77}"#, Alike::Whole),
    ("POST", "/v3/kv/compaction", r#"{"revision":"5"}"#, Alike::Whole),
    ("POST", ALARM, r#"{"action":"GET"}"#, Alike::Whole),
    ("GET", "/health", "", Alike::Whole),
];

const ALARM: &str = "/v3/maintenance/alarm";

/// Streams that go on, and how many lines each has at once.
const STREAMS: &[(&str, &str, usize)] = &[
    ("/v3/watch", r#"{"create_request":{"key":"Zm9v","start_revision":"4","prev_kv":true}}"#, 2),
    ("/v3/watch", r#"{"createRequest":{"key":"YQ==","range_end":"eg==","watchId":7}}"#, 1),
    (
        "/v3/watch",
        r#"{"create_request":{"key":"Zm9v"}} {"create_request":{"key":"Zm9v"}}
           {"cancel_request":{"watch_id":"0"}}"#,
        3,
    ),
];

pub(crate) async fn send(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> http::Response<Incoming> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "test");
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    timeout(GUARD, sender.send_request(request)).await.expect("it answers").unwrap()
}

/// Status, kind of content and, a line each, what is said.
async fn answer(side: &Side, case: &(&str, &str, &str, Alike)) -> String {
    let (method, path, body, alike) = case;
    let response = send(&side.clients[0], method, path, body).await;
    let head = head(&response);
    let body = timeout(GUARD, response.into_body().collect()).await.expect("it ends").unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let lines = text.lines().map(|line| normal(line, *alike));
    lines.fold(head, |all, line| all + &line + "\n")
}

/// The same of a stream that goes on after `count` lines.
async fn begin(side: &Side, (path, body, count): &(&str, &str, usize)) -> String {
    let response = send(&side.clients[0], "POST", path, body).await;
    let (head, mut body) = (head(&response), response.into_body());
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < *count {
        let frame = timeout(GUARD, body.frame()).await.expect("it goes on");
        text.extend(frame.expect("it goes on").unwrap().into_data().unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().fold(head, |all, line| all + &normal(line, Alike::Whole) + "\n")
}

fn head(response: &http::Response<Incoming>) -> String {
    let content = response.headers().get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
    format!("{} {content}\n", response.status().as_u16())
}

fn normal(line: &str, alike: Alike) -> String {
    match serde_json::from_str(line) {
        Ok(value) if alike == Alike::Shape => shape(value).to_string(),
        Ok(value) => named("", value).to_string(),
        Err(_) => line.to_owned(),
    }
}

fn named(name: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| {
                let value = named(&name, value);
                (name, value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(values) => values.into_iter().map(|value| named(name, value)).collect(),
        Value::String(text) => match name {
            "cluster_id" | "member_id" | "raft_term" => json!("<own>"),
            "TTL" if text != "-1" => json!("<measured>"),
            "error" | "message" if !text.starts_with("etc") && !text.starts_with("election") => {
                json!("<not to be read>")
            }
            _ => Value::String(text),
        },
        value => value,
    }
}

/// Of a list, its first; they are all of a kind.
fn shape(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, shape(value))).collect())
        }
        Value::Array(values) => values.into_iter().take(1).map(shape).collect(),
        Value::String(text) if text.parse::<u64>().is_ok() => json!("<number>"),
        Value::String(_) => json!("<text>"),
        Value::Number(_) => json!(0),
        value => value,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_json_are_answered_as_etcd_answers_them() {
    let (ours, theirs) = tokio::join!(Side::ours(), Side::theirs());
    let mut wrong = String::new();
    let mut judge = |what: String, ours: String, theirs: String| {
        if ours != theirs {
            wrong += &format!("\n== {what}\n-- this store: {ours}-- etcd: {theirs}");
        }
    };
    for case in UNARY {
        let (here, there) = tokio::join!(answer(&ours, case), answer(&theirs, case));
        judge(format!("{} {} {}", case.0, case.1, case.2), here, there);
    }
    for case in STREAMS {
        let (here, there) = tokio::join!(begin(&ours, case), begin(&theirs, case));
        judge(format!("{} {}", case.0, case.1), here, there);
    }
    for case in ALARMS {
        let (here, there) = tokio::join!(answer(&ours, case), answer(&theirs, case));
        judge(format!("{} {} {}", case.0, case.1, case.2), here, there);
    }
    assert!(wrong.is_empty(), "{wrong}");
}
