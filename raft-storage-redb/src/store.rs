//! [`RedbLog`]: opening, writing and loading.
//!
//! It owns the lock, the side file, the tail and the database, in the order in which they must be
//! let go. It never retries: the first failure closes it for good.

use crate::database::{OpenDatabase, TABLE};
use crate::error::{contain, corrupt, engine};
use crate::files::{self, LOG_FILE, TAIL_FILE};
use crate::index::{Group, LiveIndex};
use crate::lock::{DirectoryLock, FileLock};
use crate::purge::{self, CarryError, Pace, PurgePoint};
use crate::record;
use crate::replay::{Replay, ReplayError, Replayed};
use crate::row::{Batch, LARGE_ROW_BYTES, RowError, SMALL_ROW_BYTES, SealedRow};
use crate::side_file::{Acknowledged, SideFile};
use crate::tail::{Image, TailFile};
use raft_core::log_store::{LogStore, StorageError};
use raft_core::raft::{GroupOp, Loaded, LogOp};
use raft_core::types::GroupId;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The durable log of all groups of a process, in one directory. See the [crate] documentation.
#[derive(Debug)]
pub struct RedbLog {
    // Declared before the lock: dropped, and so closed, before another process may open it.
    database: OpenDatabase,
    tail: TailFile,
    side_file: SideFile,
    path: Arc<Path>,
    index: LiveIndex,
    /// Groups as they were at open, until they are loaded or written.
    loaded: BTreeMap<GroupId, Loaded>,
    /// The newest row.
    last: Acknowledged,
    batch: Batch,
    pace: Pace,
    /// What the first failure was.
    failed: Option<String>,
    _lock: Arc<FileLock>,
}

