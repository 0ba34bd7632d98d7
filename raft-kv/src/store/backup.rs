//! Backups: snapshot streams kept in files. All of one is checked before anything is said of it.

use super::snapshot::{Intake, SnapshotReader};
use super::state::Item;
use crate::api::Revision;
use raft_core::log_store::StorageError;
use raft_core::types::{SnapshotMeta, Version};
use std::collections::BTreeSet;
use std::io::Read;

/// What is in a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupInfo {
    /// The format.
    pub version: Version,
    /// The last entry covered, and the membership there, with the history epoch.
    pub meta: SnapshotMeta,
    /// The store's revision.
    pub revision: Revision,
    /// Reads below this revision are refused; 0 if nothing was compacted.
    pub compacted: Revision,
    /// Keys that exist.
    pub keys: u64,
    /// Changes of keys.
    pub changes: u64,
    /// Leases that live.
    pub leases: u64,
    /// Rolling hash of everything applied; see [`Summary::state_hash`](crate::api::Summary).
    pub state_hash: u64,
}

impl BackupInfo {
    /// Reads a backup to its end. Memory is taken for its keys, not for its values.
    ///
    /// # Errors
    /// [`StorageError::Stream`], saying what is wrong with it: damaged, cut short, or of a newer
    /// version.
    pub fn read(data: impl Read + Send + 'static) -> Result<Self, StorageError> {
        let (reader, header) = SnapshotReader::open(Box::new(data))?;
        let mut keys = Keys::default();
        reader.read(&header, &mut keys)?;
        Ok(Self {
            version: header.version(),
            revision: Revision(header.revision),
            compacted: Revision(header.later.compacted),
            keys: keys.0.len() as u64,
            changes: header.records,
            leases: header.later.leases,
            state_hash: header.state_hash,
            meta: header.applied,
        })
    }
}

/// The keys that exist after what was read.
#[derive(Default)]
struct Keys(BTreeSet<Box<[u8]>>);

impl Intake for Keys {
    fn item(&mut self, item: Item) {
        let Item::Change(record) = item else { return };
        if record.is_deletion() {
            self.0.remove(record.key());
        } else {
            self.0.insert(record.key().into());
        }
    }
}
