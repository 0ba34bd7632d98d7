//! A client of one node's door, over one connection of HTTP/2.

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use raft_kv::etcd::proto::etcdserverpb::{
    kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tonic::body::Body;
use tower_service::Service;

/// See the module. A clone is of the same connection.
#[derive(Clone)]
pub(super) struct Connection(http2::SendRequest<Body>);

impl Connection {
    /// `None` if nobody is there.
    pub(super) async fn open(address: &str) -> Option<Self> {
        let stream = TokioIo::new(TcpStream::connect(address).await.ok()?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.ok()?;
        tokio::spawn(connection);
        Some(Self(sender))
    }

    pub(super) fn kv(&self) -> KvClient<Self> {
        KvClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn lease(&self) -> LeaseClient<Self> {
        LeaseClient::new(self.clone())
    }

    pub(super) fn watch(&self) -> WatchClient<Self> {
        WatchClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let uri = Uri::try_from(format!("http://test{path}")).expect("a path of a method");
        *request.uri_mut() = uri;
        Box::pin(self.0.send_request(request))
    }
}
