//! What the tests share: an authority, nodes with recording inboxes, services.

use bytes::Bytes;
use raft_core::raft::{AppendEntries, Envelope, Message};
use raft_core::state_machine::Snapshot;
use raft_core::transport::{BoxFuture, Caller, Channel, Connector, Inbox, Service, Transport};
use raft_core::types::{
    ClusterId, Entry, GroupId, Identity, Incarnation, Index, LogId, NodeId, Payload, Run, Sender,
    SnapshotMeta, Term,
};
use raft_net_quic::{
    ANY_NODE, ClientCredentials, ConnectorConfig, Credentials, Link, QuicConfig, QuicConnector,
    QuicTransport, server_name,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::future::Future;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) const GROUP: GroupId = GroupId(0);
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key with these DNS names, as PEM.
    pub(crate) fn issue(&self, names: &[String]) -> (String, String) {
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn node(&self, id: u64) -> Credentials {
        let (cert, key) = self.issue(&[server_name(NodeId(id)), ANY_NODE.into()]);
        Credentials::from_pem(self.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
    }

    pub(crate) fn client(&self) -> ClientCredentials {
        ClientCredentials::from_pem(self.pem.as_bytes(), None).unwrap()
    }

    pub(crate) fn connector(&self) -> QuicConnector {
        QuicConnector::new(self.client(), ConnectorConfig::default()).unwrap()
    }
}

/// What an inbox was given.
pub(crate) enum Event {
    Message(Envelope),
    Snapshot(NodeId, Sender, Term, Snapshot),
    Sent(NodeId, SnapshotMeta, bool),
    Refused(NodeId),
}

pub(crate) struct Recorder(UnboundedSender<Event>);

impl Inbox for Recorder {
    fn receive(&self, envelope: Envelope) {
        let _ = self.0.send(Event::Message(envelope));
    }

    fn receive_snapshot(&self, from: NodeId, sender: Sender, term: Term, snapshot: Snapshot) {
        let _ = self.0.send(Event::Snapshot(from, sender, term, snapshot));
    }

    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        let _ = self.0.send(Event::Sent(to, meta, ok));
    }

    fn refused(&self, peer: NodeId) {
        let _ = self.0.send(Event::Refused(peer));
    }
}

/// A transport with an open group and what it received.
pub(crate) struct TestNode {
    pub(crate) id: NodeId,
    pub(crate) transport: QuicTransport,
    pub(crate) address: String,
    pub(crate) directory: TempDir,
    events: Mutex<UnboundedReceiver<Event>>,
}

impl TestNode {
    pub(crate) fn config(credentials: Credentials, port: u16) -> (QuicConfig, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        (QuicConfig::new(listen, credentials, directory.path().join("in")), directory)
    }

    pub(crate) fn start(authority: &Authority, id: u64) -> Self {
        Self::start_with(authority.node(id), id, CLUSTER, 0, |_| ())
    }

    pub(crate) fn start_with(
        credentials: Credentials,
        id: u64,
        cluster: ClusterId,
        port: u16,
        adjust: impl FnOnce(&mut QuicConfig),
    ) -> Self {
        let identity = Identity { cluster, node: NodeId(id), incarnation: Incarnation(id) };
        Self::start_as(credentials, identity, port, adjust)
    }

    pub(crate) fn start_as(
        credentials: Credentials,
        identity: Identity,
        port: u16,
        adjust: impl FnOnce(&mut QuicConfig),
    ) -> Self {
        let (mut config, directory) = Self::config(credentials, port);
        adjust(&mut config);
        let transport = QuicTransport::bind(config).unwrap();
        let address = transport.local_addr().to_string();
        let (sender, events) = unbounded_channel();
        transport.open(GROUP, identity, Arc::new(Recorder(sender)));
        Self { id: identity.node, transport, address, directory, events: Mutex::new(events) }
    }

    pub(crate) async fn event(&self) -> Event {
        self.events.lock().await.recv().await.unwrap()
    }

