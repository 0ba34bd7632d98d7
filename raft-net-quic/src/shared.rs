//! What all tasks of a transport share: who this node is, its groups, its peers, its counters.
//!
//! Locks are held for a lookup, never across a wait.

use crate::config::{Limits, QuicConfig, Trust};
use crate::error::close;
use crate::hello::{Hello, Purpose};
use crate::peer::{self, Peer};
use crate::snapshot::Incoming;
use quinn::{Connection, Endpoint, VarInt};
use raft_core::raft::Envelope;
use raft_core::transport::{ConnectionId, Inbox, Service};
use raft_core::types::{GroupId, Identity, Incarnation, NodeId, Term, Version};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

pub(crate) struct Shared {
    /// The newest version this node speaks.
    pub(crate) version: Version,
    limits: Limits,
    pub(crate) runtime: Handle,
    pub(crate) snapshot_dir: PathBuf,
    /// Where peers are reached that are not reached where they say.
    peer_addresses: BTreeMap<NodeId, String>,
    /// How peers are connected to from now on.
    peer_config: Mutex<quinn::ClientConfig>,
    /// Whether clients, too, must present a certificate.
    pub(crate) require_client_certificate: bool,
    /// What nodes that connect have to prove.
    pub(crate) trust: Trust,
    /// `None` once closed, so that the socket can go.
    endpoint: Mutex<Option<Endpoint>>,
    /// Who this node is; `None` until a group is opened.
    pub(crate) identity: watch::Sender<Option<Identity>>,
    tables: Mutex<Tables>,
    pub(crate) counters: Recorder,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) snapshots_out: Arc<Semaphore>,
    /// How many clients have connected.
    clients: AtomicU64,
}

#[derive(Default)]
struct Tables {
    inboxes: HashMap<GroupId, Arc<dyn Inbox>>,
    services: HashMap<GroupId, Arc<dyn Service>>,
    addresses: HashMap<GroupId, BTreeMap<NodeId, String>>,
    peers: HashMap<NodeId, Arc<Peer>>,
    /// Those of `peers` that nobody named: they connected, and are known as long as they do.
    learned: HashSet<NodeId>,
    /// Where peers last connected from.
    seen: HashMap<NodeId, SocketAddr>,
    /// When it was last told that many connect at once.
    crowded: Option<Instant>,
    /// Connections of nodes to this one. Only those with a certificate of the cluster get here.
    accepted: Vec<Accepted>,
    /// The latest term in which this node has sent anything: its own is no earlier one.
    terms: HashMap<GroupId, Term>,
    /// Snapshots on their way out.
    sending: HashSet<(GroupId, NodeId)>,
    /// What was last told about a remote address that was refused.
    refusals: HashMap<SocketAddr, String>,
}

/// A connection that a node made to this one.
struct Accepted {
    node: NodeId,
    incarnation: Incarnation,
    purpose: Purpose,
    connection: Connection,
}

/// Connections for snapshots of one life of a node, at most: the node has some snapshots on their
/// way, and connections that broke may not be noticed yet.
const SNAPSHOT_CONNECTIONS_MAX: usize = 8;

impl Tables {
    /// Whether one more connection can be accepted, and if not, why.
    fn has_room(&self, hello: &Hello, limits: &Limits) -> Result<(), String> {
        let Identity { node, incarnation, .. } = hello.identity;
        let named = |node| self.peers.contains_key(&node) && !self.learned.contains(&node);
        if !named(node) {
            let strangers = self.accepted.iter().filter(|known| !named(known.node)).count();
            if strangers >= limits.strangers_max {
                return Err("too many nodes that are no peers are connected".into());
            }
        }
        let of_node = |known: &&Accepted| (known.node, known.purpose) == (node, hello.purpose);
        let mut of_node = self.accepted.iter().filter(of_node).map(|known| known.incarnation);
        let (count, most) = match hello.purpose {
            Purpose::Snapshots => {
                (of_node.filter(|life| *life == incarnation).count(), SNAPSHOT_CONNECTIONS_MAX)
            }
            _ => (of_node.by_ref().count(), limits.lives_max),
        };
        if count >= most {
            return Err(format!("{count} connections of {node} are open"));
        }
        Ok(())
    }
}

