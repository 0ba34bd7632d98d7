//! Accepting connections: who may come in, and what is read from them.
//!
//! Everything that arrives is taken for hostile until its certificate and hello are checked. A
//! remote end that breaks the protocol loses its connection, is counted and logged, and nothing
//! else happens.

use crate::config::Trust;
use crate::crowd::{Crowd, Place, Verdict};
use crate::error::{ProtocolError, close, describe};
use crate::frame::{self, Frame, FrameReader};
use crate::hello::{Hello, NOBODY, Protocol, Purpose};
use crate::peer::SMALL_FRAME;
use crate::request::{self, InFlight};
use crate::shared::Shared;
use crate::{snapshot, stream, tls};
use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use raft_core::codec::decode_envelope;
use raft_core::transport::Caller;
use raft_core::types::{Identity, NodeId, Version};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Accepts until the endpoint is closed.
pub(crate) async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let limits = shared.limits();
    let crowd = Crowd::new(limits);
    let clients = Arc::new(Semaphore::new(limits.clients_max));
    while let Some(incoming) = endpoint.accept().await {
        let is_peer = shared.is_peer(incoming.remote_address());
        match crowd.admit(&incoming, is_peer) {
            Verdict::Enter(place) => {
                tokio::spawn(serve(Arc::clone(&shared), incoming, place, Arc::clone(&clients)));
            }
            Verdict::Prove => {
                // Fails only for validated addresses.
                let _ = incoming.retry();
            }
            Verdict::Ignore => put_off(&shared, incoming),
        }
    }
}

/// Leaves somebody without an answer, who will come again by itself.
fn put_off(shared: &Shared, incoming: Incoming) {
    shared.counters.handshakes_put_off();
    shared.crowded();
    incoming.ignore();
}

/// A refusal: the close code and the text that goes with it.
struct Refusal(u32, String);

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self(error.code(), error.to_string())
    }
}

/// Whoever has come in: the connection, who it is, and the stream of its hello.
type Greeted = (Connection, RemoteEnd, FrameReader, SendStream);

/// Lets somebody in; `None` if it was refused.
async fn let_in(shared: &Shared, incoming: Incoming) -> Option<Greeted> {
    let remote = incoming.remote_address();
    let connecting = incoming.accept().ok()?;
    let patience = shared.limits().hello_timeout;
    let connection = match timeout(patience, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.refused(remote, &describe(&error));
            return None;
        }
        Err(_) => {
            shared.refused(remote, "no handshake in time");
            return None;
        }
    };
    let greeted = timeout(patience, greet(shared, &connection)).await;
    match greeted.unwrap_or_else(|_| Err(Refusal(close::TIMEOUT, "no hello in time".into()))) {
        Ok((remote_end, reader, send)) => Some((connection, remote_end, reader, send)),
        Err(refusal) => {
            refuse(shared, &connection, &refusal);
            None
        }
    }
}

async fn serve(shared: Arc<Shared>, incoming: Incoming, place: Place, clients: Arc<Semaphore>) {
    let remote = incoming.remote_address();
    let Some(turn) = place.turn().await else { return put_off(&shared, incoming) };
    let greeted = turn.hold(let_in(&shared, incoming)).await;
    drop(place);
    let Some((connection, remote_end, mut reader, mut send)) = greeted else { return };
    let hello = remote_end.hello;
    let result = match hello.purpose {
        Purpose::Messages | Purpose::Snapshots => {
            if let Err(text) = shared.accepted(&hello, &connection) {
                return refuse(&shared, &connection, &Refusal(close::CROWDED, text));
            }
            serve_peer(&shared, &connection, remote_end, reader, &mut send).await
        }
        Purpose::Client => {
            let Ok(_permit) = clients.try_acquire_owned() else {
                let refusal = Refusal(close::CROWDED, "too many clients are connected".into());
                return refuse(&shared, &connection, &refusal);
            };
            match welcome(&shared, remote_end, &mut send).await {
                Ok(()) => serve_client(&shared, &connection, &mut reader, &mut send).await,
                Err(error) => Err(error),
            }
        }
    };
    match result {
        Err(ProtocolError::Lost(reason)) => tracing::debug!(%remote, reason, "connection ended"),
        Err(error) => {
            shared.counters.violations();
            let reason = error.to_string();
            tracing::warn!(%remote, node = %hello.identity.node, reason, "connection dropped");
            connection.close(VarInt::from_u32(error.code()), reason.as_bytes());
        }
        Ok(()) => {}
    }
}

