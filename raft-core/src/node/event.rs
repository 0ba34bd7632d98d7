//! What reaches the loop: events from outside, completions from the node's own threads.

use super::metrics::Metrics;
use super::{
    ChangeError, Changed, ProposeError, Proposed, Queried, QueryError, ReadMode, TransferError,
};
use crate::log_store::StorageError;
use crate::raft::{Envelope, Message};
use crate::state_machine::Snapshot;
use crate::transport::Inbox;
use crate::types::{Change, Index, NodeId, Sender, SnapshotMeta, Term, WriteSeq};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

pub(super) enum Event {
    Message(Envelope),
    Snapshot { from: NodeId, sender: Sender, term: Term, snapshot: Snapshot },
    Propose(Proposal),
    ProposeMany(Vec<Proposal>),
    Query(Query),
    Transfer(Transfer),
    Change(ChangeRequest),
    Checkpoint,
    Shutdown,
}

pub(super) struct Proposal {
    pub(super) command: Bytes,
    pub(super) waiter: Waiter,
}

/// The permit counts the request against the bound until it is answered or given up.
pub(super) struct Query {
    pub(super) query: Bytes,
    pub(super) mode: ReadMode,
    pub(super) reply: oneshot::Sender<Result<Queried, QueryError>>,
    pub(super) permit: OwnedSemaphorePermit,
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
    Flushed(SnapshotMeta),
    Restored(SnapshotMeta),
    NotRestored(SnapshotMeta, StorageError),
    /// The transport's report of a snapshot handed to it: at most one per peer is under way.
    SnapshotSent {
        to: NodeId,
        meta: SnapshotMeta,
        ok: bool,
    },
    /// A snapshot for a peer, or none if there is none to send.
    Snapshot {
        to: NodeId,
        snapshot: Option<Snapshot>,
    },
    Failed(StorageError),
    Panicked(&'static str),
}

/// An answer on its way from the applier to whoever asked: the thread hands them over in batches,
/// because a wake-up across threads costs more than most commands.
pub(super) enum Answer {
    Proposed(Waiter, Proposed),
    Queried(Query, Queried),
    /// What was read may be stale, for the lease is over: to be read again.
    Expired(Query),
}

/// What becomes of a proposal.
pub(super) type Outcome = Result<Proposed, ProposeError>;

/// Whoever waits for a proposal's outcome. The permit counts it against the bound until then.
pub(super) enum Waiter {
    One { reply: oneshot::Sender<Outcome>, permit: OwnedSemaphorePermit },
    Part { batch: Arc<Batch>, place: usize },
}

impl Waiter {
    /// Whoever gave up waiting is ignored.
    pub(super) fn resolve(self, outcome: Outcome) {
        match self {
            Self::One { reply, permit } => {
                drop(permit);
                let _ = reply.send(outcome);
            }
            // Nobody else has this place.
            Self::Part { batch, place } => drop(batch.outcomes[place].set(outcome)),
        }
    }
}

/// Proposals that are waited for together, each part of which holds it: once the last one is
/// resolved, or dropped, whoever waits is woken.
pub(super) struct Batch {
    outcomes: Vec<OnceLock<Outcome>>,
    done: Option<oneshot::Sender<Vec<OnceLock<Outcome>>>>,
    /// Counts all of them against the bound.
    permit: Option<OwnedSemaphorePermit>,
}

impl Batch {
    /// `commands`, to be proposed together; and where their outcomes arrive, those that were
    /// dropped missing.
    pub(super) fn of(
        commands: impl ExactSizeIterator<Item = Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> (Vec<Proposal>, oneshot::Receiver<Vec<OnceLock<Outcome>>>) {
        let (done, outcomes) = oneshot::channel();
        let places = std::iter::repeat_with(OnceLock::new).take(commands.len()).collect();
        let batch = Arc::new(Self { outcomes: places, done: Some(done), permit: Some(permit) });
        let part = |(place, command)| {
            let waiter = Waiter::Part { batch: Arc::clone(&batch), place };
            Proposal { command, waiter }
        };
        (commands.enumerate().map(part).collect(), outcomes)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        drop(self.permit.take());
        if let Some(done) = self.done.take() {
            // Whoever gave up waiting is ignored.
            let _ = done.send(std::mem::take(&mut self.outcomes));
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
    events: mpsc::Sender<Event>,
    completed: mpsc::UnboundedSender<Completion>,
    metrics: Arc<Metrics>,
}

impl NodeInbox {
    pub(super) const fn new(
        events: mpsc::Sender<Event>,
        completed: mpsc::UnboundedSender<Completion>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { events, completed, metrics }
    }

    fn offer(&self, event: Event, what: &'static str) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
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
        self.offer(Event::Snapshot { from, sender, term, snapshot }, "snapshot");
    }

    fn snapshot_sent(&self, to: NodeId, meta: SnapshotMeta, ok: bool) {
        // Not to be dropped: the core waits for it. Nobody listens if the node is gone.
        let _ = self.completed.send(Completion::SnapshotSent { to, meta, ok });
    }
}