impl Shared {
    pub(crate) fn new(
        version: Version,
        limits: Limits,
        runtime: Handle,
        config: &QuicConfig,
        peer_config: quinn::ClientConfig,
        endpoint: Endpoint,
    ) -> Self {
        Self {
            version,
            snapshot_dir: config.snapshot_dir.clone(),
            peer_addresses: config.peer_addresses.clone(),
            peer_config: Mutex::new(peer_config),
            require_client_certificate: config.require_client_certificate,
            trust: config.credentials.trust,
            endpoint: Mutex::new(Some(endpoint)),
            identity: watch::Sender::new(None),
            tables: Mutex::default(),
            counters: Recorder::default(),
            incoming: Arc::new(Incoming::new(&limits, runtime.clone())),
            snapshots_out: Arc::new(Semaphore::new(limits.snapshots_out_max.max(1))),
            clients: AtomicU64::new(0),
            runtime,
            limits,
        }
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How peers are connected to.
    pub(crate) fn peer_config(&self) -> quinn::ClientConfig {
        self.peer_config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has peers connected to this way from now on.
    pub(crate) fn set_peer_config(&self, config: quinn::ClientConfig) {
        *self.peer_config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The number of another connection of a client.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.clients.fetch_add(1, Ordering::Relaxed))
    }

    /// The endpoint, unless closed.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every connection and ends every task; returns the endpoint to whoever is first.
    pub(crate) fn shut_down(&self) -> Option<Endpoint> {
        let endpoint = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(endpoint) = &endpoint {
            endpoint.close(VarInt::from_u32(close::DONE), b"the node is stopping");
        }
        let mut tables = self.tables();
        for peer in tables.peers.values() {
            peer.set_address(None);
        }
        *tables = Tables::default();
        drop(tables);
        self.incoming.close();
        endpoint
    }

    pub(crate) fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        let mut tables = self.tables();
        tables.inboxes.insert(group, inbox);
        tables.terms.remove(&group);
        drop(tables);
        self.identity.send_if_modified(|current| {
            let changed = *current != Some(identity);
            if changed && let Some(earlier) = current {
                tracing::warn!(
                    %group, ?identity, ?earlier,
                    "the node's identity changes; all its groups connect anew under it"
                );
            }
            *current = Some(identity);
            changed
        });
    }

    pub(crate) fn set_service(&self, group: GroupId, service: Arc<dyn Service>) {
        self.tables().services.insert(group, service);
    }

    pub(crate) fn service(&self, group: GroupId) -> Option<Arc<dyn Service>> {
        self.tables().services.get(&group).cloned()
    }

    pub(crate) fn inbox(&self, group: GroupId) -> Option<Arc<dyn Inbox>> {
        self.tables().inboxes.get(&group).cloned()
    }

