//! The replicated application: the trait every state machine implements.

use crate::codec;
use crate::log_store::StorageError;
use crate::types::{Payload, Run, SnapshotMeta};
use bytes::{Bytes, BytesMut};
use std::io::{Cursor, Read};

/// The replicated application. Deterministic: the same entries give the same state and the same
/// replies on every node - no clock, no randomness, no hash-map order, no floats. One thread, the
/// applier, works on it; what is quick the node's loop does itself while that thread has nothing
/// to do.
pub trait StateMachine: Send + 'static {
    /// The last entry whose effect survived the restart, *and the membership stored with it*.
    /// Entries at or below it are never applied again.
    fn applied(&self) -> SnapshotMeta;

    /// Applies committed entries, in order; one reply per entry, empty for one without a command.
    /// A command that makes no sense is answered, not refused: every node must treat it alike.
    fn apply(&mut self, run: &Run) -> Vec<Bytes>;

    /// Whether applying `run` takes microseconds and never waits. The loop then does it, if the
    /// applier thread is idle: a change of threads costs more. It says nothing about the outcome.
    /// What wraps a state machine has to pass it on, and [`quick_query`](Self::quick_query) too.
    fn is_quick(&self, run: &Run) -> bool {
        let _ = run;
        false
    }

    /// Answers a query from the state as it is. Must not change it.
    fn query(&self, query: &[u8]) -> Bytes;

    /// Answers a query if that takes microseconds and never waits, as [`query`](Self::query) would;
    /// else `None`. See [`is_quick`](Self::is_quick).
    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        let _ = query;
        None
    }

    /// Freezes what has changed since the last checkpoint, cheaply, and returns the job that makes
    /// it durable. The job runs on another thread while applying goes on; at most one at a time.
    /// `None` if the state needs no checkpoint now.
    fn checkpoint(&mut self) -> Option<CheckpointJob>;

    /// The newest checkpoint as a stream, and what it covers (which may lie below the last applied
    /// entry). The stream stays consistent while the state machine goes on.
    ///
    /// # Errors
    /// If there is no checkpoint yet, or it cannot be read.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;

    /// Replaces the whole state by a snapshot. Durable on return.
    ///
    /// # Errors
    /// [`StorageError::Stream`] for whatever is wrong with the stream, be it damaged, cut short or
    /// of another format: the old state is then unchanged, in memory and on disk. Any other error
    /// says that storage failed, and is final.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError>;
}

impl<M: StateMachine + ?Sized> StateMachine for Box<M> {
    fn applied(&self) -> SnapshotMeta {
        (**self).applied()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        (**self).apply(run)
    }

    fn is_quick(&self, run: &Run) -> bool {
        (**self).is_quick(run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        (**self).query(query)
    }

    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        (**self).quick_query(query)
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        (**self).checkpoint()
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        (**self).snapshot()
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        (**self).restore(snapshot)
    }
}

/// Makes a frozen checkpoint durable; returns what it covers.
pub type CheckpointJob = Box<dyn FnOnce() -> Result<SnapshotMeta, StorageError> + Send>;

/// A snapshot: what it covers and its bytes.
pub struct Snapshot {
    /// The last entry covered and the membership there.
    pub meta: SnapshotMeta,
    /// The state machine's own format. Reading may block; it runs on a thread that may.
    pub data: Box<dyn Read + Send>,
}

/// The smallest useful state machine: it keeps every command, in order, in memory. The reply to a
/// command is its number, from 1, as eight big-endian bytes; a query is such a number, and answers
/// the command (empty if there is none). For examples, tests and benches.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    applied: SnapshotMeta,
    commands: Vec<Bytes>,
}

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateMachine for Journal {
    fn applied(&self) -> SnapshotMeta {
        // Nothing survives a restart.
        SnapshotMeta::default()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.applied.last = run.last();
        let mut replies = Vec::with_capacity(run.len());
        for entry in run.entries() {
            replies.push(match &entry.payload {
                Payload::Noop => Bytes::new(),
                Payload::Membership(membership) => {
                    self.applied.membership = (**membership).clone();
                    Bytes::new()
                }
                Payload::Command(command) => {
                    self.commands.push(command.clone());
                    Bytes::copy_from_slice(&(self.commands.len() as u64).to_be_bytes())
                }
            });
        }
        replies
    }

    fn is_quick(&self, _run: &Run) -> bool {
        true
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let number = query.try_into().map_or(0, u64::from_be_bytes);
        let position = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        position.and_then(|position| self.commands.get(position)).cloned().unwrap_or_default()
    }

    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        Some(self.query(query))
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        None
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let mut bytes = BytesMut::new();
        for command in &self.commands {
            codec::put(&serde_bytes::Bytes::new(command), &mut bytes);
        }
        let data = Box::new(Cursor::new(bytes));
        Ok(Snapshot { meta: self.applied.clone(), data })
    }

    fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        let read = snapshot.data.read_to_end(&mut bytes);
        read.map_err(|error| StorageError::Stream(error.to_string()))?;
        let mut rest = bytes.as_slice();
        let mut commands = Vec::new();
        while !rest.is_empty() {
            let command: &[u8] =
                codec::take(&mut rest).map_err(|error| StorageError::Stream(error.to_string()))?;
            commands.push(Bytes::copy_from_slice(command));
        }
        *self = Self { applied: snapshot.meta, commands };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_snapshot_of_a_journal_changes_nothing() {
        let command = Bytes::from_static(b"one");
        let mut journal = Journal { commands: vec![command.clone()], ..Journal::new() };
        // A length that promises more than follows.
        let data = Box::new(Cursor::new([200, 1, 7]));
        let refused = journal.restore(Snapshot { meta: SnapshotMeta::default(), data });
        assert!(matches!(refused, Err(StorageError::Stream(_))), "{refused:?}");
        assert_eq!(journal.commands, [command]);
    }
}
