//! The storage thread: group commit.
//!
//! It takes every write that waits, makes one durable commit of them and reports the last sequence
//! number. Batches grow with load by themselves; there is no timer and nothing to tune. The first
//! failure ends it: a failed flush is never retried, for nobody knows what the disk holds then.

use super::event::Completion;
use super::metrics::{Metrics, record_time};
use crate::log_store::LogStore;
use crate::raft::{GroupOp, LogOp, Write};
use crate::types::{GroupId, LogId, NodeId};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// Most bytes of one commit, so that its completion is not put off for ever.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The queue to the thread, and the thread. What waits in the queue is bounded by the log: every
/// entry in it also counts there.
pub(super) struct Storage {
    pub(super) writes: Sender<Write>,
    pub(super) thread: JoinHandle<()>,
}

pub(super) fn start(
    group: GroupId,
    node: NodeId,
    log: impl LogStore,
    metrics: Arc<Metrics>,
    completed: UnboundedSender<Completion>,
) -> io::Result<Storage> {
    let (writes, queue) = channel();
    let run = move || {
        let mut writer = Writer { group, node, log, metrics, completed: completed.clone() };
        let outcome = catch_unwind(AssertUnwindSafe(|| writer.run(&queue)));
        if outcome.is_err() {
            // Nobody listens if the node is gone already.
            let _ = completed.send(Completion::Panicked("the log store"));
        }
    };
    let thread = std::thread::Builder::new().name("raft-storage".into()).spawn(run)?;
    Ok(Storage { writes, thread })
}

struct Writer<L> {
    group: GroupId,
    node: NodeId,
    log: L,
    metrics: Arc<Metrics>,
    completed: UnboundedSender<Completion>,
}

impl<L: LogStore> Writer<L> {
    /// Writes until the queue is closed, or a write fails.
    fn run(&mut self, queue: &Receiver<Write>) {
        let mut ops = Vec::new();
        while let Ok(first) = queue.recv() {
            let mut seq = first.seq;
            let mut bytes = self.take(first, &mut ops);
            while bytes < COMMIT_BYTES_MAX
                && let Ok(write) = queue.try_recv()
            {
                seq = write.seq;
                bytes += self.take(write, &mut ops);
            }
            let span = tracing::trace_span!(
                "write", node = %self.node, %seq, bytes, ops = ops.len(), last = ?last_of(&ops)
            );
            let began = Instant::now();
            let written = span.in_scope(|| self.log.write(&ops));
            let took = began.elapsed();
            let report = match written {
                Ok(()) => Completion::Persisted { seq, took },
                Err(error) => Completion::Failed(error),
            };
            let failed = matches!(report, Completion::Failed(_));
            record_time(&self.metrics.write_seconds, took);
            self.metrics.write_bytes.record(bytes as f64);
            self.metrics.write_ops.record(ops.len() as f64);
            ops.clear();
            if self.completed.send(report).is_err() || failed {
                return;
            }
        }
    }

    /// Adds the operations of `write` to the commit; how many bytes they are.
    fn take(&self, write: Write, ops: &mut Vec<GroupOp>) -> usize {
        let mut bytes = 0;
        for op in write.ops {
            if let LogOp::Append(run) = &op {
                bytes += run.size();
            }
            ops.push(GroupOp { group: self.group, op });
        }
        bytes
    }
}

/// The last entry that `ops` append.
fn last_of(ops: &[GroupOp]) -> Option<LogId> {
    ops.iter().rev().find_map(|op| match &op.op {
        LogOp::Append(run) => Some(run.last()),
        _ => None,
    })
}
