//! The keys and their histories in memory: every version of every key, by revision.
//!
//! It knows no log, no session and no disk, and checks no limits: whoever calls has validated. A
//! change takes one allocation for the record - shared with the list that the next checkpoint will
//! write - and, for a long key never seen before, one for the key.

use super::key::Key;
use super::record::{Header, Record};
use crate::api::{KeyValue, Keys, Range, RangeReply, Revision};
use std::collections::BTreeMap;
use std::mem;
use std::ops::{Bound, ControlFlow};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Revision of a store that was never written: the first write gets the next.
const REVISION_EMPTY: u64 = 1;

/// The keys with all their versions.
pub(super) struct Mvcc {
    keys: BTreeMap<Key, History>,
    /// Keys that exist, those of `keys` less the deleted ones.
    live: u64,
    log: ChangeLog,
}

/// The versions of one key. The newest is kept inline: nearly every read wants it.
struct History {
    latest: Record,
    /// Whether `latest` is a value. Known here so that counting keys does not visit each record.
    alive: bool,
    /// All before `latest`, oldest first.
    older: Vec<Record>,
}

/// The changes as they happen.
struct ChangeLog {
    /// Revision of the last finished request.
    revision: u64,
    /// Changes made by the running request.
    sub: u32,
    /// Rolling hash of all changes, and of whatever else is mixed in.
    hash: u64,
    /// Changes since the last checkpoint; `None` if there are no checkpoints.
    delta: Option<Vec<Record>>,
    scratch: Vec<u8>,
}

impl Mvcc {
    /// An empty store; `checkpoints`: whether changes are collected for one.
    pub(super) fn new(checkpoints: bool) -> Self {
        let delta = checkpoints.then(Vec::new);
        Self {
            keys: BTreeMap::new(),
            live: 0,
            log: ChangeLog {
                revision: REVISION_EMPTY,
                sub: 0,
                hash: 0,
                delta,
                scratch: Vec::new(),
            },
        }
    }

    /// The current revision; within a request that has changed something, the one it takes.
    pub(super) const fn revision(&self) -> u64 {
        self.log.revision + (self.log.sub > 0) as u64
    }

    /// Keys that exist.
    pub(super) const fn live(&self) -> u64 {
        self.live
    }

    /// The rolling hash.
    pub(super) const fn hash(&self) -> u64 {
        self.log.hash
    }

    /// Chains `bytes` into the rolling hash.
    pub(super) fn mix(&mut self, bytes: &[u8]) {
        self.log.hash = xxh3_64_with_seed(bytes, self.log.hash);
    }

    /// Ends a request: if it changed something, it has taken a revision.
    pub(super) const fn finish(&mut self) {
        self.log.revision = self.revision();
        self.log.sub = 0;
    }

    /// Takes the changes since the last call.
    pub(super) fn take_delta(&mut self) -> Vec<Record> {
        self.log.delta.as_mut().map(mem::take).unwrap_or_default()
    }

    /// The newest version of `key`, if it exists.
    pub(super) fn current(&self, key: &[u8]) -> Option<&Record> {
        self.keys.get(key).and_then(|history| history.at(None))
    }

