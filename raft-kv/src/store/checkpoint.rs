//! The checkpoint file: a redb database that holds the state as of one entry. The layout is
//! described in [`crate::store`].
//!
//! It never reads the live state: it is handed what has changed. Every error and every panic out of
//! the engine becomes a `StorageError`; after one from a write, the file must be opened anew.

mod receive;

use super::alarms::Alarms;
use super::changes::{ChangesReader, ChangesWriter, Useless};
use super::format::{
    Check, Damage, Header, Later, auth_row, checksum, has_alarms, has_auth, lease_row, readable,
    sealed, session_row, unsealed,
};
use super::loading::Loading;
use super::paced::Paced;
use super::rows::Rows;
use super::snapshot::{Frames, Kind, SnapshotStream};
use super::state::{Frozen, Item, State};
use raft_core::log_store::StorageError;
use raft_core::state_machine::Snapshot;
use raft_core::types::SnapshotMeta;
use redb::backends::FileBackend;
use redb::{
    Database, OwnedRange, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, Table,
    TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SESSIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("sessions");
const LEASES: TableDefinition<u64, &[u8]> = TableDefinition::new("leases");
/// Users and roles: one row, if there were ever any; since version 4.
const AUTH: TableDefinition<u64, &[u8]> = TableDefinition::new("auth");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Key of the one row of `META`.
const CHECKPOINT: &str = "checkpoint";
/// Rows are written once and read once, so a cache is of little use; and it stays full.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The checkpoint file of one store.
pub(super) struct CheckpointFile {
    database: Database,
    path: PathBuf,
    /// The rows of changes: known once the file was loaded.
    rows: Mutex<Rows>,
}

/// What the file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) header: Header,
    /// Checkpoints written into this file, so that none is left out.
    pub(super) sequence: u64,
    /// All checksums of rows of changes, combined by exclusive or.
    pub(super) changes_digest: u64,
    /// All checksums of sessions, alike.
    sessions_digest: u64,
    /// All checksums of leases, alike; like [`Later`] it is written since version 3.
    #[serde(skip)]
    leases_digest: u64,
    /// Written since version 3 too.
    #[serde(skip)]
    pub(super) useless: Useless,
}

