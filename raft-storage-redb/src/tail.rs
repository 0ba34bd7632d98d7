//! `log.tail`: the newest rows, until they are put into the database together.
//!
//! A commit of redb writes nine pages of its own for a row of a few hundred bytes. A file that has
//! its full length from the start takes the same row with one write and one flush of that page
//! alone. So small commits are gathered here, and a commit that finds no room takes all of them
//! into the database with it; then the file begins anew.
//!
//! Each commit is a frame of its own, in blocks of its own: no later write touches a block that
//! holds something acknowledged. Frames of former rounds lie behind the newest one. They are told
//! apart by their sequence numbers, and their checksums begin with a number that nobody outside
//! knows, so that no value a client writes can look like a frame.

use crate::error::{corrupt, newer};
use crate::row::{RowError, SealedRow};
use raft_core::log_store::StorageError;
use redb::StorageBackend;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Frames begin at its multiples: as large as the largest sector of a disk.
const BLOCK_BYTES: usize = 4096;
/// Length of the file. Filling the database with that much takes a few milliseconds.
const FILE_BYTES: usize = 1 << 20;
/// A larger commit goes into the database at once: it would be written twice, and the pages that
/// the database writes beside it count for little.
const COMMIT_BYTES_MAX: usize = 128 << 10;

const MAGIC: &[u8; 8] = b"raft-tl1";
const FILE_HEADER_BYTES: usize = 28;
const HEADER_BYTES: usize = 20;
/// Bytes of the length before each row.
const LENGTH_BYTES: usize = 4;

/// Rows that follow each other, each with its length before it.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    first: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    /// The rows in order, with their sequence numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = self.bytes.as_slice();
        let rows = std::iter::from_fn(move || {
            let (row, behind) = split_row(rest)?;
            rest = behind;
            Some(row)
        });
        (self.first..).zip(rows)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn extend(&mut self, first: u64, rows: &[u8]) {
        if self.bytes.is_empty() {
            self.first = first;
        }
        self.bytes.extend_from_slice(rows);
    }
}

fn split_row(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The file, open for writing.
pub(crate) struct TailFile {
    backend: Box<dyn StorageBackend>,
    path: PathBuf,
    salt: [u8; 8],
    len: usize,
    /// Where the next frame goes.
    end: usize,
    /// What is in the file and not in the database.
    rows: Gathered,
    /// The frame being made, and its first row; kept for its memory.
    frame: Vec<u8>,
    first: Option<u64>,
}

impl fmt::Debug for TailFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailFile").field("path", &self.path).field("end", &self.end).finish()
    }
}

impl TailFile {
    /// The bytes of a file without rows.
    pub(crate) fn blank() -> Vec<u8> {
        let salt = RandomState::new().build_hasher().finish().to_le_bytes();
        let mut bytes = vec![0; FILE_BYTES];
        bytes[..FILE_HEADER_BYTES].copy_from_slice(&file_header(MAGIC, salt, FILE_BYTES));
        bytes
    }

    /// Opens the file in `backend`; `path` is for messages.
    pub(crate) fn open(
        path: &Path,
        backend: impl StorageBackend,
    ) -> Result<(Self, Image), StorageError> {
        let image = Image::read(path, &backend)?;
        let tail = Self {
            backend: Box::new(backend),
            path: path.to_owned(),
            salt: image.salt,
            len: image.bytes.len(),
            end: BLOCK_BYTES,
            rows: Gathered::default(),
            frame: Vec::new(),
            first: None,
        };
        Ok((tail, image))
    }

    /// Reads the file again.
    pub(crate) fn image(&self) -> Result<Image, StorageError> {
        Image::read(&self.path, &*self.backend)
    }

    /// What is in the file and not in the database.
    pub(crate) const fn rows(&self) -> &Gathered {
        &self.rows
    }

    /// Whether a commit of `rows` rows, `bytes` long altogether, is to be gathered here.
    pub(crate) const fn takes(&self, rows: usize, bytes: usize) -> bool {
        let frame = HEADER_BYTES + rows * LENGTH_BYTES + bytes;
        frame <= COMMIT_BYTES_MAX && self.end + frame <= self.len
    }

    /// Adds a row to the frame of a commit, which [`takes`](Self::takes) has room for.
    pub(crate) fn add(&mut self, row: &SealedRow<'_>) {
        if self.first.is_none() {
            self.first = Some(row.seq);
            self.frame.clear();
            self.frame.resize(HEADER_BYTES, 0);
        }
        self.frame.extend_from_slice(&(row.len() as u32).to_le_bytes());
        let start = self.frame.len();
        self.frame.resize(start + row.len(), 0);
        row.write(&mut self.frame[start..]);
    }

    /// Writes the rows that were added; they are durable when this returns.
    pub(crate) fn commit(&mut self) -> Result<(), StorageError> {
        let Some(first) = self.first.take() else { return Ok(()) };
        seal(self.salt, first, &mut self.frame);
        let written = self.backend.write(self.end as u64, &self.frame);
        let durable = written.and_then(|()| self.backend.sync_data());
        durable.map_err(|error| failed("writing", &self.path, error))?;
        self.rows.extend(first, &self.frame[HEADER_BYTES..]);
        self.end += self.frame.len().next_multiple_of(BLOCK_BYTES);
        Ok(())
    }

