//! A file that is made of a snapshot, beside the one whose place it takes.

use super::{
    AUTH, CheckpointFile, Failure, LEASES, Meta, SESSIONS, begin_write, commit, contain, create,
    remove, restore_path, sync_directory,
};
use crate::store::changes::CHANGES;
use crate::store::format::{Check, Header, checksum};
use crate::store::loading::Loading;
use crate::store::rows::{Row, Rows};
use crate::store::snapshot::{Kind, SnapshotReader, damage, in_stream};
use crate::store::state::{Item, State};
use raft_core::log_store::StorageError;
use redb::Database;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

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

/// Writes what `reader` has to a new file at `path`, and gives it to `loading`.
fn receive_rows(
    path: &Path,
    header: &Header,
    mut reader: SnapshotReader,
    loading: Option<&Loading>,
) -> Result<(Database, Received), Failure> {
    let database = create(path)?;
    let transaction = begin_write(&database)?;
    let mut check = Check::new(header);
    let mut meta = Meta::of(header.clone(), 1);
    let mut rows = Rows::default();
    let mut changes = transaction.open_table(CHANGES)?;
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut leases = transaction.open_table(LEASES)?;
    let mut row = Vec::new();
    loop {
        let mut items = Vec::new();
        match reader.next(&mut row)? {
            Kind::End => break,
            Kind::Header => return Err(damage("it has two headers").into()),
            Kind::Changes => {
                let each = |record| items.extend(loading.map(|_| Item::Change(record)));
                let position = check.row(&row, each).map_err(in_stream)?;
                changes.insert(position, &row[..])?;
                meta.changes_digest ^= checksum(&row);
                rows.insert(position, Row::of(row.len()));
            }
            Kind::Session => {
                let (id, session) = check.session(&row).map_err(in_stream)?;
                sessions.insert(id, &row[..])?;
                meta.sessions_digest ^= checksum(&row);
                items.push(Item::Session(id, session));
            }
            Kind::Lease => {
                let (id, term) = check.lease(&row).map_err(in_stream)?;
                leases.insert(id, &row[..])?;
                meta.leases_digest ^= checksum(&row);
                items.push(Item::Lease(id, term));
            }
            Kind::Auth => {
                items.push(Item::Auth(check.auth(&row).map_err(in_stream)?));
                transaction.open_table(AUTH)?.insert(0, &row[..])?;
            }
        }
        if let Some(loading) = loading {
            loading.row(items)?;
        }
    }
    check.finish().map_err(in_stream)?;
    drop((changes, sessions, leases));
    commit(transaction, &meta)?;
    Ok((database, Received { meta, rows }))
}
