//! The keys and their histories in memory: every version of every key that is not compacted away,
//! by revision.
//!
//! It knows no log, no session, no lease's life and no disk, and checks no limits: whoever calls
//! has validated. A change takes one allocation for the record - shared with the list that the next
//! checkpoint will write and with what watches are told - and, for a long key never seen before,
//! one for the key. How it is read is in [`super::range`].
//!
//! A compaction takes effect at once: nobody reads below it any more. What it has made useless goes
//! later, a little at a time, as [`Mvcc::purge`] is given the compacted changes in order. How far
//! that is says nothing to anybody: it is no part of the replicated state.

use super::history::Change;
use super::key::Key;
use super::record::{Header, Position, Record};
use crate::api::{Keys, KvError, LeaseId, Revision};
use bytes::Bytes;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::{Bound, ControlFlow};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Revision of a store that was never written: the first write gets the next.
const REVISION_EMPTY: u64 = 1;

/// A place in the order of keys and, of each, of its versions: see [`crate::api::Point`].
pub(super) type Place<'a> = (&'a [u8], Option<Position>);

/// The keys with all their versions.
pub(super) struct Mvcc {
    keys: BTreeMap<Key, Versions>,
    /// Keys that exist, those of `keys` less the deleted ones.
    live: u64,
    /// Below it nobody reads; 0 if nothing was compacted.
    compacted: u64,
    log: ChangeLog,
}

/// The versions of one key. Most keys have one: then they take no more than that in the tree, of
/// whose nodes about half lies fallow.
enum Versions {
    /// A value.
    One(Record),
    /// Several, or a deletion.
    Many(Box<Many>),
}

/// Several versions of one key.
struct Many {
    latest: Record,
    /// Whether `latest` is a value. Known here so that counting keys does not visit each record.
    alive: bool,
    /// All before `latest`, oldest first.
    older: VecDeque<Record>,
}

/// Of a key that has one version.
static NO_OLDER: VecDeque<Record> = VecDeque::new();

/// The changes as they happen.
#[derive(Default)]
struct ChangeLog {
    /// Revision of the last finished request.
    revision: u64,
    /// Changes made by the running request.
    sub: u32,
    /// Rolling hash of all changes, and of whatever else is mixed in.
    hash: u64,
    /// Bytes that all versions held count in a quota.
    bytes: u64,
    /// Changes since they were last asked for, to be told to watches.
    changes: Vec<Change>,
    /// What the next checkpoint is to write; `None` if there are no checkpoints.
    delta: Option<Delta>,
    scratch: Vec<u8>,
}

/// What has changed since the last checkpoint.
#[derive(Default)]
pub(super) struct Delta {
    /// Changes made, in order.
    pub(super) records: Vec<Record>,
    /// Changes, of these or earlier ones, that are of no use any more: in no order, each once.
    pub(super) dropped: Vec<Dropped>,
}

/// A change that is of no use any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Dropped {
    pub(super) position: Position,
    /// Bytes of its record.
    pub(super) bytes: u32,
}

impl Mvcc {
    /// An empty store; `checkpoints`: whether changes are collected for one.
    pub(super) fn new(checkpoints: bool) -> Self {
        let delta = checkpoints.then(Delta::default);
        let log = ChangeLog { revision: REVISION_EMPTY, delta, ..ChangeLog::default() };
        Self { keys: BTreeMap::new(), live: 0, compacted: 0, log }
    }

    /// The current revision; within a request that has changed something, the one it takes.
    pub(super) const fn revision(&self) -> u64 {
        self.log.revision + (self.log.sub > 0) as u64
    }

    /// The revision that the next request takes if it changes something.
    pub(super) const fn next_revision(&self) -> u64 {
        self.log.revision + 1
    }

    /// Below it nobody reads; 0 if nothing was compacted.
    pub(super) const fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Keys that exist.
    pub(super) const fn live(&self) -> u64 {
        self.live
    }

    /// Bytes that all versions held count in a quota. It falls as compacted versions are purged,
    /// so it may differ between members meanwhile.
    pub(super) const fn bytes(&self) -> u64 {
        self.log.bytes
    }

    /// The rolling hash.
    pub(super) const fn hash(&self) -> u64 {
        self.log.hash
    }

    /// Begins the rolling hash anew.
    pub(super) const fn restart_hash(&mut self) {
        self.log.hash = 0;
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

    /// Takes the changes since the last call, in order, for watches.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        mem::take(&mut self.log.changes)
    }