fn refuse(shared: &Shared, connection: &Connection, refusal: &Refusal) {
    let Refusal(code, reason) = refusal;
    shared.refused(connection.remote_address(), reason);
    connection.close(VarInt::from_u32(*code), reason.as_bytes());
}

/// Who is at the other end of a connection, as checked.
#[derive(Clone, Copy)]
struct RemoteEnd {
    protocol: Protocol,
    hello: Hello,
    /// The version that both speak.
    spoken: Version,
}

/// Reads the hello and checks it against certificate, ALPN and this node's own identity.
async fn greet(
    shared: &Shared,
    connection: &Connection,
) -> Result<(RemoteEnd, FrameReader, SendStream), Refusal> {
    let Some(protocol) = tls::protocol(connection) else {
        return Err(Refusal(close::PROTOCOL, "unknown protocol".into()));
    };
    let is_peer = protocol.is_peer();
    let presented = tls::presented(connection);
    if is_peer && presented.is_none() && shared.trust != Trust::Anyone {
        return Err(Refusal(close::CERTIFICATE, "a node must present a certificate".into()));
    }
    let (send, recv) = connection.accept_bi().await.map_err(ProtocolError::from)?;
    let mut reader = FrameReader::new(recv, SMALL_FRAME);
    let frame = reader.next().await?.ok_or(ProtocolError::Truncated)?;
    let hello = Hello::decode(frame, protocol)?;
    if is_peer == (hello.purpose == Purpose::Client) {
        return Err(Refusal(close::PROTOCOL, "the hello does not fit the protocol".into()));
    }
    let mut spoken = Version::OLDEST;
    if is_peer {
        let chain = presented.unwrap_or_default();
        let me = shared.identity.borrow().ok_or_else(|| {
            Refusal(close::NOT_READY, "the node is starting and serves no group yet".into())
        })?;
        if shared.trust == Trust::Named {
            check_name(hello.identity.node, &chain)?;
        }
        check_peer(me, hello)?;
        let common = hello.spoken(me.node, shared.version);
        spoken = common.map_err(|text| Refusal(close::VERSION, text))?;
    }
    Ok((RemoteEnd { protocol, hello, spoken }, reader, send))
}

