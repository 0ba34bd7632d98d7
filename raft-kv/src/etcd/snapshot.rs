//! A backup as `Maintenance.Snapshot` streams it: our own format, which `raft snapshot restore`
//! takes, filled up to a length that etcd's tools take for one, and its SHA-256.

use super::core::Core;
use super::error::TOO_MANY_REQUESTS;
use super::flow::{Outflow, Outlet, channel};
use super::proto::etcdserverpb as pb;
use crate::api::KvError;
use crate::client::{Backup, BackupError};
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use std::sync::Arc;
use tonic::Status;

/// Bytes of one message.
const BLOB: usize = 32 * 1024;

/// A file is a multiple of so many bytes, and the checksum behind it.
const PAGE: u64 = 512;

/// Begins to stream a backup.
pub(super) async fn stream(core: Arc<Core>) -> Result<Outflow<pb::SnapshotResponse>, Status> {
    let backup = Backup::begin(Arc::new(core.inside.clone()), false).await;
    let backup = backup.map_err(|error| match error {
        BackupError::Refused(error @ KvError::Auth(_)) => super::error::of_kv(&error, true),
        BackupError::Refused(error) => Status::unavailable(format!("etcdserver: {error}")),
        BackupError::Call(_) | BackupError::Broken(_) => TOO_MANY_REQUESTS.into(),
    })?;
    let (outlet, outflow) = channel(&core.memory);
    tokio::spawn(async move {
        tokio::select! {
            () = send(&core, backup, &outlet) => {}
            () = outlet.closed() => {}
        }
    });
    Ok(outflow)
}

/// Sends all of it.
async fn send(core: &Core, mut backup: Backup, outlet: &Outlet<pb::SnapshotResponse>) {
    let mut sending =
        Sending { core, outlet, left: backup.begun().bytes, hash: Context::new(&SHA256) };
    let mut sent: u64 = 0;
    loop {
        match backup.next().await {
            Ok(Some(mut piece)) => {
                sent += piece.len() as u64;
                while !piece.is_empty() {
                    let blob = piece.split_to(piece.len().min(BLOB));
                    if !sending.blob(blob).await {
                        return;
                    }
                }
            }
            Ok(None) => break,
            Err(error) => {
                return outlet.fail(Status::unavailable(format!("etcdserver: {error}"))).await;
            }
        }
    }
    let rest = usize::try_from(sent.next_multiple_of(PAGE) - sent).unwrap_or(0);
    if rest > 0 && !sending.blob(vec![0; rest].into()).await {
        return;
    }
    sending.end().await;
}

struct Sending<'a> {
    core: &'a Core,
    outlet: &'a Outlet<pb::SnapshotResponse>,
    /// About how many bytes will come.
    left: u64,
    hash: Context,
}

impl Sending<'_> {
    /// Whether somebody listens.
    async fn blob(&mut self, blob: Bytes) -> bool {
        self.hash.update(&blob);
        // It is an estimate; 0 is said only of the end.
        self.left = self.left.saturating_sub(blob.len() as u64).max(1);
        self.say(self.left, blob).await
    }

    async fn end(self) {
        let sum = Bytes::copy_from_slice(self.hash.clone().finish().as_ref());
        self.say(0, sum).await;
    }

    async fn say(&self, remaining_bytes: u64, blob: Bytes) -> bool {
        let header = Some(self.core.header_now());
        self.outlet.send(pb::SnapshotResponse { header, remaining_bytes, blob }).await
    }
}
