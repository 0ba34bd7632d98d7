//! The applier: applies committed runs, answers proposers and queries, takes checkpoints and makes
//! snapshots.
//!
//! A thread works on a queue of jobs, strictly in order, so a query handed over behind a run sees
//! that run. What the state machine calls quick the loop does itself while nothing is queued: to
//! wake a thread and be woken by it costs more than most commands. Checkpoints are written by
//! another thread, at most one at a time, while applying goes on.

mod worker;

use super::NodeConfig;
use super::event::{Completion, Horizon, Query};
use super::metrics::Metrics;
use super::waiter::Waiter;
use crate::log_store::StorageError;
use crate::state_machine::{Snapshot, StateMachine};
use crate::types::{Index, NodeId, Run};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tokio::sync::mpsc::UnboundedSender;
use worker::Worker;

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
    Restore(Box<Snapshot>),
}

impl Job {
    /// How many wait for what comes of it.
    fn requests(&self) -> usize {
        match self {
            Self::Apply { waiters, .. } => waiters.iter().map(|(_, waiter)| waiter.count()).sum(),
            Self::Query(..) => 1,
            _ => 0,
        }
    }
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
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    machine: Arc<dyn Quick>,
}

impl Applier {
    /// Has `job` done, in order; the report if that is done on return, which it may be only if
    /// there is `time`.
    pub(super) fn give(&self, job: Job, time: bool) -> Option<Completion> {
        let (report, next) = match self.machine.try_now(job, time) {
            Ok(Now { report, next }) => (Some(report), next),
            Err(job) => (None, Some(job)),
        };
        if let Some(job) = next {
            // An error means that the thread has ended; its report of why is on the way.
            let _ = self.jobs.send(job);
        }
        report
    }

    /// Waits until what was given is done, and lets go of the state machine.
    pub(super) fn join(self) {
        drop(self.jobs);
        // It reports its own panic.
        let _ = self.thread.join();
    }
}

/// What was done at once.
struct Now {
    report: Completion,
    /// What is to be queued after it, and is counted as such.
    next: Option<Job>,
}

/// A state machine on which is worked at once what takes no time.
trait Quick: Send + Sync {
    /// Does `job` if there is `time`, or counts it as queued and gives it back.
    fn try_now(&self, job: Job, time: bool) -> Result<Now, Job>;
}

/// What the loop and the thread share.
struct Shared<M> {
    worker: Mutex<Worker<M>>,
    /// Jobs given to the thread and not done. Only the loop adds to it: while it is 0 nothing can
    /// be overtaken.
    queued: AtomicUsize,
}

impl<M: StateMachine> Quick for Shared<M> {
    fn try_now(&self, job: Job, time: bool) -> Result<Now, Job> {
        let idle = self.queued.load(Ordering::Acquire) == 0;
        let tried = if time && idle { self.work_now(job) } else { Err(job) };
        let queues = tried.as_ref().map_or(true, |now| now.next.is_some());
        self.queued.fetch_add(usize::from(queues), Ordering::Relaxed);
        tried
    }
}

/// What a panic is told of.
const PANICKED: &str = "the state machine";

impl<M: StateMachine> Shared<M> {
    /// Does `job` if nobody else works. A panic leaves the lock poisoned: whatever state it left,
    /// nobody works on it any more.
    fn work_now(&self, job: Job) -> Result<Now, Job> {
        let work = || {
            let Ok(mut worker) = self.worker.try_lock() else { return Err(job) };
            let report = worker.try_now(job)?;
            let next = worker.is_checkpoint_due().then_some(Job::Checkpoint);
            Ok(Now { report, next })
        };
        let panicked = |_| Ok(Now { report: Completion::Panicked(PANICKED), next: None });
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
    }

    /// To work on the thread; nothing if the loop has panicked, which it reports itself.
    fn worker(&self) -> Option<MutexGuard<'_, Worker<M>>> {
        self.worker.lock().ok()
    }

    /// Works until the queue is closed.
    fn run(
        &self,
        queue: &Receiver<Job>,
        completed: &UnboundedSender<Completion>,
    ) -> Result<(), StorageError> {
        while let Ok(first) = queue.recv() {
            let mut done = 0;
            let Some(mut worker) = self.worker() else { return Ok(()) };
            let report = worker.work_through(first, queue, &mut done)?;
            let due = worker.is_checkpoint_due();
            drop(worker);
            // Before the report: what the loop does because of it may be done at once.
            self.queued.fetch_sub(done, Ordering::Release);
            if completed.send(report).is_err() {
                break;
            }
            if due && let Some(mut worker) = self.worker() {
                worker.begin_checkpoint()?;
            }
        }
        if let Some(mut worker) = self.worker() {
            worker.join_checkpoint();
        }
        Ok(())
    }
}

pub(super) fn start(
    machine: impl StateMachine,
    node: NodeId,
    thresholds: Thresholds,
    metrics: Arc<Metrics>,
    completed: UnboundedSender<Completion>,
) -> io::Result<Applier> {
    let (jobs, queue) = channel();
    let worker = Worker::new(machine, node, thresholds, metrics, completed.clone());
    let shared = Arc::new(Shared { worker: Mutex::new(worker), queued: AtomicUsize::new(0) });
    let machine: Arc<dyn Quick> = Arc::<Shared<_>>::clone(&shared);
    let run = move || {
        match catch_unwind(AssertUnwindSafe(|| shared.run(&queue, &completed))) {
            Ok(Ok(())) => {}
            // Nobody listens if the node is gone already.
            Ok(Err(error)) => drop(completed.send(Completion::Failed(error))),
            Err(_) => drop(completed.send(Completion::Panicked(PANICKED))),
        }
    };
    let thread = std::thread::Builder::new().name("raft-applier".into()).spawn(run)?;
    Ok(Applier { jobs, thread, machine })
}
