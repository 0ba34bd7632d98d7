//! What looks after a store beside its state machine: reads its checkpoint file back, tells what
//! some of its keys are like, and keeps it from passing on data that is not to be trusted.
//!
//! It changes no state.

use super::checkpoint::CheckpointFile;
use super::mvcc::{Mvcc, Place};
use super::state::State;
use crate::api::{
    CHUNK_BYTES_MAX, CHUNK_KEYS_MAX, Chunk, ChunkAnswer, ChunkDigest, INTEGRITY_VERSION, KvError,
    Moment, Point, ROLL_ENTRIES_MAX, Revision, Roll, RollAnswer, RollDigest, RollPart,
};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::Snapshot;
use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use xxhash_rust::xxh3::Xxh3;

/// Looks after a [`KvStore`](super::KvStore), from any thread. A clone looks after the same.
#[derive(Clone, Default)]
pub struct StoreCheck {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Weak: the file is closed when the store is dropped, whoever else looks after it.
    file: Mutex<Weak<CheckpointFile>>,
    distrusted: AtomicBool,
}

impl StoreCheck {
    /// From now on the store makes no snapshots, until it is opened anew.
    pub fn distrust(&self) {
        self.shared.distrusted.store(true, Ordering::Relaxed);
    }

    /// Reads the checkpoint file back, all of it, as of now. `pace` is told the bytes of each row;
    /// it may wait, and may break off. Keeps the file from reusing room meanwhile, so it should not
    /// take hours. Returns whether all was read: not if `pace` broke off or there is nothing.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is not as it was written, saying where; `Io` for what the
    /// system says.
    pub fn read_back(
        &self,
        mut pace: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<bool, StorageError> {
        let file = self.file().upgrade();
        let Some(file) = file else { return Ok(false) };
        file.read_back(&mut pace)
    }

    /// Whether the store lives in a file.
    pub fn has_file(&self) -> bool {
        self.file().strong_count() > 0
    }

    /// The newest checkpoint, which stays as it is now whatever is written meanwhile; `None` if
    /// there is none.
    ///
    /// # Errors
    /// As [`StoreCheck::read_back`].
    pub fn snapshot(&self) -> Result<Option<Snapshot>, StorageError> {
        let file = self.file().upgrade();
        file.map_or(Ok(None), |file| file.snapshot())
    }

    pub(super) fn is_distrusted(&self) -> bool {
        self.shared.distrusted.load(Ordering::Relaxed)
    }

    /// The store's file is this one from now on.
    pub(super) fn follow(&self, file: Option<&Arc<CheckpointFile>>) {
        *self.file() = file.map(Arc::downgrade).unwrap_or_default();
    }

    fn file(&self) -> MutexGuard<'_, Weak<CheckpointFile>> {
        // One assignment is all that happens under it.
        self.shared.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most keys looked at for a chunk without an end, those with no version in it included. Members
/// differ in how many of these they still hold, so one that is asked for a chunk with an end may
/// look at more; one that would have to look at too many answers later, when it has purged them.
const VISITED_MAX: u32 = 16 * CHUNK_KEYS_MAX;
const VISITED_TO_END_MAX: u32 = 4 * VISITED_MAX;
/// Most leases or sessions looked at for a part with an end, alike: more may have come since.
const ROLL_TO_END_MAX: usize = 4 * ROLL_ENTRIES_MAX;

/// What the keys of `chunk` are like. Bounded, so that applying is not held up; and where two
/// members answer the same question, they look at the same versions, whatever each has purged.
pub(super) fn digest(mvcc: &Mvcc, chunk: &Chunk) -> ChunkAnswer {
    let (revision, floor) = bounds(mvcc, chunk)?;
    let most = chunk.keys.clamp(1, CHUNK_KEYS_MAX);
    let visits = if chunk.end.is_none() { VISITED_MAX } else { VISITED_TO_END_MAX };
    let mut hash = Xxh3::new();
    let (mut keys, mut bytes, mut visited) = (0, 0, 0_u32);
    let mut end = chunk.end.clone();
    let mut overrun = false;
    let range = (floor.0, revision.0);
    let (from, to) = (place(&chunk.start), chunk.end.as_ref().map(place));
    mvcc.visit_versions(from, to, range, |key, versions| {
        if visited == visits {
            overrun = chunk.end.is_some();
            end = Some(Point::before(Bytes::copy_from_slice(key)));
            return ControlFlow::Break(());
        }
        visited += 1;
        let mut is_new = true;
        for record in versions {
            if bytes >= CHUNK_BYTES_MAX as u64 || is_new && keys == most {
                let (revision, sub) = record.position();
                let change = (!is_new).then_some((Revision(revision), sub));
                end = Some(Point { key: Bytes::copy_from_slice(key), change });
                return ControlFlow::Break(());
            }
            hash.update(&(record.bytes().len() as u64).to_le_bytes());
            hash.update(record.bytes());
            bytes += record.quota_size();
            keys += u32::from(mem::take(&mut is_new));
        }
        ControlFlow::Continue(())
    });
    if overrun {
        return Err(KvError::Overloaded);
    }
    let (version, digest) = (INTEGRITY_VERSION, hash.digest());
    Ok(ChunkDigest { version, revision, floor, keys, digest, end })
}

/// The revision of `chunk`, and what counts as compacted.
fn bounds(mvcc: &Mvcc, chunk: &Chunk) -> Result<(Revision, Revision), KvError> {
    let (current, compacted) = (Revision(mvcc.revision()), Revision(mvcc.compacted()));
    let revision = chunk.revision.unwrap_or(current);
    if revision > current {
        return Err(KvError::FutureRevision { requested: revision, current });
    }
    let floor = chunk.floor.unwrap_or(compacted);
    // What is compacted may be gone, here or there.
    for (requested, compacted) in [(floor, compacted), (revision, floor)] {
        if requested < compacted {
            return Err(KvError::Compacted { requested, compacted });
        }
    }
    Ok((revision, floor))
}

fn place(point: &Point) -> Place<'_> {
    (&point.key, point.change.map(|(revision, sub)| (revision.0, sub)))
}

/// What some leases or sessions are like. Bounded, as [`digest`].
pub(super) fn roll(state: &State, part: &RollPart) -> RollAnswer {
    let at = Moment { applied: state.applied.last.index, now_ms: state.time.now_ms() };
    let since = part.since.unwrap_or(at);
    let (most, bytes_max) = match part.end {
        None => (ROLL_ENTRIES_MAX, CHUNK_BYTES_MAX),
        Some(_) => (ROLL_TO_END_MAX, usize::MAX),
    };
    let (mut entries, mut changed, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut end = part.end;
    let mut overrun = false;
    let each = |entry: RollEntry| {
        if part.end.is_some_and(|end| entry.id >= end) {
            return ControlFlow::Break(());
        }
        if entries.len() + changed.len() == most || bytes >= bytes_max {
            overrun = part.end.is_some();
            end = Some(entry.id);
            return ControlFlow::Break(());
        }
        bytes += entry.bytes;
        match entry.changed.is_within(since, at) {
            true => changed.push(entry.id),
            false => entries.push((entry.id, entry.hash)),
        }
        ControlFlow::Continue(())
    };
    match part.of {
        Roll::Leases => state.leases.visit_from(part.start, each),
        Roll::Sessions => state.sessions.visit_from(part.start, each),
        Roll::Single => state.visit_singles_from(part.start, each),
    }
    if overrun {
        return Err(KvError::Overloaded);
    }
    Ok(RollDigest { version: INTEGRITY_VERSION, at, entries, changed, end })
}

/// A lease or a session, as it is compared.
pub(super) struct RollEntry {
    pub(super) id: u64,
    pub(super) hash: u64,
    /// How much was hashed.
    pub(super) bytes: usize,
    pub(super) changed: Changed,
}

/// When something last changed.
pub(super) enum Changed {
    /// With this entry of the log.
    By(u64),
    /// With a stamp that said it was this late, in milliseconds.
    When(u64),
}

impl Changed {
    /// Whether this was after `since`, as far as can be told, up to `at`. What says that it was
    /// later than now is wrong, and to be compared.
    const fn is_within(&self, since: Moment, at: Moment) -> bool {
        if since.applied.0 >= at.applied.0 {
            return false;
        }
        match *self {
            Self::By(index) => since.applied.0 < index && index <= at.applied.0,
            // Several stamps may have come in one millisecond.
            Self::When(time_ms) => since.now_ms <= time_ms && time_ms <= at.now_ms,
        }
    }
}
