//! The storage thread: group commit.
//!
//! It takes every write that waits, makes one durable commit of them and reports the last sequence
//! number. Batches grow with load by themselves; there is no timer and nothing to tune. The first
//! failure ends it: a failed flush is never retried, for nobody knows what the disk holds then.

use super::event::Completion;
use crate::log_store::LogStore;
use crate::raft::{GroupOp, Write};
use crate::types::GroupId;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
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
    mut log: impl LogStore,
    completed: UnboundedSender<Completion>,
) -> io::Result<Storage> {
    let (writes, queue) = channel();
    let run = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(group, &mut log, &queue, &completed)));
        if outcome.is_err() {
            // Nobody listens if the node is gone already.
            let _ = completed.send(Completion::Panicked("the log store"));
        }
    };
    let thread = std::thread::Builder::new().name("raft-storage".into()).spawn(run)?;
    Ok(Storage { writes, thread })
}

fn run(
    group: GroupId,
    log: &mut impl LogStore,
    queue: &Receiver<Write>,
    completed: &UnboundedSender<Completion>,
) {
    let mut ops = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut last = first.seq;
        let mut bytes = take(group, first, &mut ops);
        while bytes < COMMIT_BYTES_MAX
            && let Ok(write) = queue.try_recv()
        {
            last = write.seq;
            bytes += take(group, write, &mut ops);
        }
        if let Err(error) = log.write(&ops) {
            let _ = completed.send(Completion::Failed(error));
            return;
        }
        ops.clear();
        if completed.send(Completion::Persisted(last)).is_err() {
            return;
        }
    }
}

/// Adds the operations of `write` to the commit; how many bytes they are.
fn take(group: GroupId, write: Write, ops: &mut Vec<GroupOp>) -> usize {
    let mut bytes = 0;
    for op in write.ops {
        if let crate::raft::LogOp::Append(run) = &op {
            bytes += run.size();
        }
        ops.push(GroupOp { group, op });
    }
    bytes
}
