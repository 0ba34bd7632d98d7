//! A client of etcd's API: one connection of HTTP/2 to one node, of whatever makes it. If it
//! breaks, the next request makes it anew; each request has only so long.
//!
//! It has no more layers than it takes, so that measuring leaves the machine to what is measured.

use crate::args::connection::{DEADLINE_DEFAULT, Target};
use crate::failure::{Failure, Kind};
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use raft_kv::etcd::Gathered;
use raft_kv::etcd::proto::etcdserverpb::AuthenticateRequest;
use raft_kv::etcd::proto::etcdserverpb::auth_client::AuthClient;
use raft_kv::etcd::proto::etcdserverpb::kv_client::KvClient;
use raft_kv::etcd::proto::etcdserverpb::watch_client::WatchClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower_service::Service;

/// The header that tells whose request it is.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// See the module. A clone is of the same connection.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    endpoint: String,
    target: Target,
    live: Mutex<Link>,
    /// Whoever makes the connection anew does so alone.
    turn: tokio::sync::Mutex<()>,
}

/// A connection until it breaks.
#[derive(Clone)]
struct Link {
    sender: http2::SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
    token: Option<HeaderValue>,
}

impl Connection {
    /// Connects to `endpoint`, and logs in if `target` names a user; encrypted if it names an
    /// authority.
    ///
    /// # Errors
    /// Of kind `Unavailable` if nobody answers, `Refused` if the password is wrong, `Local` if a
    /// certificate cannot be used.
    pub async fn open(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let live = Mutex::new(Link::open(endpoint, target).await?);
        let (endpoint, target, turn) = (endpoint.into(), target.clone(), Default::default());
        Ok(Self(Arc::new(Shared { endpoint, target, live, turn })))
    }

    /// Reads and writes.
    pub fn kv(&self) -> KvClient<Self> {
        KvClient::new(self.clone())
    }

    /// Watches.
    pub fn watch(&self) -> WatchClient<Self> {
        WatchClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Link> {
        // It is only ever replaced as a whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unbroken(&self) -> Option<Link> {
        Some(self.live().clone()).filter(|link| !link.sender.is_closed())
    }

    /// The connection; made anew if it has broken.
    async fn link(&self) -> Result<Link, Failure> {
        if let Some(link) = self.unbroken() {
            return Ok(link);
        }
        let _turn = self.turn.lock().await;
        if let Some(link) = self.unbroken() {
            return Ok(link);
        }
        let link = Link::open(&self.endpoint, &self.target).await?;
        *self.live() = link.clone();
        Ok(link)
    }
}

/// What a request comes to, or that nothing was heard of it in time.
///
/// # Errors
/// As [`failure`]; of kind `Unknown` if time is over.
pub async fn in_time<T>(
    request: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    match timeout(DEADLINE_DEFAULT, request).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(failure),
        Err(_) => {
            let waited = DEADLINE_DEFAULT.as_secs();
            Err(Failure::new(Kind::Unknown, format!("no answer within {waited} s")))
        }
    }
}

impl Link {
    async fn open(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let opened = timeout(DEADLINE_DEFAULT, Self::open_now(endpoint, target)).await;
        opened.unwrap_or_else(|_| {
            Err(Failure::new(Kind::Unavailable, format!("{endpoint}: nobody answers")))
        })
    }

    async fn open_now(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let away = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Unavailable, format!("{endpoint}: {error}"))
        };
        let authority: Authority =
            endpoint.parse().map_err(|error| Failure::usage(format!("{endpoint}: {error}")))?;
        let stream = TcpStream::connect(endpoint).await.map_err(|error| away(&error))?;
        stream.set_nodelay(true).map_err(|error| away(&error))?;
        let (sender, scheme) = match &target.ca {
            None => (handshake(stream).await, Scheme::HTTP),
            Some(ca) => {
                let name = ServerName::try_from(authority.host().to_owned());
                let name = name.map_err(|error| Failure::usage(error.to_string()))?;
                let connector = TlsConnector::from(Arc::new(tls(ca, target)?));
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|error| away(&error))?;
                (handshake(stream).await, Scheme::HTTPS)
            }
        };
        let sender = sender.map_err(|error| away(&error))?;
        let mut connection = Self { sender, scheme, authority, token: None };
        if let Some((name, password)) = target.credentials()? {
            let request = AuthenticateRequest { name, password };
            let answer = AuthClient::new(connection.clone()).authenticate(request).await;
            let token = answer.map_err(failure)?.into_inner().token;
            let token = HeaderValue::try_from(token);
            connection.token = Some(token.map_err(|error| Failure::new(Kind::Refused, error))?);
        }
        Ok(connection)
    }
}

async fn handshake<S>(stream: S) -> Result<http2::SendRequest<Body>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    /// Many events may be on their way to one connection.
    const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        // A node that has gone without a word is noticed, too.
        .timer(TokioTimer::new())
        .keep_alive_interval(DEADLINE_DEFAULT)
        .keep_alive_timeout(DEADLINE_DEFAULT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(Gathered::new(stream)))
        .await?;
    // Ends with the last sender. What it fails of is told to the requests that wait.
    tokio::spawn(connection);
    Ok(sender)
}

fn tls(ca: &Path, target: &Target) -> Result<ClientConfig, Failure> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Kind::Local, format!("{}: {error}", path.display()))
            .advice("check --ca, --cert and --key")
    };
    let certificates = |path: &Path| {
        let all = CertificateDer::pem_file_iter(path).map_err(|error| bad(path, &error))?;
        all.collect::<Result<Vec<_>, _>>().map_err(|error| bad(path, &error))
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(ca, &error))?
        .with_root_certificates(roots);
    let mut config = match &target.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| bad(key, &error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What a refused request means.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn failure(status: tonic::Status) -> Failure {
    let kind = match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Kind::Unavailable,
        tonic::Code::Unknown | tonic::Code::Cancelled => Kind::Unknown,
        _ => Kind::Refused,
    };
    Failure::new(kind, status.message())
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let link = shared.link().await;
            let mut link = link.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            Ok(link.call(request).await?)
        })
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert(TOKEN, token.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_kv::etcd::proto::etcdserverpb::PutRequest;
    use tokio::net::TcpListener;

    async fn connect() -> (TcpListener, TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let target = Target {
            endpoints: vec![endpoint.clone()],
            ca: None,
            identity: None,
            user: None,
            password_file: None,
            deadline: None,
        };
        let open = async { Connection::open(&endpoint, &target).await.unwrap() };
        let (connection, accepted) = tokio::join!(open, listener.accept());
        (listener, accepted.unwrap().0, connection)
    }

    #[tokio::test]
    async fn a_connection_that_has_broken_is_made_anew() {
        let (listener, first, connection) = connect().await;
        drop(first);
        loop {
            let mut kv = connection.kv();
            tokio::select! {
                biased;
                _ = listener.accept() => return,
                refused = in_time(kv.put(PutRequest::default())) => drop(refused.unwrap_err()),
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_answers_ends() {
        let (_listener, _first, connection) = connect().await;
        tokio::time::pause();
        let refused = in_time(connection.kv().put(PutRequest::default())).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Unknown);
    }
}
