//! The changes since the last compaction, in order: what watches are told from.
//!
//! The applier writes, once per run of entries; whoever watches reads. A lock guards it, held by a
//! reader only while it copies references to a few changes. It knows no watch; it calls whoever
//! observes it, and keeps what an observer has not seen.

use super::record::Record;
use crate::api::Revision;
use bytes::BytesMut;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// A change, and what was there before.
#[derive(Clone)]
pub(crate) struct Change {
    /// The change.
    pub(super) record: Record,
    /// What it replaced, if the key existed.
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
    /// How many of `changes`, the first ones, were handed out as compacted already. They are of the
    /// revision `compacted`, of which watches may still be told.
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

/// Some changes in order, of whole revisions.
pub(crate) struct Page {
    /// The changes.
    pub(crate) changes: Vec<Change>,
    /// There are no others up to this revision, from the one asked for on.
    pub(crate) through: u64,
    /// What was replaced at or before this revision is compacted.
    pub(crate) compacted: u64,
}

impl History {
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
        }
        drop(inner);
        self.tell();
    }

    /// Takes changes out that are compacted and that every observer has seen, the oldest first,
    /// `most` at most. Those of the very revision that was compacted are handed out and stay until
    /// the next compaction: it can still be watched from.
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

    /// Replaces everything: the state was.
    pub(crate) fn reset(&self, changes: Vec<Change>, revision: u64, compacted: u64) {
        let oldest = if compacted > 0 { compacted + 1 } else { 0 };
        let (changes, handed, gone) = (changes.into(), 0, compacted);
        *self.write() = Inner { changes, handed, revision, compacted, oldest, gone };
        self.tell();
    }

    /// The store's revision, and up to which one changes are compacted.
    pub(crate) fn extent(&self) -> (u64, u64) {
        let inner = self.read();
        (inner.revision, inner.compacted)
    }

    /// About `most` changes from revision `from` on. The error is the lowest revision that can be
    /// asked for.
    pub(crate) fn read_from(&self, from: u64, most: usize) -> Result<Page, u64> {
        let inner = self.read();
        if from < inner.oldest { Err(inner.oldest) } else { Ok(inner.page(from, most)) }
    }

    /// The same for an observer, to whom nothing counts as compacted that it has not seen.
    pub(crate) fn read_unseen(&self, from: u64, most: usize) -> Result<Page, u64> {
        let inner = self.read();
        if from <= inner.gone { Err(inner.gone + 1) } else { Ok(inner.page(from, most)) }
    }

    /// Tells `observer` of whatever is new, for as long as it lives.
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|known| known.strong_count() > 0);
        observers.push(observer);
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

impl Inner {
    fn page(&self, from: u64, most: usize) -> Page {
        let up_to = |revision: u64| {
            self.changes.partition_point(|change| change.record.mod_revision() <= revision)
        };
        let start = up_to(from.saturating_sub(1));
        let mut end = start.saturating_add(most.max(1)).min(self.changes.len());
        let mut through = self.revision;
        if end < self.changes.len() {
            // Never a part of a revision.
            through = self.changes[end - 1].record.mod_revision();
            end = up_to(through);
        }
        let changes = self.changes.range(start..end).cloned().collect();
        Page { changes, through, compacted: self.compacted }
    }
}

impl Change {
    /// A change as nobody made it, for tests of what reads it.
    #[cfg(test)]
    pub(crate) fn of(
        key: &[u8],
        value: Option<&[u8]>,
        (revision, sub): (u64, u32),
        previous: Option<&Self>,
    ) -> Self {
        let made = value.is_some();
        let header = super::record::Header {
            mod_revision: revision,
            create_revision: if made { revision } else { 0 },
            version: u64::from(made),
            sub,
            lease: None,
        };
        let record = Record::new(header, key, value.unwrap_or_default(), &mut Vec::new());
        let previous = previous.filter(|change| !change.is_deletion());
        Self { record, previous: previous.map(|change| change.record.clone()) }
    }

    /// The revision that made it.
    pub(crate) fn revision(&self) -> u64 {
        self.record.mod_revision()
    }

    /// The key it is of.
    pub(crate) fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// Whether the key was deleted.
    pub(crate) fn is_deletion(&self) -> bool {
        self.record.is_deletion()
    }

    /// Bytes it takes as an event, about; never less.
    pub(crate) fn size(&self, prev_kv: bool) -> usize {
        let previous = self.previous.as_ref().filter(|_| prev_kv);
        16 + self.record.pair_size(false) + previous.map_or(0, |record| record.pair_size(false))
    }

    /// Appends the bytes of an [`Event`](crate::api::Event), without making one.
    pub(crate) fn encode_event(&self, prev_kv: bool, out: &mut BytesMut) {
        let kind = match self.is_deletion() {
            false => KindForm::Put(PairForm::of(&self.record)),
            true => KindForm::Delete {
                key: serde_bytes::Bytes::new(self.key()),
                mod_revision: Revision(self.revision()),
            },
        };
        let prev_kv = self.previous.as_ref().filter(|_| prev_kv).map(PairForm::of);
        raft_core::codec::put(&EventForm { kind, prev_kv }, out);
    }
}

/// [`Event`](crate::api::Event), borrowed: the same bytes.
#[derive(Serialize)]
struct EventForm<'a> {
    kind: KindForm<'a>,
    prev_kv: Option<PairForm<'a>>,
}

#[derive(Serialize)]
enum KindForm<'a> {
    Put(PairForm<'a>),
    Delete { key: &'a serde_bytes::Bytes, mod_revision: Revision },
}

/// [`KeyValue`](crate::api::KeyValue), borrowed.
#[derive(Serialize)]
struct PairForm<'a> {
    key: &'a serde_bytes::Bytes,
    value: &'a serde_bytes::Bytes,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    lease: Option<crate::api::LeaseId>,
}

impl<'a> PairForm<'a> {
    fn of(record: &'a Record) -> Self {
        let header = record.header();
        Self {
            key: serde_bytes::Bytes::new(record.key()),
            value: serde_bytes::Bytes::new(record.value()),
            create_revision: Revision(header.create_revision),
            mod_revision: Revision(header.mod_revision),
            version: header.version,
            lease: header.lease,
        }
    }
}
