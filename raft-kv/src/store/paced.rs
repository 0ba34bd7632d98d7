//! A file that is flushed while it is written, not only at the end.
//!
//! Who restores a snapshot writes hundreds of megabytes before the commit flushes them. Left to
//! the system until then they hold up everybody who flushes anything beside them - the log, before
//! all: a journalling file system has what is new written out before any other flush is done. So
//! no more than [`UNFLUSHED_MAX`] bytes are ever left to the system.

use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes written and not flushed: some milliseconds of a slow disk.
const UNFLUSHED_MAX: u64 = 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Paced<B> {
    backend: B,
    unflushed: AtomicU64,
}

impl<B> Paced<B> {
    pub(super) const fn new(backend: B) -> Self {
        Self { backend, unflushed: AtomicU64::new(0) }
    }
}

impl<B: StorageBackend> StorageBackend for Paced<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unflushed.store(0, Ordering::Relaxed);
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)?;
        let bytes = data.len() as u64;
        if self.unflushed.fetch_add(bytes, Ordering::Relaxed) + bytes < UNFLUSHED_MAX {
            return Ok(());
        }
        self.sync_data()
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }
}

#[cfg(test)]
mod tests;