    pub(crate) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.tables().peers.get(&node).cloned()
    }

    /// All peers, in no order.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        self.tables().peers.values().cloned().collect()
    }

    /// Replaces the peers of one group: connects to new ones, and away from those that are in no
    /// group any more.
    pub(crate) fn set_peers(self: &Arc<Self>, group: GroupId, peers: Vec<(NodeId, String)>) {
        if self.endpoint().is_none() {
            return;
        }
        let mut tables = self.tables();
        let reached = peers.into_iter().map(|(node, address)| (node, self.reached(node, address)));
        tables.addresses.insert(group, reached.collect());
        let Tables { addresses, peers, learned, .. } = &mut *tables;
        let wanted: BTreeMap<&NodeId, &String> = addresses.values().flatten().collect();
        for (node, address) in &wanted {
            learned.remove(node);
            match peers.get(node) {
                Some(peer) => peer.set_address(Some((*address).clone())),
                None => self.add_peer(peers, **node, (*address).clone()),
            }
        }
        peers.retain(|node, peer| {
            let keep = wanted.contains_key(node) || learned.contains(node);
            if !keep {
                peer.set_address(None);
            }
            keep
        });
    }

    /// Where `node` is reached that says it is at `address`.
    fn reached(&self, node: NodeId, address: String) -> String {
        self.peer_addresses.get(&node).cloned().unwrap_or(address)
    }

    fn add_peer(
        self: &Arc<Self>,
        peers: &mut HashMap<NodeId, Arc<Peer>>,
        node: NodeId,
        address: String,
    ) {
        let peer = Arc::new(Peer::new(node, address, &self.limits));
        peers.insert(node, Arc::clone(&peer));
        self.runtime.spawn(peer::keep_connected(Arc::clone(self), peer));
    }

    /// Notes a connection accepted from a peer. One for messages replaces an earlier one of the
    /// same life; another life of the node, wherever it is, is let in beside it. A peer that nobody
    /// named yet (this node joins, and the membership has not reached it) is answered at the
    /// address it last connected from: nodes dial from the port they listen on. The error: there
    /// are too many.
    pub(crate) fn accepted(
        self: &Arc<Self>,
        hello: &Hello,
        connection: &Connection,
    ) -> Result<(), String> {
        let (node, incarnation) = (hello.identity.node, hello.identity.incarnation);
        let purpose = hello.purpose;
        let remote = connection.remote_address();
        let mut tables = self.tables();
        let earlier = tables.accepted.iter().position(|known| {
            purpose == Purpose::Messages
                && (known.node, known.incarnation, known.purpose) == (node, incarnation, purpose)
        });
        let earlier = earlier.map(|at| tables.accepted.swap_remove(at));
        if earlier.is_none() {
            tables.has_room(hello, &self.limits)?;
        }
        tables.refusals.remove(&remote);
        let connection = connection.clone();
        tables.accepted.push(Accepted { node, incarnation, purpose, connection });
        if purpose == Purpose::Messages {
            let Tables { seen, peers, .. } = &mut *tables;
            seen.retain(|node, _| peers.contains_key(node));
            seen.insert(node, canonical(remote));
            let learned = tables.learned.contains(&node);
            match tables.peers.get(&node) {
                Some(known) => {
                    if learned {
                        known.set_address(Some(self.reached(node, remote.to_string())));
                    }
                    known.connected_anew();
                }
                None if self.endpoint().is_some() => {
                    tables.learned.insert(node);
                    let address = self.reached(node, remote.to_string());
                    self.add_peer(&mut tables.peers, node, address);
                }
                None => {}
            }
        }
        drop(tables);
        if let Some(Accepted { connection, .. }) = earlier {
            connection.close(VarInt::from_u32(close::REPLACED), b"the same node connected anew");
        }
        Ok(())
    }

    /// Whether a peer is at `remote`, or was the last time it connected: nodes dial from the port
    /// they listen on.
    pub(crate) fn is_peer(&self, remote: SocketAddr) -> bool {
        let remote = canonical(remote);
        let tables = self.tables();
        let said = |peer: &Arc<Peer>| peer.is_at(remote);
        tables.peers.values().any(said) || tables.seen.values().any(|seen| *seen == remote)
    }

    /// The address of a peer was found to stand for these.
    pub(crate) fn resolved(&self, node: NodeId, addresses: &[SocketAddr]) {
        if let Some(peer) = self.tables().peers.get(&node) {
            peer.note(addresses);
        }
    }

    /// Tells now and then that many connect at once.
    pub(crate) fn crowded(&self) {
        const TOLD_EVERY: Duration = Duration::from_secs(10);
        let mut tables = self.tables();
        let now = Instant::now();
        if tables.crowded.is_some_and(|told| now - told < TOLD_EVERY) {
            return;
        }
        tables.crowded = Some(now);
        drop(tables);
        let so_far = self.counters.read().handshakes_put_off;
        tracing::warn!(so_far, "many connect at once: some are put off");
    }

    /// Forgets an accepted connection that is gone.
    pub(crate) fn left(&self, hello: &Hello, connection: &Connection) {
        let node = hello.identity.node;
        let mut tables = self.tables();
        let Tables { accepted, learned, peers, .. } = &mut *tables;
        accepted.retain(|known| known.connection.stable_id() != connection.stable_id());
        if !learned.contains(&node) {
            return;
        }
        let is_left = |known: &&Accepted| (known.node, known.purpose) == (node, Purpose::Messages);
        let other = accepted.iter().rfind(is_left);
        let other = other.map(|known| known.connection.remote_address().to_string());
        let other = other.map(|address| self.reached(node, address));
        if other.is_none() {
            learned.remove(&node);
        }
        let peer = if other.is_none() { peers.remove(&node) } else { peers.get(&node).cloned() };
        if let Some(peer) = peer {
            peer.set_address(other);
        }
    }

    /// The peer that a message goes to, whose term is noted.
    pub(crate) fn peer_for(&self, group: GroupId, envelope: &Envelope) -> Option<Arc<Peer>> {
        let mut tables = self.tables();
        let latest = tables.terms.entry(group).or_default();
        *latest = envelope.term.max(*latest);
        tables.peers.get(&envelope.to).cloned()
    }

    /// Whether this node is in a later term than `term`, as far as it has said.
    pub(crate) fn is_over(&self, group: GroupId, term: Term) -> bool {
        self.tables().terms.get(&group).is_some_and(|latest| *latest > term)
    }

    /// Marks a snapshot as being sent. False if one is on its way already.
    pub(crate) fn begin_snapshot(&self, group: GroupId, to: NodeId) -> bool {
        self.tables().sending.insert((group, to))
    }

    pub(crate) fn end_snapshot(&self, group: GroupId, to: NodeId) {
        self.tables().sending.remove(&(group, to));
    }

    /// Counts a refusal, and logs it unless it is what was last said about the same address.
    pub(crate) fn refused(&self, remote: SocketAddr, reason: &str) {
        const REMEMBERED: usize = 256;
        self.counters.refusals();
        let mut tables = self.tables();
        if tables.refusals.get(&remote).is_some_and(|last| last == reason) {
            return;
        }
        if tables.refusals.len() >= REMEMBERED {
            tables.refusals.clear();
        }
        tables.refusals.insert(remote, reason.into());
        drop(tables);
        tracing::warn!(%remote, reason, "connection refused");
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as everybody writes it: on a socket for both, those of IPv4 look like those of IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Declares counters, how they are raised, and their public copy.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a transport has done since it was bound.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Default)]
        pub(crate) struct Recorder {
            $($name: AtomicU64,)*
        }

        impl Recorder {
            $(pub(crate) fn $name(&self) {
                self.$name.fetch_add(1, Ordering::Relaxed);
            })*

            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Messages queued for a connected peer.
    messages_sent,
    /// Messages dropped: the peer is not connected, or its queue is full.
    messages_dropped,
    /// Messages delivered to an inbox.
    messages_received,
    /// Requests taken from peers and clients.
    requests,
    /// Streams handed to services.
    streams,
    /// Connections refused, for whatever reason.
    refusals,
    /// Handshakes that were not begun, as it was not their turn in time.
    handshakes_put_off,
    /// Connections dropped because of what arrived on them.
    violations,
    /// Snapshots handed over whole to a peer.
    snapshots_sent,
    /// Snapshots received whole.
    snapshots_received,
    /// Streams of outgoing snapshots that broke and were not given up.
    snapshots_interrupted,
    /// Streams of outgoing snapshots that went on with what was there already.
    snapshots_resumed,
}
