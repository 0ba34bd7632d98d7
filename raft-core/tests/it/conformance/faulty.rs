//! The network in memory with a bug in it.

use bytes::{Bytes, BytesMut};
use raft_core::raft::{AppendEntries, Envelope, Message};
use raft_core::state_machine::Snapshot;
use raft_core::testing::transport::Network;
use raft_core::transport::{
    BorrowedFuture, BoxFuture, CallError, Duplex, FrameSink, FrameSource, Inbox, MemoryNetwork,
    MemoryTransport, Peers, Service, StreamError, Transport,
};
use raft_core::types::{Entry, GroupId, Identity, NodeId, Payload, Run, SnapshotMeta, Term};
use std::collections::BTreeSet;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    LosesEverything,
    LosesLargeMessages,
    CorruptsCommands,
    CorruptsBoundaries,
    MisroutesMessages,
    MixesUpGroups,
    HoldsMessagesBack,
    KeepsWhatCannotBeSent,
    CutsSnapshotsShort,
    DeliversBrokenSnapshots,
    SaysNothingOfSnapshots,
    DoublesRequests,
    CorruptsReplies,
    MisroutesRequests,
    AnswersOneAfterTheOther,
    WaitsForTheGone,
    EndsBrokenStreamsCleanly,
    NeverMakesASenderWait,
    LosesFrames,
    NeverReconnects,
    /// It says that it does.
    ChecksNoIdentity,
}

pub(super) struct Faulty {
    bug: Bug,
    network: MemoryNetwork,
    stopped: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Faulty {
    pub(super) fn new(bug: Bug) -> Self {
        Self { bug, network: MemoryNetwork::new(), stopped: Arc::default() }
    }
}

impl Network for Faulty {
    type Transport = FaultyTransport;

    fn start(&self, identity: Identity) -> (Arc<FaultyTransport>, String) {
        let (bug, node) = (self.bug, identity.node);
        let (inner, stopped) = (self.network.transport(node), Arc::clone(&self.stopped));
        let (held, kept, turn) = Default::default();
        (Arc::new(FaultyTransport { bug, inner, stopped, held, kept, turn }), node.to_string())
    }

    fn serve(&self, node: NodeId, _: &FaultyTransport, group: GroupId, service: Arc<dyn Service>) {
        self.network.serve(group, node, service);
    }

    fn stop(&self, node: NodeId, _: Arc<FaultyTransport>) -> BoxFuture<()> {
        self.network.remove(node);
        self.stopped.lock().unwrap().insert(node);
        Box::pin(async {})
    }

    fn checks_identity(&self) -> bool {
        self.bug == Bug::ChecksNoIdentity
    }

    fn patience(&self) -> Duration {
        match self.bug {
            Bug::None | Bug::DoublesRequests | Bug::CorruptsReplies => Duration::from_secs(30),
            _ => Duration::from_secs(3),
        }
    }
}

pub(super) struct FaultyTransport {
    bug: Bug,
    inner: Arc<MemoryTransport>,
    stopped: Arc<Mutex<BTreeSet<NodeId>>>,
    held: Mutex<Option<Envelope>>,
    kept: Mutex<Vec<Envelope>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The same append with another command.
fn corrupted(message: Message) -> Message {
    let Message::AppendEntries(AppendEntries { entries: Some(run), .. }) = &message else {
        return message;
    };
    let mut entries = run.entries().to_vec();
    if let Entry { payload: Payload::Command(command), .. } = &mut entries[0]
        && !command.is_empty()
    {
        let mut bytes = command.to_vec();
        bytes[command.len() / 2] ^= 4;
        *command = bytes.into();
    }
    let Message::AppendEntries(append) = message else { unreachable!() };
    Message::AppendEntries(AppendEntries { entries: Run::new(entries), ..append })
}

fn size(message: &Message) -> usize {
    match message {
        Message::AppendEntries(AppendEntries { entries: Some(run), .. }) => run.size(),
        _ => 0,
    }
}

impl Transport for FaultyTransport {
    fn open(&self, group: GroupId, identity: Identity, inbox: Arc<dyn Inbox>) {
        self.inner.open(group, identity, inbox);
    }

    fn set_peers(&self, group: GroupId, peers: Vec<(NodeId, String)>) {
        self.inner.set_peers(group, peers);
    }