impl CheckpointFile {
    /// Opens the file, or makes one.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        // Left behind by a restore that was interrupted: it has never been part of the state.
        remove(&restore_path(path))?;
        let database = contain(path, || create(path))?;
        sync_directory(path)?;
        Ok(Self::of(database, path))
    }

    /// A file that is in `backend`; `path` is its name in messages.
    pub(super) fn with_backend(
        path: &Path,
        backend: impl StorageBackend,
    ) -> Result<Self, StorageError> {
        let database = contain(path, || {
            Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
        })?;
        Ok(Self::of(database, path))
    }

    fn of(database: Database, path: &Path) -> Self {
        Self { database, path: path.into(), rows: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all of it into a state; `None` if there is no checkpoint yet.
    pub(super) fn load(&self) -> Result<Option<(State, Meta)>, StorageError> {
        contain(&self.path, || self.read_state())
    }

    /// Writes what has changed since checkpoint `follows` of this file. Durable on return.
    pub(super) fn write(
        &self,
        follows: u64,
        frozen: &Frozen,
    ) -> Result<SnapshotMeta, StorageError> {
        contain(&self.path, || self.write_changes(follows, frozen))
    }

    /// The checkpoint as a stream; `None` if there is none yet. It stays as it is now whatever is
    /// written meanwhile.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>, StorageError> {
        let read = contain(&self.path, || self.read())?;
        let Some((Meta { mut header, useless, .. }, frames)) = read else { return Ok(None) };
        // What is useless is not sent, so it must not be announced either.
        header.records = header.records.saturating_sub(useless.changes);
        let data = Box::new(SnapshotStream::new(&header, frames));
        Ok(Some(Snapshot { meta: header.applied, data }))
    }

    /// Reads all of it; `pace` is told the bytes of each row, and may break off. Whether all was
    /// read: there may be no checkpoint yet.
    pub(super) fn read_back(
        &self,
        pace: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<bool, StorageError> {
        let Some((_, mut frames)) = contain(&self.path, || self.read())? else { return Ok(false) };
        let mut row = Vec::new();
        while frames.next(&mut row)? != Kind::End {
            if pace(row.len()).is_break() {
                return Ok(false);
            }
            row.clear();
        }
        Ok(true)
    }

    fn read_state(&self) -> Result<Option<(State, Meta)>, Failure> {
        let Some((meta, mut frames)) = self.read()? else { return Ok(None) };
        let loading = Loading::begin(&meta.header)?;
        let (mut row, mut items) = (Vec::new(), Vec::new());
        while frames.next_row(&mut row, |item| items.push(item))? != Kind::End {
            row.clear();
            loading.row(mem::take(&mut items))?;
        }
        *self.rows() = frames.changes.into_rows();
        Ok(Some((loading.finish(meta.header.clone())?, meta)))
    }

    fn read(&self) -> Result<Option<(Meta, CheckpointFrames)>, Failure> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let meta = read_meta(&table)?.ok_or_else(|| damaged("its header is missing"))?;
        let frames = CheckpointFrames {
            changes: ChangesReader::new(&transaction, &meta)?,
            sessions: transaction.open_table(SESSIONS)?.range_owned::<u64>(..)?,
            leases: rows_of(&transaction, LEASES)?,
            auth: rows_of(&transaction, AUTH)?,
            check: Check::new(&meta.header),
            sessions_left: meta.sessions_digest,
            leases_left: meta.leases_digest,
            path: self.path.clone(),
        };
        Ok(Some((meta, frames)))
    }

    fn write_changes(&self, follows: u64, frozen: &Frozen) -> Result<SnapshotMeta, Failure> {
        let transaction = begin_write(&self.database)?;
        let mut meta = {
            let table = transaction.open_table(META)?;
            read_meta(&table)?.unwrap_or_else(|| Meta::empty(frozen))
        };
        if meta.sequence != follows {
            let text = format!("checkpoint {} was never written", meta.sequence + 1);
            return Err(Failure::Storage(StorageError::Engine(text)));
        }
        ChangesWriter::new(&transaction, &mut self.rows(), &mut meta)?
            .write(&frozen.records, &frozen.dropped)?;
        let mut table = transaction.open_table(SESSIONS)?;
        for (id, session) in &frozen.sessions {
            let row = session.as_ref().map(|session| session_row(*id, session));
            replace(&mut table, meta.sessions(), *id, row)?;
        }
        drop(table);
        let mut table = transaction.open_table(LEASES)?;
        for (id, term) in &frozen.leases {
            let row = term.as_ref().map(|term| lease_row(*id, term));
            replace(&mut table, meta.leases(), *id, row)?;
        }
        drop(table);
        if let Some(auth) = &frozen.auth {
            let row = auth_row(auth);
            transaction.open_table(AUTH)?.insert(0, &row[..])?;
            meta.header.auth = checksum(&row);
        }
        meta.sequence += 1;
        meta.header.applied = frozen.applied.clone();
        meta.header.revision = frozen.revision;
        meta.header.state_hash = frozen.state_hash;
        meta.header.later.compacted = frozen.compacted;
        meta.header.later.time = frozen.time.clone();
        meta.header.alarms = Arc::clone(&frozen.alarms);
        commit(transaction, &meta)?;
        Ok(meta.header.applied)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // After a panic nothing more is written to the file.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meta {
    fn empty(frozen: &Frozen) -> Self {
        let header = Header {
            applied: frozen.applied.clone(),
            revision: frozen.revision,
            state_hash: frozen.state_hash,
            records: 0,
            sessions: 0,
            later: Later::default(),
            auth: 0,
            alarms: Arc::default(),
        };
        Self::of(header, 0)
    }

    fn of(header: Header, sequence: u64) -> Self {
        let (useless, leases_digest) = (Useless::default(), 0);
        Self { header, sequence, changes_digest: 0, sessions_digest: 0, leases_digest, useless }
    }

    /// The digest and the number of sessions.
    fn sessions(&mut self) -> [&mut u64; 2] {
        [&mut self.sessions_digest, &mut self.header.sessions]
    }

    /// The same of leases.
    fn leases(&mut self) -> [&mut u64; 2] {
        [&mut self.leases_digest, &mut self.header.later.leases]
    }
}

/// Puts a row, or takes it out if there is none; what is counted of the table follows.
fn replace(
    table: &mut Table<'_, u64, &'static [u8]>,
    [digest, count]: [&mut u64; 2],
    id: u64,
    row: Option<Vec<u8>>,
) -> Result<(), redb::StorageError> {
    // There is no old one if it came and went between two checkpoints.
    let old = match &row {
        Some(row) => table.insert(id, &row[..])?,
        None => table.remove(id)?,
    };
    if let Some(old) = old {
        *digest ^= checksum(old.value());
        *count -= 1;
    }
    if let Some(row) = &row {
        *digest ^= checksum(row);
        *count += 1;
    }
    Ok(())
}

/// The rows of a checkpoint, read in one transaction that lives as long as this does. Each is
/// checked before it leaves: what has rotted here must not stop those it is sent to.
pub(super) struct CheckpointFrames {
    changes: ChangesReader,
    sessions: OwnedRange<u64, &'static [u8]>,
    leases: Option<OwnedRange<u64, &'static [u8]>>,
    auth: Option<OwnedRange<u64, &'static [u8]>>,
    check: Check,
    /// The digests of `meta` less the rows seen: 0 at the end.
    sessions_left: u64,
    leases_left: u64,
    path: PathBuf,
}

impl CheckpointFrames {
    /// Reads the next row into `out`, which is empty; `each` gets what it holds. After the last,
    /// [`Kind::End`] only if all is as it was written.
    fn next_row(&mut self, out: &mut Vec<u8>, mut each: impl FnMut(Item)) -> Result<Kind, Failure> {
        let Self { changes, check, .. } = self;
        if changes.next(check, out, |record| each(Item::Change(record)))? {
            return Ok(Kind::Changes);
        }
        if let Some(row) = self.sessions.next() {
            let (key, row) = row?;
            let row = row.value();
            let (id, session) = self.check.session(row)?;
            if id != key.value() {
                return Err(damaged("a session is in another's place"));
            }
            self.sessions_left ^= checksum(row);
            out.extend_from_slice(row);
            each(Item::Session(id, session));
            return Ok(Kind::Session);
        }
        if let Some(row) = self.leases.as_mut().and_then(Iterator::next) {
            let (key, row) = row?;
            let row = row.value();
            let (id, term) = self.check.lease(row)?;
            if id != key.value() {
                return Err(damaged("a lease is in another's place"));
            }
            self.leases_left ^= checksum(row);
            out.extend_from_slice(row);
            each(Item::Lease(id, term));
            return Ok(Kind::Lease);
        }
        if let Some(row) = self.auth.as_mut().and_then(Iterator::next) {
            let (_, row) = row?;
            let auth = self.check.auth(row.value())?;
            out.extend_from_slice(row.value());
            each(Item::Auth(auth));
            return Ok(Kind::Auth);
        }
        self.check.finish()?;
        if !self.changes.is_complete() || (self.sessions_left, self.leases_left) != (0, 0) {
            return Err(damaged("rows were exchanged"));
        }
        Ok(Kind::End)
    }
}

impl Frames for CheckpointFrames {
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Kind, StorageError> {
        let path = self.path.clone();
        contain(&path, || self.next_row(out, drop))
    }
}

/// The rows of a table that an older file does not have.
fn rows_of(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
) -> Result<Option<OwnedRange<u64, &'static [u8]>>, Failure> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table.range_owned::<u64>(..)?)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create(path: &Path) -> Result<Database, Failure> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(redb::StorageError::from)?;
    let backend = Paced::new(FileBackend::new(file)?);
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

fn begin_write(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    // Opening after a crash then takes a millisecond, not a second for each gibibyte.
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn commit(transaction: WriteTransaction, meta: &Meta) -> Result<(), Failure> {
    let version = meta.header.version().0;
    let front = version.to_le_bytes();
    let Header { later, auth, alarms, .. } = &meta.header;
    let row = if has_alarms(version) {
        sealed(&front, &(meta, later, meta.leases_digest, &meta.useless, auth, &**alarms))
    } else if has_auth(version) {
        sealed(&front, &(meta, later, meta.leases_digest, &meta.useless, auth))
    } else if Later::is_in(version) {
        sealed(&front, &(meta, later, meta.leases_digest, &meta.useless))
    } else {
        sealed(&front, meta)
    };
    transaction.open_table(META)?.insert(CHECKPOINT, &row[..])?;
    transaction.commit()?;
    Ok(())
}

fn read_meta(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<Meta>, Failure> {
    let Some(row) = table.get(CHECKPOINT)? else { return Ok(None) };
    let front: [u8; 2] = super::format::front(row.value())
        .ok_or_else(|| damaged("its header does not match its checksum"))?;
    let version = u16::from_le_bytes(front);
    readable(version).map_err(Failure::Format)?;
    let read = || {
        if !Later::is_in(version) {
            return unsealed(row.value(), &front);
        }
        type Row = (Meta, Later, u64, Useless);
        let (row, auth, alarms): (Row, u64, Alarms) = if has_alarms(version) {
            let (meta, later, leases, useless, auth, alarms) = unsealed(row.value(), &front)?;
            ((meta, later, leases, useless), auth, alarms)
        } else if has_auth(version) {
            let (meta, later, leases, useless, auth) = unsealed(row.value(), &front)?;
            ((meta, later, leases, useless), auth, Alarms::default())
        } else {
            (unsealed(row.value(), &front)?, 0, Alarms::default())
        };
        let (mut meta, later, leases_digest, useless) = row;
        (meta.header.later, meta.header.auth) = (later, auth);
        meta.header.alarms = Arc::new(alarms);
        Some(Meta { leases_digest, useless, ..meta })
    };
    let sound = read().filter(|meta: &Meta| meta.header.is_sound());
    Ok(Some(sound.ok_or_else(|| damaged("its header is malformed"))?))
}

/// Why work on the file failed, before the file is named.
pub(super) enum Failure {
    Engine(redb::Error),
    Damage(Damage),
    Format(String),
    Storage(StorageError),
}

macro_rules! failure_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Engine(error.into())
            }
        })*
    };
}