/// How much the log holds; see [`RedbLog::usage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Sequence number of the oldest row, or of the next one if there are none.
    pub first_row: u64,
    /// Rows in the table and in the tail.
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
    /// anything acknowledged is missing or altered, including a missing file of those that belong
    /// together; [`StorageError::Format`] if a newer version wrote it, or something else did;
    /// [`StorageError::Io`] if the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        Self::open_locked(DirectoryLock::new(dir)?)
    }

    /// Opens the log in a directory that is locked: for whoever opens other files there beside it,
    /// and keeps a copy of the lock for as long.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn open_locked(locked: DirectoryLock) -> Result<Self, StorageError> {
        let DirectoryLock { path, lock } = locked;
        files::create(&path)?;
        let [database, tail] = [LOG_FILE, TAIL_FILE].map(|name| files::backend(&path.join(name)));
        Self::start(&path, lock, database?, tail?)
    }

    /// Opens a log whose database and tail are in these backends, with the lock and the side file
    /// in `dir`: for tests that inject failures and crashes, and for storage that is not files.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn with_backends(
        dir: &Path,
        database: impl StorageBackend,
        tail: impl StorageBackend,
    ) -> Result<Self, StorageError> {
        let lock = Arc::new(files::lock(dir)?);
        files::create_in(dir, &database, &tail)?;
        Self::start(dir, lock, database, tail)
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

    fn start(
        dir: &Path,
        lock: Arc<FileLock>,
        database: impl StorageBackend,
        tail: impl StorageBackend,
    ) -> Result<Self, StorageError> {
        let path = dir.join(LOG_FILE);
        let (side_file, said) = files::pair(dir, &path, &database)?;
        let (mut tail, image) = TailFile::open(&dir.join(TAIL_FILE), tail)?;
        let database = OpenDatabase::open(&path, database, true)?;
        let replayed = contain(&path, "reading it", || {
            replay(&database, &path, Some(&image), said.acknowledged, None)
        })?;
        let Replayed { index, groups, last, in_tail } = replayed;
        tail.resume(in_tail);
        let mut log = Self {
            database,
            tail,
            side_file,
            path: path.into(),
            index,
            loaded: groups,
            last,
            batch: Batch::default(),
            pace: Pace::default(),
            failed: None,
            _lock: lock,
        };
        log.side_file.renew(log.last)?;
        log.watched("writing it", Self::settle)?;
        Ok(log)
    }

    /// Puts what is in the tail into the database: that makes durable anew what a process has not
    /// flushed any more that was killed, and nothing is ever written behind a frame that was cut
    /// short.
    fn settle(&mut self) -> Result<(), StorageError> {
        if self.tail.rows().is_empty() {
            return Ok(());
        }
        self.batch.begin(self.last.row + 1, SMALL_ROW_BYTES);
        self.commit_to_database()
    }

    /// Does what may fail, unless something has failed before.
    fn watched<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let path = Arc::clone(&self.path);
        if let Some(first) = &self.failed {
            return Err(StorageError::Engine(format!(
                "{} is closed after an earlier failure: {first}",
                path.display()
            )));
        }
        let done = contain(&path, doing, || work(self));
        if let Err(error) = &done {
            self.failed = Some(error.to_string());
        }
        done
    }

    /// Reads a group that was loaded before, or written since.
    fn load_again(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        let image = self.tail.image()?;
        let mut replayed =
            replay(&self.database, &self.path, Some(&image), self.last, Some(group))?;
        Ok(replayed.groups.remove(&group).unwrap_or_default())
    }

    fn commit(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        let limit = if size(ops) > SMALL_ROW_BYTES { LARGE_ROW_BYTES } else { SMALL_ROW_BYTES };
        self.batch.begin(self.last.row + 1, limit);
        for op in ops {
            self.loaded.remove(&op.group);
            encode(&mut self.index, &mut self.batch, op)?;
        }
        let (rows, bytes) = self.batch.size();
        if self.tail.takes(rows, bytes) { self.commit_to_tail() } else { self.commit_to_database() }
    }

    /// Makes the batch durable in the tail.
    fn commit_to_tail(&mut self) -> Result<(), StorageError> {
        self.batch.finish();
        let mut last = self.last;
        for row in self.batch.rows(last.checksum) {
            self.tail.add(&row);
            last = entered(&row, &mut self.index, &mut self.pace);
        }
        self.tail.commit()?;
        self.acknowledge(last)
    }

    /// Makes the batch durable in the database, and with it all that is in the tail.
    fn commit_to_database(&mut self) -> Result<(), StorageError> {
        let failed = |error: redb::Error| engine(&self.path, "writing", error);
        let mut last = self.last;
        // Durability::Immediate and one phase are redb's defaults: one flush.
        let transaction = self.database.begin_write().map_err(|error| failed(error.into()))?;
        {
            let mut table = transaction.open_table(TABLE).map_err(|error| failed(error.into()))?;
            for (seq, row) in self.tail.rows().iter() {
                table.insert(seq, row).map_err(|error| failed(error.into()))?;
            }
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
            for row in self.batch.rows(last.checksum) {
                let mut space = table
                    .insert_reserve(row.seq, row.len())
                    .map_err(|error| failed(error.into()))?;
                row.write(space.as_mut());
                last = entered(&row, &mut self.index, &mut self.pace);
            }
        }
        transaction.commit().map_err(|error| failed(error.into()))?;
        self.tail.restart();
        self.acknowledge(last)
    }

    /// Notes that everything up to `last` is durable.
    fn acknowledge(&mut self, last: Acknowledged) -> Result<(), StorageError> {
        self.last = last;
        self.side_file.write(last)
    }
}

/// Enters a row that is being written; where it ends the log.
fn entered(row: &SealedRow<'_>, index: &mut LiveIndex, pace: &mut Pace) -> Acknowledged {
    index.rows.enter(row.seq, row.len(), row.checksum, row.continued);
    pace.appended(row.len());
    Acknowledged { row: row.seq, checksum: row.checksum }
}

impl LogStore for RedbLog {
    fn load(&mut self, group: GroupId) -> Result<Loaded, StorageError> {
        self.watched("loading it", |log| match log.loaded.remove(&group) {
            Some(loaded) => Ok(loaded),
            None if !log.index.groups.contains_key(&group) => Ok(Loaded::default()),
            None => log.load_again(group),
        })
    }

    fn write(&mut self, ops: &[GroupOp]) -> Result<(), StorageError> {
        self.watched("writing it", |log| if ops.is_empty() { Ok(()) } else { log.commit(ops) })
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

/// Reads the whole table, and behind it what the tail holds, if there is one.
pub(crate) fn replay(
    database: &Database,
    path: &Path,
    tail: Option<&Image>,
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
    tail.map_or(Ok(()), |tail| replay.tail(tail)).map_err(|error| unreadable(path, error))?;
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
