//! Reads that go through many keys, a part at a time: what is applied next does not wait for more
//! than a part. All parts see the store as of one revision, the one at which the first was read.
//!
//! A read is begun at the [`StoreHandle`], which holds what was found so far; each
//! [`Query::Scan`](crate::api::Query::Scan) goes on with it. It never keeps anything in the store.

use super::counts::Counts;
use super::handle::StoreHandle;
use super::mvcc::{Mvcc, Visited};
use super::range::{Reading, Room};
use super::validate::validate_keys;
use crate::api::{Keys, KvError, Query, Range, RangeAnswer, RangeReply, Revision};
use crate::codec;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most keys that the first part of a read goes through, those that are deleted but not purged
/// included. Nearly all reads end with it.
pub const FIRST_PART_KEYS_MAX: u64 = 1_000;
/// Most keys that each later part goes through: about a millisecond.
pub const PART_KEYS_MAX: u64 = 10_000;
/// How often a read of what is there now begins anew because what it had begun to read was
/// compacted.
const TRIES_MAX: u32 = 4;

/// A read in parts; see [`StoreHandle::begin_scan`]. What was found is dropped with it.
pub struct Scan {
    id: u64,
    handle: StoreHandle,
}

impl Scan {
    /// The encoded query that goes on with it. Its answer is empty if there is more to go through;
    /// otherwise it is the [`RangeAnswer`], and the read has ended.
    pub fn query(&self) -> Bytes {
        codec::encode(&Query::Scan(self.id))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.handle.scans().remove(self.id);
    }
}

impl StoreHandle {
    /// Begins a read that is answered by one [`Scan::query`] after the other.
    pub fn begin_scan(&self, range: Range) -> Scan {
        self.count(Counts { ranges: 1, ..Counts::default() });
        Scan { id: self.scans().add(range), handle: self.clone() }
    }
}

/// The reads under way.
#[derive(Default)]
pub(super) struct Scans(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    scans: BTreeMap<u64, Arc<Mutex<Progress>>>,
}

impl Scans {
    fn add(&self, range: Range) -> u64 {
        let mut state = lock(&self.0);
        state.next += 1;
        let id = state.next;
        state.scans.insert(id, Arc::new(Mutex::new(Progress::new(range))));
        id
    }

    fn remove(&self, id: u64) {
        lock(&self.0).scans.remove(&id);
    }

    /// Goes on with a read; its answer and how many keys it went through.
    pub(super) fn go_on(&self, id: u64, mvcc: &Mvcc) -> (Bytes, u64) {
        let scan = lock(&self.0).scans.get(&id).cloned();
        let Some(scan) = scan else {
            // Whoever had begun it does not wait for it any more.
            let gone = KvError::Malformed("no such read".into());
            return (codec::encode(&RangeAnswer::Err(gone)), 0);
        };
        let (answer, keys) = lock(&scan).go_on(mvcc);
        (answer.map_or_else(Bytes::new, |answer| codec::encode(&answer)), keys)
    }
}

/// A read, and what it has found.
struct Progress {
    range: Range,
    begun: Option<Begun>,
    tries: u32,
}

struct Begun {
    /// What is still to be gone through.
    rest: Keys,
    /// As of which revision.
    at: Revision,
    /// The store's revision when it began.
    revision: Revision,
    reading: Reading,
    room: Room,
}

impl Progress {
    const fn new(range: Range) -> Self {
        Self { range, begun: None, tries: 0 }
    }

    /// Reads one part; the answer if there is nothing more to read, and how many keys it went
    /// through.
    fn go_on(&mut self, mvcc: &Mvcc) -> (Option<RangeAnswer>, u64) {
        match self.read_part(mvcc) {
            Ok((answer, keys)) => (answer.map(Ok), keys),
            Err(KvError::Compacted { .. }) if self.range.revision.is_none() => {
                self.begun = None;
                self.tries += 1;
                // Whoever compacts all the time is to do so less often.
                ((self.tries == TRIES_MAX).then_some(Err(KvError::Overloaded)), 0)
            }
            Err(error) => (Some(Err(error)), 0),
        }
    }

    fn read_part(&mut self, mvcc: &Mvcc) -> Result<(Option<RangeReply>, u64), KvError> {
        let range = &self.range;
        let most = if self.begun.is_some() { PART_KEYS_MAX } else { FIRST_PART_KEYS_MAX };
        let begun = match &mut self.begun {
            Some(begun) => begun,
            None => {
                validate_keys(&range.keys)?;
                let revision = Revision(mvcc.revision());
                let at = range.revision.unwrap_or(revision);
                let (rest, reading) = (range.keys.clone(), Reading::new(range));
                self.begun.insert(Begun { rest, at, revision, reading, room: Room::new() })
            }
        };
        mvcc.check_readable(Some(begun.at))?;
        let Begun { rest, at, reading, room, .. } = begun;
        let backward = reading.is_backward();
        let mut keys = 0;
        let visited = mvcc.visit_some(rest, Some(*at), backward, most, &mut keys, |record| {
            reading.take(record, room)
        });
        if let Visited::Rest(left) = visited {
            *rest = left;
            return Ok((None, keys));
        }
        let Some(begun) = self.begun.take() else { return Ok((None, keys)) };
        let Begun { revision, reading, mut room, .. } = begun;
        Ok((Some(reading.finish(&mut room, revision)), keys))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement leaves it consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
