//! Shows what is in a log without changing it: for the operator's `raft inspect log`.
//!
//! It checks as strictly as opening does, but shows everything up to the first bad row.

use crate::database::{OpenDatabase, TABLE};
use crate::error::{contain, corrupt, engine};
use crate::files::{ACK_FILE, LOCK_FILE, LOG_FILE, TAIL_FILE, TAIL_IS_MISSING};
use crate::lock::FileLock;
use crate::overlay::Overlay;
use crate::record::Record;
use crate::replay::{ReplayError, Verifier};
use crate::row::Header;
use crate::side_file::{Acknowledged, SideFile};
use crate::store::{replay, unreadable};
use crate::tail::Image;
use raft_core::log_store::StorageError;
use raft_core::raft::Loaded;
use raft_core::types::{GroupId, Version};
use redb::{Range, ReadableDatabase, TableError};
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, vec};

/// Opens the log in `dir` to look at it. Nothing in `dir` changes, even if the log was not closed
/// properly: what redb would repair is repaired in memory. No node can start on `dir` until the
/// result is dropped.
///
/// # Errors
/// [`StorageError::InUse`] while a node runs on `dir`; [`StorageError::Io`] if there is no log
/// there; [`StorageError::Corrupt`] if it is so damaged that not even rows can be read.
pub fn inspect(dir: &Path) -> Result<Inspection, StorageError> {
    let lock = lock_shared(dir)?;
    let path = dir.join(LOG_FILE);
    let said = SideFile::peek(&dir.join(ACK_FILE))?;
    let (database, damage) = match open(&path, true) {
        Ok(database) => (database, None),
        Err(error @ (StorageError::Corrupt(_) | StorageError::Engine(_))) => {
            (open(&path, false)?, Some(error))
        }
        Err(error) => return Err(error),
    };
    let has_tail = said.is_some_and(|said| said.has_tail);
    let (tail, damage) = match find_tail(&dir.join(TAIL_FILE), has_tail) {
        Ok(tail) => (tail, damage),
        Err(error) => (None, damage.or(Some(error))),
    };
    let acknowledged = said.map(|said| said.acknowledged);
    Ok(Inspection { database, tail, path, acknowledged, damage, _lock: lock })
}

/// A log being looked at.
#[derive(Debug)]
pub struct Inspection {
    // Declared before the lock, so dropped before it.
    database: OpenDatabase,
    tail: Option<Arc<Image>>,
    path: PathBuf,
    acknowledged: Option<Acknowledged>,
    damage: Option<StorageError>,
    _lock: Option<FileLock>,
}

impl Inspection {
    /// Sequence number of the row acknowledged last as far as the side file knows, which after a
    /// power loss may be too few; 0 if none; `None` if there is no side file.
    pub fn acknowledged(&self) -> Option<u64> {
        self.acknowledged.map(|acknowledged| acknowledged.row)
    }

    /// What redb's own check of the whole file found wrong, or that the tail cannot be read, if
    /// anything. The rows may still be readable, but a node will not start on them.
    pub const fn damage(&self) -> Option<&StorageError> {
        self.damage.as_ref()
    }

    /// What a node would find here, as [`LogStore::load`](raft_core::log_store::LogStore::load)
    /// would give it.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] and the like if a node would not start on it.
    pub fn load(&self, group: GroupId) -> Result<Loaded, StorageError> {
        match &self.damage {
            Some(StorageError::Corrupt(what)) => return Err(StorageError::Corrupt(what.clone())),
            Some(error) => return Err(StorageError::Engine(error.to_string())),
            None => {}
        }
        let Some(acknowledged) = self.acknowledged else {
            let what = format_args!("{ACK_FILE} is missing beside it");
            return Err(corrupt(&self.path, what));
        };
        contain(&self.path, "reading it", || {
            let tail = self.tail.as_deref();
            let mut replayed = replay(&self.database, &self.path, tail, acknowledged, Some(group))?;
            Ok(replayed.groups.remove(&group).unwrap_or_default())
        })
    }

