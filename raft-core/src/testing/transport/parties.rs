//! The nodes of a check, what they were sent, and the service they run.

use super::wait::{Mailbox, lock, within};
use super::{Network, Report};
use crate::raft::{AppendEntries, Envelope, Message};
use crate::state_machine::Snapshot;
use crate::testing::breach::Breach;
use crate::transport::{BoxFuture, Caller, ConnectionId, Duplex, Inbox, Service, Transport as _};
use crate::types::{
    ClusterId, GroupId, Identity, Incarnation, Index, LogId, NodeId, Sender, SnapshotMeta, Term,
};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The groups that every node serves.
pub(super) const GROUPS: [GroupId; 2] = [GroupId(0), GroupId(7)];
pub(super) const GROUP: GroupId = GROUPS[0];
/// A group that none serves.
pub(super) const NO_GROUP: GroupId = GroupId(8);
pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);
/// A node that does not exist.
pub(super) const NOBODY: NodeId = NodeId(99);
/// How long something that may be lost is waited for, before it is sent again; then twice as long.
const AGAIN: Duration = Duration::from_millis(50);

/// What an inbox was given.
pub(super) enum Event {
    Message(Envelope),
    Snapshot(NodeId, Sender, Term, Snapshot),
    Sent(NodeId, SnapshotMeta, bool),
}

struct Recorder(Arc<Mailbox<Event>>);

impl Inbox for Recorder {
    fn receive(&self, envelope: Envelope) {
        self.0.push(Event::Message(envelope));
    }

    fn receive_snapshot(&self, from: NodeId, sender: Sender, term: Term, snapshot: Snapshot) {
        self.0.push(Event::Snapshot(from, sender, term, snapshot));
    }

    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        self.0.push(Event::Sent(to, meta, ok));
    }
}

/// Says which node it is, which group, and who asks, and gives back what it was sent. A request is
/// a number of eight bytes and anything; one that begins with [`HOLD`] waits for the gate.
pub(super) struct Desk {
    node: NodeId,
    group: GroupId,
    /// How often each request ran.
    pub(super) runs: Mutex<BTreeMap<u64, usize>>,
    /// Numbers of requests that have begun to wait.
    pub(super) held: Mailbox<u64>,
    /// An item for each of them that may go on.
    pub(super) gate: Mailbox<()>,
    pub(super) streams: Mailbox<(Caller, Bytes, Duplex)>,
}

/// Follows the number of a request that is to wait.
pub(super) const HOLD: &[u8] = b"hold";

impl Desk {
    fn new(node: NodeId, group: GroupId) -> Arc<Self> {
        let (held, gate, streams) = Default::default();
        Arc::new(Self { node, group, runs: Mutex::default(), held, gate, streams })
    }

    /// What it replies to `request` of `caller`.
    pub(super) fn reply(node: NodeId, group: GroupId, caller: Caller, request: &[u8]) -> Bytes {
        let mut reply = BytesMut::from(format!("{node} {group} {caller:?} ").as_bytes());
        reply.extend_from_slice(request);
        reply.freeze()
    }
}

/// The desk as the service that a transport holds.
struct Window(Arc<Desk>);

impl Service for Window {
    fn call(&self, caller: Caller, request: Bytes) -> BoxFuture<Bytes> {
        let (desk, caller) = (Arc::clone(&self.0), kind(caller));
        Box::pin(async move {
            let number = request.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
            *lock(&desk.runs).entry(number).or_default() += 1;
            if request.get(8..).is_some_and(|rest| rest.starts_with(HOLD)) {
                desk.held.push(number);
                desk.gate.next().await;
            }
            Desk::reply(desk.node, desk.group, caller, &request)
        })
    }

    fn serve_stream(&self, caller: Caller, first: Bytes, stream: Duplex) {
        self.0.streams.push((kind(caller), first, stream));
    }
}

/// A client, over whatever connection.
pub(super) const CLIENT: Caller = Caller::Client(ConnectionId(0));

/// Who has sent something, as far as whoever asks can know it.
const fn kind(caller: Caller) -> Caller {
    if caller.is_client() { CLIENT } else { caller }
}

