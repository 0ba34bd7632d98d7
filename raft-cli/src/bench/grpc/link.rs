//! A connection until it breaks.

use super::messages::{Answers, encode, only, refusal};
use super::{Method, tls};
use crate::args::connection::{DEADLINE_DEFAULT, Target};
use crate::failure::{Failure, Kind};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, StatusCode, Uri};
use prost::Message;
use raft_kv::etcd::Gathered;
use raft_kv::etcd::proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// The header that tells whose request it is.
const TOKEN: HeaderName = HeaderName::from_static("token");
/// Many events may be on their way to one connection.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What is known of a connection.
#[derive(Default)]
struct State {
    /// Whether it takes no more requests.
    broken: AtomicBool,
    /// Requests and streams that are under way: as many copies as there are, and one.
    under_way: Arc<()>,
}

/// Counts as under way until it is dropped.
pub(super) struct UnderWay(#[expect(dead_code, reason = "counted")] Arc<()>);

/// See the module.
pub(super) struct Link {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    /// By method.
    uris: Vec<Uri>,
    /// Of every request.
    headers: HeaderMap,
}

impl Link {
    /// Connects, and logs in if there is a user.
    pub(super) async fn open(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let opened = timeout(DEADLINE_DEFAULT, Self::open_now(endpoint, target)).await;
        opened.unwrap_or_else(|_| {
            Err(Failure::new(Kind::Unavailable, format!("{endpoint}: nobody answers")))
        })
    }

    async fn open_now(endpoint: &str, target: &Target) -> Result<Self, Failure> {
        let away = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Unavailable, format!("{endpoint}: {error}"))
        };
        let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("{endpoint}: {error}"));
        let authority: Authority = endpoint.parse().map_err(|error| bad(&error))?;
        let stream = TcpStream::connect(endpoint).await.map_err(|error| away(&error))?;
        stream.set_nodelay(true).map_err(|error| away(&error))?;
        let (shaken, scheme) = match &target.ca {
            None => (handshake(stream).await, Scheme::HTTP),
            Some(ca) => {
                let name = ServerName::try_from(authority.host().to_owned());
                let name = name.map_err(|error| Failure::usage(error.to_string()))?;
                let connector = TlsConnector::from(Arc::new(tls::tls(ca, target)?));
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|error| away(&error))?;
                (handshake(stream).await, Scheme::HTTPS)
            }
        };
        let (sender, state) = shaken.map_err(|error| away(&error))?;
        let uri = |method: Method| {
            let parts = Uri::builder().scheme(scheme.clone()).authority(authority.clone());
            parts.path_and_query(method.path()).build()
        };
        let uris = Method::ALL.into_iter().map(uri).collect::<Result<_, _>>();
        let uris = uris.map_err(|error| bad(&error))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let mut link = Self { sender, state, uris, headers };
        link.log_in(target).await?;
        Ok(link)
    }

    async fn log_in(&mut self, target: &Target) -> Result<(), Failure> {
        let Some((name, password)) = target.credentials()? else { return Ok(()) };
        let request = AuthenticateRequest { name, password };
        let answer: AuthenticateResponse = self.call(Method::Authenticate, &request).await?;
        let token = HeaderValue::try_from(answer.token);
        let token = token.map_err(|error| Failure::new(Kind::Refused, error))?;
        self.headers.insert(TOKEN, token);
        Ok(())
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state.broken.load(Ordering::Relaxed)
    }

    /// See [`Connection::call`](super::Connection::call).
    pub(super) async fn call<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let (answer, _requests, _under_way) = self.begin(method, request, true).await?;
        only(answer).await
    }

    /// See [`Connection::stream`](super::Connection::stream).
    pub(super) async fn stream<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
    ) -> Result<Answers<A>, Failure> {
        let (answer, requests, under_way) = self.begin(method, request, false).await?;
        Ok(Answers::new(answer, (requests, under_way)))
    }

    /// Sends a request, the only one if it `ends` with that; returns the answer that has begun.
    async fn begin(
        &self,
        method: Method,
        request: &impl Message,
        ends: bool,
    ) -> Result<(RecvStream, SendStream<Bytes>, UnderWay), Failure> {
        let not_sent = |error: h2::Error| {
            // One that is about to end still has streams, but takes no more.
            self.state.broken.store(true, Ordering::Relaxed);
            Failure::new(Kind::Unavailable, error)
        };
        let under_way = UnderWay(Arc::clone(&self.state.under_way));
        let mut head = Request::new(());
        *head.method_mut() = http::Method::POST;
        *head.uri_mut() = self.uris[method as usize].clone();
        *head.headers_mut() = self.headers.clone();
        let mut sender = self.sender.clone().ready().await.map_err(not_sent)?;
        let (answer, mut requests) = sender.send_request(head, false).map_err(not_sent)?;
        requests.send_data(encode(request), ends).map_err(not_sent)?;
        let (head, answer) = answer.await.map_err(lost)?.into_parts();
        match refusal(&head.headers) {
            Some(refused) => Err(refused),
            None if head.status != StatusCode::OK => {
                Err(Failure::new(Kind::Unavailable, format!("HTTP status {}", head.status)))
            }
            None => Ok((answer, requests, under_way)),
        }
    }
}

/// Of what was sent: whether it was done nobody knows, unless the server says that it never looked.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn lost(error: h2::Error) -> Failure {
    let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    let kind = if refused { Kind::Unavailable } else { Kind::Unknown };
    Failure::new(kind, error.to_string())
}

/// A connection over `stream`.
async fn handshake<S>(stream: S) -> Result<(SendRequest<Bytes>, Arc<State>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.enable_push(false);
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let (sender, connection) = builder.handshake(Gathered::new(stream)).await?;
    let state = Arc::new(State::default());
    tokio::spawn(drive(connection, Arc::clone(&state)));
    Ok((sender, state))
}

/// Does what a connection has to do, until it ends: with the last sender, or because it is broken.
/// What it fails of is told to the requests that wait.
async fn drive<S>(mut connection: Connection<S, Bytes>, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pings = connection.ping_pong();
    tokio::select! {
        _ = &mut connection => {}
        () = until_silent(pings, &state) => {}
    }
    state.broken.store(true, Ordering::Relaxed);
}

/// Waits until the other end has gone without a word while something was expected of it. It is not
/// asked otherwise: some servers take that ill.
async fn until_silent(pings: Option<PingPong>, state: &State) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(DEADLINE_DEFAULT).await;
        if Arc::strong_count(&state.under_way) > 1 {
            let pong = timeout(DEADLINE_DEFAULT, pings.ping(Ping::opaque())).await;
            if !matches!(pong, Ok(Ok(_))) {
                return;
            }
        }
    }
}
