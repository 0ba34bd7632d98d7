//! The door for clients of the etcd v3 API, over TCP as clients use it: exact codes and texts.

mod auth;
mod cluster;
mod gateway;
mod hostile;
mod kv;
mod late;
mod lease;
mod lock;
mod maintenance;
mod memory;
mod metrics;
mod model;
mod tls;
mod turns;
mod txn;
mod watch;

use crate::cluster::Cluster;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use raft_core::types::NodeId;
use raft_kv::api::Published;
use raft_kv::etcd::proto::etcdserverpb::{self as pb, PutRequest, RangeRequest};
use raft_kv::etcd::proto::etcdserverpb::{
    auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use raft_kv::etcd::{EtcdConfig, EtcdDoor};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::{Code, Status};

/// A cluster with a door on each node.
pub(crate) struct Doors {
    pub(crate) cluster: Cluster,
    pub(crate) addresses: BTreeMap<NodeId, SocketAddr>,
    serving: JoinSet<()>,
}

impl Doors {
    pub(crate) async fn start(count: u64) -> Self {
        Self::of(Cluster::start(count)).await
    }

    pub(crate) async fn of(cluster: Cluster) -> Self {
        let mut doors = Self { cluster, addresses: BTreeMap::new(), serving: JoinSet::new() };
        let ids: Vec<NodeId> = doors.cluster.nodes.keys().copied().collect();
        for id in ids {
            doors.open(id).await;
        }
        doors.cluster.leader().await;
        doors
    }

    /// Opens a door on a node.
    pub(crate) async fn open(&mut self, id: NodeId) {
        self.open_with(id, |_| {}).await;
    }

    /// The same with other settings; an earlier one stays open, and is not known any more.
    pub(crate) async fn open_with(&mut self, id: NodeId, change: impl FnOnce(&mut EtcdConfig)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = EtcdConfig::new(self.cluster.services[&id].clone());
        config.member = Published {
            name: format!("name-{id}"),
            client_urls: vec![format!("http://{address}")],
        };
        config.request_timeout = Duration::from_secs(5);
        change(&mut config);
        let door = EtcdDoor::new(config);
        self.serving.spawn(async move { door.serve(listener, std::future::pending()).await });
        self.addresses.insert(id, address);
    }

    pub(crate) async fn connect(&self, id: NodeId) -> Connection {
        Connection::open(self.addresses[&id]).await
    }

    pub(crate) async fn any(&self) -> Connection {
        let id = *self.addresses.keys().next().unwrap();
        self.connect(id).await
    }

    /// Sends a request that is no gRPC; the HTTP status and the body.
    pub(crate) async fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let address = *self.addresses.values().next().unwrap();
        let response = http_at(address, method, path, body).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// Sends a request that is no gRPC.
pub(crate) async fn http_at(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Response<Incoming> {
    http_with(address, method, path, &[], body).await
}

/// The same with headers.
pub(crate) async fn http_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Incoming> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "test");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    sender.send_request(request).await.unwrap()
}

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Connection(http2::SendRequest<Body>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) fn kv(&self) -> KvClient<Self> {
        KvClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Self> {
        LeaseClient::new(self.clone())
    }

    pub(crate) fn watch(&self) -> WatchClient<Self> {
        WatchClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Self> {
        ClusterClient::new(self.clone())
    }

    pub(crate) fn auth(&self) -> AuthClient<Self> {
        AuthClient::new(self.clone())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Self> {
        MaintenanceClient::new(self.clone())
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> i64 {
        let response = self.kv().put(put(key, value)).await.unwrap().into_inner();
        response.header.unwrap().revision
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> pb::RangeResponse {
        self.kv().range(request).await.unwrap().into_inner()
    }
}

impl tower_service::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = Uri::try_from(format!("http://test{path}")).unwrap();
        Box::pin(self.0.send_request(request))
    }
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

/// One key.
pub(crate) fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// All keys from `key` on and before `end`.
pub(crate) fn between(key: &str, end: &str) -> RangeRequest {
    RangeRequest { range_end: end.to_owned().into(), ..get(key) }
}

pub(crate) fn keys_of(response: &pb::RangeResponse) -> Vec<String> {
    let text = |pair: &raft_kv::etcd::proto::mvccpb::KeyValue| {
        String::from_utf8(pair.key.to_vec()).unwrap()
    };
    response.kvs.iter().map(text).collect()
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    text: &str,
) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}
