//! A network in memory: for tests, examples and benches, and for nodes that share a process.

use super::stream::Break;
use super::{BoxFuture, CallError, Caller, Duplex, Inbox, Peers, Service, Transport};
use crate::raft::Envelope;
use crate::state_machine::Snapshot;
use crate::types::{GroupId, Identity, NodeId, Sender, Term, Version};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Most messages under way where there is a delay; further ones are lost.
const UNDER_WAY_MAX: usize = 64 * 1024;
/// Most bytes that one direction of a stream holds unread.
const STREAM_BYTES_MAX: usize = 256 * 1024;

/// Connects the nodes of one process. A clone is another handle to the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    wires: Arc<RwLock<Wires>>,
}

#[derive(Default)]
struct Wires {
    inboxes: BTreeMap<(GroupId, NodeId), (Sender, Arc<dyn Inbox>)>,
    services: BTreeMap<(GroupId, NodeId), Arc<dyn Service>>,
    isolated: BTreeSet<NodeId>,
    /// The streams between nodes, with their ends.
    streams: Vec<(NodeId, NodeId, Break)>,
    delay: Duration,
    /// To the thread that delivers late; made with the first delay.
    late: Option<SyncSender<Late>>,
}

/// A message under way.
struct Late {
    due: Instant,
    group: GroupId,
    envelope: Envelope,
}

impl MemoryNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of one node.
    pub fn transport(&self, node: NodeId) -> Arc<MemoryTransport> {
        Arc::new(MemoryTransport { node, network: self.clone() })
    }

    /// Lets `node` answer requests of the others.
    pub fn serve(&self, group: GroupId, node: NodeId, service: Arc<dyn Service>) {
        self.write().services.insert((group, node), service);
    }

    /// Cuts `node` off from the others, or joins it to them again.
    pub fn isolate(&self, node: NodeId, isolated: bool) {
        let mut wires = self.write();
        if isolated {
            wires.isolated.insert(node);
            wires.break_streams(node);
        } else {
            wires.isolated.remove(&node);
        }
    }

    /// Every message sent from now on takes this long to arrive, and a snapshot this much longer;
    /// requests and their replies do not. Messages keep their order, so with a shorter delay the
    /// first ones wait for those before them.
    pub fn delay(&self, delay: Duration) {
        let mut wires = self.write();
        wires.delay = delay;
        if wires.late.is_none() && !delay.is_zero() {
            let (late, queue) = sync_channel(UNDER_WAY_MAX);
            let network = Arc::downgrade(&self.wires);
            // It ends with the network. Without it nothing is delivered, as by a broken network.
            let _ = thread::Builder::new()
                .name("memory-network".into())
                .spawn(move || deliver_late(&network, &queue));
            wires.late = Some(late);
        }
    }

    /// Removes `node`, as if its process had ended.
    pub fn remove(&self, node: NodeId) {
        let mut wires = self.write();
        wires.inboxes.retain(|(_, id), _| *id != node);
        wires.services.retain(|(_, id), _| *id != node);
        wires.break_streams(node);
    }

    fn inbox(&self, group: GroupId, from: NodeId, to: NodeId) -> Option<Arc<dyn Inbox>> {
        let wires = self.read();
        wires.joins(from, to).then(|| wires.inbox(group, to)).flatten()
    }

    fn read(&self) -> RwLockReadGuard<'_, Wires> {
        // No one panics while holding it, and each change is complete in itself.
        self.wires.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Wires> {
        self.wires.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wires {
    fn inbox(&self, group: GroupId, node: NodeId) -> Option<Arc<dyn Inbox>> {
        self.inboxes.get(&(group, node)).map(|(_, inbox)| Arc::clone(inbox))
    }

    fn joins(&self, from: NodeId, to: NodeId) -> bool {
        !self.isolated.contains(&from) && !self.isolated.contains(&to)
    }

    fn service(&self, group: GroupId, from: NodeId, to: NodeId) -> Option<Arc<dyn Service>> {
        self.services.get(&(group, to)).filter(|_| self.joins(from, to)).cloned()
    }

    /// Breaks the streams from and to `node`.
    fn break_streams(&mut self, node: NodeId) {
        for (from, to, stream) in &self.streams {
            if *from == node || *to == node {
                stream.now(&format!("{node} is cut off"));
            }
        }
        self.streams.retain(|(from, to, _)| *from != node && *to != node);
    }
}

/// Delivers each message when it is due.
fn deliver_late(network: &Weak<RwLock<Wires>>, queue: &Receiver<Late>) {
    while let Ok(Late { due, group, envelope }) = queue.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let Some(wires) = network.upgrade() else { return };
        let network = MemoryNetwork { wires };
        if let Some(inbox) = network.inbox(group, envelope.from, envelope.to) {
            inbox.receive(envelope);
        }
    }
}

