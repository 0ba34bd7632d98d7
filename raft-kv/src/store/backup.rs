//! Backups: snapshot streams kept in files. All of one is checked before anything is said of it.

use super::format::Check;
use super::snapshot::{Kind, SnapshotReader, damage, in_stream};
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
        let (mut reader, header) = SnapshotReader::open(Box::new(data))?;
        let mut check = Check::new(&header);
        let mut keys: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut body = Vec::new();
        loop {
            match reader.next(&mut body)? {
                Kind::End => break,
                Kind::Header => return Err(damage("it has two headers")),
                Kind::Changes => {
                    let row = check.row(&body, |record| {
                        if record.is_deletion() {
                            keys.remove(record.key());
                        } else {
                            keys.insert(record.key().into());
                        }
                    });
                    row.map_err(in_stream)?;
                }
                Kind::Session => drop(check.session(&body).map_err(in_stream)?),
                Kind::Lease => drop(check.lease(&body).map_err(in_stream)?),
                Kind::Auth => drop(check.auth(&body).map_err(in_stream)?),
            }
        }
        check.finish().map_err(in_stream)?;
        Ok(Self {
            version: header.version(),
            revision: Revision(header.revision),
            compacted: Revision(header.later.compacted),
            keys: keys.len() as u64,
            changes: header.records,
            leases: header.later.leases,
            state_hash: header.state_hash,
            meta: header.applied,
        })
    }
}
