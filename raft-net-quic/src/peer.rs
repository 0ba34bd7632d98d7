//! One peer: keeps one outgoing connection to it, with a stream per purpose.
//!
//! Messages are sent only on connections this side dialled. A peer that cannot be reached costs
//! one small packet every now and then, and one log line per change of the reason.

use crate::config::Limits;
use crate::error::{NoConnection, ProtocolError, close, describe, printable};
use crate::frame::{self, FrameReader};
use crate::hello::{Hello, Purpose, STREAMS_SINCE};
use crate::probe::Probed;
use crate::queue::Queue;
use crate::request::{Calls, not_sent};
use crate::shared::{Shared, canonical};
use crate::stream::Streams;
use crate::tls;
use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, Endpoint, SendStream, VarInt};
use raft_core::raft::Envelope;
use raft_core::transport::{BoxFuture, CallError, Duplex};
use raft_core::types::{GroupId, Identity, NodeId, Version};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Bytes a hello or another control frame of the transport itself may have.
pub(crate) const SMALL_FRAME: usize = 4096;

pub(crate) struct Peer {
    node: NodeId,
    /// Where it is; `None` ends its task.
    address: watch::Sender<Option<String>>,
    /// What that stood for when it was last dialled.
    resolved: Mutex<Vec<SocketAddr>>,
    /// Votes, heartbeats and whatever else must not wait behind entries.
    control: Queue,
    bulk: Queue,
    /// Bytes of messages that have come from it.
    received: AtomicU64,
    link: watch::Sender<Link>,
    /// The connection, while there is one, and the calls that wait on it.
    current: Mutex<Option<Current>>,
    /// The peer has connected to this node, so it lives.
    heard: Notify,
    probed: Probed,
}

/// The connection to a peer, and what goes over it.
struct Current {
    connection: Connection,
    calls: Arc<Calls>,
    streams: Streams,
}

/// Whether this node's own connection to a peer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It does.
    Connected,
    /// It does not; tries go on.
    Unreachable {
        /// Since when.
        since: std::time::Instant,
        /// Why the last try failed, in one line.
        reason: String,
    },
}

/// What goes to and comes from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Whom it is about.
    pub peer: NodeId,
    /// Bytes of messages sent since it is known here. Snapshots and requests are not counted.
    pub sent: u64,
    /// Bytes of messages received since then.
    pub received: u64,
    /// How long a packet there and back takes at present; `None` while not connected.
    pub round_trip: Option<Duration>,
    /// Bytes of the largest packet that the path there is known to take; `None` while not
    /// connected.
    pub packet_bytes: Option<u16>,
}

