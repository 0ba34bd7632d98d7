//! A file that can be written to without changing it: writes stay in memory.
//!
//! redb repairs a database as it opens it, and so would change the evidence. Over this backend it
//! repairs a shadow.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE_BYTES: usize = 4096;

/// A redb backend that reads a file and keeps what is written in memory, so that a database can be
/// opened, and repaired, without changing the file.
#[derive(Debug)]
pub struct Overlay {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes of the file that still show through.
    file_len: u64,
    len: u64,
    /// Pages that were written, by number.
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Overlay {
    /// Begins with the file as it is. It must not change while this lives.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let state = State { file, file_len: len, len, pages: BTreeMap::new() };
        Ok(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read_page(&mut self, number: u64, out: &mut [u8; PAGE_BYTES]) -> io::Result<()> {
        if let Some(page) = self.pages.get(&number) {
            out.copy_from_slice(page.as_slice());
            return Ok(());
        }
        out.fill(0);
        let start = number * PAGE_BYTES as u64;
        let shown = self.file_len.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut out[..shown])
    }

    /// Calls `visit` with every page that `len` bytes from `offset` on touch: its number, the part
    /// of it, and the part of the `len` bytes.
    fn pages(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let at = offset + done as u64;
            let start = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - start).min(len - done);
            let item = (at / PAGE_BYTES as u64, start, done, part);
            done += part;
            Some(item)
        })
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut page = [0; PAGE_BYTES];
        for (number, start, done, part) in State::pages(offset, out.len()) {
            state.read_page(number, &mut page)?;
            out[done..done + part].copy_from_slice(&page[start..start + part]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len < state.len {
            // What grows back later is zero.
            let number = len / PAGE_BYTES as u64;
            let mut page = [0; PAGE_BYTES];
            state.read_page(number, &mut page)?;
            page[(len % PAGE_BYTES as u64) as usize..].fill(0);
            state.pages.split_off(&number);
            state.pages.insert(number, Box::new(page));
            state.file_len = state.file_len.min(len);
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (number, start, done, part) in State::pages(offset, data.len()) {
            let mut page = [0; PAGE_BYTES];
            state.read_page(number, &mut page)?;
            page[start..start + part].copy_from_slice(&data[done..done + part]);
            state.pages.insert(number, Box::new(page));
        }
        Ok(())
    }
}
