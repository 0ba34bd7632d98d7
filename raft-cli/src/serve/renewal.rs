//! Certificates between nodes, read anew when their files change. What cannot be used is told once,
//! and what was there before stays in force: files are replaced one after the other.

use super::credentials;
use super::plan::{CredentialFiles, CredentialSource};
use crate::failure::Failure;
use raft_core::types::NodeId;
use raft_net_quic::{Credentials, QuicTransport};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::sleep;
use tracing::{info, warn};

/// How often the files are looked at. Connections between nodes stand for long: nothing waits.
const LOOK: Duration = Duration::from_secs(2);

/// What tells that files were changed.
pub(super) type Stamp = Vec<Option<(SystemTime, u64)>>;

/// That of the files as they are now; what is made in the node's own directory has none.
pub(super) fn stamp(source: &CredentialSource) -> Stamp {
    let CredentialSource::Files(CredentialFiles { ca, cert, key }, _) = source else {
        return Vec::new();
    };
    let of = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    [ca, cert, key].map(of).into()
}

/// Where a node's certificates are, and what was read last of them.
pub(super) struct Renewal {
    pub(super) source: CredentialSource,
    pub(super) node: NodeId,
    pub(super) data_dir: PathBuf,
    pub(super) known: Stamp,
}

impl Renewal {
    /// Has the transport go by what the files say, until this is dropped.
    pub(super) async fn follow(mut self, transport: Arc<QuicTransport>) {
        if matches!(self.source, CredentialSource::MadeHere) {
            return;
        }
        loop {
            sleep(LOOK).await;
            // Files may be slow, and the thread has a node to run.
            let looked = tokio::task::spawn_blocking(move || {
                let found = self.look();
                (self, found)
            });
            let Ok((own, found)) = looked.await else { return };
            self = own;
            let Some(found) = found else { continue };
            let renewed = found.map_err(|failure| failure.message).and_then(|credentials| {
                transport.renew(&credentials).map_err(|error| error.to_string())
            });
            match renewed {
                Ok(()) => info!("the certificates between nodes have changed"),
                Err(error) => warn!(%error, "the node keeps the certificates it has"),
            }
        }
    }

    /// What the files say, if they have changed.
    fn look(&mut self) -> Option<Result<Credentials, Failure>> {
        let stamp = stamp(&self.source);
        if stamp == self.known {
            return None;
        }
        // Before they are read: what changes meanwhile is read again.
        self.known = stamp;
        Some(credentials::load(&self.source, self.node, &self.data_dir))
    }
}