    /// The rows, oldest first.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the table cannot be read at all.
    pub fn rows(&self) -> Result<Rows, StorageError> {
        let path = &self.path;
        let failed = |error: redb::Error| engine(path, "reading", error);
        let range = contain(path, "reading it", || {
            let transaction = self.database.begin_read().map_err(|error| failed(error.into()))?;
            match transaction.open_table(TABLE) {
                Ok(table) => table.range::<u64>(..).map(Some).map_err(|error| failed(error.into())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(failed(error.into())),
            }
        })?;
        let verifier = Verifier::new(self.acknowledged.unwrap_or_default());
        let source =
            Source { database: range, tail: self.tail.clone(), in_tail: Vec::new().into_iter() };
        Ok(Rows { source, verifier, path: path.clone(), ended: false })
    }
}

/// Iterator over the rows of a log. The first thing wrong, in a row or with the log as a whole, is
/// the last item.
pub struct Rows {
    source: Source,
    verifier: Verifier,
    path: PathBuf,
    ended: bool,
}

/// Where the next row comes from.
#[derive(Default)]
struct Source {
    database: Option<Range<'static, u64, &'static [u8]>>,
    tail: Option<Arc<Image>>,
    /// What is left of the rows in the tail, once those of the database are through.
    in_tail: vec::IntoIter<(u64, Vec<u8>)>,
}

impl Source {
    /// Calls `read` with the next row; `None` if there is none.
    fn next<T>(
        &mut self,
        path: &Path,
        verifier: &mut Verifier,
        read: impl FnOnce(&mut Verifier, u64, &[u8]) -> Result<T, ReplayError>,
    ) -> Result<Option<T>, StorageError> {
        let unreadable = |error| unreadable(path, error);
        if let Some(next) = self.database.as_mut().and_then(Iterator::next) {
            let (seq, row) = next.map_err(|error| engine(path, "reading", error))?;
            return read(verifier, seq.value(), row.value()).map(Some).map_err(unreadable);
        }
        if let Some(tail) = self.tail.take() {
            let rows = verifier.rows_in(&tail).map_err(unreadable)?;
            let rows = rows.iter().map(|(seq, row)| (seq, row.to_vec())).collect::<Vec<_>>();
            self.in_tail = rows.into_iter();
        }
        let Some((seq, row)) = self.in_tail.next() else { return Ok(None) };
        read(verifier, seq, &row).map(Some).map_err(unreadable)
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Rows {
    fn read_next(&mut self) -> Result<Option<Row>, StorageError> {
        let Self { source, verifier, path, .. } = self;
        let next = source.next(path, verifier, |verifier, seq, row| {
            let mut records = Vec::new();
            let header = verifier.read(seq, row, |_, record| records.push(record))?;
            let Header { version, checksum, .. } = header;
            Ok(Row { seq, version, bytes: row.len(), checksum, records })
        })?;
        if next.is_none() {
            verifier.finish().map_err(|error| unreadable(path, error))?;
        }
        Ok(next)
    }
}

impl Iterator for Rows {
    type Item = Result<Row, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let path = self.path.clone();
        let next = contain(&path, "reading it", || self.read_next()).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.ended = true;
            // After a caught panic, letting go may panic as well.
            let _ = contain(&path, "closing it", || {
                self.source = Source::default();
                Ok(())
            });
        }
        next
    }
}

/// One row, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Row {
    /// Sequence number, from 1.
    pub seq: u64,
    /// The oldest version that reads it.
    pub version: Version,
    /// Length.
    pub bytes: usize,
    /// Checksum, which the next row names.
    pub checksum: u32,
    /// Its records. A record that spans several rows is shown with the last of them.
    pub records: Vec<Record>,
}

impl fmt::Display for Row {
    /// A line for the row, and one for each record, indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} {} bytes checksum={:08x}", self.seq, self.bytes, self.checksum)?;
        if self.version > Version::OLDEST {
            write!(f, " version={}", self.version.0)?;
        }
        self.records.iter().try_for_each(|record| write!(f, "\n  {record}"))
    }
}

fn open(path: &Path, check: bool) -> Result<OpenDatabase, StorageError> {
    let overlay = File::open(path)
        .and_then(Overlay::new)
        .map_err(|error| StorageError::io(format!("opening {}", path.display()), error))?;
    OpenDatabase::open(path, overlay, check)
}

/// What the tail holds; `None` if there is none and `has_tail` says that there need not be.
fn find_tail(path: &Path, has_tail: bool) -> Result<Option<Arc<Image>>, StorageError> {
    match Image::find(path)? {
        None if has_tail => Err(corrupt(path, TAIL_IS_MISSING)),
        found => Ok(found.map(Arc::new)),
    }
}

/// Keeps nodes out, but not others who look. There is no lock file where no node ever was.
fn lock_shared(dir: &Path) -> Result<Option<FileLock>, StorageError> {
    let path = dir.join(LOCK_FILE);
    let failed = |error| StorageError::io(format!("locking {}", path.display()), error);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match FileLock::shared(file) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
