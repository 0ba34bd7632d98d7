//! What requests and answers take is bounded, and nobody can take all of it.

use super::hostile::front;
use super::watch::Watching;
use super::{Connection, between, get, put};
use crate::cluster::Cluster;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use raft_kv::etcd::proto::etcdserverpb as pb;
use raft_kv::etcd::proto::{v3electionpb as election, v3lockpb as lock};
use raft_kv::etcd::{EtcdConfig, EtcdDoor};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// `too many requests`.
const EXHAUSTED: &str = "8";

/// A node whose door has little memory.
struct Narrow {
    _cluster: Cluster,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Narrow {
    async fn start(memory: usize) -> Self {
        Self::with(memory, |_| {}).await
    }

    async fn with(memory: usize, change: impl FnOnce(&mut EtcdConfig)) -> Self {
        let cluster = Cluster::start(1);
        let id = cluster.leader().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = EtcdConfig::new(cluster.services[&id].clone());
        config.memory = memory;
        change(&mut config);
        let door = EtcdDoor::new(config);
        let mut serving = JoinSet::new();
        serving.spawn(async move { door.serve(listener, std::future::pending()).await });
        Self { _cluster: cluster, address, _serving: serving }
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// A connection on which nothing is sent ahead of what is read.
    async fn connect_narrow(&self) -> Connection {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1024);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Connection(sender)
    }
}

/// A call over gRPC with any body.
async fn call(connection: &Connection, path: &str, body: Body) -> Response<Incoming> {
    let request = Request::post(path).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    connection.clone().call(request).await.unwrap()
}

/// The status of an answer that is nothing but that.
fn status(response: &Response<Incoming>) -> Option<&str> {
    response.headers().get("grpc-status").map(|status| status.to_str().unwrap())
}

/// The first part of a request, and no more of it.
struct Begun(Option<Bytes>);

impl hyper::body::Body for Begun {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// Asks for something until it is done.
async fn until_done<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) {
    let asking = async { while ask().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_end_hinder_nobody_else() {
    let door = Narrow::start(32 * MIB).await;
    let mut connections = Vec::new();
    for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"] {
        for _ in 0..5 {
            let (connection, mut asking) = (door.connect().await, JoinSet::new());
            // What is announced counts, whether it comes or not.
            for begun in [front(MIB as u32), [front(MIB as u32), vec![1; 512 * KIB]].concat()] {
                for _ in 0..40 {
                    let body = Body::new(Begun(Some(begun.clone().into())));
                    let connection = connection.clone();
                    asking.spawn(async move {
                        let response = call(&connection, path, body).await;
                        match status(&response) {
                            Some(status) => status.to_owned(),
                            // A stream ends when its body does.
                            None => trailing_status(response).await,
                        }
                    });
                }
            }
            assert_eq!(asking.join_next().await.unwrap().unwrap(), EXHAUSTED, "{path}");
            connections.push((connection, asking));
        }
    }
    door.connect().await.put("k", "v").await;
    for (connection, mut asking) in connections {
        asking.shutdown().await;
        let value = "x".repeat(MIB / 2);
        until_done(async || connection.kv().put(put("k", &value)).await).await;
    }
}

/// Whoever has won is told so: there is room for that before anything is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leads_or_holds_a_lock_who_was_refused() {
    let door = Narrow::with(16 * MIB, |config| config.request_timeout = Duration::from_secs(2));
    let door = door.await;
    let other = door.connect().await;
    other.put("k", &"x".repeat(512 * KIB)).await;
    let granted = other.lease().lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 }).await;
    let lease = granted.unwrap().into_inner().id;
    let name = |number| Bytes::from(format!("n/{number}/{}", "n".repeat(30 * KIB)));
    let campaign = |number| {
        let request = election::CampaignRequest { name: name(number), lease, ..Default::default() };
        request.encode_to_vec()
    };
    let lock = |number| lock::LockRequest { name: name(number), lease }.encode_to_vec();
    const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
    for path in [CAMPAIGN, "/v3lockpb.Lock/Lock"] {
        let request = |number| if path == CAMPAIGN { campaign(number) } else { lock(number) };
        let (narrow, mut unread) = (door.connect_narrow().await, Vec::new());
        let ask = async |path: &str, request: Vec<u8>| {
            let request = Bytes::from([front(request.len() as u32), request].concat());
            let response = call(&narrow, path, Body::new(Full::new(request))).await;
            let refused = status(&response).map(ToOwned::to_owned);
            (response, refused)
        };
        loop {
            let (response, refused) = ask("/etcdserverpb.KV/Range", get("k").encode_to_vec()).await;
            if refused.as_deref() == Some(EXHAUSTED) {
                break;
            }
            unread.push(response);
        }
        let mut won = 0;
        loop {
            let (response, refused) = ask(path, request(won)).await;
            if refused.as_deref() == Some(EXHAUSTED) {
                break;
            }
            unread.push(response);
            won += 1;
        }
        let held = other.range(pb::RangeRequest { keys_only: true, ..between("n/", "n0") }).await;
        assert_eq!(held.count, won as i64, "{path}");
        let all =
            pb::DeleteRangeRequest { key: "n/".into(), range_end: "n0".into(), prev_kv: false };
        other.kv().delete_range(all).await.unwrap();
    }
}

