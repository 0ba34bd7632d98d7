//! The durable log: the trait, its errors, and a store in memory.

use crate::raft::{GroupOp, Loaded};
use crate::types::GroupId;
use std::collections::BTreeMap;
use std::io;

/// The durable log of all groups of a process. Blocking on purpose: *returning is the promise*. It
/// runs on a thread of its own, unless it says that it never waits.
pub trait LogStore: Send + 'static {
    /// Whether [`write`](Self::write) may wait for something, such as a disk. If not, the node
    /// calls it on its loop, where a write costs no change of threads, before it sends what is
    /// written to the others. Asked once, when the node starts.
    fn blocks(&self) -> bool {
        true
    }

    /// The state of `group` after the last successful `write`; empty on first use. Called once per
    /// group, before its first write.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if anything acknowledged may be missing or altered: such a log is
    /// never silently shortened.
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError>;

    /// Applies `ops` in order, atomically: all or none. Returns only when they survive power loss.
    ///
    /// # Errors
    /// Any error is final: the caller stops the node and never retries, because after a failed
    /// flush nobody knows what the disk holds.
    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError>;
}

/// Why storage failed. All of them stop the node, but for [`StorageError::Stream`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused; a full disk is one of these.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, to which file.
        context: String,
        /// What the system said.
        source: io::Error,
    },
    /// Data that was acknowledged is missing or altered. The text names the record and says what
    /// to do.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// Another process has the data open.
    #[error("{0} is in use by another process")]
    InUse(String),
    /// Written by a newer version, or not by this program at all.
    #[error("unsupported format: {0}")]
    Format(String),
    /// A snapshot stream broke off, is damaged or is not a snapshot; nothing was changed. The
    /// storage of this node is as good as before: only the installation has failed.
    #[error("snapshot stream: {0}")]
    Stream(String),
    /// Anything else the engine reports.
    #[error("{0}")]
    Engine(String),
}

impl StorageError {
    /// An I/O error with what was being done.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}

/// A log in memory: for tests, examples, benches and state that need not survive the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    groups: BTreeMap<GroupId, Loaded>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }
}

impl LogStore for MemoryLog {
    fn blocks(&self) -> bool {
        false
    }

    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        Ok(self.groups.get(&group).cloned().unwrap_or_default())
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        for GroupOp { group, op } in ops {
            let log = self.groups.entry(*group).or_default();
            log.apply(op).map_err(|gap| StorageError::Corrupt(gap.to_string()))?;
        }
        Ok(())
    }
}
