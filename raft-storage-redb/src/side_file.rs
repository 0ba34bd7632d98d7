//! `log.ack`: the last acknowledged row, outside the database.
//!
//! redb recovers from a crash by rolling back to the last commit that is whole. If the disk lost a
//! flush it had confirmed, that would be a commit before one that was acknowledged, and the log
//! would look fine. This file is the witness against it. It is written after every commit without a
//! flush: after a power loss it may be behind the log, which is harmless, but never ahead of it.

use crate::error::{corrupt, newer};
use raft_core::log_store::StorageError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"raft-ac2";
/// How records began before there was a tail.
const MAGIC_WITHOUT_TAIL: &[u8; 8] = b"raft-ack";
const RECORD_BYTES: usize = 24;
/// Two slots, written in turn, in sectors of their own: a write torn by a power loss leaves the
/// other.
const SLOT_BYTES: usize = 512;
const SLOTS: usize = 2;

/// A row and its checksum; row 0 is the place before the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acknowledged {
    /// Sequence number.
    pub(crate) row: u64,
    /// Checksum of the row.
    pub(crate) checksum: u32,
}

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    /// Everything up to here was acknowledged.
    pub(crate) acknowledged: Acknowledged,
    /// Whether the log has a tail. One that was last open before there were any has none.
    pub(crate) has_tail: bool,
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct SideFile {
    file: File,
    path: PathBuf,
    slot: usize,
    /// A slot does not say that there is a tail.
    is_old: bool,
}

impl SideFile {
    /// Makes the file at `path`, saying that nothing was acknowledged. It is there as a whole or
    /// not at all; the caller flushes the directory.
    pub(crate) fn create(path: &Path) -> Result<(), StorageError> {
        let partial = path.with_extension("ack.new");
        let written = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&slots(Acknowledged::default()))?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        written().map_err(|source| StorageError::io(format!("making {}", path.display()), source))
    }

    /// Opens the file; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<(Self, Said)>, StorageError> {
        let options = OpenOptions::new().read(true).write(true).to_owned();
        let Some((file, found)) = read(path, &options)? else { return Ok(None) };
        let said = newest(path, found)?;
        // The next write goes to the slot that does not hold the newest record.
        let slot = usize::from(found[0] == Some(Ok(said)));
        let is_old = found.iter().any(|said| matches!(said, Some(Ok(said)) if !said.has_tail));
        Ok(Some((Self { file, path: path.to_owned(), slot, is_old }, said)))
    }

    /// What the file says; `None` if there is none.
    pub(crate) fn peek(path: &Path) -> Result<Option<Said>, StorageError> {
        let Some((_, slots)) = read(path, OpenOptions::new().read(true))? else { return Ok(None) };
        newest(path, slots).map(Some)
    }

    /// Notes that everything up to this row was acknowledged.
    pub(crate) fn write(&mut self, acknowledged: Acknowledged) -> Result<(), StorageError> {
        let offset = (self.slot * SLOT_BYTES) as u64;
        self.slot = (self.slot + 1) % SLOTS;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.write_all(&encode(acknowledged, MAGIC)))
            .map_err(|error| StorageError::io(format!("writing {}", self.path.display()), error))
    }

    /// Says in both slots, durably, that there is a tail, if one does not; the slot of the older
    /// record first.
    pub(crate) fn renew(&mut self, acknowledged: Acknowledged) -> Result<(), StorageError> {
        let slots = if self.is_old { SLOTS } else { 0 };
        for _ in 0..slots {
            self.write(acknowledged)?;
            self.file.sync_all().map_err(|error| {
                StorageError::io(format!("flushing {}", self.path.display()), error)
            })?;
        }
        Ok(())
    }
}

/// What the slots say; `None` of one that is not whole.
type Slots = [Option<Result<Said, Unknown>>; SLOTS];

/// A whole record that does not begin as any that this version knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unknown;

fn read(path: &Path, options: &OpenOptions) -> Result<Option<(File, Slots)>, StorageError> {
    let failed = |source| StorageError::io(format!("reading {}", path.display()), source);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::with_capacity(SLOT_BYTES * SLOTS);
    (&mut file).take((SLOT_BYTES * SLOTS) as u64).read_to_end(&mut bytes).map_err(failed)?;
    let slot = |number: usize| {
        let record = bytes.get(number * SLOT_BYTES..)?.first_chunk::<RECORD_BYTES>()?;
        decode(record)
    };
    Ok(Some((file, [slot(0), slot(1)])))
}

fn newest(path: &Path, slots: Slots) -> Result<Said, StorageError> {
    let known = slots.into_iter().flatten().collect::<Result<Vec<_>, Unknown>>();
    let known = known.map_err(|Unknown| newer(path))?;
    let newest = known.into_iter().max_by_key(|said| (said.acknowledged.row, said.has_tail));
    newest.ok_or_else(|| corrupt(path, "neither of its two records is whole"))
}

/// The bytes of a file both slots of which say this.
fn slots(acknowledged: Acknowledged) -> [u8; SLOT_BYTES * SLOTS] {
    let mut bytes = [0; SLOT_BYTES * SLOTS];
    for slot in bytes.chunks_exact_mut(SLOT_BYTES) {
        slot[..RECORD_BYTES].copy_from_slice(&encode(acknowledged, MAGIC));
    }
    bytes
}

fn encode(Acknowledged { row, checksum }: Acknowledged, magic: &[u8; 8]) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(magic);
    record[8..16].copy_from_slice(&row.to_le_bytes());
    record[16..20].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&record[..20]);
    record[20..].copy_from_slice(&own.to_le_bytes());
    record
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<Result<Said, Unknown>> {
    let acknowledged = Acknowledged {
        row: u64::from_le_bytes(*record[8..].first_chunk()?),
        checksum: u32::from_le_bytes(*record[16..].first_chunk()?),
    };
    let magic = record.first_chunk::<8>()?;
    let whole = encode(acknowledged, magic) == *record;
    let said = match magic {
        MAGIC => Ok(Said { acknowledged, has_tail: true }),
        MAGIC_WITHOUT_TAIL => Ok(Said { acknowledged, has_tail: false }),
        _ => Err(Unknown),
    };
    whole.then_some(said)
}
