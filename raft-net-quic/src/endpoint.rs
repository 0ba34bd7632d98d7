//! The public face: binds the socket, starts the tasks, hands everything on.
//!
//! Nothing here waits, except closing.

use crate::accept;
use crate::config::{Credentials, QuicConfig};
use crate::error::{BindError, CredentialsError};
use crate::peer::{Link, Traffic};
use crate::probe::Turn;
use crate::request::not_sent;
use crate::shared::{Counters, Shared};
use crate::timers::RareTimers;
use crate::{probe, snapshot, tls};
use bytes::Bytes;
use quinn::{AsyncUdpSocket, Endpoint, Runtime};
use raft_core::raft::Envelope;
use raft_core::state_machine::Snapshot;
use raft_core::transport::{BoxFuture, CallError, Duplex, Inbox, Peers, Service, Transport};
use raft_core::types::{GroupId, Identity, NodeId, Term, Version};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// One UDP port that carries a node's messages, snapshots and requests, for all its groups.
///
/// A handle, cheap to clone. When the last clone is dropped everything is closed; [`close`] also
/// waits until the port is free.
///
/// [`close`]: Self::close
#[derive(Clone)]
pub struct QuicTransport {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    socket: Weak<dyn AsyncUdpSocket>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.shut_down();
    }
}

impl QuicTransport {
    /// Binds the port and starts to accept. Must be called inside a tokio runtime with timers and
    /// I/O, on which all tasks of the transport will run; a `current_thread` one of its own costs
    /// about half of a multi-threaded one.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(config: QuicConfig) -> Result<Self, BindError> {
        let runtime = Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let (version, limits) = (config.version, config.limits.clone().within_frames());
        if !(Version::OLDEST..=Version::CURRENT).contains(&version) {
            return Err(BindError::Version(version));
        }
        let credentials = &config.credentials;
        let require = config.require_client_certificate;
        let server = tls::server(credentials, require, version, &limits)?;
        let peer_config = tls::peer(credentials, version, &limits)?;
        snapshot::prepare(&config.snapshot_dir).map_err(|source| BindError::SnapshotDir {
            path: config.snapshot_dir.clone(),
            source,
        })?;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(config.listen),
            _ => BindError::Socket { address: config.listen, source },
        };
        let socket = bind_socket(config.listen).map_err(failed)?;
        let local_addr = socket.local_addr().map_err(failed)?;
        let timers = Arc::new(RareTimers);
        let socket = timers.wrap_udp_socket(socket).map_err(failed)?;
        let weak = Arc::downgrade(&socket);
        let settings = tls::endpoint(&credentials.key);
        let endpoint = Endpoint::new_with_abstract_socket(settings, Some(server), socket, timers)
            .map_err(failed)?;
        let shared = Shared::new(version, limits, runtime, &config, peer_config, endpoint.clone());
        let shared = Arc::new(shared);
        shared.runtime.spawn(accept::accept(Arc::clone(&shared), endpoint));
        shared.runtime.spawn(snapshot::sweep(Arc::clone(&shared.incoming)));
        Ok(Self { owner: Arc::new(Owner { shared, local_addr, socket: weak }) })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.owner.local_addr
    }

    /// Has whoever connects from now on, and whomever this node connects to, shown and asked for
    /// other certificates. Connections that stand stay as they are. What has to be proven cannot
    /// change: the others would ask for it as before.
    ///
    /// # Errors
    /// See [`CredentialsError`]; what was there before stays in force.
    pub fn renew(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let shared = &self.owner.shared;
        if credentials.trust != shared.trust {
            let text = "they ask for another proof than those before".into();
            return Err(CredentialsError::Unusable(text));
        }
        let (version, limits) = (shared.version, shared.limits());
        let require = shared.require_client_certificate;
        let server = tls::server(credentials, require, version, limits)?;
        shared.set_peer_config(tls::peer(credentials, version, limits)?);
        // Once closed, nobody connects any more.
        if let Some(endpoint) = shared.endpoint() {
            endpoint.set_server_config(Some(server));
        }
        Ok(())
    }

    /// Answers requests for `group`, of clients and of other nodes, with `service`, from now on.
    /// It is called on the transport's runtime. When a connection is lost, calls that came over it
    /// are dropped where they are.
    pub fn serve(&self, group: GroupId, service: Arc<dyn Service>) {
        self.owner.shared.set_service(group, service);
    }

    /// Follows whether this node's connection to a peer stands; `None` if the peer is not known.
    /// It ends when the peer is known no more.
    pub fn link(&self, node: NodeId) -> Option<watch::Receiver<Link>> {
        self.owner.shared.peer(node).map(|peer| peer.link())
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.owner.shared.counters.read()
    }

    /// What goes to and comes from each peer that is known, by its id. This node is none of its
    /// own.
    pub fn traffic(&self) -> Vec<Traffic> {
        let (peers, me) = (self.owner.shared.peers(), *self.owner.shared.identity.borrow());
        let others = peers.iter().map(|peer| peer.traffic());
        let mut traffic: Vec<Traffic> =
            others.filter(|traffic| me.is_none_or(|me| me.node != traffic.peer)).collect();
        traffic.sort_unstable_by_key(|traffic| traffic.peer);
        traffic
    }

    /// Closes all connections, tells the other ends, and waits until the port is free (5 s at
    /// most: other ends that are gone are not waited for longer). Calls fail from now on, messages
    /// are dropped.
    pub async fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let closed = async {
            if let Some(endpoint) = self.owner.shared.shut_down() {
                endpoint.wait_idle().await;
            }
            // The endpoint's own task drops the socket some time after that, and tells nobody.
            while self.owner.socket.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, closed).await.is_err() {
            tracing::warn!(address = %self.owner.local_addr, "the port is not free yet");
        }
    }
}