/// A node.
pub(super) struct Party<T> {
    pub(super) identity: Identity,
    pub(super) transport: Arc<T>,
    pub(super) address: String,
    pub(super) inboxes: [Arc<Mailbox<Event>>; 2],
    pub(super) desks: [Arc<Desk>; 2],
}

impl<T> Party<T> {
    pub(super) const fn node(&self) -> NodeId {
        self.identity.node
    }
}

/// The number of the last message of each kind; a heartbeat is of another kind than an append.
type Lasts = Vec<((Discriminant<Message>, bool), u64)>;

/// The nodes, and everything that was sent.
pub(super) struct Scene<'a, N: Network> {
    pub(super) network: &'a N,
    /// Nodes 1, 2 and 3, while they are up.
    pub(super) parties: Vec<Party<N::Transport>>,
    /// By its term, which is a number that no other message has: to which group, and what.
    sent: BTreeMap<u64, (GroupId, Envelope)>,
    /// From whom, to whom, for which group: what arrived last.
    arrived: BTreeMap<(NodeId, NodeId, GroupId), Lasts>,
    numbers: u64,
    pub(super) report: Report,
}

impl<'a, N: Network> Scene<'a, N> {
    /// Three nodes that know each other.
    pub(super) fn new(network: &'a N) -> Self {
        let parties = (1..=3).map(|node| start(network, CLUSTER, node)).collect();
        let (sent, arrived) = (BTreeMap::new(), BTreeMap::new());
        let report = Report::default();
        let scene = Self { network, parties, sent, arrived, numbers: 0, report };
        scene.introduce(&[]);
        scene
    }

    /// Tells every node where the others are, and `strangers`.
    pub(super) fn introduce(&self, strangers: &[(NodeId, String)]) {
        let all = self.parties.iter().map(|party| (party.node(), party.address.clone()));
        let all: Vec<_> = all.chain(strangers.iter().cloned()).collect();
        for party in &self.parties {
            for group in GROUPS {
                party.transport.set_peers(group, all.clone());
            }
        }
    }

    pub(super) async fn close(mut self) -> Report {
        for party in self.parties.drain(..) {
            self.network.stop(party.node(), party.transport).await;
        }
        self.report
    }

    /// A number that was not used before.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Sends `message` from one party to another; its number.
    pub(super) fn send(&mut self, from: usize, to: usize, group: GroupId, message: Message) -> u64 {
        let number = self.number();
        let (from, to) = (&self.parties[from], &self.parties[to]);
        let mut envelope = envelope(from.identity, to.node(), number, message);
        self.sent.insert(number, (group, envelope.clone()));
        if self.network.checks_identity() {
            // The receiver is to find out.
            envelope.sender = Sender::default();
        }
        from.transport.send(group, envelope);
        number
    }

