//! Locks on whole files, which keep other processes out.

use crate::files;
use raft_core::log_store::StorageError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A lock on a file, until it is dropped.
///
/// It is let go by name, not just by closing the file. A process that another thread is starting at
/// the moment has every open file of this one until it runs its own program; the lock would last
/// as long, and whoever opens the same directory again would be told that it is in use.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Keeps everyone else out.
    ///
    /// # Errors
    /// If somebody else has the file locked, or the system refuses.
    pub fn exclusive(file: File) -> Result<Self, TryLockError> {
        file.try_lock().map(|()| Self(file))
    }

    /// Keeps those out who want it for themselves.
    ///
    /// # Errors
    /// If somebody has it for itself, or the system refuses.
    pub fn shared(file: File) -> Result<Self, TryLockError> {
        file.try_lock_shared().map(|()| Self(file))
    }
}

/// The lock on the directory of a log, until all its copies are dropped.
#[derive(Clone, Debug)]
pub struct DirectoryLock {
    pub(crate) path: PathBuf,
    pub(crate) lock: Arc<FileLock>,
}

impl DirectoryLock {
    /// Makes the directory `path` if it is missing, and keeps everyone else out of it.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another process has the log there open; [`StorageError::Io`] if
    /// the system refuses.
    pub fn new(path: &Path) -> Result<Self, StorageError> {
        Ok(Self { path: path.to_owned(), lock: Arc::new(files::lock(path)?) })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Where this fails the file is still closed.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::LOCK_FILE;
    use std::path::Path;

    fn open(dir: &Path) -> File {
        File::options().create(true).append(true).open(dir.join(LOCK_FILE)).unwrap()
    }

    /// The copy is what a process has that is just being started.
    #[test]
    fn a_lock_ends_with_its_owner_whoever_has_the_file_too() {
        let dir = tempfile::tempdir().unwrap();
        for take in [FileLock::exclusive, FileLock::shared] {
            let lock = take(open(dir.path())).unwrap();
            let copy = lock.0.try_clone().unwrap();
            let refused = FileLock::exclusive(open(dir.path()));
            assert!(matches!(refused, Err(TryLockError::WouldBlock)));
            drop(lock);
            drop(FileLock::exclusive(open(dir.path())).unwrap());
            drop(copy);
        }
    }

    #[test]
    fn who_only_looks_shares() {
        let dir = tempfile::tempdir().unwrap();
        let _one = FileLock::shared(open(dir.path())).unwrap();
        let _other = FileLock::shared(open(dir.path())).unwrap();
    }
}