    /// Sets `key`; returns what was there.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Option<Record> {
        let Self { keys, live, log } = self;
        let Some(history) = keys.get_mut(key) else {
            let latest = log.push(None, key, value);
            keys.insert(key.into(), History { latest, alive: true, older: Vec::new() });
            *live += 1;
            return None;
        };
        let previous = history.at(None).cloned();
        if previous.is_none() {
            *live += 1;
        }
        history.advance(log.push(previous.as_ref(), key, value));
        previous
    }

    /// Deletes `keys`; `each` sees what was there, in key order. Returns how many were deleted.
    pub(super) fn delete(&mut self, keys: &Keys, mut each: impl FnMut(&Record)) -> u64 {
        let Some(bounds) = bounds(keys) else { return 0 };
        let mut deleted = 0;
        for (key, history) in self.keys.range_mut::<[u8], _>(bounds) {
            if history.alive {
                each(&history.latest);
                history.advance(self.log.push_deletion(key.as_bytes()));
                deleted += 1;
            }
        }
        self.live -= deleted;
        deleted
    }

    /// Bytes that the existing pairs among `keys` count in a reply.
    pub(super) fn pair_sizes(&self, keys: &Keys) -> usize {
        let mut size = 0;
        self.visit(keys, None, |record| {
            size += record.pair_size(false);
            ControlFlow::Continue(())
        });
        size
    }

    /// Reads. `budget` is what is left of the bytes of pairs in the reply, and `first` whether a
    /// pair may go over it because the reply would be empty otherwise. Visits one key more than it
    /// returns, unless all are to be counted.
    pub(super) fn range(&self, range: &Range, budget: &mut usize, first: &mut bool) -> RangeReply {
        let limit = if range.limit == 0 { u64::MAX } else { range.limit };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let mut count = 0;
        let mut more = false;
        self.visit(&range.keys, range.revision, |record| {
            if range.count_only {
                count += 1;
                return ControlFlow::Continue(());
            }
            if !more && (kvs.len() as u64) < limit {
                let size = record.pair_size(range.keys_only);
                if size <= *budget || *first {
                    *budget = budget.saturating_sub(size);
                    *first = false;
                    count += 1;
                    kvs.push(record.pair(range.keys_only));
                    return ControlFlow::Continue(());
                }
            }
            more = true;
            if !range.count_all {
                return ControlFlow::Break(());
            }
            count += 1;
            ControlFlow::Continue(())
        });
        RangeReply { revision: Revision(self.revision()), kvs, more, count }
    }

    /// Every record, in the order they were made.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::with_capacity(self.keys.len());
        for history in self.keys.values() {
            records.extend(history.older.iter().cloned());
            records.push(history.latest.clone());
        }
        records.sort_unstable_by_key(Record::position);
        records
    }

    /// Takes in a record of a checkpoint or snapshot; they come in the order they were made.
    pub(super) fn load(&mut self, record: Record) {
        let alive = !record.is_deletion();
        let was_alive = if let Some(history) = self.keys.get_mut(record.key()) {
            let was_alive = history.alive;
            history.advance(record);
            was_alive
        } else {
            let key = record.key().into();
            self.keys.insert(key, History { latest: record, alive, older: Vec::new() });
            false
        };
        match (was_alive, alive) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => {}
        }
    }

    /// Sets revision and hash after the last [`Mvcc::load`].
    pub(super) const fn loaded(&mut self, revision: u64, hash: u64) {
        self.log.revision = revision;
        self.log.hash = hash;
    }

    /// Calls `each` for every key from `start` on and before `end`, in order, until it breaks off,
    /// with its version at `revision` if it existed then.
    pub(super) fn visit_from(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        revision: Revision,
        mut each: impl FnMut(&[u8], Option<&Record>) -> ControlFlow<()>,
    ) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, history) in self.keys.range::<[u8], _>((Bound::Included(start), end)) {
            if each(key.as_bytes(), history.at(Some(revision.0))).is_break() {
                return;
            }
        }
    }

    /// Calls `each` for every key that exists, in order, until it breaks off.
    fn visit(
        &self,
        keys: &Keys,
        revision: Option<Revision>,
        mut each: impl FnMut(&Record) -> ControlFlow<()>,
    ) {
        let revision = revision.map(|revision| revision.0);
        if let Keys::One(key) = keys {
            if let Some(record) = self.keys.get(&key[..]).and_then(|found| found.at(revision)) {
                // There is no other to go on with.
                let _ = each(record);
            }
            return;
        }
        let Some(bounds) = bounds(keys) else { return };
        for (_, history) in self.keys.range::<[u8], _>(bounds) {
            if let Some(record) = history.at(revision)
                && each(record).is_break()
            {
                return;
            }
        }
    }
}

impl History {
    /// The version in force at `revision`, or now, if the key existed then.
    fn at(&self, revision: Option<u64>) -> Option<&Record> {
        let Some(revision) = revision else { return self.alive.then_some(&self.latest) };
        if self.latest.mod_revision() <= revision {
            return self.alive.then_some(&self.latest);
        }
        let newer = self.older.partition_point(|record| record.mod_revision() <= revision);
        let record = &self.older[newer.checked_sub(1)?];
        (!record.is_deletion()).then_some(record)
    }

    fn advance(&mut self, record: Record) {
        self.alive = !record.is_deletion();
        self.older.push(mem::replace(&mut self.latest, record));
    }
}

impl ChangeLog {
    /// A value, on top of `previous` if the key exists.
    fn push(&mut self, previous: Option<&Record>, key: &[u8], value: &[u8]) -> Record {
        let mod_revision = self.revision + 1;
        let (create_revision, version) = previous.map_or((mod_revision, 1), |previous| {
            let header = previous.header();
            (header.create_revision, header.version + 1)
        });
        let header = Header { mod_revision, create_revision, version, sub: self.sub };
        self.append(header, key, value)
    }

    fn push_deletion(&mut self, key: &[u8]) -> Record {
        let mod_revision = self.revision + 1;
        let header = Header { mod_revision, create_revision: 0, version: 0, sub: self.sub };
        self.append(header, key, &[])
    }

    fn append(&mut self, header: Header, key: &[u8], value: &[u8]) -> Record {
        let record = Record::new(header, key, value, &mut self.scratch);
        self.sub += 1;
        self.hash = xxh3_64_with_seed(record.bytes(), self.hash);
        if let Some(delta) = &mut self.delta {
            delta.push(record.clone());
        }
        record
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of `keys`; `None` if they are empty, which the map would take for a mistake.
fn bounds(keys: &Keys) -> Option<Bounds<'_>> {
    match keys {
        Keys::One(key) => Some((Bound::Included(&key[..]), Bound::Included(&key[..]))),
        Keys::Range { start, end: None } => Some((Bound::Included(&start[..]), Bound::Unbounded)),
        Keys::Range { start, end: Some(end) } => {
            (start < end).then_some((Bound::Included(&start[..]), Bound::Excluded(&end[..])))
        }
    }
}
