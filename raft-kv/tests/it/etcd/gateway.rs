//! What is not gRPC.

use super::{Doors, http_at, http_with};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

/// Asks in JSON.
async fn ask(doors: &Doors, path: &str, body: Value) -> (u16, Value) {
    let (status, body) = doors.http("POST", path, &body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_written_and_read_in_json() {
    let doors = Doors::start(1).await;
    // "foo" and "bar" in base64.
    let (status, put) = ask(&doors, "/v3/kv/put", json!({"key": "Zm9v", "value": "YmFy"})).await;
    assert_eq!((status, &put["header"]["revision"]), (200, &json!("2")));
    assert_eq!(put["header"]["cluster_id"], json!("7"));
    let (_, found) = ask(&doors, "/v3/kv/range", json!({"key": "Zm9v"})).await;
    let pair = json!({
        "key": "Zm9v", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "YmFy"
    });
    assert_eq!(found["kvs"], json!([pair]));
    assert_eq!(found["count"], json!("1"));
    assert!(found.get("more").is_none(), "what is zero is left out");
    // Both spellings, numbers as numbers or strings, and the older path.
    let asked = json!({"key": "Zm9v", "rangeEnd": "Zm9w", "limit": 5, "sort_order": "DESCEND"});
    let (_, found) = ask(&doors, "/v3beta/kv/range", asked).await;
    assert_eq!(found["count"], json!("1"));
    let asked = json!({
        "compare": [{"key": "Zm9v", "target": "CREATE", "createRevision": "2"}],
        "success": [{"requestDeleteRange": {"key": "Zm9v"}}, {"request_range": {"key": "Zm9v"}}]
    });
    let (status, done) = ask(&doors, "/v3/kv/txn", asked).await;
    assert_eq!((status, &done["succeeded"]), (200, &json!(true)));
    assert_eq!(done["responses"][0]["response_delete_range"]["deleted"], json!("1"));
    let (_, granted) = ask(&doors, "/v3/lease/grant", json!({"TTL": "60", "ID": 5})).await;
    assert_eq!((&granted["ID"], &granted["TTL"]), (&json!("5"), &json!("60")));
    let (_, left) = ask(&doors, "/v3/kv/lease/timetolive", json!({"ID": 5})).await;
    assert_eq!(left["grantedTTL"], json!("60"));
    let (status, _) = ask(&doors, "/v3/cluster/member/list", json!({})).await;
    assert_eq!(status, 200);
    let (status, version) = doors.http("POST", "/v3/maintenance/status", "").await;
    assert!(status == 200 && version.contains("\"version\":\"3.4.23\""), "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_a_code_and_a_status() {
    let doors = Doors::start(1).await;
    for (path, body, status, code, text) in [
        ("/v3/kv/range", json!({}), 400, 3, "etcdserver: key is not provided"),
        ("/v3/lease/revoke", json!({"ID": 9}), 404, 5, "etcdserver: requested lease not found"),
        (
            "/v3/kv/range",
            json!({"key": "Zg==", "revision": 9}),
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("/v3/auth/enable", json!({}), 412, 9, "etcdserver: root user does not exist"),
    ] {
        let (found, answer) = ask(&doors, path, body).await;
        assert_eq!(found, status, "{path}");
        assert_eq!(answer, json!({"error": text, "message": text, "code": code}));
    }
    for path in ["/v3/none/range", "/v3/auth/none"] {
        assert_eq!(doors.http("POST", path, "{}").await, (404, "Not Found\n".into()), "{path}");
    }
    // What is not known says nothing, as with etcd.
    let (status, _) = ask(&doors, "/v3/kv/range", json!({"key": "Zg==", "nothing": [1]})).await;
    assert_eq!(status, 200);
    for body in ["{", "[]", "{\"key\": 5}", "{\"key\":\"%\"}"] {
        let (status, answer) = doors.http("POST", "/v3/kv/range", body).await;
        assert!(status == 400 && answer.contains("\"code\":3"), "{body}: {status} {answer}");
    }
    assert_eq!(doors.http("GET", "/v3/kv/range", "").await.0, 405);
    let large = format!("{{\"key\": \"{}\"}}", "A".repeat(5 * 1024 * 1024));
    let (status, answer) = doors.http("POST", "/v3/kv/range", &large).await;
    assert!(status == 400 && answer.contains("request is too large"), "{status} {answer}");
}

/// A browser lets any page send a text to any server, but JSON only to those that allow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_strangers_write_nothing() {
    let doors = Doors::start(1).await;
    let address = *doors.addresses.values().next().unwrap();
    let put = json!({"key": "Zm9v", "value": "YmFy"}).to_string();
    let origin = ("origin", "http://elsewhere");
    let send = async |headers: &[(&str, &str)]| {
        let answer = http_with(address, "POST", "/v3/kv/put", headers, &put).await;
        answer.status().as_u16()
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]
    {
        assert_eq!(send(&[origin, ("content-type", kind)]).await, 415, "{kind}");
    }
    assert_eq!(send(&[origin]).await, 415);
    let (_, found) = ask(&doors, "/v3/kv/range", json!({"key": "Zm9v"})).await;
    assert_eq!(found.get("count"), None);
    assert_eq!(send(&[origin, ("content-type", "Application/JSON; charset=utf-8")]).await, 200);
    // Whoever is no browser may send what it likes, as with etcd.
    assert_eq!(send(&[("content-type", "text/plain")]).await, 200);
}

/// `--host-whitelist`: what leads a browser here by a name of its own is not answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_answers_to_its_names_only() {
    let mut doors = Doors::start(1).await;
    let node = *doors.addresses.keys().next().unwrap();
    for (hosts, status) in [
        (vec![], 200),
        (vec!["a", "*"], 200),
        (vec!["a", "test"], 200),
        (vec!["a", "b.test", "tes"], 421),
    ] {
        let hosts: Vec<String> = hosts.into_iter().map(Into::into).collect();
        doors.open_with(node, |config| config.hosts = hosts.clone()).await;
        for (method, path) in [("GET", "/version"), ("POST", "/v3/lease/leases")] {
            assert_eq!(doors.http(method, path, "").await.0, status, "{hosts:?} {path}");
        }
        // Over HTTP/2 nobody is led anywhere; over HTTP/1.1 nothing is gRPC.
        doors.any().await.put("a", "1").await;
        let grpc = [("content-type", "application/grpc")];
        let address = doors.addresses[&node];
        let found = http_with(address, "POST", "/etcdserverpb.KV/Range", &grpc, "").await;
        assert_eq!(found.status(), if status == 200 { 404 } else { status });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_lines_of_json() {
    let doors = Doors::start(1).await;
    let address = *doors.addresses.values().next().unwrap();
    let body = json!({"create_request": {"key": "Zm9v"}}).to_string();
    let mut watching = http_at(address, "POST", "/v3/watch", &body).await.into_body();
    let mut line = async || {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(watching.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    assert_eq!(line().await["result"]["created"], json!(true));
    ask(&doors, "/v3/kv/put", json!({"key": "Zm9v", "value": "YmFy"})).await;
    let told = line().await;
    let event = &told["result"]["events"][0];
    assert_eq!(event["kv"]["value"], json!("YmFy"));
    assert!(event.get("type").is_none(), "a put is the zero of its kind");
    ask(&doors, "/v3/kv/deleterange", json!({"key": "Zm9v"})).await;
    assert_eq!(line().await["result"]["events"][0]["type"], json!("DELETE"));
    let (_, granted) = ask(&doors, "/v3/lease/grant", json!({"TTL": 60})).await;
    let id = granted["ID"].clone();
    let (status, kept) = ask(&doors, "/v3/lease/keepalive", json!({"ID": id})).await;
    assert_eq!((status, &kept["result"]["TTL"]), (200, &json!("60")));
    let refused = http_at(address, "POST", "/v3/maintenance/snapshot", "{}").await;
    assert_eq!(refused.status(), 503, "the store is in no file");
}

/// What is asked on a stream is answered before the next thing is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_on_a_stream_are_answered_as_they_come() {
    let doors = Doors::start(1).await;
    let address = *doors.addresses.values().next().unwrap();
    let (requests, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(4);
    let say = async |text: &str| {
        requests.send(Ok(Frame::data(Bytes::from(text.to_owned())))).await.unwrap();
    };
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let body = StreamBody::new(ReceiverStream::new(receiver));
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/v3/watch").header("host", "test").body(body).unwrap();
    say("{\"create_request\":").await;
    say("{\"key\":\"Zm9v\"}}").await;
    let mut told = sender.send_request(request).await.unwrap().into_body();
    let mut line = async || {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(told.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        serde_json::from_slice::<Value>(&line).unwrap()
    };
    assert_eq!(line().await["result"]["created"], json!(true));
    say(" {\"create_request\": {\"key\": \"YmFy\"}}").await;
    let second = line().await;
    assert_eq!(second["result"]["created"], json!(true));
    assert_eq!(second["result"]["watch_id"], json!("1"));
    say("{\"cancel_request\": {\"watch_id\": 1}}").await;
    assert_eq!(line().await["result"]["canceled"], json!(true));
    say(" x").await;
    let last = line().await;
    assert_eq!(last["error"]["grpc_code"], json!(3), "{last}");
}

/// What came before something that is no message is answered, however it was cut on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_sense_is_answered_before_what_makes_none() {
    let doors = Doors::start(1).await;
    ask(&doors, "/v3/lease/grant", json!({"TTL": 60, "ID": 7})).await;
    let lines = async |path: &str, body: &str| {
        let (status, text) = doors.http("POST", path, body).await;
        assert_eq!(status, 200, "{text}");
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    for rest in [" x", " {\"ID\":", "{\"ID\":\"z\"}", " x {\"ID\":7}"] {
        let told = lines("/v3/lease/keepalive", &format!("{{\"ID\":7}}{{\"ID\":9}}{rest}")).await;
        assert_eq!(told.len(), 3, "{rest}: {told:?}");
        assert_eq!(told[0]["result"]["ID"], json!("7"), "{rest}");
        assert_eq!(told[1]["result"]["ID"], json!("9"), "{rest}");
        assert_eq!(told[2]["error"]["grpc_code"], json!(3), "{rest}");
    }
    let create = json!({"create_request": {"key": "Zm9v"}}).to_string();
    // Which of both comes first would be up to chance.
    for _ in 0..20 {
        let told = lines("/v3/watch", &format!("{create}{create} x")).await;
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[..2].iter().all(|told| told["result"]["created"] == json!(true)), "{told:?}");
        assert_eq!(told[2]["error"]["grpc_code"], json!(3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_tell_health_and_version() {
    let doors = Doors::start(1).await;
    let get = async |path: &str| doors.http("GET", path, "").await;
    assert_eq!(get("/health").await, (200, "{\"health\":\"true\"}".into()));
    assert_eq!(get("/livez").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    let (status, version) = get("/version").await;
    let version: Value = serde_json::from_str(&version).unwrap();
    let expected = json!({"etcdserver": "3.4.23", "etcdcluster": "3.4.0"});
    assert_eq!((status, version), (200, expected));
    assert_eq!(get("/elsewhere").await.0, 404);
    assert_eq!(doors.http("PUT", "/health", "").await.0, 405);

    let doors = Doors::start(3).await;
    let node = *doors.addresses.keys().next().unwrap();
    doors.cluster.isolate(node);
    while doors.http("GET", "/health", "").await.0 == 200 {}
    let unhealthy = doors.http("GET", "/health", "").await;
    assert_eq!(unhealthy, (503, "{\"health\":\"false\"}".into()));
    assert_eq!(doors.http("GET", "/readyz", "").await.0, 503);
    assert_eq!(doors.http("GET", "/livez", "").await.0, 200, "it lives all the same");
}
