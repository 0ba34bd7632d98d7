//! Storage: group commit, on a thread of its own if writes may wait for a disk.
//!
//! The thread takes every write that waits, makes one durable commit of them and reports the last
//! sequence number. Batches grow with load by themselves; there is no timer and nothing to tune.
//! The first failure ends it: a failed flush is never retried, for nobody knows what the disk holds
//! then. A log that never waits is written by the loop, and each write is durable at once.

use super::event::Completion;
use super::metrics::{Metrics, record_time};
use crate::log_store::LogStore;
use crate::raft::{GroupOp, LogOp, Write};
use crate::types::{GroupId, LogId, NodeId, WriteSeq};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Most bytes of one commit, so that its completion is not put off for ever.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where writes go.
pub(super) enum Storage {
    /// The queue to the thread, and the thread. What waits in the queue is bounded by the log:
    /// every entry in it also counts there.
    Thread { writes: Sender<Write>, thread: JoinHandle<()> },
    /// Written by whoever calls.
    Loop(Box<dyn FnMut(&mut Write) -> Completion + Send>),
}

impl Storage {
    /// Has `write` written; the report if that is done on return.
    pub(super) fn write(&mut self, write: &mut Write) -> Option<Completion> {
        match self {
            Self::Thread { writes, .. } => {
                // An error means that the thread has ended; its report of why is on the way.
                let _ = writes.send(std::mem::take(write));
                None
            }
            Self::Loop(perform) => Some(perform(write)),
        }
    }

    /// Whether writes are done on return.
    pub(super) const fn is_immediate(&self) -> bool {
        matches!(self, Self::Loop(_))
    }

    /// Waits until what was handed over is written, and lets go of the log.
    pub(super) fn join(self) {
        if let Self::Thread { writes, thread } = self {
            drop(writes);
            // It reports its own panic.
            let _ = thread.join();
        }
    }
}

pub(super) fn start(
    group: GroupId,
    node: NodeId,
    log: impl LogStore,
    metrics: Arc<Metrics>,
    completed: UnboundedSender<Completion>,
) -> io::Result<Storage> {
    let blocks = log.blocks();
    let mut writer = Writer { group, node, log, blocks, metrics, ops: Vec::new() };
    if !blocks {
        return Ok(Storage::Loop(Box::new(move |write| contain(|| writer.write_one(write)))));
    }
    let (writes, queue) = channel();
    let run = move || {
        while let Some(report) = contain(|| writer.write_queued(&queue)) {
            let failed = !matches!(report, Completion::Persisted { .. });
            if completed.send(report).is_err() || failed {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("raft-storage".into()).spawn(run)?;
    Ok(Storage::Thread { writes, thread })
}

/// Runs `write`; a panic becomes a report.
fn contain<T: From<Completion>>(write: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(write))
        .unwrap_or_else(|_| Completion::Panicked("the log store").into())
}

struct Writer<L> {
    group: GroupId,
    node: NodeId,
    log: L,
    /// Whether writes may wait: only then it is worth a clock how long they take.
    blocks: bool,
    metrics: Arc<Metrics>,
    /// What the next commit does; empty between commits.
    ops: Vec<GroupOp>,
}

impl<L: LogStore> Writer<L> {
    fn write_one(&mut self, write: &mut Write) -> Completion {
        let seq = write.seq;
        let bytes = self.take(&mut write.ops);
        self.commit(seq, bytes)
    }

    /// Waits for a write, and writes all that wait; nothing once the queue is closed.
    fn write_queued(&mut self, queue: &Receiver<Write>) -> Option<Completion> {
        let mut first = queue.recv().ok()?;
        let mut seq = first.seq;
        let mut bytes = self.take(&mut first.ops);
        while bytes < COMMIT_BYTES_MAX
            && let Ok(mut write) = queue.try_recv()
        {
            seq = write.seq;
            bytes += self.take(&mut write.ops);
        }
        Some(self.commit(seq, bytes))
    }

    /// Adds `ops` to the commit; how many bytes they are.
    fn take(&mut self, ops: &mut Vec<LogOp>) -> usize {
        let mut bytes = 0;
        for op in ops.drain(..) {
            if let LogOp::Append(run) = &op {
                bytes += run.size();
            }
            self.ops.push(GroupOp { group: self.group, op });
        }
        bytes
    }

    fn commit(&mut self, seq: WriteSeq, bytes: usize) -> Completion {
        let span = tracing::trace_span!("write", node = %self.node, %seq, bytes,
            ops = self.ops.len(), last = ?last_of(&self.ops));
        let began = self.blocks.then(Instant::now);
        let written = span.in_scope(|| self.log.write(&self.ops));
        let took = began.map_or(Duration::ZERO, |began| began.elapsed());
        record_time(&self.metrics.write_seconds, took);
        self.metrics.write_bytes.record(bytes as f64);
        self.metrics.write_ops.record(self.ops.len() as f64);
        self.ops.clear();
        match written {
            Ok(()) => Completion::Persisted { seq, took },
            Err(error) => Completion::Failed(error),
        }
    }
}

/// The last entry that `ops` append.
fn last_of(ops: &[GroupOp]) -> Option<LogId> {
    ops.iter().rev().find_map(|op| match &op.op {
        LogOp::Append(run) => Some(run.last()),
        _ => None,
    })
}
