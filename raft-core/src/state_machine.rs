//! The replicated application: the trait every state machine implements.

use crate::log_store::StorageError;
use crate::types::{Run, SnapshotMeta};
use bytes::Bytes;
use std::io::Read;

/// The replicated application. Deterministic: the same entries give the same state and the same
/// replies on every node - no clock, no randomness, no hash-map order, no floats. It is owned by
/// one thread, the applier.
pub trait StateMachine: Send + 'static {
    /// The last entry whose effect survived the restart, *and the membership stored with it*.
    /// Entries at or below it are never applied again.
    fn applied(&self) -> SnapshotMeta;

    /// Applies committed entries, in order; one reply per entry, empty for one without a command.
    /// A command that makes no sense is answered, not refused: every node must treat it alike.
    fn apply(&mut self, run: &Run) -> Vec<Bytes>;

    /// Answers a query from the state as it is. Must not change it.
    fn query(&self, query: &[u8]) -> Bytes;

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
    /// If the stream is damaged (the old state is then unchanged) or storage fails.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError>;
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