impl fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTransport")
            .field("local_addr", &self.owner.local_addr)
            .finish_non_exhaustive()
    }
}

impl Transport for QuicTransport {
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        self.owner.shared.open(group, identity, inbox);
    }

    fn set_peers(&self, group: GroupId, peers: Vec<(NodeId, String)>) {
        self.owner.shared.set_peers(group, peers);
    }

    fn send(&self, group: GroupId, envelope: Envelope) {
        let shared = &self.owner.shared;
        match shared.peer_for(group, &envelope) {
            Some(peer) if peer.send(group, envelope) => shared.counters.messages_sent(),
            _ => shared.counters.messages_dropped(),
        }
    }

    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot) {
        let shared = Arc::clone(&self.owner.shared);
        self.owner.shared.runtime.spawn(snapshot::send(shared, group, to, term, snapshot));
    }

    fn probe(&self, group: GroupId, peer: NodeId) {
        let (shared, own) = (&self.owner.shared, self.owner.local_addr.ip());
        if let Some(turn) = shared.peer(peer).as_ref().and_then(Turn::take) {
            shared.runtime.spawn(probe::probe(Arc::clone(shared), group, turn, own));
        }
    }

    fn round_trip(&self, _group: GroupId, peer: NodeId) -> Option<Duration> {
        self.owner.shared.peer(peer)?.round_trip()
    }
}

impl Peers for QuicTransport {
    fn call(
        &self,
        group: GroupId,
        to: NodeId,
        request: Bytes,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        match self.owner.shared.peer(to) {
            Some(peer) => peer.call(group, request),
            None => not_sent(format!("{to} is not known here")),
        }
    }

    fn open_stream(
        &self,
        group: GroupId,
        to: NodeId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        match self.owner.shared.peer(to) {
            Some(peer) => peer.open_stream(group, first),
            None => not_sent(format!("{to} is not known here")),
        }
    }
}

/// A UDP socket with buffers that a burst does not overrun.
pub(crate) fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    const BUFFER_BYTES: usize = 4 * 1024 * 1024;
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Serves IPv4 too where the system can.
        let _ = socket.set_only_v6(false);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The system caps what it grants; less works, and loses packets sooner.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
    if receive.min(send) < BUFFER_BYTES {
        tracing::info!(
            receive,
            send,
            wanted = BUFFER_BYTES,
            "small UDP buffers: raise net.core.rmem_max and net.core.wmem_max for bulk"
        );
    }
    Ok(socket.into())
}
