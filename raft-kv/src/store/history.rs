//! The changes since the last compaction, in order: what watches are told from.
//!
//! The applier writes, once per run of entries; whoever watches reads. A lock guards it, held by a
//! reader only while it copies references to a few changes. It knows no watch; it calls whoever
//! observes it, and keeps what an observer has not seen.

#[cfg(feature = "service")]
mod read;

use super::record::Record;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// A change, and what was there before.
#[derive(Clone)]
pub(crate) struct Change {
    /// The change.
    pub(super) record: Record,
    /// What it replaced, if the key existed.
    #[cfg_attr(not(feature = "service"), expect(dead_code, reason = "only watches read it"))]
    pub(super) previous: Option<Record>,
}

/// The changes by revision, shared by the applier and the watches.
#[derive(Default)]
pub(crate) struct History {
    inner: RwLock<Inner>,
    observers: Mutex<Vec<Weak<dyn Observer>>>,
}

/// Somebody who is to see every change. Called by the applier: must not block it.
pub(crate) trait Observer: Send + Sync {
    /// There is something new.
    fn changed(&self);

    /// What it has seen: changes beyond this revision are kept for it, compacted or not.
    fn seen(&self) -> u64;
}

#[derive(Default)]
struct Inner {
    /// In strictly ascending order of revision and sub.
    changes: VecDeque<Change>,
    /// How many of `changes`, the first ones, were handed out since the last compaction. They are
    /// of the revision `compacted`, of which watches may still be told.
    handed: usize,
    /// The store's revision: every change up to it is here, or was compacted.
    revision: u64,
    /// Reads below this revision are refused.
    compacted: u64,
    /// The lowest revision of which watches may be told: all changes from here on are there.
    oldest: u64,
    /// Some changes up to this revision are gone.
    gone: u64,
}

impl History {
    /// The store's revision, and up to which one changes are compacted.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let inner = self.read();
        (inner.revision, inner.compacted)
    }

    /// Adds the changes of some requests; the store is at `revision` after them.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = Change>, revision: u64) {
        let mut inner = self.write();
        inner.changes.extend(changes);
        inner.revision = revision;
        drop(inner);
        self.tell();
    }

    /// Nobody is told any more of what happened before `revision`.
    pub(crate) fn compact(&self, revision: u64) {
        let mut inner = self.write();
        if revision > inner.compacted {
            inner.compacted = revision;
            inner.oldest = revision.max(inner.oldest);
            // Those of the revision compacted before are of no use any more.
            inner.handed = 0;
        }
        drop(inner);
        self.tell();
    }

    /// Takes changes out that are compacted and that every observer has seen, the oldest first,
    /// `most` at most. Those of the very revision that was compacted are handed out and stay, as
    /// it can still be watched from; after the next compaction they are handed out again.
    pub(crate) fn take_compacted(&self, most: usize) -> Vec<Change> {
        let seen = self.seen();
        let mut inner = self.write();
        let Inner { changes, handed, compacted, gone, .. } = &mut *inner;
        let until = (*compacted).min(seen);
        let old = changes.range(*handed..).take(most);
        let old = old.take_while(|change| change.record.mod_revision() <= until);
        let taken: Vec<Change> = old.cloned().collect();
        *handed += taken.len();
        let done = changes.range(..*handed);
        let done = done.take_while(|change| change.record.mod_revision() < *compacted).count();
        if let Some(last) = done.checked_sub(1).and_then(|last| changes.get(last)) {
            *gone = last.record.mod_revision();
        }
        changes.drain(..done);
        *handed -= done;
        taken
    }

    /// How many changes [`History::take_compacted`] could take out, once they were seen.
    pub(crate) fn compacted_left(&self) -> usize {
        let inner = self.read();
        let old = |change: &Change| change.record.mod_revision() <= inner.compacted;
        inner.changes.partition_point(old).saturating_sub(inner.handed)
    }

    /// Replaces everything: the state was. What watches from `compacted` on are told is there.
    pub(crate) fn reset(&self, changes: Vec<Change>, revision: u64, compacted: u64) {
        let changes: VecDeque<Change> = changes.into();
        let old = |change: &Change| change.record.mod_revision() <= compacted;
        let (handed, gone) = (changes.partition_point(old), compacted.saturating_sub(1));
        let oldest = compacted;
        *self.write() = Inner { changes, handed, revision, compacted, oldest, gone };
        self.tell();
    }

    fn tell(&self) {
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for observer in observers.iter().filter_map(Weak::upgrade) {
            observer.changed();
        }
    }

    /// What every observer has seen.
    fn seen(&self) -> u64 {
        let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = observers.iter().filter_map(Weak::upgrade).map(|observer| observer.seen());
        seen.min().unwrap_or(u64::MAX)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Every statement leaves it consistent.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
