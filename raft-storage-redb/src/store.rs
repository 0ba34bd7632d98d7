//! [`RedbLog`]: opening, writing and loading.
//!
//! It owns the lock, the side file and the database, in the order in which they must be let go. It
//! never retries: the first failure closes it for good.

use crate::database::{OpenDatabase, TABLE};
use crate::error::{contain, corrupt, engine};
use crate::index::{Group, LiveIndex};
use crate::purge::{self, CarryError, Pace, PurgePoint};
use crate::record;
use crate::replay::{Replay, ReplayError, Replayed};
use crate::row::{Batch, LARGE_ROW_BYTES, RowError, SMALL_ROW_BYTES};
use crate::side_file::{Acknowledged, SideFile};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::GroupId;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableError};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// File name of the database.
pub const LOG_FILE: &str = "log.redb";
/// File name of the last acknowledged sequence number.
pub const ACK_FILE: &str = "log.ack";
/// File name of the lock.
pub const LOCK_FILE: &str = "log.lock";

/// The durable log of all groups of a process, in one directory. See the [crate] documentation.
#[derive(Debug)]
pub struct RedbLog {
    // Declared before the lock: dropped, and so closed, before another process may open it.
    database: OpenDatabase,
    side_file: SideFile,
    path: Arc<Path>,
    index: LiveIndex,
    /// Groups as they were at open, until they are loaded or written.
    loaded: BTreeMap<GroupId, Loaded>,
    tail: Acknowledged,
    batch: Batch,
    pace: Pace,
    /// What the first failure was.
    failed: Option<String>,
    _lock: File,
}

/// How much the log holds; see [`RedbLog::usage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Sequence number of the oldest row, or of the next one if there are none.
    pub first_row: u64,
    /// Rows in the table.
    pub rows: u64,
    /// Bytes of all rows. The file is larger, by redb's pages and the space it reuses.
    pub bytes: u64,
    /// Bytes of the records that a restart needs.
    pub live_bytes: u64,
}

impl RedbLog {
    /// Opens the log in the directory `dir`, made if missing, checks all of it, and keeps everyone
    /// else out until dropped.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another process has it open; [`StorageError::Corrupt`] if
    /// anything acknowledged is missing or altered, including a missing file of the two that belong
    /// together; [`StorageError::Format`] if a newer version wrote it, or something else did;
    /// [`StorageError::Io`] if the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        let lock = lock(dir)?;
        let path = dir.join(LOG_FILE);
        let opening = |error| StorageError::io(format!("opening {}", path.display()), error);
        if !path.try_exists().map_err(opening)? {
            create(dir, &path)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(opening)?;
        let backend = FileBackend::new(file).map_err(|error| engine(&path, "opening", error))?;
        Self::start(dir, lock, backend)
    }

