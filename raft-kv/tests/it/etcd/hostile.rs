//! What no client of good will sends, and what happens to the cluster meanwhile.

use super::watch::Watching;
use super::{Connection, Doors, assert_refused, between, get, put};
use crate::cluster::Cluster;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use raft_kv::etcd::proto::etcdserverpb as pb;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tower_service::Service;

/// Sends bytes as the body of a gRPC request; its status.
async fn send(connection: &Connection, path: &str, body: Vec<u8>) -> u32 {
    let request = Request::post(path).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(Body::new(Full::new(Bytes::from(body))));
    let response = connection.clone().call(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let status = |headers: &http::HeaderMap| {
        headers.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap())
    };
    if let Some(status) = status(response.headers()) {
        return status;
    }
    let body = response.into_body().collect().await.unwrap();
    body.trailers().and_then(status).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_is_said_to_be_unimplemented() {
    const UNIMPLEMENTED: u32 = 12;
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    for path in [
        "/etcdserverpb.Auth/None",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.Maintenance/Downgrade",
        "/nobody.Nothing/Never",
        "/v3/kv/range",
        "/",
    ] {
        assert_eq!(send(&connection, path, vec![0; 5]).await, UNIMPLEMENTED, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_without_sense_harm_nobody() {
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let mut random: u64 = 7;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    };
    for path in [
        "/etcdserverpb.KV/Range",
        "/etcdserverpb.KV/Txn",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Cluster/MemberUpdate",
        "/v3lockpb.Lock/Unlock",
    ] {
        for length in [0, 1, 4, 5, 6, 40, 300] {
            let mut body: Vec<u8> = (0..length).map(|_| next()).collect();
            // Once as it is, once with a front that makes it a message.
            send(&connection, path, body.clone()).await;
            let mut message = vec![0, 0, 0];
            message.extend(u16::try_from(length).unwrap().to_be_bytes());
            message.append(&mut body);
            send(&connection, path, message).await;
        }
        // A message that is said to be of 4 GiB.
        assert_ne!(send(&connection, path, vec![0, 255, 255, 255, 255]).await, 0);
    }
    let address = *doors.addresses.values().next().unwrap();
    for bytes in [&b"\0\0\0"[..], b"GET", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff", b"\n\n"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
    }
    assert_eq!(connection.range(get("k")).await.count, 0);
}

/// The front of a message of so many bytes.
pub(super) fn front(length: u32) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused() {
    const INVALID: u32 = 3;
    let doors = Doors::start(1).await;
    let connection = doors.any().await;
    let length = 3 * 1024 * 1024;
    let body = [front(length), vec![1; length as usize]].concat();
    for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/v3lockpb.Lock/Lock"] {
        assert_eq!(send(&connection, path, body.clone()).await, INVALID, "{path}");
    }
    let text = "etcdserver: request is too large";
    let value = "x".repeat(1700 * 1024);
    assert_refused(connection.kv().put(put("k", &value)).await, Code::InvalidArgument, text);
    let json = format!(r#"{{"key": "aw==", "value": "{}"}}"#, "A".repeat(5 * 1024 * 1024));
    let (status, answer) = doors.http("POST", "/v3/kv/put", &json).await;
    assert_eq!(status, 400);
    assert!(answer.contains(text), "{answer}");
    assert_eq!(connection.range(get("k")).await.count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_without_sense_is_said_to_have_none() {
    let doors = Doors::start(1).await;
    let deep = "[".repeat(100_000);
    let nested = format!("{}{}", r#"{"success":[{"request_txn":"#.repeat(1000), "}]}".repeat(1000));
    // What a read, a transaction, a keep-alive and a watch are answered; nothing where a watch goes
    // on, as it is asked for nothing that there is. What is not known of a message is left out.
    let (wrong, strange) = ([400, 400], [Some(500), Some(500)]);
    let (unknown, both) = ([Some(200), None], [Some(200), Some(200)]);
    for (body, calls, streams) in [
        ("{", wrong, strange),
        ("[]", wrong, strange),
        ("null", [400, 200], strange),
        ("7", wrong, strange),
        ("\"text\"", wrong, strange),
        (r#"{"key": 7}"#, [400, 200], unknown),
        (r#"{"key": "no base64!"}"#, [400, 200], unknown),
        (r#"{"key": "aw==", "limit": "x"}"#, [400, 200], unknown),
        (r#"{"key": "aw==", "limit": 99999999999999999999}"#, [400, 200], unknown),
        (r#"{"key": "aw=="} and more"#, [200, 200], both),
        (r#"{"key": "aw==", "key": "aw=="}"#, [400, 200], unknown),
        ("{\"key\": \"\u{0}\"}", wrong, strange),
        (&deep, wrong, strange),
        (&nested, wrong, strange),
    ] {
        let start: String = body.chars().take(60).collect();
        let [read, txn] = calls.map(Some);
        let [keep, watch] = streams;
        for (path, expected) in [
            ("/v3/kv/range", read),
            ("/v3/kv/txn", txn),
            ("/v3/lease/keepalive", keep),
            ("/v3/watch", watch),
        ] {
            let Some(expected) = expected else { continue };
            let (status, answer) = doors.http("POST", path, body).await;
            assert_eq!(status, expected, "{path} {start}: {answer}");
        }
    }
    assert_eq!(doors.any().await.range(get("k")).await.count, 0);
}

/// Streams that ask for nothing, and watches that are told nothing. `RUN_SLOW_TESTS=1` opens
/// 100,000, and prints what memory they take. They have a process of their own: what others take
/// and give back there says nothing of them.
#[test]
fn many_idle_streams_harm_nobody() {
    const NAME: &str = "etcd::hostile::many_idle_streams_harm_nobody";
    const ALONE: &str = "IDLE_STREAMS_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(hold_idle_streams());
    }
    let own = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(own);
    let command = command.args(["--exact", NAME, "--nocapture"]).env(ALONE, "1");
    let output = command.output().unwrap();
    let (said, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{error}");
    assert!(said.contains("streams take"), "it was not run: {said}");
}

async fn hold_idle_streams() {
    let slow = std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1");
    let (connections, streams) = if slow { (10, 10_000) } else { (4, 500) };
    let doors = Doors::of(Cluster::quiet(1)).await;
    // What the first of each kind takes once is not theirs.
    let mut held = Vec::new();
    hold(&doors, &mut held, 10).await;
    let (before, known) = (resident(), held.len());
    for _ in 0..connections {
        hold(&doors, &mut held, streams).await;
    }
    let connection = doors.any().await;
    connection.put("idle/0", "").await;
    for idle in &mut held {
        if let Idle::Watch(number, watching) = idle {
            let created = watching.next().await;
            assert!(created.created && !created.canceled, "{created:?}");
            // One of each connection watches what was written.
            if *number == 0 {
                assert_eq!(watching.next().await.events.len(), 1);
            }
        }
    }
    let count = held.len() - known;
    assert_eq!(count, connections * streams);
    let taken = resident().saturating_sub(before);
    println!("{count} streams take {} KiB, on both sides", taken / 1024);
    // Some KiB each, of which none can do without; this process is both ends.
    assert!(taken > count * 512, "{taken} bytes of {before} are not what they take");
    assert!(taken < count * BYTES_OF_IDLE, "{taken} bytes");
    assert_eq!(connection.range(get("idle/0")).await.count, 1);
}

/// Most bytes of memory that a stream takes on which nothing happens, at both ends.
const BYTES_OF_IDLE: usize = 64 * 1024;

/// Opens so many streams on a connection.
async fn hold(doors: &Doors, held: &mut Vec<Idle>, streams: usize) {
    let connection = doors.any().await;
    for number in 0..streams {
        if number % 2 == 0 {
            let watching = Watching::start(&connection).await;
            let key = format!("idle/{number}").into();
            watching.create(pb::WatchCreateRequest { key, ..Default::default() }).await;
            held.push(Idle::Watch(number, watching));
        } else {
            let (requests, receiver) = tokio::sync::mpsc::channel(1);
            let receiver = ReceiverStream::new(receiver);
            let stream = connection.lease().lease_keep_alive(receiver).await.unwrap();
            held.push(Idle::KeepAlive(requests, stream.into_inner()));
        }
    }
}

enum Idle {
    Watch(usize, Watching),
    #[expect(dead_code, reason = "they are held open")]
    KeepAlive(
        tokio::sync::mpsc::Sender<pb::LeaseKeepAliveRequest>,
        tonic::Streaming<pb::LeaseKeepAliveResponse>,
    ),
}

/// Bytes of memory of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_survive_the_loss_of_the_leader_exactly_once() {
    let doors = Doors::start(3).await;
    let leader = doors.cluster.leader().await;
    let connection = doors.connect(doors.cluster.other(leader)).await;
    connection.put("first", "").await;
    let mut writes = JoinSet::new();
    for writer in 0..20 {
        let connection = connection.clone();
        writes.spawn(async move {
            let mut revisions = Vec::new();
            for number in 0..20 {
                revisions.push(connection.put(&format!("k/{writer}/{number}"), "").await);
            }
            revisions
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    doors.cluster.kill(leader);
    let revisions: Vec<i64> = writes.join_all().await.concat();
    let distinct: BTreeSet<i64> = revisions.iter().copied().collect();
    assert_eq!((revisions.len(), distinct.len()), (400, 400));
    let all = connection.range(between("k/", "k0")).await;
    assert_eq!((all.count, all.header.unwrap().revision), (400, 402), "a write ran twice");
    assert!(connection.kv().put(put("last", "")).await.is_ok());
}
