//! The applier thread: owns the state machine.
//!
//! It applies committed runs, answers proposers and queries, takes checkpoints and makes snapshots.
//! Jobs run strictly in order, so a query handed over behind a run sees that run. Checkpoints are
//! written by a thread of their own, at most one at a time, while applying goes on.

use super::event::{Answer, Completion, Horizon, Query, Waiter};
use super::metrics::{Metrics, record_time};
use super::{NodeConfig, Proposed, Queried};
use crate::log_store::StorageError;
use crate::state_machine::{Snapshot, StateMachine};
use crate::types::{Entry, Index, NodeId, Run};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Answers gathered before they are handed over even if more jobs wait.
const ANSWERS_MAX: usize = 4096;

pub(super) enum Job {
    /// Apply a run and answer those who proposed its commands, in order of index.
    Apply {
        run: Run,
        waiters: Vec<(Index, Waiter)>,
    },
    Query(Query, Horizon),
    /// Begin a checkpoint now, unless one is being written.
    Checkpoint,
    Snapshot {
        to: NodeId,
    },
    Restore(Snapshot),
}

/// After how much the state machine is checkpointed.
#[derive(Clone, Copy)]
pub(super) struct Thresholds {
    bytes: usize,
    entries: usize,
}

impl Thresholds {
    pub(super) const fn of(config: &NodeConfig) -> Self {
        Self { bytes: config.checkpoint_bytes, entries: config.checkpoint_entries }
    }

    /// What `node` counts as applied when it starts. All nodes apply the same: if they began alike
    /// all would write their checkpoints at the same time, and commits would wait for busy disks.
    /// Multiples of the golden ratio are far from each other, however many there are.
    fn head_start(self, node: NodeId) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let part = (node.0.wrapping_mul(GOLDEN) >> 32) as f64 / 2.0_f64.powi(32);
        let of = |whole: usize| (whole as f64 * part) as usize;
        Self { bytes: of(self.bytes), entries: of(self.entries) }
    }
}

/// The queue to the thread, and the thread. What waits in the queue is bounded: runs by the log
/// they are part of, queries by the node's bound on requests.
pub(super) struct Applier {
    pub(super) jobs: Sender<Job>,
    pub(super) thread: JoinHandle<()>,
}

pub(super) fn start(
    machine: impl StateMachine,
    node: NodeId,
    thresholds: Thresholds,
    metrics: Arc<Metrics>,
    completed: UnboundedSender<Completion>,
) -> io::Result<Applier> {
    let (jobs, queue) = channel();
    let run = move || {
        let last_applied = machine.applied().last.index;
        let counted = thresholds.head_start(node);
        let mut worker = Worker {
            machine,
            node,
            thresholds,
            metrics,
            applied_bytes: counted.bytes,
            applied_entries: counted.entries,
            last_applied,
            checkpoint: None,
            completed: completed.clone(),
        };
        match catch_unwind(AssertUnwindSafe(|| worker.run(&queue))) {
            Ok(Ok(())) => {}
            // Nobody listens if the node is gone already.
            Ok(Err(error)) => drop(completed.send(Completion::Failed(error))),
            Err(_) => drop(completed.send(Completion::Panicked("the state machine"))),
        }
    };
    let thread = std::thread::Builder::new().name("raft-applier".into()).spawn(run)?;
    Ok(Applier { jobs, thread })
}

struct Worker<M> {
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
    /// Works until the queue is closed.
    fn run(&mut self, queue: &Receiver<Job>) -> Result<(), StorageError> {
        while let Ok(first) = queue.recv() {
            let mut answers = Vec::new();
            self.work(first, &mut answers)?;
            while answers.len() < ANSWERS_MAX
                && let Ok(job) = queue.try_recv()
            {
                self.work(job, &mut answers)?;
            }
            let last_applied = self.last_applied;
            if self.completed.send(Completion::Applied { last_applied, answers }).is_err() {
                break;
            }
            let Thresholds { bytes, entries } = self.thresholds;
            if self.applied_bytes >= bytes || self.applied_entries >= entries {
                self.begin_checkpoint()?;
            }
        }
        self.join_checkpoint();
        Ok(())
    }