    /// Opens a log whose database is in `backend`, with the lock and the side file in `dir`: for
    /// tests that inject failures and crashes, and for storage that is not a file.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn with_backend(dir: &Path, backend: impl StorageBackend) -> Result<Self, StorageError> {
        let lock = lock(dir)?;
        let side_path = dir.join(ACK_FILE);
        let len = backend.len().map_err(|error| StorageError::io("opening the log", error))?;
        if len == 0 && SideFile::peek(&side_path)?.is_none() {
            SideFile::create(&side_path)?;
            sync_dir(dir)?;
        }
        Self::start(dir, lock, backend)
    }

    /// How much the log holds now.
    pub fn usage(&self) -> Usage {
        let rows = &self.index.rows;
        Usage {
            first_row: rows.first(),
            rows: rows.len() as u64,
            bytes: rows.bytes(),
            live_bytes: rows.live(),
        }
    }

    fn start(dir: &Path, lock: File, backend: impl StorageBackend) -> Result<Self, StorageError> {
        let path = dir.join(LOG_FILE);
        let (side_file, acknowledged) = pair(dir, &path, &backend)?;
        let database = OpenDatabase::open(&path, backend, true)?;
        let replayed =
            contain(&path, "reading it", || replay(&database, &path, acknowledged, None))?;
        let Replayed { index, groups, tail } = replayed;
        Ok(Self {
            database,
            side_file,
            path: path.into(),
            index,
            loaded: groups,
            tail,
            batch: Batch::default(),
            pace: Pace::default(),
            failed: None,
            _lock: lock,
        })
    }

    fn usable(&self) -> Result<(), StorageError> {
        match &self.failed {
            None => Ok(()),
            Some(first) => Err(StorageError::Engine(format!(
                "{} is closed after an earlier failure: {first}",
                self.path.display()
            ))),
        }
    }

    fn commit(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        let limit = if size(ops) > SMALL_ROW_BYTES { LARGE_ROW_BYTES } else { SMALL_ROW_BYTES };
        self.batch.begin(self.tail.row + 1, limit);
        for op in ops {
            self.loaded.remove(&op.group);
            encode(&mut self.index, &mut self.batch, op)?;
        }
        let failed = |error: redb::Error| engine(&self.path, "writing", error);
        // Durability::Immediate and one phase are redb's defaults: one flush.
        let transaction = self.database.begin_write().map_err(|error| failed(error.into()))?;
        let mut tail = self.tail;
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            if self.pace.is_due() {
                let read = |seq| Ok(table.get(seq)?.map(|row| row.value().to_vec()));
                let step = purge::step(&mut self.pace, &mut self.index, &mut self.batch, read);
                let point = step.map_err(|error| match error {
                    CarryError::Row(error) => unreadable(&self.path, error.into()),
                    CarryError::Engine(error) => failed(error.into()),
                })?;
                if let Some(PurgePoint { row, .. }) = point {
                    let dropped = table.retain_in(..=row, |_, _| false);
                    dropped.map_err(|error| failed(error.into()))?;
                }
            }
            self.batch.finish();
            for row in self.batch.rows(self.tail.checksum) {
                let mut space = table
                    .insert_reserve(row.seq, row.len())
                    .map_err(|error| failed(error.into()))?;
                row.write(space.as_mut());
                self.index.rows.enter(row.seq, row.len(), row.checksum, row.continued);
                self.pace.appended(row.len());
                tail = Acknowledged { row: row.seq, checksum: row.checksum };
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))?;
        self.tail = tail;
        self.side_file.write(tail)
    }
}

impl LogStore for RedbLog {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.usable()?;
        if let Some(loaded) = self.loaded.remove(&group) {
            return Ok(loaded);
        }
        if !self.index.groups.contains_key(&group) {
            return Ok(Loaded::default());
        }
        // Loaded before, or written since: read again.
        contain(&self.path, "loading it", || {
            let mut replayed = replay(&self.database, &self.path, self.tail, Some(group))?;
            Ok(replayed.groups.remove(&group).unwrap_or_default())
        })
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        self.usable()?;
        if ops.is_empty() {
            return Ok(());
        }
        let path = Arc::clone(&self.path);
        let written = contain(&path, "writing it", || self.commit(ops));
        if let Err(error) = &written {
            self.failed = Some(error.to_string());
        }
        written
    }
}

/// Encodes one operation and enters it into the index.
fn encode(index: &mut LiveIndex, batch: &mut Batch, op: &GroupOp) -> Result<(), StorageError> {
    let LiveIndex { groups, rows } = index;
    let GroupOp { group: id, op } = op;
    let id = *id;
    let group = groups.entry(id).or_default();
    match op {
        LogOp::Identity(identity) => {
            let at = batch.add(|out| record::put_identity(id, identity, out));
            Group::replace(&mut group.identity, *identity, at, rows);
        }
        LogOp::HardState(hard_state) => {
            let at = batch.add(|out| record::put_hard_state(id, hard_state, out));
            Group::replace(&mut group.hard_state, *hard_state, at, rows);
        }
        LogOp::Append(run) => {
            group
                .truncate(run.first().index, rows)
                .map_err(|gap| StorageError::Corrupt(format!("group {id}: {gap}")))?;
            for entry in run.entries() {
                let at = batch.add(|out| record::put_append(id, entry, out));
                group.push(at, rows);
            }
        }
        LogOp::Compact(meta) => {
            let at = batch.add(|out| record::put_compact(id, meta, out));
            let boundary = group.boundary_index();
            if !group.compact(meta.clone(), at, rows) {
                return Err(StorageError::Corrupt(format!(
                    "group {id}: compaction to {} would move the boundary back from {boundary}",
                    meta.last
                )));
            }
        }
        LogOp::Reset(meta) => {
            let at = batch.add(|out| record::put_reset(id, meta, out));
            group.reset(meta.clone(), at, rows);
        }
    }
    Ok(())
}