    /// Takes what has changed since the last call, for a checkpoint.
    pub(super) fn take_delta(&mut self) -> Delta {
        self.log.delta.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Whether one may read at `revision`; `None` is the newest.
    pub(super) fn check_readable(&self, revision: Option<Revision>) -> Result<(), KvError> {
        let (current, compacted) = (Revision(self.revision()), Revision(self.compacted));
        match revision {
            Some(requested) if requested > current => {
                Err(KvError::FutureRevision { requested, current })
            }
            Some(requested) if requested < compacted => {
                Err(KvError::Compacted { requested, compacted })
            }
            _ => Ok(()),
        }
    }

    /// The newest version of `key`, if it exists.
    pub(super) fn current(&self, key: &[u8]) -> Option<&Record> {
        self.keys.get(key).and_then(|versions| versions.at(None))
    }

    /// Sets `key`; returns what was there.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Option<Record> {
        let Self { keys, live, log, .. } = self;
        let Some(versions) = keys.get_mut(key) else {
            keys.insert(key.into(), Versions::new(log.push(None, key, value, lease)));
            *live += 1;
            return None;
        };
        let previous = versions.at(None).cloned();
        if previous.is_none() {
            *live += 1;
        }
        versions.advance(log.push(previous.as_ref(), key, value, lease));
        previous
    }

    /// Deletes `keys`; `each` sees what was there, in key order. Returns how many were deleted.
    pub(super) fn delete(&mut self, keys: &Keys, mut each: impl FnMut(&Record)) -> u64 {
        let Some(bounds) = bounds(keys) else { return 0 };
        let mut deleted = 0;
        for (key, versions) in self.keys.range_mut::<[u8], _>(bounds) {
            if let Some(latest) = versions.at(None) {
                each(latest);
                let deletion = self.log.push_deletion(latest, key.as_bytes());
                versions.advance(deletion);
                deleted += 1;
            }
        }
        self.live -= deleted;
        deleted
    }

    /// Forgets what was before `revision`, which itself stays readable.
    pub(super) fn compact(&mut self, revision: u64) -> Result<(), KvError> {
        let requested = Revision(revision);
        if revision <= self.compacted {
            return Err(KvError::Compacted { requested, compacted: Revision(self.compacted) });
        }
        self.check_readable(Some(requested))?;
        self.compacted = revision;
        self.mix(&revision.to_le_bytes());
        Ok(())
    }

    /// Leaves out so many revisions, and forgets what was before them.
    pub(super) fn leap(&mut self, revisions: u64) {
        self.log.revision = self.log.revision.saturating_add(revisions);
        self.compacted = self.log.revision;
        self.mix(&self.compacted.to_le_bytes());
    }

    /// Drops what the compacted `change` has made useless: the versions of its key before it, and
    /// the change itself if it is a deletion. Those of the very revision that was compacted stay
    /// until the next compaction: it can still be watched from. Whoever gives it every compacted
    /// change, in order, has nothing useless left. Takes time for what it drops, at most two
    /// versions then.
    pub(super) fn purge(&mut self, change: &Record) {
        let (key, compacted) = (change.key(), self.compacted);
        let Some(versions) = self.keys.get_mut(key) else { return };
        let (at, deletion) = (change.position(), change.is_deletion());
        let useless = |position: Position| {
            position.0 < compacted && (position < at || (deletion && position == at))
        };
        while let Some(oldest) = versions.older().front().filter(|old| useless(old.position())) {
            self.log.drop(oldest);
            versions.drop_oldest();
        }
        let latest = versions.latest();
        if versions.older().is_empty() && useless(latest.position()) {
            self.log.drop(latest);
            self.keys.remove(key);
        }
    }

