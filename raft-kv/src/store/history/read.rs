//! Reading the history: page after page, and each change as the bytes of an event.

use super::{Change, History, Inner, Observer};
use crate::api::Revision;
use crate::store::record::Record;
use bytes::BytesMut;
use serde::Serialize;
use std::sync::{PoisonError, Weak};

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
    /// About `most` changes from revision `from` on, of `most_bytes` and one revision together at
    /// most. The error is the lowest revision that can be asked for.
    pub(crate) fn read_from(&self, from: u64, most: usize, most_bytes: usize) -> Result<Page, u64> {
        let inner = self.read();
        if from < inner.oldest { Err(inner.oldest) } else { Ok(inner.page(from, most, most_bytes)) }
    }

    /// The same for an observer, to whom nothing counts as compacted that it has not seen.
    pub(crate) fn read_unseen(
        &self,
        from: u64,
        most: usize,
        most_bytes: usize,
    ) -> Result<Page, u64> {
        let inner = self.read();
        if from <= inner.gone {
            return Err(inner.gone + 1);
        }
        Ok(inner.page(from, most, most_bytes))
    }

    /// Tells `observer` of whatever is new, for as long as it lives.
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|known| known.strong_count() > 0);
        observers.push(observer);
    }
}

impl Inner {
    fn page(&self, from: u64, most: usize, most_bytes: usize) -> Page {
        let up_to = |revision: u64| {
            self.changes.partition_point(|change| change.record.mod_revision() <= revision)
        };
        let start = up_to(from.saturating_sub(1));
        let bytes = self.changes.range(start..).take(most.max(1)).scan(0, |bytes, change| {
            *bytes += change.held();
            Some(*bytes)
        });
        // With the one that is too much.
        let within = bytes.take_while(|bytes| *bytes < most_bytes).count() + 1;
        let mut end = start.saturating_add(within.min(most.max(1))).min(self.changes.len());
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
        let header = crate::store::record::Header {
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

    /// Bytes that are kept in memory as long as it is.
    pub(crate) fn held(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, |record| record.bytes().len());
        size_of::<Self>() + self.record.bytes().len() + previous
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