/// One node's end of a [`MemoryNetwork`].
pub struct MemoryTransport {
    node: NodeId,
    network: MemoryNetwork,
}

impl Transport for MemoryTransport {
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        let sender = Sender { incarnation: identity.incarnation, version: Version::CURRENT };
        self.network.write().inboxes.insert((group, identity.node), (sender, inbox));
    }

    fn set_peers(&self, _group: GroupId, _peers: Vec<(NodeId, String)>) {}

    fn send(&self, group: GroupId, envelope: Envelope) {
        let wires = self.network.read();
        if let Some(late) = &wires.late {
            // Full, or without its thread: lost.
            let _ = late.try_send(Late { due: Instant::now() + wires.delay, group, envelope });
            return;
        }
        drop(wires);
        if let Some(inbox) = self.network.inbox(group, self.node, envelope.to) {
            inbox.receive(envelope);
        }
    }

    fn probe(&self, group: GroupId, peer: NodeId) {
        let wires = self.network.read();
        // Of one that is only cut off nothing is known.
        let gone = !wires.inboxes.contains_key(&(group, peer)) && wires.joins(self.node, peer);
        let own = wires.inbox(group, self.node).filter(|_| gone);
        drop(wires);
        if let Some(inbox) = own {
            inbox.refused(peer);
        }
    }

    fn round_trip(&self, _group: GroupId, _peer: NodeId) -> Option<Duration> {
        Some(2 * self.network.read().delay)
    }

    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot) {
        let (from, network) = (self.node, self.network.clone());
        // Reading may block, sending must not.
        thread::spawn(move || {
            let Snapshot { meta, mut data } = snapshot;
            let mut bytes = Vec::new();
            let read = data.read_to_end(&mut bytes).is_ok();
            let delay = network.read().delay;
            thread::sleep(delay);
            let receiver = network.inbox(group, from, to).filter(|_| read);
            let (sender, own) = network.read().inboxes.get(&(group, from)).cloned().unzip();
            let ok = receiver.is_some();
            if let (Some(inbox), Some(sender)) = (receiver, sender) {
                let data = Box::new(Cursor::new(bytes));
                inbox.receive_snapshot(from, sender, term, Snapshot { meta: meta.clone(), data });
            }
            if let Some(inbox) = own {
                inbox.snapshot_sent(to, meta, ok);
            }
        });
    }
}

impl Peers for MemoryTransport {
    fn call(
        &self,
        group: GroupId,
        to: NodeId,
        request: Bytes,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let (from, network) = (self.node, self.network.clone());
        let service = network.read().service(group, from, to);
        Box::pin(async move {
            let unreachable = || CallError::NotSent(format!("{to} is unreachable"));
            let reply = service.ok_or_else(unreachable)?.call(Caller::Node(from), request).await;
            // The reply crosses the network too.
            let joined = network.read().joins(from, to);
            joined.then_some(reply).ok_or_else(|| CallError::Lost(format!("{to} is cut off")))
        })
    }

    fn open_stream(
        &self,
        group: GroupId,
        to: NodeId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        let (from, network) = (self.node, self.network.clone());
        Box::pin(async move {
            let ((near, far), broken) = Duplex::breakable_pair(STREAM_BYTES_MAX);
            let mut wires = network.write();
            let service = wires.service(group, from, to);
            let service =
                service.ok_or_else(|| CallError::NotSent(format!("{to} is unreachable")))?;
            wires.streams.retain(|(_, _, stream)| !stream.is_unused());
            wires.streams.push((from, to, broken));
            drop(wires);
            service.serve_stream(Caller::Node(from), first, far);
            Ok(near)
        })
    }
}
