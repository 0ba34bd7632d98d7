//! Snapshots: a paced stream on a connection of its own, a file at the other end.
//!
//! A snapshot is delivered only when its length and checksum are right, and once. A stream that
//! breaks is continued by the next one, as long as both processes live: the sender keeps what is
//! not acknowledged, the receiver keeps its part for a while. What is given up leaves no file.
//! Two snapshots never mix: a part is continued only by the transfer and the life that began it,
//! and the checksum covers the whole.

mod pace;
mod partial;
mod receive;
mod send;
mod source;
mod spool;

pub(crate) use partial::{Incoming, sweep};
pub(crate) use receive::receive;
pub(crate) use send::send;

use crate::error::ProtocolError;
use crate::frame::{self, Frame};
use bytes::{Buf, BufMut, BytesMut};
use raft_core::codec;
use raft_core::types::{GroupId, SnapshotMeta, Term, Version};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// The version from which on snapshots are acknowledged as they come, and continued.
const RESUMABLE: Version = Version(2);

/// Bytes read and sent in one go; also the largest chunk frame.
const CHUNK_BYTES: usize = 128 * 1024;

/// Chunks between the thread that reads or writes files and the stream.
const CHUNKS_QUEUED: usize = 4;

/// Bytes after which the receiver says how far it is.
const ACKNOWLEDGED_BYTES: u64 = 1024 * 1024;

/// Bytes that the sender keeps until they are acknowledged, to send them again over the next
/// stream. Beyond that it waits: it sends no more than this in each round trip, 100 MB/s if one
/// takes 80 ms.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;

const PREFIX: &str = "incoming-";
const SUFFIX: &str = ".snapshot";

/// Makes the directory of incoming snapshots and removes what an earlier process left in it.
pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The first frame of a snapshot's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Drawn by the sender for this snapshot, the same on all streams that carry it. `None` where
    /// version 1 is spoken: then there is one stream only.
    transfer: Option<u64>,
    group: GroupId,
    term: Term,
    meta: SnapshotMeta,
}

const MALFORMED: ProtocolError = ProtocolError::Malformed("snapshot head");

impl Head {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let kind = if self.transfer.is_some() { frame::OFFER } else { frame::SNAPSHOT };
        frame::put(out, kind, |out| {
            if let Some(transfer) = self.transfer {
                out.put_u64_le(transfer);
            }
            out.put_u64_le(self.group.0);
            out.put_u64_le(self.term.0);
            codec::put(&self.meta, out);
        });
    }

    /// Reads the head of a stream of a peer with which `spoken` is spoken.
    pub(crate) fn decode(frame: Frame, spoken: Version) -> Result<Self, ProtocolError> {
        let Frame { kind, mut body } = frame;
        let transfer = match kind {
            frame::SNAPSHOT => None,
            frame::OFFER if spoken >= RESUMABLE => {
                Some(body.try_get_u64_le().map_err(|_| MALFORMED)?)
            }
            other => return Err(ProtocolError::Kind(other)),
        };
        let group = GroupId(body.try_get_u64_le().map_err(|_| MALFORMED)?);
        let term = body.try_get_u64_le().map_err(|_| MALFORMED)?;
        let term = Term::try_from(term).map_err(|_| MALFORMED)?;
        let mut rest: &[u8] = &body;
        let meta = codec::take(&mut rest).map_err(|_| MALFORMED)?;
        if rest.is_empty() { Ok(Self { transfer, group, term, meta }) } else { Err(MALFORMED) }
    }
}

async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ProtocolError>>,
) -> Result<T, ProtocolError> {
    timeout(limit, future).await.unwrap_or_else(|_| Err(stalled(limit)))
}

fn stalled(limit: Duration) -> ProtocolError {
    ProtocolError::Lost(format!("no progress for {} s", limit.as_secs_f64()))
}