    fn send(&self, group: GroupId, mut envelope: Envelope) {
        match self.bug {
            Bug::LosesEverything => return,
            Bug::LosesLargeMessages if size(&envelope.message) > 1 << 20 => return,
            Bug::CorruptsCommands => envelope.message = corrupted(envelope.message),
            Bug::CorruptsBoundaries => {
                if let Message::RequestVote { last_log, .. } = &mut envelope.message {
                    last_log.index = last_log.index.next();
                }
            }
            Bug::MisroutesMessages if envelope.term.0.is_multiple_of(7) => {
                envelope.to = NodeId(envelope.to.0 % 3 + 1);
            }
            Bug::MixesUpGroups => return self.inner.send(GroupId(0), envelope),
            Bug::HoldsMessagesBack if envelope.term.0.is_multiple_of(50) => {
                *self.held.lock().unwrap() = Some(envelope);
                return;
            }
            Bug::KeepsWhatCannotBeSent if self.stopped.lock().unwrap().contains(&envelope.to) => {
                self.kept.lock().unwrap().push(envelope);
                return;
            }
            _ => {}
        }
        let last = envelope.term.0 % 50 == 9;
        self.inner.send(group, envelope);
        if last && let Some(held) = self.held.lock().unwrap().take() {
            self.inner.send(group, held);
        }
    }

    fn send_snapshot(&self, group: GroupId, to: NodeId, term: Term, snapshot: Snapshot) {
        let Snapshot { meta, mut data } = snapshot;
        let mut bytes = Vec::new();
        let data: Box<dyn Read + Send> = match self.bug {
            Bug::SaysNothingOfSnapshots if to.0 > 3 => return,
            Bug::CutsSnapshotsShort => {
                data.read_to_end(&mut bytes).unwrap();
                bytes.truncate(1 << 20);
                Box::new(Cursor::new(bytes))
            }
            Bug::DeliversBrokenSnapshots => {
                let _ = data.read_to_end(&mut bytes);
                Box::new(Cursor::new(bytes))
            }
            _ => data,
        };
        let meta = SnapshotMeta { ..meta };
        self.inner.send_snapshot(group, to, term, Snapshot { meta, data });
    }
}

impl Peers for FaultyTransport {
    fn call(
        &self,
        group: GroupId,
        to: NodeId,
        request: Bytes,
    ) -> BoxFuture<Result<Bytes, CallError>> {
        let stopped = self.stopped.lock().unwrap().contains(&to);
        let call = |to: NodeId, request: Bytes| self.inner.call(group, to, request);
        match self.bug {
            Bug::WaitsForTheGone if stopped => Box::pin(std::future::pending()),
            Bug::NeverReconnects if stopped => {
                Box::pin(async { Err(CallError::NotSent("it is gone".into())) })
            }
            Bug::DoublesRequests => {
                let (first, second) = (call(to, request.clone()), call(to, request));
                Box::pin(async move {
                    let _ = first.await;
                    second.await
                })
            }
            Bug::MisroutesRequests if request.len() > 4000 => call(NodeId(to.0 % 3 + 1), request),
            Bug::CorruptsReplies => {
                let call = call(to, request);
                Box::pin(async move {
                    let mut reply = BytesMut::from(&call.await?[..]);
                    if let Some(byte) = reply.get_mut(60_000) {
                        *byte ^= 1;
                    }
                    Ok(reply.freeze())
                })
            }
            Bug::AnswersOneAfterTheOther => {
                let (call, turn) = (call(to, request), Arc::clone(&self.turn));
                Box::pin(async move {
                    let _turn = turn.lock().await;
                    call.await
                })
            }
            _ => call(to, request),
        }
    }

    fn open_stream(
        &self,
        group: GroupId,
        to: NodeId,
        first: Bytes,
    ) -> BoxFuture<Result<Duplex, CallError>> {
        let (bug, opening) = (self.bug, self.inner.open_stream(group, to, first));
        Box::pin(async move {
            let Duplex { sink, source } = opening.await?;
            let sink = Box::new(FaultySink { bug, inner: sink, sent: 0, kept: Vec::new() });
            Ok(Duplex { sink, source: Box::new(FaultySource { bug, inner: source }) })
        })
    }
}

struct FaultySink {
    bug: Bug,
    inner: Box<dyn FrameSink>,
    sent: usize,
    kept: Vec<Bytes>,
}

impl FrameSink for FaultySink {
    fn send(&mut self, frame: Bytes) -> BorrowedFuture<'_, Result<(), StreamError>> {
        self.sent += 1;
        let keeps = match self.bug {
            Bug::NeverMakesASenderWait => frame.len() == 256 * 1024,
            Bug::LosesFrames => self.sent == 100,
            _ => false,
        };
        if keeps {
            self.kept.push(frame);
            return Box::pin(async { Ok(()) });
        }
        self.inner.send(frame)
    }

    fn finish(self: Box<Self>) -> BorrowedFuture<'static, Result<(), StreamError>> {
        self.inner.finish()
    }
}

struct FaultySource {
    bug: Bug,
    inner: Box<dyn FrameSource>,
}

impl FrameSource for FaultySource {
    fn receive(&mut self) -> BorrowedFuture<'_, Result<Option<Bytes>, StreamError>> {
        Box::pin(async {
            match self.inner.receive().await {
                Err(_) if self.bug == Bug::EndsBrokenStreamsCleanly => Ok(None),
                received => received,
            }
        })
    }
}
