//! What looks after a store beside its state machine: reads its checkpoint file back, tells what
//! some of its keys are like, and keeps it from passing on data that is not to be trusted.
//!
//! It changes no state.

use super::checkpoint::CheckpointFile;
use super::mvcc::Mvcc;
use super::record::Record;
use crate::api::{
    CHUNK_BYTES_MAX, CHUNK_KEYS_MAX, Chunk, ChunkAnswer, ChunkDigest, INTEGRITY_VERSION, KvError,
    Revision,
};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::Snapshot;
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

/// Most keys looked at for a chunk without an end, the deleted ones included.
const VISITED_MAX: u32 = 16 * CHUNK_KEYS_MAX;

/// What the keys of `chunk` are like. Bounded, so that applying is not held up. A chunk with an end
/// is bounded by what existed there at the revision alone, which is the same on every member; how
/// many deleted keys are still there is not.
pub(super) fn digest(mvcc: &Mvcc, chunk: &Chunk) -> ChunkAnswer {
    let current = Revision(mvcc.revision());
    let revision = chunk.revision.unwrap_or(current);
    if revision > current {
        return Err(KvError::FutureRevision { requested: revision, current });
    }
    let compacted = Revision(mvcc.compacted());
    if revision < compacted {
        return Err(KvError::Compacted { requested: revision, compacted });
    }
    let most = chunk.keys.clamp(1, CHUNK_KEYS_MAX);
    let visits = if chunk.end.is_none() { VISITED_MAX } else { u32::MAX };
    let mut hash = Xxh3::new();
    let (mut keys, mut bytes, mut visited) = (0, 0, 0_u32);
    let mut end = chunk.end.clone();
    mvcc.visit_from(&chunk.start, chunk.end.as_deref(), revision, |key, record| {
        let full = keys == most || bytes >= CHUNK_BYTES_MAX;
        if visited == visits || full && record.is_some() {
            end = Some(Bytes::copy_from_slice(key));
            return ControlFlow::Break(());
        }
        visited = visited.saturating_add(1);
        if let Some(record) = record.map(Record::bytes) {
            hash.update(&(record.len() as u64).to_le_bytes());
            hash.update(record);
            keys += 1;
            bytes += record.len();
        }
        ControlFlow::Continue(())
    });
    Ok(ChunkDigest { version: INTEGRITY_VERSION, revision, keys, digest: hash.digest(), end })
}
