//! The changes since the last compaction, in order: what watches are told from.
//!
//! The applier writes, once per run of entries; whoever watches reads. A lock guards it, held by a
//! reader only while it copies references to a few changes. It knows no watcher.

use super::record::Record;
use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A change, and what was there before.
#[derive(Clone)]
pub(crate) struct Change {
    /// The change.
    pub(crate) record: Record,
    /// What it replaced, if the key existed.
    pub(crate) previous: Option<Record>,
}

/// The changes by revision, shared by the applier and the watches.
#[derive(Default)]
pub(crate) struct History {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In strictly ascending order of revision and sub.
    changes: VecDeque<Change>,
    /// The store's revision: every change up to it is here, or was compacted.
    revision: u64,
    /// Changes below this, and before the changes of this revision, may be missing.
    compacted: u64,
}

impl History {
    /// Adds the changes of some requests; the store is at `revision` after them.
    pub(super) fn publish(&self, changes: impl IntoIterator<Item = Change>, revision: u64) {
        let mut inner = self.write();
        inner.changes.extend(changes);
        inner.revision = revision;
    }

    /// Nobody is told any more of what happened at or before `revision`.
    pub(super) fn compact(&self, revision: u64) {
        self.write().compacted = revision;
    }

    /// Takes changes out that are compacted, the oldest first, `most` at most.
    pub(super) fn take_compacted(&self, most: usize) -> Vec<Change> {
        let mut inner = self.write();
        let compacted = inner.compacted;
        let old = inner.changes.iter().take(most);
        let old = old.take_while(|change| change.record.mod_revision() <= compacted).count();
        inner.changes.drain(..old).collect()
    }

    /// How many changes [`History::take_compacted`] could take out.
    pub(super) fn compacted_left(&self) -> usize {
        let inner = self.read();
        inner.changes.partition_point(|change| change.record.mod_revision() <= inner.compacted)
    }

    /// Replaces everything: the state was.
    pub(super) fn reset(&self, changes: Vec<Change>, revision: u64, compacted: u64) {
        *self.write() = Inner { changes: changes.into(), revision, compacted };
    }

    /// The store's revision, and up to which one changes are compacted.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let inner = self.read();
        (inner.revision, inner.compacted)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Every statement leaves it consistent.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
