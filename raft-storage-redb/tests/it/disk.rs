//! The log on a disk of the conformance kit.

use crate::support::resize_tail;
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded};
use raft_core::testing::log_store::{Disk, DiskFile};
use raft_core::types::GroupId;
use raft_storage_redb::{ACK_FILE, LOG_FILE, RedbLog, TAIL_FILE, Usage};
use redb::StorageBackend;
use std::path::Path;
use std::{fs, io};
use tempfile::TempDir;

/// Stands for a panic in place of an error.
pub(crate) const PANIC: io::ErrorKind = io::ErrorKind::Unsupported;

/// A file of the disk as redb takes it.
#[derive(Clone, Debug)]
pub(crate) struct Backend(DiskFile);

/// Opens a log whose database and tail are on `disk`, with the rest in `dir`.
pub(crate) fn open_on(dir: &Path, disk: &Disk) -> Result<RedbLog, StorageError> {
    let [database, tail] = [LOG_FILE, TAIL_FILE].map(|name| Backend(disk.file(name)));
    RedbLog::with_backends(dir, database, tail)
}

fn or_panic(result: io::Result<()>) -> io::Result<()> {
    assert!(!matches!(&result, Err(error) if error.kind() == PANIC), "it is to panic");
    result
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        or_panic(self.0.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        or_panic(self.0.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        or_panic(self.0.flush())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        or_panic(self.0.write(offset, data))
    }
}

/// A log of which the side file is on the disk, too: it is written there as the log writes its own,
/// without a flush, after the database was flushed.
pub(crate) struct OnDisk {
    log: RedbLog,
    side_file: DiskFile,
    directory: TempDir,
    failed: bool,
}

impl OnDisk {
    pub(crate) fn open(disk: &Disk) -> Result<Self, StorageError> {
        Self::open_with_tail(disk, usize::MAX)
    }

    /// Opens it; a new one gets a tail of `tail_bytes` at most.
    pub(crate) fn open_with_tail(disk: &Disk, tail_bytes: usize) -> Result<Self, StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let side_file = disk.file(ACK_FILE);
        let path = directory.path().join(ACK_FILE);
        if !side_file.is_empty() {
            fs::write(&path, side_file.contents().map_err(failed)?).unwrap();
        }
        if disk.file(LOG_FILE).is_empty() {
            // The side file, the tail and the database, each at once, as in a directory.
            let new = Disk::new();
            drop(open_on(directory.path(), &new)?);
            if side_file.is_empty() {
                disk.create(ACK_FILE, fs::read(&path).unwrap()).map_err(failed)?;
            }
            for name in [TAIL_FILE, LOG_FILE] {
                if disk.file(name).is_empty() {
                    let mut bytes = new.file(name).contents().unwrap();
                    if name == TAIL_FILE {
                        let len = tail_bytes.min(bytes.len());
                        resize_tail(&mut bytes, len);
                    }
                    disk.create(name, bytes).map_err(failed)?;
                }
            }
        }
        let log = open_on(directory.path(), disk)?;
        Ok(Self { log, side_file, directory, failed: false })
    }

    pub(crate) fn usage(&self) -> Usage {
        self.log.usage()
    }

    /// Writes what has changed in the side file, slot by slot.
    fn write_side_file(&self) -> io::Result<()> {
        let new = fs::read(self.directory.path().join(ACK_FILE)).unwrap();
        let old = self.side_file.contents()?;
        for (number, slot) in new.chunks(512).enumerate() {
            let offset = number * 512;
            if old.get(offset..offset + slot.len()) != Some(slot) {
                self.side_file.write(offset as u64, slot)?;
            }
        }
        Ok(())
    }
}

impl LogStore for OnDisk {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.log.load(group)
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Engine("closed after an earlier failure".into()));
        }
        self.log.write(ops)?;
        self.write_side_file().map_err(|error| {
            self.failed = true;
            failed(error)
        })
    }
}

fn failed(error: io::Error) -> StorageError {
    StorageError::io("using the side file", error)
}