    fn work(&mut self, job: Job, answers: &mut Vec<Answer>) -> Result<(), StorageError> {
        match job {
            Job::Apply { run, waiters } => self.apply(&run, waiters, answers),
            Job::Query(query, horizon) => answers.push(self.query(query, horizon)),
            Job::Checkpoint => self.begin_checkpoint()?,
            Job::Snapshot { to } => self.send_snapshot(to),
            Job::Restore(snapshot) => self.restore(snapshot)?,
        }
        Ok(())
    }

    fn apply(&mut self, run: &Run, waiters: Vec<(Index, Waiter)>, answers: &mut Vec<Answer>) {
        let first = run.first().index;
        assert!(first == self.last_applied.next(), "applying {run} after {}", self.last_applied);
        let last = run.last();
        let span = tracing::trace_span!("apply", node = %self.node, term = %last.term, %first,
            last = %last.index);
        let began = Instant::now();
        let replies = span.in_scope(|| self.machine.apply(run));
        record_time(&self.metrics.apply_seconds, began.elapsed());
        self.metrics.apply_entries.record(run.len() as f64);
        assert!(replies.len() == run.len(), "{} replies to {} entries", replies.len(), run.len());
        self.last_applied = last.index;
        self.applied_entries += run.len();
        self.applied_bytes += run.entries().iter().map(Entry::size).sum::<usize>();
        for (index, waiter) in waiters {
            let position = (index.0 - first.0) as usize;
            let id = run.entries()[position].id;
            let reply = replies[position].clone();
            answers.push(Answer::Proposed(waiter, Proposed { id, reply }));
        }
    }

    /// The lease is looked at after reading: this thread may have been paused meanwhile, and
    /// another node been elected.
    fn query(&self, query: Query, horizon: Horizon) -> Answer {
        let reply = self.machine.query(&query.query);
        let staleness = match horizon {
            Horizon::Confirmed => Some(Duration::ZERO),
            Horizon::Lease { until } if Instant::now() < until => Some(Duration::ZERO),
            Horizon::Lease { .. } => return Answer::Expired(query),
            Horizon::Contact(at) => at.map(|at| at.elapsed()),
        };
        Answer::Queried(query, Queried { reply, applied: self.last_applied, staleness })
    }

    fn begin_checkpoint(&mut self) -> Result<(), StorageError> {
        if self.checkpoint.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.join_checkpoint();
        (self.applied_bytes, self.applied_entries) = (0, 0);
        let Some(job) = self.machine.checkpoint() else { return Ok(()) };
        let completed = self.completed.clone();
        let write = move || {
            let report = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(Ok(meta)) => Completion::Flushed(meta),
                Ok(Err(error)) => Completion::Failed(error),
                Err(_) => Completion::Panicked("the checkpoint"),
            };
            // Nobody listens if the node is gone already.
            let _ = completed.send(report);
        };
        let thread = std::thread::Builder::new().name("raft-checkpoint".into()).spawn(write);
        let thread = thread.map_err(|error| StorageError::io("starting a checkpoint", error))?;
        self.checkpoint = Some(thread);
        Ok(())
    }

    fn join_checkpoint(&mut self) {
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
        let snapshot = snapshot.ok();
        let _ = self.completed.send(Completion::Snapshot { to, snapshot });
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        // The checkpoint being written belongs to the state that is about to go.
        self.join_checkpoint();
        let meta = snapshot.meta.clone();
        let report = match self.machine.restore(snapshot) {
            Ok(()) => {
                self.last_applied = meta.last.index;
                (self.applied_bytes, self.applied_entries) = (0, 0);
                Completion::Restored(meta)
            }
            // The sender's fault, and nothing has changed here.
            Err(error @ StorageError::Stream(_)) => Completion::NotRestored(meta, error),
            Err(error) => return Err(error),
        };
        let _ = self.completed.send(report);
        Ok(())
    }
}
