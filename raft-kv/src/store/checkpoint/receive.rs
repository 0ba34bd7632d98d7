//! A file that is made of a snapshot, beside the one whose place it takes.

use super::{
    AUTH, CheckpointFile, Failure, LEASES, Meta, SESSIONS, begin_write, commit, contain, create,
    remove, restore_path, sync_directory,
};
use crate::store::changes::CHANGES;
use crate::store::format::{Header, checksum};
use crate::store::loading::Loading;
use crate::store::rows::{Row, Rows};
use crate::store::snapshot::{Intake, Place, SnapshotReader};
use crate::store::state::{Item, State};
use raft_core::log_store::StorageError;
use redb::{Database, WriteTransaction};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Builder};
use std::{fs, mem};

impl CheckpointFile {
    /// Makes the file at `path` hold the snapshot, durably, whatever it held before. If the
    /// snapshot is damaged, the file is left as it was.
    pub(in crate::store) fn receive(
        path: &Path,
        header: &Header,
        reader: SnapshotReader,
    ) -> Result<Self, StorageError> {
        Ok(Self::receive_beside(path, |beside| receive_rows(beside, header, reader, None))?.0)
    }

    /// The same, and makes the state of it on the way.
    pub(in crate::store) fn receive_state(
        path: &Path,
        header: &Header,
        reader: SnapshotReader,
    ) -> Result<(Self, State, Meta), StorageError> {
        let (mut file, (meta, rows, state)) = Self::receive_beside(path, |beside| {
            let loading = Loading::begin(header)?;
            let (database, Received { meta, rows }) =
                receive_rows(beside, header, reader, Some(&loading))?;
            Ok((database, (meta, rows, loading.finish(header.clone())?)))
        })?;
        file.rows = Mutex::new(rows);
        Ok((file, state, meta))
    }

    /// Has `receive` make a file beside the one at `path`, and puts it into its place.
    fn receive_beside<T>(
        path: &Path,
        receive: impl FnOnce(&Path) -> Result<(Database, T), Failure>,
    ) -> Result<(Self, T), StorageError> {
        let beside = restore_path(path);
        remove(&beside)?;
        let received = contain(&beside, || receive(&beside));
        let renamed = received.and_then(|received| {
            let context = || format!("renaming {} to {}", beside.display(), path.display());
            fs::rename(&beside, path).map_err(|error| StorageError::io(context(), error))?;
            Ok(received)
        });
        match renamed {
            Ok((database, received)) => {
                sync_directory(path)?;
                Ok((Self::of(database, path), received))
            }
            Err(error) => {
                // What went wrong first is what matters; the next restore removes it again.
                let _ = remove(&beside);
                Err(error)
            }
        }
    }
}

/// What a file that was received holds.
struct Received {
    meta: Meta,
    rows: Rows,
}

/// Rows that were read and not written yet; a row has some dozen kilobytes as a rule, and a few
/// megabytes at most.
const ROWS_QUEUED: usize = 8;

type Queued = (Place, Vec<u8>);

/// Writes what `reader` has to a new file at `path`, and gives it to `loading`. It is read on a
/// thread of its own: to read and check it takes about as long as to write it.
fn receive_rows(
    path: &Path,
    header: &Header,
    reader: SnapshotReader,
    loading: Option<&Loading>,
) -> Result<(Database, Received), Failure> {
    let database = create(path)?;
    let transaction = begin_write(&database)?;
    let (rows, queue) = sync_channel(ROWS_QUEUED);
    let received = thread::scope(|scope| {
        let mut sorting = Sorting { loading, items: Vec::new(), rows };
        let read = move || reader.read(header, &mut sorting);
        let reading = Builder::new().name("raft-receiving".into()).spawn_scoped(scope, read);
        let reading = reading.map_err(|error| StorageError::io("starting to read", error))?;
        let written = write_rows(&transaction, header, queue);
        let panicked = |_| StorageError::Engine("reading what was received panicked".into());
        let read = reading.join().map_err(panicked)?;
        // If it cannot be written, it is not read on either.
        let received = written?;
        read?;
        Ok::<_, Failure>(received)
    })?;
    commit(transaction, &received.meta)?;
    Ok((database, received))
}

/// Hands what was read to those who take it in.
struct Sorting<'a> {
    loading: Option<&'a Loading>,
    /// What the next row holds.
    items: Vec<Item>,
    rows: SyncSender<Queued>,
}

impl Intake for Sorting<'_> {
    fn item(&mut self, item: Item) {
        if self.loading.is_some() {
            self.items.push(item);
        }
    }

    fn row(&mut self, place: Place, row: &mut Vec<u8>) -> Result<(), StorageError> {
        if let Some(loading) = self.loading {
            loading.row(mem::take(&mut self.items))?;
        }
        // The next one is likely to be as long.
        let row = mem::replace(row, Vec::with_capacity(row.len()));
        let ended = |_| StorageError::Engine("what is read is not written any more".into());
        self.rows.send((place, row)).map_err(ended)
    }
}

fn write_rows(
    transaction: &WriteTransaction,
    header: &Header,
    queue: Receiver<Queued>,
) -> Result<Received, Failure> {
    let mut meta = Meta::of(header.clone(), 1);
    let mut rows = Rows::default();
    let mut changes = transaction.open_table(CHANGES)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut leases = transaction.open_table(LEASES)?;
    for (place, row) in queue {
        match place {
            Place::Changes(position) => {
                changes.insert(position, &row[..])?;
                meta.changes_digest ^= checksum(&row);
                rows.insert(position, Row::of(row.len()));
            }
            Place::Session(id) => {
                sessions.insert(id, &row[..])?;
                meta.sessions_digest ^= checksum(&row);
            }
            Place::Lease(id) => {
                leases.insert(id, &row[..])?;
                meta.leases_digest ^= checksum(&row);
            }
            Place::Auth => {
                transaction.open_table(AUTH)?.insert(0, &row[..])?;
            }
        }
    }
    Ok(Received { meta, rows })
}
