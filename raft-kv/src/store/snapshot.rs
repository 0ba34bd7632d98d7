//! The snapshot stream: written frame by frame as it is read, and checked as it is received. The
//! layout is described in [`crate::store`]. It knows no database: where frames come from and where
//! they go is the caller's.

use super::format::{
    Check, Damage, Header, Later, auth_row, checksum, header_of, header_row, lease_row, pack,
    readable, session_row,
};
use super::lease::LeaseChange;
use super::record::{Position, Record};
use super::session::SessionChange;
use super::state::{Frozen, Item, State};
use raft_core::log_store::StorageError;
use std::io::{self, BufReader, Read};
use std::vec;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"raft-kv\n";
/// Longest frame that is read, in bytes: above the longest row and the largest session.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a frame holds; the number is the byte that begins it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// No frame: the checksum of all before it follows.
    End = 0,
    /// The header; first, and once.
    Header = 1,
    /// A row of changes.
    Changes = 2,
    /// A session.
    Session = 3,
    /// A lease.
    Lease = 4,
    /// Users and roles; last.
    Auth = 5,
}

/// Where the frames of a snapshot come from.
pub(super) trait Frames: Send {
    /// Makes the next frame in `out`, which is empty; [`Kind::End`] if there is none.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Kind, StorageError>;
}

/// A snapshot as a stream of bytes.
pub(super) struct SnapshotStream<F> {
    frames: F,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read.
    read: usize,
    hash: Xxh3,
    ended: bool,
    /// Whether the frames gave an error: then nothing follows, not even for one who reads on.
    failed: bool,
}

impl<F: Frames> SnapshotStream<F> {
    pub(super) fn new(header: &Header, frames: F) -> Self {
        let mut buffer = MAGIC.to_vec();
        buffer.extend_from_slice(&header.version().0.to_le_bytes());
        let body = header_row(header);
        buffer.push(Kind::Header as u8);
        buffer.extend_from_slice(&length(body.len()));
        buffer.extend_from_slice(&body);
        let mut hash = Xxh3::new();
        hash.update(&buffer);
        Self { frames, buffer, read: 0, hash, ended: false, failed: false }
    }

    fn advance(&mut self) -> Result<(), StorageError> {
        const FRONT: usize = 5;
        let mut body = std::mem::take(&mut self.buffer);
        body.clear();
        self.read = 0;
        self.failed = true;
        let kind = self.frames.next(&mut body)?;
        self.failed = false;
        if kind == Kind::End {
            self.hash.update(&[kind as u8]);
            self.buffer = vec![kind as u8];
            self.buffer.extend_from_slice(&self.hash.digest().to_le_bytes());
            self.ended = true;
            return Ok(());
        }
        let mut front = [kind as u8; FRONT];
        front[1..].copy_from_slice(&length(body.len()));
        self.buffer = body;
        self.buffer.splice(..0, front);
        self.hash.update(&self.buffer);
        Ok(())
    }
}

impl<F: Frames> Read for SnapshotStream<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.buffer.len() {
            if self.ended {
                return Ok(0);
            }
            if self.failed {
                return Err(io::Error::other("the snapshot has failed before"));
            }
            self.advance().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let unread = &self.buffer[self.read..];
        let count = unread.len().min(out.len());
        out[..count].copy_from_slice(&unread[..count]);
        self.read += count;
        Ok(count)
    }
}

/// The frames of a state in memory.
pub(super) struct MemoryFrames {
    records: Vec<Record>,
    packed: usize,
    sessions: vec::IntoIter<SessionChange>,
    leases: vec::IntoIter<LeaseChange>,
    /// The row of users and roles.
    auth: Option<Vec<u8>>,
}

impl MemoryFrames {
    /// What `state` holds, with its header.
    pub(super) fn of(state: &State) -> (Header, Self) {
        let Frozen {
            applied,
            revision,
            state_hash,
            compacted,
            time,
            records,
            sessions,
            leases,
            auth,
            alarms,
            ..
        } = state.freeze_all();
        let auth = auth.map(|auth| auth_row(&auth));
        let header = Header {
            applied,
            revision,
            state_hash,
            records: records.len() as u64,
            sessions: sessions.len() as u64,
            later: Later { compacted, time, leases: leases.len() as u64 },
            auth: auth.as_deref().map_or(0, checksum),
            alarms,
        };
        let (sessions, leases) = (sessions.into_iter(), leases.into_iter());
        (header, Self { records, packed: 0, sessions, leases, auth })
    }
}

impl Frames for MemoryFrames {
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Kind, StorageError> {
        let mut rest = &self.records[self.packed..];
        if pack(&mut rest, out).is_some() {
            self.packed = self.records.len() - rest.len();
            return Ok(Kind::Changes);
        }
        if let Some((id, Some(session))) = self.sessions.next() {
            out.extend_from_slice(&session_row(id, &session));
            return Ok(Kind::Session);
        }
        if let Some((id, Some(term))) = self.leases.next() {
            out.extend_from_slice(&lease_row(id, &term));
            return Ok(Kind::Lease);
        }
        let Some(auth) = self.auth.take() else { return Ok(Kind::End) };
        out.extend_from_slice(&auth);
        Ok(Kind::Auth)
    }
}

/// Where a row of a snapshot belongs in a file.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Changes(Position),
    Session(u64),
    Lease(u64),
    Auth,
}