async fn trailing_status(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap();
    body.trailers().unwrap()["grpc-status"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_bounded_in_bytes() {
    let door = Narrow::start(16 * MIB).await;
    let other = door.connect().await;
    other.put("k", &"x".repeat(512 * KIB)).await;
    let narrow = door.connect_narrow().await;
    let request = pb::RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec();
    let request = Bytes::from([front(request.len() as u32), request].concat());
    for path in ["/etcdserverpb.KV/Range", "/v3/kv/range"] {
        let (mut unread, mut refused) = (Vec::new(), 0);
        for _ in 0..40 {
            let response = match path {
                "/v3/kv/range" => {
                    let body = Body::new(Full::new(Bytes::from(r#"{"key":"aw=="}"#)));
                    let request = Request::post(path).body(body);
                    narrow.clone().call(request.unwrap()).await.unwrap()
                }
                path => call(&narrow, path, Body::new(Full::new(request.clone()))).await,
            };
            match status(&response) == Some(EXHAUSTED) || response.status() == 429 {
                true => refused += 1,
                false => unread.push(response),
            }
        }
        // Half of all, of answers that are half a mebibyte each and longer in JSON.
        assert!((8..=16).contains(&unread.len()), "{path}: {} of {refused}", unread.len());
        // The others are served, and so is this client as soon as it has no use for the answers.
        assert_eq!(other.range(get("k")).await.count, 1);
        drop(unread);
        until_done(async || narrow.kv().range(get("k")).await).await;
    }
}

/// Over HTTP/1 each connection has one answer under way, so here the client has many of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_bounded_over_http_1() {
    let door = Narrow::start(16 * MIB).await;
    let other = door.connect().await;
    fill(&other, 6).await;
    let body = r#"{"key":"ay8=","range_end":"azA="}"#;
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nhost: door\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut unread, mut refused) = (Vec::new(), 0);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        match &line {
            b"HTTP/1.1 200" => unread.push(stream),
            b"HTTP/1.1 429" => refused += 1,
            line => panic!("{}", String::from_utf8_lossy(line)),
        }
    }
    // Eight mebibytes each.
    assert!((1..=2).contains(&unread.len()), "{} and {refused} refused", unread.len());
    drop(unread);
    until_done(async || other.kv().range(between("k/", "k0")).await).await;
}

/// Writes keys of a mebibyte each, but a little.
async fn fill(connection: &Connection, count: usize) {
    let value = "x".repeat(MIB - KIB);
    for number in 0..count {
        connection.put(&format!("k/{number}"), &value).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_reads_is_bounded_as_a_whole() {
    let door = Narrow::start(32 * MIB).await;
    let connection = door.connect().await;
    fill(&connection, 4).await;
    let op = |request| pb::RequestOp { request: Some(request) };
    let read = op(pb::request_op::Request::RequestRange(between("k/", "k0")));
    let write = op(pb::request_op::Request::RequestPut(put("other", "")));
    let txn = |success| pb::TxnRequest { success, ..Default::default() };
    // 40 MiB, of which this connection may hold 16.
    let reads = vec![read; 10];
    let refused = connection.kv().txn(txn(reads.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let done = connection.kv().txn(txn([vec![write], reads].concat())).await.unwrap().into_inner();
    assert!(done.succeeded);
    let ranges = done.responses.iter().filter_map(|reply| match &reply.response {
        Some(pb::response_op::Response::ResponseRange(range)) => Some(range),
        _ => None,
    });
    let (whole, cut): (Vec<_>, Vec<_>) = ranges.partition(|range| !range.more);
    assert!(whole.iter().all(|range| range.kvs.len() == 4));
    assert!(!whole.is_empty() && cut.len() > 5, "{} and {}", whole.len(), cut.len());
    assert_eq!(connection.range(get("other")).await.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_for_which_there_is_no_room_is_told_in_pieces() {
    let door = Narrow::start(16 * MIB).await;
    let connection = door.connect().await;
    fill(&connection, 12).await;
    let mut watching = Watching::start(&connection).await;
    let all = pb::WatchCreateRequest {
        key: "k/".into(),
        range_end: "k0".into(),
        prev_kv: true,
        ..Default::default()
    };
    watching.create(all).await;
    assert!(watching.next().await.created);
    let deletion =
        pb::DeleteRangeRequest { key: "k/".into(), range_end: "k0".into(), prev_kv: false };
    connection.kv().delete_range(deletion).await.unwrap();
    let (mut events, mut pieces) = (0, 0);
    loop {
        let told = watching.next().await;
        events += told.events.len();
        pieces += 1;
        if !told.fragment {
            break;
        }
    }
    assert!(events == 12 && pieces > 1, "{events} events in {pieces} pieces");
}
