//! The redb database: how it is opened, and that closing it cannot panic.

use crate::error::{contain, engine};
use raft_core::log_store::StorageError;
use redb::{Builder, Database, StorageBackend, TableDefinition};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The one table: sequence number to row.
pub(crate) const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("raft_log");

/// redb's page cache, which fills up and stays full. The log is written at one end and read at
/// start; more would not help.
const CACHE_BYTES: usize = 4 << 20;

/// An open database. A caught panic leaves redb's locks poisoned, so that closing may panic again:
/// such a panic is caught here, and would end the process if it struck while another unwinds, so
/// this must live outside of what [`contain`] runs.
#[derive(Debug)]
pub(crate) struct OpenDatabase {
    /// `None` only while it is being dropped.
    database: Option<Database>,
    path: PathBuf,
}

impl OpenDatabase {
    /// Opens the database in `backend`, or makes it where that is empty; `path` is for messages.
    /// With `check`, every page is checked first.
    pub(crate) fn open(
        path: &Path,
        backend: impl StorageBackend,
        check: bool,
    ) -> Result<Self, StorageError> {
        let database = contain(path, "opening it", || {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(check)
                .create_with_backend(backend)
                .map_err(|error| engine(path, "opening", error))
        })?;
        Ok(Self { database: Some(database), path: path.to_owned() })
    }

    /// Closes it and says whether that worked.
    pub(crate) fn close(mut self) -> Result<(), StorageError> {
        let Some(database) = self.database.take() else { return Ok(()) };
        contain(&self.path, "closing it", || {
            database.close().map_err(|error| engine(&self.path, "closing", error))
        })
    }
}

impl Deref for OpenDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.database.as_ref().expect("it is taken only when closed or dropped")
    }
}

impl Drop for OpenDatabase {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            // A database that was not closed properly is repaired when it is opened next.
            let _ = contain(&self.path, "closing it", || {
                drop(database);
                Ok(())
            });
        }
    }
}
