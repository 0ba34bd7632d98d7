//! What reaches the loop: events from outside, completions from the node's own threads.

use super::metrics::Metrics;
use super::queue::{Entrance, Permit, Refused};
use super::waiter::{Outcome, Outcomes, Waiter};
use super::{ChangeError, Changed, Proposed, Queried, QueryError, ReadMode, TransferError};
use crate::log_store::StorageError;
use crate::raft::{Envelope, Message};
use crate::state_machine::Snapshot;
use crate::transport::Inbox;
use crate::types::{Change, Entry, Index, NodeId, Run, Sender, SnapshotMeta, Term, WriteSeq};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

pub(super) enum Event {
    Message(Envelope),
    /// Boxed because it is large and rare, and every event is moved a few times.
    Snapshot {
        from: NodeId,
        sender: Sender,
        term: Term,
        snapshot: Box<Snapshot>,
    },
    /// Nobody listens where this node did, as far as the transport can tell.
    Refused(NodeId),
    Propose {
        command: Bytes,
        reply: oneshot::Sender<Outcome>,
    },
    ProposeMany {
        commands: Vec<Bytes>,
        done: oneshot::Sender<Outcomes>,
    },
    Query {
        query: Bytes,
        mode: ReadMode,
        reply: oneshot::Sender<Result<Queried, QueryError>>,
    },
    Transfer(Transfer),
    Change(ChangeRequest),
    Checkpoint,
    Shutdown,
}

/// The permit counts the request against the bound until it is answered or given up.
pub(super) struct Query {
    pub(super) query: Bytes,
    pub(super) mode: ReadMode,
    pub(super) reply: oneshot::Sender<Result<Queried, QueryError>>,
    pub(super) permit: Permit,
}

/// What is to be thought of a query's answer.
#[derive(Clone, Copy)]
pub(super) enum Horizon {
    /// It is fresh: the index was confirmed.
    Confirmed,
    /// It is fresh if it was read before `until`.
    Lease { until: Instant },
    /// It is as stale as this contact with whoever leads.
    Contact(Option<Instant>),
}

pub(super) struct Transfer {
    pub(super) to: Option<NodeId>,
    pub(super) reply: oneshot::Sender<Result<NodeId, TransferError>>,
}

pub(super) struct ChangeRequest {
    pub(super) changes: Vec<Change>,
    pub(super) reply: oneshot::Sender<Result<Changed, ChangeError>>,
}

/// Reports of storage and applier, whoever did the work. Their number is bounded by what the loop
/// gave them to do.
pub(super) enum Completion {
    /// Every write up to `seq` is durable; the last commit took so long.
    Persisted {
        seq: WriteSeq,
        took: Duration,
    },
    Applied {
        last_applied: Index,
        answers: Vec<Answer>,
    },
    Flushed(Box<SnapshotMeta>),
    Restored(Box<SnapshotMeta>),
    NotRestored(Box<(SnapshotMeta, StorageError)>),
    /// The transport's report of a snapshot handed to it: at most one per peer is under way.
    SnapshotSent {
        to: NodeId,
        meta: Box<SnapshotMeta>,
        ok: bool,
    },
    /// A snapshot for a peer, or none if there is none to send.
    Snapshot {
        to: NodeId,
        snapshot: Option<Box<Snapshot>>,
    },
    Failed(StorageError),
    Panicked(&'static str),
}

impl Completion {
    /// Whether nothing is left to be done about it but to answer who waits.
    pub(super) fn is_final(&self) -> bool {
        let Self::Applied { answers, .. } = self else { return false };
        !answers.iter().any(|answer| matches!(answer, Answer::Expired(_)))
    }
}

/// An answer on its way from the applier to whoever asked: the thread hands them over in batches,
/// because a wake-up across threads costs more than most commands.
pub(super) enum Answer {
    Applied(Applied),
    Queried(Query, Queried),
    /// What was read may be stale, for the lease is over: to be read again.
    Expired(Query),
}

/// A run that was applied, and who proposed entries of it.
pub(super) struct Applied {
    pub(super) run: Run,
    /// One of each entry.
    pub(super) replies: Vec<Bytes>,
    /// With the index of the first entry that each waits for.
    pub(super) waiters: Vec<(Index, Waiter)>,
}

impl Applied {
    /// Tells all who wait.
    pub(super) fn resolve(self) {
        let Self { run, replies, waiters } = self;
        let mut next = run.first().index.0;
        let mut outcomes = (run.entries().iter().zip(replies))
            .map(|(Entry { id, .. }, reply)| Ok(Proposed { id: *id, reply }));
        for (index, waiter) in waiters {
            let (others, count) = ((index.0 - next) as usize, waiter.count());
            next = index.0 + count as u64;
            waiter.resolve(outcomes.by_ref().skip(others).take(count));
        }
    }
}

impl Query {
    /// Whoever gave up waiting is ignored.
    pub(super) fn resolve(self, outcome: Result<Queried, QueryError>) {
        drop(self.permit);
        let _ = self.reply.send(outcome);
    }
}

/// What the transport delivers to. When the loop cannot keep up, messages are dropped: Raft sends
/// again.
pub(super) struct NodeInbox {
    events: Entrance,
    completed: mpsc::UnboundedSender<Completion>,
    metrics: Arc<Metrics>,
}

impl NodeInbox {
    pub(super) const fn new(
        events: Entrance,
        completed: mpsc::UnboundedSender<Completion>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { events, completed, metrics }
    }

    fn offer(&self, event: Event, what: &'static str) {
        if self.events.tell(event) == Err(Refused::Full) {
            self.metrics.messages_dropped.increment(1);
            tracing::debug!(what, "dropped: the node cannot keep up");
        }
    }
}

impl Inbox for NodeInbox {
    fn receive(&self, envelope: Envelope) {
        if let Message::InstallSnapshot { .. } = envelope.message {
            // The header of a snapshot whose bytes are not here: they come by `receive_snapshot`.
            tracing::debug!(from = %envelope.from, "dropped: a snapshot without its bytes");
            return;
        }
        self.offer(Event::Message(envelope), "message");
    }

    fn receive_snapshot(&self, from: NodeId, sender: Sender, term: Term, snapshot: Snapshot) {
        let snapshot = Box::new(snapshot);
        self.offer(Event::Snapshot { from, sender, term, snapshot }, "snapshot");
    }

    fn refused(&self, peer: NodeId) {
        self.offer(Event::Refused(peer), "hint");
    }

    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        // Not to be dropped: the core waits for it. Nobody listens if the node is gone.
        let meta = Box::new(meta);
        let _ = self.completed.send(Completion::SnapshotSent { to, meta, ok });
    }
}