failure_from!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

pub(super) fn damaged(what: &str) -> Failure {
    Failure::Damage(Damage(what.into()))
}

/// Runs `work` on the file at `path`. The engine may panic on a damaged file: that is reported as
/// damage.
fn contain<T>(path: &Path, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, StorageError> {
    let place = path.display().to_string();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure::Storage(error))) => Err(error),
        Ok(Err(Failure::Format(what))) => Err(StorageError::Format(format!("{place}: {what}"))),
        Ok(Err(Failure::Damage(damage))) => Err(unusable(&place, &damage.0)),
        Ok(Err(Failure::Engine(error))) => Err(engine_error(place, error)),
        Err(_) => Err(unusable(&place, "the database engine gave up on it")),
    }
}

fn engine_error(place: String, error: redb::Error) -> StorageError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StorageError::InUse(place),
        redb::Error::UpgradeRequired(version) => {
            StorageError::Format(format!("{place}: database format {version}"))
        }
        redb::Error::Corrupted(what) => unusable(&place, &what),
        redb::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => unusable(&place, "the file ends early"),
            io::ErrorKind::InvalidData => unusable(&place, &error.to_string()),
            _ => StorageError::io(place, error),
        },
        error => StorageError::Engine(format!("{place}: {error}")),
    }
}

/// Putting this one file back is safe at any age: the log fills in what follows, or the node
/// refuses to start. So is an empty directory, where the node begins a new life; an older log is
/// not: the node would vote without what it has promised.
fn unusable(place: &str, what: &str) -> StorageError {
    let advice = "put this file alone back from a copy; or, where others hold the data, start the \
                  node on an empty directory";
    StorageError::Corrupt(format!("{place}: {what}; {advice}"))
}

fn restore_path(path: &Path) -> PathBuf {
    let mut beside = OsString::from(path);
    beside.push(".restore");
    beside.into()
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io(format!("removing {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Makes the name of the file durable.
fn sync_directory(path: &Path) -> Result<(), StorageError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let context = || format!("flushing directory {}", directory.display());
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| StorageError::io(context(), error))
}

#[cfg(test)]
mod tests;