/// Takes in a snapshot while it is read.
pub(super) trait Intake {
    /// What the next row holds, one after the other.
    fn item(&mut self, item: Item);

    /// That row, which may be taken away.
    fn row(&mut self, _place: Place, _row: &mut Vec<u8>) -> Result<(), StorageError> {
        Ok(())
    }
}

impl Intake for State {
    fn item(&mut self, item: Item) {
        self.load(item);
    }
}

/// Reads a snapshot and checks its frame structure, its version and, at the end, its checksum.
pub(super) struct SnapshotReader {
    input: BufReader<Box<dyn Read + Send>>,
    hash: Xxh3,
}

impl SnapshotReader {
    /// Reads as far as the header. Until the end is reached, nothing read is to be trusted.
    pub(super) fn open(data: Box<dyn Read + Send>) -> Result<(Self, Header), StorageError> {
        let mut reader = Self { input: BufReader::with_capacity(1 << 16, data), hash: Xxh3::new() };
        let magic: [u8; 8] = reader.take()?;
        if &magic != MAGIC {
            return Err(damage("it is not a snapshot of this store"));
        }
        let version = u16::from_le_bytes(reader.take()?);
        readable(version).map_err(StorageError::Stream)?;
        let mut body = Vec::new();
        if reader.next(&mut body)? != Kind::Header {
            return Err(damage("it does not begin with its header"));
        }
        let header = header_of(&body, version).ok_or_else(|| damage("its header is damaged"))?;
        Ok((reader, header))
    }

    /// Reads the next frame into `body`.
    fn next(&mut self, body: &mut Vec<u8>) -> Result<Kind, StorageError> {
        body.clear();
        let [kind] = self.take()?;
        let kind = match kind {
            0 => return self.end(),
            1 => Kind::Header,
            2 => Kind::Changes,
            3 => Kind::Session,
            4 => Kind::Lease,
            5 => Kind::Auth,
            other => return Err(damage(&format!("frame of unknown kind {other}"))),
        };
        let length = u32::from_le_bytes(self.take()?) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(damage(&format!("frame of {length} bytes")));
        }
        // Grows with what arrives: a length alone reserves nothing.
        let read = (&mut self.input).take(length as u64).read_to_end(body).map_err(broken)?;
        if read < length {
            return Err(damage("it ends early"));
        }
        self.hash.update(body);
        Ok(kind)
    }

    /// Reads all of it into a state.
    pub(super) fn into_state(self, header: Header) -> Result<State, StorageError> {
        let mut state = State::begin_load(false, &header);
        self.read(&header, &mut state)?;
        state.loaded(header);
        Ok(state)
    }

    /// Reads on to the end, checks all of it, and gives it to `intake`.
    pub(super) fn read(
        mut self,
        header: &Header,
        intake: &mut impl Intake,
    ) -> Result<(), StorageError> {
        let mut check = Check::new(header);
        let mut row = Vec::new();
        loop {
            let place = match self.next(&mut row)? {
                Kind::End => return check.finish().map_err(in_stream),
                Kind::Header => return Err(damage("it has two headers")),
                Kind::Changes => {
                    let each = |record| intake.item(Item::Change(record));
                    Place::Changes(check.row(&row, each).map_err(in_stream)?)
                }
                Kind::Session => {
                    let (id, session) = check.session(&row).map_err(in_stream)?;
                    intake.item(Item::Session(id, session));
                    Place::Session(id)
                }
                Kind::Lease => {
                    let (id, term) = check.lease(&row).map_err(in_stream)?;
                    intake.item(Item::Lease(id, term));
                    Place::Lease(id)
                }
                Kind::Auth => {
                    intake.item(Item::Auth(check.auth(&row).map_err(in_stream)?));
                    Place::Auth
                }
            };
            intake.row(place, &mut row)?;
        }
    }

    fn end(&mut self) -> Result<Kind, StorageError> {
        let expected = self.hash.digest();
        if u64::from_le_bytes(self.take()?) != expected {
            return Err(damage("it does not match its checksum"));
        }
        let mut more = Vec::new();
        let most = FILLING_MAX as u64 + 1;
        (&mut self.input).take(most).read_to_end(&mut more).map_err(broken)?;
        if !is_filling(&more) {
            return Err(damage("bytes follow its end"));
        }
        Ok(Kind::End)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(broken)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

/// A damaged frame as an error about the stream.
fn in_stream(damage: Damage) -> StorageError {
    StorageError::Stream(damage.0)
}

/// What is wrong with the stream.
pub(super) fn damage(what: &str) -> StorageError {
    StorageError::Stream(what.into())
}

fn broken(error: io::Error) -> StorageError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return damage("it ends early");
    }
    damage(&format!("it broke off: {error}"))
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a frame is bounded").to_le_bytes()
}

/// Bytes of a page and of a SHA-256 in the files that etcd's tools save snapshots in.
const PAGE: usize = 512;
const SHA: usize = 32;
const FILLING_MAX: usize = PAGE - 1 + SHA;

/// Whether that is what may follow the end: nothing, or what the etcd v3 door puts there, zeros up
/// to a whole page and the checksum of its clients. What counts was checked before.
fn is_filling(more: &[u8]) -> bool {
    match more.len().checked_sub(SHA) {
        None => more.is_empty(),
        Some(zeros) => zeros < PAGE && more[..zeros].iter().all(|byte| *byte == 0),
    }
}
