//! What is done with the state machine, one job after the other.

use super::{Job, Thresholds};
use crate::log_store::StorageError;
use crate::node::Queried;
use crate::node::background;
use crate::node::event::{Answer, Applied, Completion, Horizon, Query};
use crate::node::metrics::{Metrics, record_time};
use crate::node::waiter::Waiter;
use crate::state_machine::{Snapshot, StateMachine};
use crate::types::{Index, NodeId, Run};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Requests whose answers are gathered before they are handed over even if more jobs wait.
const ANSWERS_MAX: usize = 4096;

pub(super) struct Worker<M> {
    machine: M,
    node: NodeId,
    thresholds: Thresholds,
    metrics: Arc<Metrics>,
    /// Bytes applied since the last checkpoint was begun; see [`Thresholds::head_start`].
    applied_bytes: usize,
    /// Entries applied since then.
    applied_entries: usize,
    last_applied: Index,
    /// The checkpoint being written.
    checkpoint: Option<JoinHandle<()>>,
    completed: UnboundedSender<Completion>,
}

impl<M: StateMachine> Worker<M> {
    pub(super) fn new(
        machine: M,
        node: NodeId,
        thresholds: Thresholds,
        metrics: Arc<Metrics>,
        completed: UnboundedSender<Completion>,
    ) -> Self {
        let counted = thresholds.head_start(node);
        Self {
            last_applied: machine.applied().last.index,
            machine,
            node,
            thresholds,
            metrics,
            applied_bytes: counted.bytes,
            applied_entries: counted.entries,
            checkpoint: None,
            completed,
        }
    }

    /// Does `first` and what waits behind it, and counts all of it in `done`.
    pub(super) fn work_through(
        &mut self,
        first: Job,
        queue: &Receiver<Job>,
        done: &mut usize,
    ) -> Result<Completion, StorageError> {
        let (mut answers, mut requests) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(job) = next {
            *done += 1;
            requests += job.requests();
            self.work(job, &mut answers)?;
            next = if requests < ANSWERS_MAX { queue.try_recv().ok() } else { None };
        }
        Ok(Completion::Applied { last_applied: self.last_applied, answers })
    }

    /// Does `job` if that is quick, else gives it back.
    pub(super) fn try_now(&mut self, job: Job) -> Result<Completion, Job> {
        let answers = match job {
            Job::Apply { run, waiters } if self.machine.is_quick(&run) => {
                self.apply(run, waiters).map_or_else(Vec::new, |applied| vec![applied])
            }
            Job::Query(query, horizon) => match self.machine.quick_query(&query.query) {
                Some(reply) => vec![self.judge(query, horizon, reply)],
                None => return Err(Job::Query(query, horizon)),
            },
            job => return Err(job),
        };
        Ok(Completion::Applied { last_applied: self.last_applied, answers })
    }

    fn work(&mut self, job: Job, answers: &mut Vec<Answer>) -> Result<(), StorageError> {
        match job {
            Job::Apply { run, waiters } => answers.extend(self.apply(run, waiters)),
            // Whoever asked has gone, or was answered that it took too long.
            Job::Query(query, _) if query.reply.is_closed() => {}
            Job::Query(query, horizon) => answers.push(self.query(query, horizon)),
            Job::Checkpoint => self.begin_checkpoint()?,
            Job::Snapshot { to } => self.send_snapshot(to),
            Job::Restore(snapshot) => self.restore(*snapshot)?,
        }
        Ok(())
    }

    /// Applies `run`; the answer, if anybody waits for one.
    fn apply(&mut self, run: Run, waiters: Vec<(Index, Waiter)>) -> Option<Answer> {
        let first = run.first().index;
        assert!(first == self.last_applied.next(), "applying {run} after {}", self.last_applied);
        let last = run.last();
        let span = tracing::trace_span!("apply", node = %self.node, term = %last.term, %first,
            last = %last.index);
        let began = Instant::now();
        let replies = span.in_scope(|| self.machine.apply(&run));
        record_time(&self.metrics.apply_seconds, began.elapsed());
        self.metrics.apply_entries.record(run.len() as f64);
        assert!(replies.len() == run.len(), "{} replies to {} entries", replies.len(), run.len());
        self.last_applied = last.index;
        self.applied_entries += run.len();
        self.applied_bytes += run.size();
        let waited = !waiters.is_empty();
        waited.then(|| Answer::Applied(Applied { run, replies, waiters }))
    }

    fn query(&self, query: Query, horizon: Horizon) -> Answer {
        let reply = self.machine.query(&query.query);
        self.judge(query, horizon, reply)
    }

    /// The lease is looked at after reading: this thread may have been paused meanwhile, and
    /// another node been elected.
    fn judge(&self, query: Query, horizon: Horizon, reply: Bytes) -> Answer {
        let staleness = match horizon {
            Horizon::Confirmed => Some(Duration::ZERO),
            Horizon::Lease { until } if Instant::now() < until => Some(Duration::ZERO),
            Horizon::Lease { .. } => return Answer::Expired(query),
            Horizon::Contact(at) => at.map(|at| at.elapsed()),
        };
        Answer::Queried(query, Queried { reply, applied: self.last_applied, staleness })
    }

    /// Whether enough was applied since the last checkpoint, and none is being written.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        let Thresholds { bytes, entries } = self.thresholds;
        let enough = self.applied_bytes >= bytes || self.applied_entries >= entries;
        enough && !self.is_checkpointing()
    }

    fn is_checkpointing(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    pub(super) fn begin_checkpoint(&mut self) -> Result<(), StorageError> {
        if self.is_checkpointing() {
            return Ok(());
        }
        self.join_checkpoint();
        (self.applied_bytes, self.applied_entries) = (0, 0);
        let Some(job) = self.machine.checkpoint() else { return Ok(()) };
        let completed = self.completed.clone();
        let write = move || {
            let report = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(Ok(meta)) => Completion::Flushed(Box::new(meta)),
                Ok(Err(error)) => Completion::Failed(error),
                Err(_) => Completion::Panicked("the checkpoint"),
            };
            // Nobody listens if the node is gone already.
            let _ = completed.send(report);
        };
        let thread = background::spawn("raft-checkpoint", write);
        let thread = thread.map_err(|error| StorageError::io("starting a checkpoint", error))?;
        self.checkpoint = Some(thread);
        Ok(())
    }

    pub(super) fn join_checkpoint(&mut self) {
        if let Some(thread) = self.checkpoint.take() {
            // It reports its own panic.
            let _ = thread.join();
        }
    }

    fn send_snapshot(&self, to: NodeId) {
        let snapshot = self.machine.snapshot();
        if let Err(error) = &snapshot {
            tracing::warn!(%to, %error, "no snapshot to send");
        }
        let snapshot = snapshot.ok().map(Box::new);
        let _ = self.completed.send(Completion::Snapshot { to, snapshot });
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        // The checkpoint being written belongs to the state that is about to go.
        self.join_checkpoint();
        let meta = Box::new(snapshot.meta.clone());
        let restored = background::run("raft-restore", || self.machine.restore(snapshot));
        let restored = restored.map_err(|error| StorageError::io("starting a restore", error))?;
        let report = match restored {
            Ok(()) => {
                self.last_applied = meta.last.index;
                (self.applied_bytes, self.applied_entries) = (0, 0);
                Completion::Restored(meta)
            }
            // The sender's fault, and nothing has changed here.
            Err(error @ StorageError::Stream(_)) => {
                Completion::NotRestored(Box::new((*meta, error)))
            }
            Err(error) => return Err(error),
        };
        let _ = self.completed.send(report);
        Ok(())
    }
}