    /// Every record that is of use, in the order they were made.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::with_capacity(self.keys.len());
        for versions in self.keys.values() {
            records.extend(versions.useful(self.compacted).cloned());
        }
        records.sort_unstable_by_key(Record::position);
        records
    }

    /// Calls `each` for every key that exists and has a lease.
    pub(super) fn visit_leased(&self, mut each: impl FnMut(&[u8], LeaseId)) {
        for latest in self.keys.values().filter_map(|versions| versions.at(None)) {
            if let Some(lease) = latest.lease() {
                each(latest.key(), lease);
            }
        }
    }

    /// Before the first [`Mvcc::load`]: what is to come is compacted up to `compacted`.
    pub(super) const fn begin_load(&mut self, compacted: u64) {
        self.compacted = compacted;
    }

    /// Takes in a record of a checkpoint or snapshot; they come in the order they were made. What
    /// compaction has made useless is purged on the way.
    pub(super) fn load(&mut self, record: Record) {
        self.log.bytes += record.quota_size();
        let alive = !record.is_deletion();
        let mut known = true;
        let previous = match self.keys.entry(record.key().into()) {
            Entry::Occupied(mut versions) => {
                let versions = versions.get_mut();
                let previous = versions.at(None).cloned();
                versions.advance(record.clone());
                previous
            }
            Entry::Vacant(place) => {
                known = false;
                place.insert(Versions::new(record.clone()));
                None
            }
        };
        match (previous.is_some(), alive) {
            (false, true) => self.live += 1,
            (true, false) => self.live -= 1,
            _ => {}
        }
        let revision = record.mod_revision();
        if revision >= self.compacted {
            self.log.changes.push(Change { record: record.clone(), previous });
        }
        if revision <= self.compacted && (known || !alive) {
            self.purge(&record);
        }
    }

    /// Sets revision and hash after the last [`Mvcc::load`].
    pub(super) const fn loaded(&mut self, revision: u64, hash: u64) {
        self.log.revision = revision;
        self.log.hash = hash;
    }

    /// Calls `each` for every key from the place `start` on and before the place `end`, in order,
    /// until it breaks off, with the versions there that can be read at `floor` or above and are
    /// not above `revision`, oldest first. That there are none is told too.
    pub(super) fn visit_versions<'a>(
        &'a self,
        start: Place<'_>,
        end: Option<Place<'_>>,
        (floor, revision): (u64, u64),
        mut each: impl FnMut(&[u8], &mut dyn Iterator<Item = &'a Record>) -> ControlFlow<()>,
    ) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        let last = match end {
            None => Bound::Unbounded,
            Some((key, None)) => Bound::Excluded(key),
            Some((key, Some(_))) => Bound::Included(key),
        };
        for (key, versions) in self.keys.range::<[u8], _>((Bound::Included(start.0), last)) {
            let key = key.as_bytes();
            let at = |place: Place<'_>| place.1.filter(|_| place.0 == key);
            let (from, to) = (at(start), end.and_then(at));
            let is_in = |record: &&Record| {
                let position = record.position();
                from.is_none_or(|from| position >= from) && to.is_none_or(|to| position < to)
            };
            let readable = versions.readable(floor, revision, from);
            if each(key, &mut readable.filter(is_in)).is_break() {
                return;
            }
        }
    }

    /// Calls `each` for every key that existed at `revision`, or exists now, in order or from the
    /// last to the first, until it breaks off.
    pub(super) fn visit<'a>(
        &'a self,
        keys: &Keys,
        revision: Option<Revision>,
        backward: bool,
        each: impl FnMut(&'a Record) -> ControlFlow<()>,
    ) {
        self.visit_some(keys, revision, backward, u64::MAX, &mut 0, each);
    }

    /// The same, and goes through `most` keys at most, those included that did not exist; they are
    /// counted in `seen`.
    pub(super) fn visit_some<'a>(
        &'a self,
        keys: &Keys,
        revision: Option<Revision>,
        backward: bool,
        most: u64,
        seen: &mut u64,
        mut each: impl FnMut(&'a Record) -> ControlFlow<()>,
    ) -> Visited {
        let revision = revision.map(|revision| revision.0);
        if let Keys::One(key) = keys {
            *seen += 1;
            if let Some(record) = self.keys.get(&key[..]).and_then(|found| found.at(revision)) {
                // There is no other to go on with.
                let _ = each(record);
            }
            return Visited::All;
        }
        let Some(bounds) = bounds(keys) else { return Visited::All };
        let mut range = self.keys.range::<[u8], _>(bounds);
        while let Some((key, versions)) = if backward { range.next_back() } else { range.next() } {
            *seen += 1;
            if let Some(record) = versions.at(revision)
                && each(record).is_break()
            {
                return Visited::All;
            }
            if *seen >= most {
                return Visited::Rest(rest(keys, key.as_bytes(), backward));
            }
        }
        Visited::All
    }
}

/// How far a visit has come.
pub(super) enum Visited {
    /// To the end, or to where it was broken off.
    All,
    /// It has seen as many keys as it may; these are left.
    Rest(Keys),
}

/// What of `keys` comes after `last`.
fn rest(keys: &Keys, last: &[u8], backward: bool) -> Keys {
    let (start, end) = match keys {
        Keys::One(key) => (key.clone(), Some(key.clone())),
        Keys::Range { start, end } => (start.clone(), end.clone()),
    };
    if backward {
        return Keys::Range { start, end: Some(Bytes::copy_from_slice(last)) };
    }
    Keys::Range { start: [last, &[0]].concat().into(), end }
}

impl Versions {
    fn new(latest: Record) -> Self {
        if latest.is_deletion() {
            return Self::Many(Box::new(Many { latest, alive: false, older: VecDeque::new() }));
        }
        Self::One(latest)
    }

    fn latest(&self) -> &Record {
        match self {
            Self::One(latest) => latest,
            Self::Many(many) => &many.latest,
        }
    }

    /// The newest version, if it is a value.
    fn alive(&self) -> Option<&Record> {
        match self {
            Self::One(latest) => Some(latest),
            Self::Many(many) => many.alive.then_some(&many.latest),
        }
    }

