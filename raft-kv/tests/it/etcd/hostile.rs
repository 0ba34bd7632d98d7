//! What no client of good will sends, and what happens to the cluster meanwhile.

use super::{Connection, Doors, between, get, put};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::body::Body;
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
