//! A file for as long as it is needed, which holds up no flush of other files for long.
//!
//! The log beside it is flushed all the time, and a flush waits for what the file system does
//! meanwhile. So it is never given much to do at once: neither many bytes to write, nor many
//! blocks to free. A file of 300 MB that is simply removed, from a file system that tells its disk
//! of freed blocks, stops every flush for 40 to 80 ms.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use tempfile::TempPath;

/// Bytes after which what was written is flushed. Nobody needs it to be durable.
const UNFLUSHED_MAX: u64 = 1024 * 1024;

/// Bytes that are given back to the file system at once.
const FREED_MAX: u64 = 8 * 1024 * 1024;

/// A file that goes away with it. Everything it does blocks, to drop it as well.
pub(super) struct Spool {
    file: File,
    name: Option<TempPath>,
    unflushed: u64,
}

impl Spool {
    pub(super) fn create(directory: &Path, prefix: &str, suffix: &str) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(prefix).suffix(suffix).tempfile_in(directory)?;
        let (file, name) = file.into_parts();
        Ok(Self { file, name: Some(name), unflushed: 0 })
    }

    pub(super) fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.unflushed += chunk.len() as u64;
        if self.unflushed >= UNFLUSHED_MAX {
            self.unflushed = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Takes its name away, so that nobody finds it any more. This alone does not block: its bytes
    /// are freed when it is dropped.
    pub(super) fn unname(&mut self) {
        self.name = None;
    }

    /// What is read next is its beginning.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.file.rewind()
    }
}

impl Read for Spool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // If it cannot be made smaller it is removed as it is.
        let _ = empty(&self.file);
    }
}

/// Frees the bytes of `file` in steps, each done before the next begins.
fn empty(file: &File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > FREED_MAX {
        left -= FREED_MAX;
        file.set_len(left)?;
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FREED_MAX, Spool};
    use std::io::Read;

    #[test]
    fn what_was_appended_is_read_and_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(directory.path(), "part-", ".tmp").unwrap();
        let chunk = vec![7; 600 * 1024];
        (0..4).for_each(|_| spool.append(&chunk).unwrap());
        spool.rewind().unwrap();
        let mut read = Vec::new();
        spool.read_to_end(&mut read).unwrap();
        assert_eq!(read, chunk.repeat(4));
        drop(spool);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn little_is_left_to_remove_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::create(directory.path(), "part-", ".tmp").unwrap();
        let file = spool.file.try_clone().unwrap();
        file.set_len(3 * FREED_MAX + 1).unwrap();
        drop(spool);
        assert_eq!(file.metadata().unwrap().len(), 1);
    }
}