    /// The version in force at `revision`, or now, if the key existed then.
    fn at(&self, revision: Option<u64>) -> Option<&Record> {
        let Some(revision) = revision else { return self.alive() };
        if self.latest().mod_revision() <= revision {
            return self.alive();
        }
        let older = self.older();
        let newer = older.partition_point(|record| record.mod_revision() <= revision);
        let record = &older[newer.checked_sub(1)?];
        (!record.is_deletion()).then_some(record)
    }

    fn advance(&mut self, record: Record) {
        let alive = !record.is_deletion();
        match self {
            Self::One(latest) => {
                let older = VecDeque::from([latest.clone()]);
                *self = Self::Many(Box::new(Many { latest: record, alive, older }));
            }
            Self::Many(many) => {
                many.alive = alive;
                many.older.push_back(mem::replace(&mut many.latest, record));
            }
        }
    }

    fn older(&self) -> &VecDeque<Record> {
        match self {
            Self::One(_) => &NO_OLDER,
            Self::Many(many) => &many.older,
        }
    }

    fn drop_oldest(&mut self) {
        let Self::Many(many) = self else { return };
        many.older.pop_front();
        if many.older.is_empty() && many.alive {
            *self = Self::One(many.latest.clone());
        }
    }

    /// The versions that can be read at `floor` or above and are not above `revision`, oldest
    /// first: whatever else is still there for a while does not count. Those before `from` may be
    /// left out.
    fn readable(
        &self,
        floor: u64,
        revision: u64,
        from: Option<Position>,
    ) -> impl Iterator<Item = &Record> {
        let older = self.older();
        let version = |at: usize| older.get(at).unwrap_or_else(|| self.latest());
        let count = |is_before: &dyn Fn(&Record) -> bool| {
            let before = older.partition_point(is_before);
            before + usize::from(before == older.len() && is_before(self.latest()))
        };
        let old = count(&|record| record.mod_revision() <= floor);
        let in_force = old.checked_sub(1).filter(|at| !version(*at).is_deletion());
        let first = in_force.unwrap_or(old);
        let skipped = from.map_or(0, |from| count(&|record| record.position() < from));
        let end = count(&|record| record.mod_revision() <= revision);
        (first.max(skipped)..end).map(version)
    }

    /// The versions that are read at `compacted` or above, or watched from there, oldest first.
    fn useful(&self, compacted: u64) -> impl Iterator<Item = &Record> {
        let all = || self.older().iter().chain([self.latest()]);
        let old = all().take_while(|record| record.mod_revision() < compacted).count();
        let replaced = all().nth(old).is_some_and(|next| next.mod_revision() == compacted);
        let in_force = old.checked_sub(1).and_then(|last| all().nth(last));
        let in_force = in_force.filter(|record| !record.is_deletion() && !replaced);
        in_force.into_iter().chain(all().skip(old))
    }
}

impl ChangeLog {
    /// A value, on top of `previous` if the key exists.
    fn push(
        &mut self,
        previous: Option<&Record>,
        key: &[u8],
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Record {
        let mod_revision = self.revision + 1;
        let (create_revision, version) = previous.map_or((mod_revision, 1), |previous| {
            let header = previous.header();
            (header.create_revision, header.version + 1)
        });
        let header = Header { mod_revision, create_revision, version, sub: self.sub, lease };
        self.append(previous, header, key, value)
    }

    fn push_deletion(&mut self, previous: &Record, key: &[u8]) -> Record {
        let (mod_revision, sub) = (self.revision + 1, self.sub);
        let header = Header { mod_revision, create_revision: 0, version: 0, sub, lease: None };
        self.append(Some(previous), header, key, &[])
    }

    fn append(
        &mut self,
        previous: Option<&Record>,
        header: Header,
        key: &[u8],
        value: &[u8],
    ) -> Record {
        let record = Record::new(header, key, value, &mut self.scratch);
        self.sub += 1;
        self.hash = xxh3_64_with_seed(record.bytes(), self.hash);
        self.bytes += record.quota_size();
        if let Some(delta) = &mut self.delta {
            delta.records.push(record.clone());
        }
        self.changes.push(Change { record: record.clone(), previous: previous.cloned() });
        record
    }

    /// The version is not held any more.
    fn drop(&mut self, record: &Record) {
        self.bytes -= record.quota_size();
        if let Some(delta) = &mut self.delta {
            let bytes = u32::try_from(record.bytes().len()).expect("a record is bounded");
            delta.dropped.push(Dropped { position: record.position(), bytes });
        }
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

#[cfg(test)]
mod tests {
    use super::{Record, Versions};

    #[test]
    fn a_key_with_one_version_takes_no_more_than_that() {
        assert_eq!(size_of::<Versions>(), size_of::<Record>());
    }
}