/// About how many bytes `ops` take, rather too many than too few.
fn size(ops: &[GroupOp]) -> usize {
    ops.iter().map(|op| if let LogOp::Append(run) = &op.op { run.size() } else { 64 }).sum()
}

/// Reads the whole table.
pub(crate) fn replay(
    database: &Database,
    path: &Path,
    acknowledged: Acknowledged,
    only: Option<GroupId>,
) -> Result<Replayed, StorageError> {
    let failed = |error: redb::Error| engine(path, "reading", error);
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let mut replay = Replay::new(acknowledged, only);
    match transaction.open_table(TABLE) {
        Ok(table) => {
            for row in table.range::<u64>(..).map_err(|error| failed(error.into()))? {
                let (seq, row) = row.map_err(|error| failed(error.into()))?;
                replay.row(seq.value(), row.value()).map_err(|error| unreadable(path, error))?;
            }
        }
        // Nothing was ever written.
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(failed(error.into())),
    }
    replay.finish().map_err(|error| unreadable(path, error))
}

/// What is wrong with the rows, as a [`StorageError`].
pub(crate) fn unreadable(path: &Path, error: ReplayError) -> StorageError {
    match error {
        ReplayError::Row(RowError::Version { .. }) => {
            StorageError::Format(format!("{}: {error}", path.display()))
        }
        _ => corrupt(path, error),
    }
}

/// Makes `dir` if missing and keeps everyone else out.
fn lock(dir: &Path) -> Result<File, StorageError> {
    if !dir.is_dir() {
        fs::create_dir_all(dir)
            .map_err(|error| StorageError::io(format!("making {}", dir.display()), error))?;
        dir.parent().map_or(Ok(()), sync_dir)?;
    }
    let path = dir.join(LOCK_FILE);
    let failed = |error| StorageError::io(format!("locking {}", path.display()), error);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes an empty log: the side file first, then the database, each as a whole or not at all. So
/// wherever a crash strikes, a database without its side file was not left behind by us.
fn create(dir: &Path, path: &Path) -> Result<(), StorageError> {
    let side_path = dir.join(ACK_FILE);
    match SideFile::peek(&side_path)? {
        None => SideFile::create(&side_path)?,
        Some(Acknowledged { row: 0, .. }) => {}
        Some(Acknowledged { row, .. }) => {
            return Err(corrupt(path, format_args!("is gone, row {row} was acknowledged")));
        }
    }
    sync_dir(dir)?;
    let partial = path.with_extension("redb.new");
    let failed = |error| StorageError::io(format!("making {}", path.display()), error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&partial)
        .map_err(failed)?;
    let backend = FileBackend::new(file).map_err(|error| engine(&partial, "making", error))?;
    OpenDatabase::open(&partial, backend, false)?.close()?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    sync_dir(dir)
}

/// The side file that belongs to the database in `backend`, once it is certain that both are ours.
fn pair(
    dir: &Path,
    path: &Path,
    backend: &impl StorageBackend,
) -> Result<(SideFile, Acknowledged), StorageError> {
    const MAGIC: &[u8] = b"redb\x1a\n\xa9\r\n";
    let failed = |error| StorageError::io(format!("reading {}", path.display()), error);
    let len = backend.len().map_err(failed)?;
    let mut magic = [0; MAGIC.len()];
    if len >= MAGIC.len() as u64 {
        backend.read(0, &mut magic).map_err(failed)?;
    }
    let is_redb = magic == MAGIC;
    match SideFile::open(&dir.join(ACK_FILE))? {
        Some((_, Acknowledged { row, .. })) if row > 0 && len == 0 => {
            Err(corrupt(path, format_args!("is empty, row {row} was acknowledged")))
        }
        Some(_) if len > 0 && !is_redb => Err(corrupt(path, "does not begin as a redb file")),
        Some(opened) => Ok(opened),
        None if is_redb => Err(corrupt(
            path,
            format_args!("{ACK_FILE} is missing beside it, so nobody knows what was acknowledged"),
        )),
        None => Err(StorageError::Format(format!("{} is not a redb file", path.display()))),
    }
}

/// Makes the names in `dir` durable.
fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    // Only Unix lets a directory be opened and flushed.
    if !cfg!(unix) {
        return Ok(());
    }
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StorageError::io(format!("flushing {}", dir.display()), error))
}
