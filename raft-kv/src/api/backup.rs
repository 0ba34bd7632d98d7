//! What a node says before it streams a backup.

use super::Revision;
use raft_core::types::{LogId, NodeId};
use serde::{Deserialize, Serialize};

/// The first frame back on a stream that
/// [`StreamRequest::Backup`](super::StreamRequest::Backup) has opened, encoded in a `Result` with a
/// [`KvError`](super::KvError). The frames after it are the bytes of a snapshot as
/// [`crate::store`] describes it, cut anywhere; a stream that does not end cleanly is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackupBegun {
    /// The node that streams.
    pub node: NodeId,
    /// The last entry in it.
    pub last: LogId,
    /// The store's revision, now; that of the backup may be a little lower, but not below what was
    /// answered before it was asked for.
    pub revision: Revision,
    /// About how many bytes will come.
    pub bytes: u64,
}