/// Whether the certificate proves that the other end is the node it says.
fn check_name(
    node: NodeId,
    chain: &[rustls::pki_types::CertificateDer<'static>],
) -> Result<(), Refusal> {
    if tls::belongs_to(chain, node) {
        return Ok(());
    }
    let name = tls::server_name(node);
    let text = format!("the certificate of {node} does not carry the name {name}");
    Err(Refusal(close::CERTIFICATE, text))
}

fn check_peer(me: Identity, hello: Hello) -> Result<(), Refusal> {
    let Hello { identity: peer, to, .. } = hello;
    if peer.cluster != me.cluster {
        let text = format!(
            "{} belongs to cluster {}, {} to cluster {}",
            me.node, me.cluster, peer.node, peer.cluster
        );
        return Err(Refusal(close::CLUSTER, text));
    }
    if to != me.node || peer.node == me.node {
        let text = format!("{} dialled {to} and reached {}", peer.node, me.node);
        return Err(Refusal(close::NODE, text));
    }
    Ok(())
}

async fn welcome(
    shared: &Shared,
    remote_end: RemoteEnd,
    send: &mut SendStream,
) -> Result<(), ProtocolError> {
    let identity = shared.identity.borrow().unwrap_or(NOBODY);
    let hello = Hello::new(remote_end.hello.purpose, identity, NodeId(0), shared.version);
    let mut frame = BytesMut::new();
    hello.encode(remote_end.protocol, &mut frame);
    Ok(send.write_all(&frame).await?)
}

async fn serve_peer(
    shared: &Arc<Shared>,
    connection: &Connection,
    remote_end: RemoteEnd,
    reader: FrameReader,
    send: &mut SendStream,
) -> Result<(), ProtocolError> {
    let hello = remote_end.hello;
    let mut identity = shared.identity.subscribe();
    let served = tokio::select! {
        result = serve_streams(shared, connection, remote_end, reader, send) => result,
        _ = identity.wait_for(|me| me.is_none_or(|me| me.cluster != hello.identity.cluster)) => {
            Err(ProtocolError::Lost("this node's identity changed".into()))
        }
    };
    shared.left(&hello, connection);
    served
}

/// Reads every stream of a peer until the connection is gone or one stream breaks the protocol.
async fn serve_streams(
    shared: &Arc<Shared>,
    connection: &Connection,
    remote_end: RemoteEnd,
    reader: FrameReader,
    send: &mut SendStream,
) -> Result<(), ProtocolError> {
    welcome(shared, remote_end, send).await?;
    let hello = remote_end.hello;
    let peer = hello.identity.node;
    let in_flight = InFlight::new(shared.limits());
    // One of them carries the requests.
    let room = room_for_streams(shared, 1);
    let mut streams: JoinSet<Result<(), ProtocolError>> = JoinSet::new();
    if hello.purpose == Purpose::Messages {
        streams.spawn(read_messages(Arc::clone(shared), hello, reader));
    }
    loop {
        tokio::select! {
            stream = connection.accept_uni() => {
                streams.spawn(serve_uni(Arc::clone(shared), hello, stream?));
            }
            stream = accept_bi(connection, &room) => {
                let (send, recv, permit) = stream?;
                let shared = Arc::clone(shared);
                if hello.purpose == Purpose::Snapshots {
                    drop(permit);
                    let spoken = remote_end.spoken;
                    // A task that outlives the connection: it puts aside what has arrived.
                    let task = snapshot::receive(shared, hello, spoken, recv, send);
                    let task = tokio::spawn(task);
                    streams.spawn(async { task.await.unwrap_or(Ok(())) });
                } else {
                    let connection = connection.clone();
                    let in_flight = in_flight.clone();
                    streams.spawn(async move {
                        let ends = (send, FrameReader::new(recv, 0));
                        serve_bi(&shared, &connection, peer, &in_flight, ends, permit).await
                    });
                }
            }
            Some(ended) = streams.join_next() => match ended {
                Ok(result) => result?,
                Err(_) => return Err(ProtocolError::Lost("a stream's task ended".into())),
            },
        }
    }
}

/// How many streams of services one connection may have, and `more` streams.
fn room_for_streams(shared: &Shared, more: usize) -> Arc<Semaphore> {
    let most = shared.limits().streams_max.saturating_add(more);
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

/// Waits for a stream, once there is room for one. Until then nothing is read of those that come,
/// so they hold no more than the connection's window.
async fn accept_bi(
    connection: &Connection,
    room: &Arc<Semaphore>,
) -> Result<(SendStream, RecvStream, OwnedSemaphorePermit), ProtocolError> {
    let permit = Arc::clone(room).acquire_owned().await.expect("never closed");
    let (send, recv) = connection.accept_bi().await?;
    Ok((send, recv, permit))
}

/// What a stream is for.
enum Opened {
    /// One of the transport's own purposes.
    Own(u8),
    /// A stream for a service, which is told this.
    Service(Bytes),
}

/// The first frame of a stream, which says what it is for.
async fn opened(shared: &Shared, reader: &mut FrameReader) -> Result<Opened, ProtocolError> {
    let first = timeout(shared.limits().hello_timeout, reader.next()).await;
    match first.map_err(|_| ProtocolError::Malformed("stream: it does not begin"))?? {
        Some(Frame { kind: frame::OPEN, body }) if body.len() == 1 => Ok(Opened::Own(body[0])),
        Some(Frame { kind: frame::STREAM, body }) => Ok(Opened::Service(body)),
        Some(Frame { kind, .. }) => Err(ProtocolError::Kind(kind)),
        None => Err(ProtocolError::Truncated),
    }
}

async fn serve_uni(
    shared: Arc<Shared>,
    hello: Hello,
    recv: RecvStream,
) -> Result<(), ProtocolError> {
    let mut reader = FrameReader::new(recv, SMALL_FRAME);
    match opened(&shared, &mut reader).await? {
        Opened::Own(frame::STREAM_BULK) if hello.purpose == Purpose::Messages => {
            read_messages(shared, hello, reader).await
        }
        _ => Err(ProtocolError::Malformed("stream purpose")),
    }
}

/// Serves a stream of a peer: its requests, or a stream for a service.
async fn serve_bi(
    shared: &Arc<Shared>,
    connection: &Connection,
    peer: NodeId,
    in_flight: &InFlight,
    (mut send, mut reader): (SendStream, FrameReader),
    permit: OwnedSemaphorePermit,
) -> Result<(), ProtocolError> {
    reader.limit(stream::first_frame_bytes_max(shared.limits()));
    let caller = Caller::Node(peer);
    let first = match opened(shared, &mut reader).await {
        // Given up before it began.
        Err(ProtocolError::Lost(_)) => return Ok(()),
        first => first?,
    };
    match first {
        Opened::Own(frame::STREAM_REQUESTS) => {
            request::answer(shared, connection, caller, in_flight, &mut reader, &mut send).await
        }
        Opened::Own(_) => Err(ProtocolError::Malformed("stream purpose")),
        Opened::Service(first) => {
            let connection = connection.clone();
            stream::serve(shared, connection, caller, first, (send, reader), permit).await
        }
    }
}

/// Delivers the messages of one stream, straight from the read.
async fn read_messages(
    shared: Arc<Shared>,
    hello: Hello,
    mut reader: FrameReader,
) -> Result<(), ProtocolError> {
    reader.limit(shared.limits().message_bytes_max);
    reader.hurry(shared.limits().frame_timeout);
    let (peer, sender) = (hello.identity.node, hello.sender());
    loop {
        // Looked up once per batch: almost always all messages are of one group.
        let (mut inbox, mut bytes) = (None, 0);
        while let Some(Frame { kind, body }) = reader.pop() {
            match kind {
                frame::MESSAGE => {}
                frame::PROBE if body.is_empty() => continue,
                _ => return Err(ProtocolError::Kind(kind)),
            }
            let decoded = decode_envelope(&body, sender);
            let (group, envelope) = decoded.map_err(|_| ProtocolError::Malformed("message"))?;
            let me = shared.identity.borrow().map(|me| me.node);
            if envelope.from != peer || Some(envelope.to) != me {
                let Some(me) = me else { return Ok(()) };
                let text =
                    format!("{peer} sent {me} a message from {} to {}", envelope.from, envelope.to);
                return Err(ProtocolError::Forged(text));
            }
            if inbox.as_ref().is_none_or(|(known, _)| *known != group) {
                inbox = shared.inbox(group).map(|inbox| (group, inbox));
            }
            if let Some((_, inbox)) = &inbox {
                shared.counters.messages_received();
                bytes += body.len();
                inbox.receive(envelope);
            }
        }
        if bytes > 0
            && let Some(known) = shared.peer(peer)
        {
            known.has_sent(bytes);
        }
        if !reader.fill().await? {
            return Ok(());
        }
    }
}

/// Answers a client until it leaves. The stream of the hello carries the requests.
async fn serve_client(
    shared: &Arc<Shared>,
    connection: &Connection,
    reader: &mut FrameReader,
    send: &mut SendStream,
) -> Result<(), ProtocolError> {
    let in_flight = InFlight::of_client(shared.limits());
    let caller = Caller::Client(shared.next_connection());
    let answering = async {
        request::answer(shared, connection, caller, &in_flight, reader, send).await?;
        Err(connection.closed().await.into())
    };
    tokio::select! {
        result = answering => result,
        error = serve_client_streams(shared, connection, caller) => Err(error),
        error = connection.closed() => Err(error.into()),
    }
}

/// Takes the streams that a client opens, until the connection is gone.
async fn serve_client_streams(
    shared: &Arc<Shared>,
    connection: &Connection,
    caller: Caller,
) -> ProtocolError {
    let room = room_for_streams(shared, 0);
    let mut opening: JoinSet<Result<(), ProtocolError>> = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept_bi(connection, &room) => match stream {
                Ok((send, recv, permit)) => {
                    let (shared, connection) = (Arc::clone(shared), connection.clone());
                    opening.spawn(async move {
                        let most = stream::first_frame_bytes_max(shared.limits());
                        let mut reader = FrameReader::new(recv, most);
                        let Opened::Service(first) = opened(&shared, &mut reader).await? else {
                            return Err(ProtocolError::Malformed("stream purpose"));
                        };
                        let ends = (send, reader);
                        stream::serve(&shared, connection, caller, first, ends, permit).await
                    });
                }
                Err(error) => return error,
            },
            Some(ended) = opening.join_next() => {
                match ended {
                    // Given up before it began, or the service panicked: no more is lost.
                    Ok(Ok(()) | Err(ProtocolError::Lost(_))) | Err(_) => {}
                    Ok(Err(error)) => return error,
                }
            }
        }
    }
}