    /// Judges a message that arrived at `node` for `group`; its number.
    pub(super) fn judge(
        &mut self,
        node: NodeId,
        group: GroupId,
        found: &Envelope,
    ) -> Result<u64, Breach> {
        let number = found.term.0;
        let step = format!("a message arrives at {node}, {group}");
        let Some((meant, expected)) = self.sent.get(&number) else {
            let found = brief(found);
            return Err(Breach::new("unaltered", step, "one that was sent", found));
        };
        if (node, group) != (expected.to, *meant) {
            let expected = format!("it arrives at {}, {meant}", expected.to);
            return Err(Breach::new("addressed", step, expected, brief(found)));
        }
        let same = Envelope { sender: expected.sender, ..found.clone() } == *expected;
        if !same || found.sender.incarnation != expected.sender.incarnation {
            return Err(Breach::new("unaltered", step, brief(expected), brief(found)));
        }
        let kind = (discriminant(&found.message), found.message.is_bulk());
        let lasts = self.arrived.entry((found.from, node, group)).or_default();
        match lasts.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, last)) if *last > number => {
                let expected = format!("a message after number {last}");
                return Err(Breach::new("order", step, expected, brief(found)));
            }
            Some((_, last)) => *last = number,
            None => lasts.push((kind, number)),
        }
        self.report.messages += 1;
        Ok(number)
    }

    /// Sends `message` until one arrives, and judges all that arrive meanwhile.
    pub(super) async fn deliver(
        &mut self,
        (from, to): (usize, usize),
        group: usize,
        message: &Message,
        rule: &'static str,
    ) -> Result<(), Breach> {
        let (node, patience) = (self.parties[to].node(), self.network.patience());
        let began = std::time::Instant::now();
        let (first, mut again) = (self.numbers + 1, AGAIN);
        while began.elapsed() < patience {
            self.send(from, to, GROUPS[group], message.clone());
            let inbox = Arc::clone(&self.parties[to].inboxes[group]);
            while let Some(event) = within(again, inbox.next()).await {
                if let Event::Message(envelope) = event
                    && self.judge(node, GROUPS[group], &envelope)? >= first
                {
                    return Ok(());
                }
            }
            again = (again * 2).min(patience);
        }
        // It may be elsewhere.
        self.judge_all()?;
        let text: String = format!("{message:?}").chars().take(60).collect();
        let from = self.parties[from].node();
        let step = format!("{from} sends this to {node} again and again: {text}");
        Err(Breach::new(rule, step, "one arrives", format!("none within {patience:?}")))
    }

    /// Judges every message that has arrived anywhere.
    pub(super) fn judge_all(&mut self) -> Result<(), Breach> {
        for party in 0..self.parties.len() {
            let node = self.parties[party].node();
            for (group, inbox) in GROUPS.into_iter().zip(self.parties[party].inboxes.clone()) {
                while let Some(event) = inbox.try_next() {
                    if let Event::Message(envelope) = event {
                        self.judge(node, group, &envelope)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn start(&self, cluster: ClusterId, node: u64) -> Party<N::Transport> {
        start(self.network, cluster, node)
    }
}

fn start<N: Network>(network: &N, cluster: ClusterId, node: u64) -> Party<N::Transport> {
    let identity = Identity { cluster, node: NodeId(node), incarnation: Incarnation(node + 100) };
    let (transport, address) = network.start(identity);
    let node = identity.node;
    let inboxes: [Arc<Mailbox<Event>>; 2] = Default::default();
    let desks = GROUPS.map(|group| Desk::new(node, group));
    for ((group, inbox), desk) in GROUPS.into_iter().zip(&inboxes).zip(&desks) {
        network.serve(node, &transport, group, Arc::new(Window(Arc::clone(desk))));
        transport.open(group, identity, Arc::new(Recorder(Arc::clone(inbox))));
    }
    Party { identity, transport, address, inboxes, desks }
}

/// A message on its way, with its number for a term.
pub(super) fn envelope(from: Identity, to: NodeId, number: u64, message: Message) -> Envelope {
    let sender = Sender { incarnation: from.incarnation, ..Sender::default() };
    Envelope { from: from.node, to, term: Term(number), sender, message }
}

/// A message without the bytes of its entries.
fn brief(envelope: &Envelope) -> String {
    let Envelope { from, to, term, sender, message } = envelope;
    let text = match message {
        Message::AppendEntries(AppendEntries { prev_log, entries, leader_commit, read_seq }) => {
            let entries = entries
                .as_ref()
                .map_or_else(String::new, |run| format!(" {run}, {} bytes", run.size()));
            format!("AppendEntries {prev_log}{entries} commit {leader_commit} read {read_seq}")
        }
        other => format!("{other:?}"),
    };
    let mut digest = DefaultHasher::new();
    message.hash(&mut digest);
    let (life, digest) = (sender.incarnation, digest.finish());
    format!("number {term} from {from} to {to}, life {life:?}: {text}, digest {digest:x}")
}

/// A heartbeat.
pub(super) fn heartbeat() -> Message {
    Message::AppendEntries(AppendEntries {
        prev_log: LogId::new(4, 1),
        entries: None,
        leader_commit: Index(3),
        read_seq: 9,
    })
}

/// `length` bytes that differ from their neighbours.
pub(super) fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8 ^ (at >> 12) as u8).collect()
}