impl Peer {
    pub(crate) fn new(node: NodeId, address: String, limits: &Limits) -> Self {
        let reason = "not connected yet".into();
        Self {
            node,
            address: watch::Sender::new(Some(address)),
            resolved: Mutex::default(),
            control: Queue::new(limits),
            bulk: Queue::new(limits),
            received: AtomicU64::new(0),
            link: watch::Sender::new(Link::Unreachable {
                since: std::time::Instant::now(),
                reason,
            }),
            current: Mutex::new(None),
            heard: Notify::new(),
            probed: Probed::new(false),
        }
    }

    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) const fn probed(&self) -> &Probed {
        &self.probed
    }

    pub(crate) fn set_address(&self, address: Option<String>) {
        self.address.send_if_modified(|current| {
            let changed = *current != address;
            *current = address;
            changed
        });
    }

    /// Whether its address is this one, or is a name that stood for it when it was last dialled.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        let known = self.address.borrow();
        known.as_deref().is_some_and(|known| known.parse() == Ok(address))
            || self.resolved.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Takes note of what its address stands for.
    pub(crate) fn note(&self, addresses: &[SocketAddr]) {
        /// A name seldom stands for more.
        const KEPT: usize = 16;
        let known = addresses.iter().take(KEPT).map(|address| canonical(*address)).collect();
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Where it is connected, or was last dialled: any of these may be where it is.
    pub(crate) fn reached(&self) -> Vec<SocketAddr> {
        if let Some(current) = &*self.current() {
            return vec![current.connection.remote_address()];
        }
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn address(&self) -> Option<String> {
        self.address.borrow().clone()
    }

    /// Queues a message. False if it was dropped.
    pub(crate) fn send(&self, group: GroupId, envelope: Envelope) -> bool {
        let queue = if envelope.message.is_bulk() { &self.bulk } else { &self.control };
        queue.push(group, envelope)
    }

    /// The peer has connected to this node anew, perhaps because it was restarted: without a word
    /// from here it would not be noticed that this node's own connection leads nowhere, and the
    /// next message, a vote perhaps, would be lost.
    pub(crate) fn connected_anew(&self) {
        self.heard.notify_waiters();
        self.control.probe();
    }

    pub(crate) fn call(
        &self,
        group: GroupId,
        request: Bytes,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        if let Some(current) = &*self.current() {
            return current.calls.call(group, request);
        }
        not_sent(self.why_unreachable())
    }

    pub(crate) fn open_stream(
        &self,
        group: GroupId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        if let Some(current) = &*self.current() {
            return current.streams.open(group, first);
        }
        not_sent(self.why_unreachable())
    }

    fn why_unreachable(&self) -> String {
        let reason = match &*self.link.borrow() {
            Link::Unreachable { since, reason } => {
                format!("unreachable for {:.1} s: {reason}", since.elapsed().as_secs_f64())
            }
            Link::Connected => "just connected".into(),
        };
        let address = self.address().unwrap_or_default();
        format!("{} at {address} {reason}", self.node)
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// How long a packet there and back takes at present; `None` while not connected.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.current().as_ref().map(|current| current.connection.rtt())
    }

    fn packet_bytes(&self) -> Option<u16> {
        self.current().as_ref().map(|current| current.connection.stats().path.current_mtu)
    }

    /// Messages of so many bytes have come from it.
    pub(crate) fn has_sent(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            peer: self.node,
            sent: self.control.sent() + self.bulk.sent(),
            received: self.received.load(Ordering::Relaxed),
            round_trip: self.round_trip(),
            packet_bytes: self.packet_bytes(),
        }
    }

    fn connected(&self, current: Current, spoken: Version) {
        *self.current() = Some(current);
        self.control.set_open(Some(spoken));
        self.bulk.set_open(Some(spoken));
        self.link.send_replace(Link::Connected);
    }

    /// Drops what waits; calls end. Returns whether the reason is news.
    fn disconnected(&self, reason: &str) -> bool {
        self.control.set_open(None);
        self.bulk.set_open(None);
        let current = self.current().take();
        if let Some(Current { calls, .. }) = current {
            calls.close(reason);
        }
        self.link.send_if_modified(|link| {
            let since = match link {
                Link::Unreachable { reason: known, .. } if known == reason => return false,
                Link::Unreachable { since, .. } => *since,
                Link::Connected => std::time::Instant::now(),
            };
            *link = Link::Unreachable { since, reason: reason.into() };
            true
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to `peer` and stays connected until it has no address any more.
pub(crate) async fn keep_connected(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut address = peer.address.subscribe();
    let mut identity = shared.identity.subscribe();
    let mut pause = shared.limits().backoff_min;
    loop {
        let Some(target) = address.borrow_and_update().clone() else { break };
        let me = identity.borrow_and_update().filter(|me| me.node != peer.node);
        let begin = Instant::now();
        let (reason, at_once) = tokio::select! {
            reason = session(&shared, &peer, me, &target) => (reason, false),
            _ = address.changed() => ("its address changed".into(), true),
            _ = identity.changed() => ("this node's identity changed".into(), true),
        };
        let was_connected = *peer.link.borrow() == Link::Connected;
        let is_news = peer.disconnected(&reason) && !at_once;
        if is_news && shared.endpoint().is_none() {
            tracing::debug!(peer = %peer.node, address = target, reason, "peer left");
        } else if is_news {
            tracing::warn!(peer = %peer.node, address = target, reason, "peer unreachable");
        }
        if at_once || (was_connected && begin.elapsed() >= shared.limits().backoff_max) {
            pause = shared.limits().backoff_min;
        }
        if at_once {
            continue;
        }
        // A try that itself took long is followed by the next at once.
        tokio::select! {
            () = tokio::time::sleep_until(begin + jittered(pause)) => {
                pause = (pause * 2).min(shared.limits().backoff_max);
            }
            () = peer.heard.notified() => {}
            _ = address.changed() => {
                pause = shared.limits().backoff_min;
            }
        }
    }
    peer.disconnected("it is no member any more");
}

/// Half to all of a pause, so that nodes do not try in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause / 2 + (pause / 2).mul_f64(tls::random() as f64 / u64::MAX as f64)
}

/// One connection from dial to loss; returns why it is lost.
async fn session(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    me: Option<Identity>,
    address: &str,
) -> String {
    // A node does not connect before a group is opened, nor ever to itself.
    let Some(me) = me else { return std::future::pending().await };
    let dialled = match dial(shared, peer.node, address, me, Purpose::Messages).await {
        Ok(dialled) => dialled,
        Err(reason) => return reason,
    };
    let Dialled { connection, send, remote, spoken } = dialled;
    let mut streams = match open_streams(shared, peer, &connection, send, spoken).await {
        Ok(streams) => streams,
        Err(error) => return error.to_string(),
    };
    tracing::info!(
        peer = %peer.node, address, incarnation = %remote.identity.incarnation, %spoken,
        "peer connected"
    );
    let ended = tokio::select! {
        error = connection.closed() => return describe(&error),
        ended = streams.join_next() => ended,
    };
    if let Some(error) = connection.close_reason() {
        return describe(&error);
    }
    let reason = match ended {
        Some(Ok(reason)) => reason,
        _ => "a stream ended".into(),
    };
    shared.counters.violations();
    connection.close(VarInt::from_u32(close::PROTOCOL), reason.as_bytes());
    reason
}

async fn open_streams(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: &Connection,
    mut control: SendStream,
    spoken: Version,
) -> Result<JoinSet<String>, ProtocolError> {
    let calls = Calls::new(shared.limits());
    let mut bulk = connection.open_uni().await?;
    let (mut requests, replies) = connection.open_bi().await?;
    // Strict: whatever a higher stream has to send goes first. Fails only on closed streams.
    let _ = control.set_priority(2);
    let _ = requests.set_priority(1);
    bulk.write_all(&open_frame(frame::STREAM_BULK)).await?;
    requests.write_all(&open_frame(frame::STREAM_REQUESTS)).await?;
    let mut streams = JoinSet::new();
    let writer = Arc::clone(peer);
    streams.spawn(async move { outcome(writer.control.write(&mut control).await) });
    let writer = Arc::clone(peer);
    streams.spawn(async move { outcome(writer.bulk.write(&mut bulk).await) });
    let writer = Arc::clone(&calls);
    streams.spawn(async move { outcome(writer.write(&mut requests).await) });
    let reader = Arc::clone(&calls);
    streams.spawn(async move { outcome(reader.read(&mut FrameReader::new(replies, 0)).await) });
    let reader = Arc::clone(&calls);
    let large = connection.clone();
    streams.spawn(async move { reader.read_large(&large).await.to_string() });
    let known = spoken >= STREAMS_SINCE;
    let own = Streams::new(connection.clone(), known, shared.limits());
    peer.connected(Current { connection: connection.clone(), calls, streams: own }, spoken);
    Ok(streams)
}

fn outcome(result: Result<(), ProtocolError>) -> String {
    result.err().map_or_else(|| "a stream ended".into(), |error| error.to_string())
}

fn open_frame(purpose: u8) -> BytesMut {
    let mut frame = BytesMut::new();
    frame::put(&mut frame, frame::OPEN, |out| out.put_u8(purpose));
    frame
}

/// A connection on which both ends have said who they are.
pub(crate) struct Dialled {
    pub(crate) connection: Connection,
    /// The rest of the stream that carried the hello.
    pub(crate) send: SendStream,
    pub(crate) remote: Hello,
    /// The version that both speak.
    pub(crate) spoken: Version,
}

/// Connects to a node as a node. The error is one line that does not repeat who and where.
pub(crate) async fn dial(
    shared: &Shared,
    node: NodeId,
    address: &str,
    me: Identity,
    purpose: Purpose,
) -> Result<Dialled, String> {
    let endpoint = shared.endpoint().ok_or("this node is stopping")?;
    let config = shared.peer_config();
    let limit = shared.limits().dial_timeout;
    let name = tls::server_name(node);
    let hello = Hello::new(purpose, me, node, shared.version);
    let ipv6 = endpoint.local_addr().is_ok_and(|address| address.is_ipv6());
    let mut reason = String::from("its name has no IPv4 address, and this node listens on one");
    let found = resolve(address).await?;
    shared.resolved(node, &found);
    for address in found.into_iter().filter(|to| ipv6 || to.is_ipv4()) {
        let greeted = connect(&endpoint, config.clone(), address, &name, hello);
        match timeout(limit, greeted).await {
            Err(_) => reason = no_answer(limit),
            Ok(Err(error)) => reason = error.reason,
            Ok(Ok((connection, send, _, remote))) => {
                let (code, error) = match check(&remote, node, me, shared.version) {
                    Ok(spoken) => return Ok(Dialled { connection, send, remote, spoken }),
                    Err(refused) => refused,
                };
                reason = error;
                connection.close(VarInt::from_u32(code), reason.as_bytes());
            }
        }
    }
    Err(reason)
}

/// Whether the hello of the other end is of the node that was meant, in any life; the version to
/// speak with it, or the close code and text for it.
fn check(
    remote: &Hello,
    node: NodeId,
    me: Identity,
    newest: Version,
) -> Result<Version, (u32, String)> {
    let theirs = remote.identity;
    if (theirs.cluster, theirs.node) != (me.cluster, node) {
        let text = format!(
            "it is node {} of cluster {}, not {node} of {}",
            theirs.node, theirs.cluster, me.cluster
        );
        return Err((close::NODE, text));
    }
    remote.spoken(me.node, newest).map_err(|text| (close::VERSION, text))
}

pub(crate) fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

/// The addresses a `host:port` stands for; at least one.
pub(crate) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host(address).await;
    let found: Vec<_> = found.map_err(|error| format!("cannot resolve it: {error}"))?.collect();
    if found.is_empty() { Err("its name has no address".into()) } else { Ok(found) }
}

/// Connects and exchanges hellos, for peers and clients.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
    name: &str,
    hello: Hello,
) -> Result<(Connection, SendStream, FrameReader, Hello), NoConnection> {
    let connecting = endpoint.connect_with(config, address, name);
    let connecting = connecting.map_err(|error| printable(error.to_string().as_bytes()))?;
    let connection = connecting.await?;
    let protocol = tls::protocol(&connection).ok_or_else(|| "unknown protocol".to_owned())?;
    let greeting = async {
        let (mut send, recv) = connection.open_bi().await?;
        let mut frame = BytesMut::new();
        hello.encode(protocol, &mut frame);
        send.write_all(&frame).await?;
        let mut reader = FrameReader::new(recv, SMALL_FRAME);
        let frame = reader.next().await?.ok_or(ProtocolError::Truncated)?;
        Ok::<_, ProtocolError>((send, reader, Hello::decode(frame, protocol)?))
    };
    let greeting = greeting.await;
    match greeting {
        Ok((send, reader, remote)) => Ok((connection, send, reader, remote)),
        // A stream that broke says less than the reason the other end closed with.
        Err(error) => match connection.close_reason() {
            Some(closed) => Err(closed.into()),
            None => Err(error.to_string().into()),
        },
    }
}