    pub(crate) async fn message(&self) -> Envelope {
        match self.event().await {
            Event::Message(envelope) => envelope,
            _ => panic!("not a message"),
        }
    }

    pub(crate) fn send(&self, to: NodeId, message: Message) {
        self.transport.send(GROUP, envelope(self.id, to, message));
    }

    /// Waits until the connection to `peer` stands, or does not.
    pub(crate) async fn link(&self, peer: NodeId, accept: impl Fn(&Link) -> bool) -> Link {
        let mut link = self.transport.link(peer).unwrap();
        link.wait_for(accept).await.unwrap().clone()
    }

    pub(crate) async fn connected(&self, peer: NodeId) {
        self.link(peer, |link| *link == Link::Connected).await;
    }

    /// Waits until `peer` was refused, or refused this node, in words that contain `text`.
    pub(crate) async fn refused(&self, peer: NodeId, text: &str) {
        let link = self.link(peer, |link| match link {
            Link::Unreachable { reason, .. } => reason.contains(text),
            Link::Connected => true,
        });
        assert!(link.await != Link::Connected, "{peer} is connected");
    }

    /// Waits until a try failed for a reason that contains `text`.
    pub(crate) async fn fails(&self, peer: NodeId, text: &str) {
        let said = |link: &Link| match link {
            Link::Unreachable { reason, .. } => reason.contains(text),
            Link::Connected => false,
        };
        self.link(peer, said).await;
    }

    /// Files in the directory of incoming snapshots.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("in")).unwrap().count()
    }
}

/// `count` nodes that know and have reached each other.
pub(crate) async fn cluster(authority: &Authority, count: u64) -> Vec<TestNode> {
    let nodes: Vec<_> = (1..=count).map(|id| TestNode::start(authority, id)).collect();
    introduce(&nodes).await;
    nodes
}

pub(crate) async fn introduce(nodes: &[TestNode]) {
    let all: Vec<_> = nodes.iter().map(|node| (node.id, node.address.clone())).collect();
    for node in nodes {
        node.transport.set_peers(GROUP, all.clone());
    }
    for node in nodes {
        for peer in nodes.iter().filter(|peer| peer.id != node.id) {
            node.connected(peer.id).await;
        }
    }
}

/// A message on its way; its sender is the receiver's to fill in.
pub(crate) fn envelope(from: NodeId, to: NodeId, message: Message) -> Envelope {
    Envelope { from, to, term: Term(1), sender: Sender::default(), message }
}

/// An append of one command.
pub(crate) fn append(index: u64, command: Bytes) -> Message {
    let entry = Entry { id: LogId::new(index, 1), payload: Payload::Command(command) };
    Message::AppendEntries(AppendEntries {
        prev_log: LogId::new(index - 1, u64::from(index > 1)),
        entries: Run::new(vec![entry]),
        leader_commit: Index(0),
        read_seq: 0,
    })
}

pub(crate) fn heartbeat(read_seq: u64) -> Message {
    Message::AppendEntries(AppendEntries {
        prev_log: LogId::ZERO,
        entries: None,
        leader_commit: Index(0),
        read_seq,
    })
}

/// A service made of a function.
pub(crate) struct Serve<F>(pub(crate) F);

impl<F, R> Service for Serve<F>
where
    F: Fn(Caller, Bytes) -> R + Send + Sync + 'static,
    R: Future<Output = Bytes> + Send + 'static,
{
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        Box::pin((self.0)(caller, request))
    }
}

/// Answers with the request.
pub(crate) fn echo() -> Arc<dyn Service> {
    Arc::new(Serve(|_, request| async { request }))
}

pub(crate) async fn connect(authority: &Authority, node: &TestNode) -> Arc<dyn Channel> {
    authority.connector().connect(&node.address).await.unwrap()
}

/// A snapshot of these bytes.
pub(crate) fn snapshot(data: impl Read + Send + 'static) -> Snapshot {
    let meta = SnapshotMeta { last: LogId::new(7, 2), ..SnapshotMeta::default() };
    Snapshot { meta, data: Box::new(data) }
}