    /// Goes on with the rows that were read from it. They have to go into the database before
    /// anything is appended.
    pub(crate) fn resume(&mut self, rows: Gathered) {
        self.rows = rows;
    }

    /// Begins anew: all rows are in the database now.
    pub(crate) fn restart(&mut self) {
        self.end = BLOCK_BYTES;
        self.rows.bytes.clear();
    }
}

/// Writes the header of a frame into the place left for it.
fn seal(salt: [u8; 8], first: u64, frame: &mut [u8]) {
    let length = (frame.len() - HEADER_BYTES) as u64;
    frame[4..12].copy_from_slice(&first.to_le_bytes());
    frame[12..20].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(salt, &frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// What the file holds.
#[derive(Debug)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    salt: [u8; 8],
}

impl Image {
    /// Reads it from `backend`; `path` is for messages.
    pub(crate) fn read(path: &Path, backend: &dyn StorageBackend) -> Result<Self, StorageError> {
        let failed = |error| failed("reading", path, error);
        let len = backend.len().map_err(failed)?;
        // Whatever else is there is found out by the length.
        let mut bytes = vec![0; len.min(FILE_BYTES as u64 + 1) as usize];
        backend.read(0, &mut bytes).map_err(failed)?;
        Self::of(path, bytes)
    }

    /// What the file at `path` holds, without changing it; `None` if there is none.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, StorageError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", path, error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed("reading", path, error))?;
        Self::of(path, bytes).map(Some)
    }

    fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, StorageError> {
        let header = bytes.first_chunk::<FILE_HEADER_BYTES>().and_then(|header| {
            let (magic, salt) = (*header.first_chunk()?, *header[8..].first_chunk()?);
            let len = usize::try_from(u64::from_le_bytes(*header[16..].first_chunk()?)).ok()?;
            (*header == file_header(&magic, salt, len)).then_some((magic, salt, len))
        });
        match header {
            None => Err(corrupt(path, "it does not begin as it was made")),
            Some((magic, ..)) if magic != *MAGIC => Err(newer(path)),
            // It was made in its full length, and nobody ever changes that.
            Some((.., len)) if len != bytes.len() => {
                Err(corrupt(path, format_args!("it was made {len} bytes long, and is not")))
            }
            Some((_, salt, _)) => Ok(Self { bytes, salt }),
        }
    }

    /// Whether there are frames, of whatever rows.
    pub(crate) fn is_used(&self) -> bool {
        (BLOCK_BYTES..self.bytes.len()).step_by(BLOCK_BYTES).any(|at| self.frame(at).is_some())
    }

    /// The rows behind `last`, the last row of the database. What a crash has cut short is not
    /// among them, and nothing lies behind that; so a whole frame behind a broken one means that
    /// something acknowledged was damaged, or that the database is an older one.
    pub(crate) fn rows_after(&self, last: u64) -> Result<Gathered, RowError> {
        let mut rows = Gathered::default();
        let mut expected = last.saturating_add(1);
        let mut at = BLOCK_BYTES;
        while let Some(frame) = self.frame(at).filter(|frame| frame.first == expected) {
            rows.extend(frame.first, frame.rows);
            expected = expected.saturating_add(frame.count);
            at += (HEADER_BYTES + frame.rows.len()).next_multiple_of(BLOCK_BYTES);
        }
        let mut behind = (at..self.bytes.len()).step_by(BLOCK_BYTES);
        match behind.any(|at| self.frame(at).is_some_and(|frame| frame.first >= expected)) {
            true => Err(RowError::Missing(expected)),
            false => Ok(rows),
        }
    }

    /// The frame that begins at `at`, if one is there as a whole.
    fn frame(&self, at: usize) -> Option<Frame<'_>> {
        let (header, rest) = self.bytes.get(at..)?.split_first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize| Some(u64::from_le_bytes(*header[at..].first_chunk()?));
        let (first, length) = (number(4)?, usize::try_from(number(12)?).ok()?);
        if length > COMMIT_BYTES_MAX {
            return None;
        }
        let rows = rest.get(..length)?;
        let end = HEADER_BYTES + length;
        let whole = checksum(self.salt, &self.bytes[at + 4..at + end]).to_le_bytes();
        if header[..4] != whole {
            return None;
        }
        let mut count = 0;
        let mut left = rows;
        while !left.is_empty() {
            left = split_row(left)?.1;
            count += 1;
        }
        (count > 0).then_some(Frame { first, count, rows })
    }
}

struct Frame<'a> {
    first: u64,
    count: u64,
    rows: &'a [u8],
}

fn file_header(magic: &[u8; 8], salt: [u8; 8], len: usize) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(magic);
    header[8..16].copy_from_slice(&salt);
    header[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    let own = crc32c::crc32c(&header[..24]);
    header[24..].copy_from_slice(&own.to_le_bytes());
    header
}

fn checksum(salt: [u8; 8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt), bytes)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> StorageError {
    StorageError::io(format!("{doing} {}", path.display()), error)
}
