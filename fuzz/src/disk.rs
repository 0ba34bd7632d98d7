//! A file in memory that a database can be opened on. It reports a read beyond its end as files do.

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io::{Error, ErrorKind};
use std::sync::Arc;

/// The file; a clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<InMemoryBackend>);

impl Disk {
    /// A file that holds `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let disk = Self::default();
        disk.set_len(bytes.len() as u64).expect("room in memory");
        disk.write(0, bytes).expect("room in memory");
        disk
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| self.len().is_ok_and(|len| end > len)) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.0.write(offset, data)
    }
}
