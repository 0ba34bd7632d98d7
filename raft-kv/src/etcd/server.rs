//! The door's ports: connections, TLS if it is asked for, HTTP/1 and HTTP/2 on each, and what
//! bounds them. It knows no service.

use super::authority::Named;
use super::gathered::Gathered;
use super::patience::Patient;
use super::route::Router;
use super::tls::{CommonName, DoorTls};
use super::wakes::{Wakes, together};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tracing::{debug, warn};

/// Most connections at a time; a further one waits until another one ends.
const CONNECTIONS_MAX: usize = 32 * 1024;
/// Most requests and streams of one connection at a time.
const STREAMS_MAX: u32 = 128 * 1024;
/// Bytes that a client may send ahead, on a stream and on a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of headers of one request.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// A client that says nothing for so long is asked whether it is there, and how long it has to
/// answer.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// How long a handshake of TLS may take, and most of them at a time: a further one waits.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const HANDSHAKES_MAX: usize = 256;
/// How long a client may say nothing of what it speaks.
const SPEECH_PATIENCE: Duration = Duration::from_secs(30);
/// How long a request may take to name itself.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// How long requests may go on once the door is to be closed.
const GRACE: Duration = Duration::from_secs(1);
/// After a connection could not be taken, as with too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Of a request that did not come over TLS.
#[derive(Clone, Copy)]
pub(super) struct Unencrypted;

/// A port, and what is to be had there.
#[derive(Debug)]
pub struct Entrance {
    /// The port.
    pub listener: TcpListener,
    /// Its TLS; without, it is in the open.
    pub tls: Option<Arc<DoorTls>>,
    /// Whether only health, version and metrics are answered.
    pub probes_only: bool,
    /// Runtimes that serve its connections, in turn; where there are none, the one that takes them
    /// does. Best are runtimes of one thread: a connection stays where it is, so nothing of a
    /// request ever changes threads.
    pub workers: Vec<Handle>,
}

/// Where connections are served.
struct Worker {
    runtime: Handle,
    wakes: Arc<Wakes>,
}

/// Serves connections until `shutdown`, and what is under way then for a moment longer.
pub(super) async fn serve(router: Router, entrance: Entrance, shutdown: impl Future<Output = ()>) {
    let Entrance { listener, tls, probes_only, workers } = entrance;
    let mut wakers = JoinSet::new();
    let workers = open_workers(workers, &mut wakers);
    let mut workers = workers.iter().cycle();
    let router = if probes_only { router.probes_only() } else { router };
    let tls = tls.map(|tls| (tls, Arc::new(Semaphore::new(HANDSHAKES_MAX))));
    let (closing, closed) = watch::channel(false);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let accepted = async {
            let place = place.await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accepted => match accepted.and_then(unbound) {
                Ok((stream, peer)) => {
                    let Some(worker) = workers.next() else { break };
                    let (closed, tls) = (closed.clone(), tls.clone());
                    let wakes = Arc::clone(&worker.wakes);
                    let router = router.of_connection(Arc::clone(&wakes));
                    let serving = async move {
                        let _place = place;
                        if let Err(error) = serve_one(stream, tls, router, wakes, closed).await {
                            debug!(%peer, error, "a connection of the etcd door ended");
                        }
                    };
                    connections.spawn_on(serving, &worker.runtime);
                }
                Err(error) => {
                    warn!(%error, "the etcd door cannot take a connection");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    // Watches do not end by themselves.
    let _ = timeout(GRACE, all).await;
}

/// What serves on `runtimes`, or on this one if there are none.
fn open_workers(mut runtimes: Vec<Handle>, wakers: &mut JoinSet<()>) -> Vec<Worker> {
    if runtimes.is_empty() {
        runtimes.push(Handle::current());
    }
    let open = |runtime: Handle| {
        let wakes = Arc::new(Wakes::default());
        wakers.spawn_on(Arc::clone(&wakes).run(), &runtime);
        Worker { runtime, wakes }
    };
    runtimes.into_iter().map(open).collect()
}

/// Of a connection that another runtime may serve.
fn unbound((stream, peer): (TcpStream, SocketAddr)) -> io::Result<(net::TcpStream, SocketAddr)> {
    Ok((stream.into_std()?, peer))
}

/// Serves a connection, over TLS if it is to be.
async fn serve_one(
    stream: net::TcpStream,
    tls: Option<(Arc<DoorTls>, Arc<Semaphore>)>,
    router: Router,
    wakes: Arc<Wakes>,
    mut closed: watch::Receiver<bool>,
) -> Result<(), String> {
    let bind = |stream: net::TcpStream| {
        stream.set_nodelay(true)?;
        TcpStream::from_std(stream)
    };
    let stream = bind(stream).map_err(|error: io::Error| error.to_string())?;
    let Some((tls, handshakes)) = tls else {
        return connection(stream, Err(Unencrypted), router, wakes, closed).await;
    };
    let handshake = async {
        // Whoever says nothing takes no turn from those who do.
        stream.readable().await.map_err(|error| error.to_string())?;
        let _turn = handshakes.acquire().await;
        tls.accept(stream).await.map_err(|error| format!("handshake: {error}"))
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_PATIENCE, handshake) => shaken,
        _ = closed.wait_for(|closed| *closed) => return Ok(()),
    };
    let (stream, name) = shaken.map_err(|_| "no handshake in time".to_owned())??;
    connection(stream, Ok(name), router, wakes, closed).await
}

async fn connection<S>(
    stream: S,
    shown: Result<Option<CommonName>, Unencrypted>,
    router: Router,
    wakes: Arc<Wakes>,
    mut closed: watch::Receiver<bool>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        match &shown {
            Ok(Some(name)) => drop(request.extensions_mut().insert(name.clone())),
            Ok(None) => {}
            Err(unencrypted) => drop(request.extensions_mut().insert(*unencrypted)),
        }
        let answer = together(Arc::clone(&wakes), router.answer(request.map(Body::new)));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let stream = Patient::new(Gathered::new(stream), SPEECH_PATIENCE);
    let stream = TokioIo::new(Named::new(stream));
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(stream, service));
    tokio::select! {
        ended = &mut connection => return ended.map_err(|error| error.to_string()),
        _ = closed.wait_for(|closed| *closed) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(|error| error.to_string())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    builder
}
