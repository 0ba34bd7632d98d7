//! Who a node is that was told so by names and URLs: noted in its directory once it is known, or
//! asked of the others. Here alone are the file's name and form.

use super::map::Search;
use crate::directory::sync;
use crate::failure::{Failure, Kind};
use raft_core::types::{ClusterId, NodeId};
use raft_kv::client::{Client, ClientOptions};
use raft_net_quic::{ClientCredentials, ConnectorConfig, Credentials, QuicConnector};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::info;

/// The file in a node's directory that says who it is.
pub const FILE: &str = "member.json";
/// How long the others have to answer, and how long nobody is asked then.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);

/// A node of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The node.
    pub id: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// The contents of [`FILE`]; the cluster's id in hexadecimal.
#[derive(Serialize, Deserialize)]
struct Note {
    id: u64,
    cluster: String,
}

/// Who the node of a directory is, if that was noted.
///
/// # Errors
/// Of kind `Local` if the file is there and cannot be read.
pub fn noted(dir: &Path) -> Result<Option<Known>, Failure> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::local(format!("cannot read {}", path.display()), &error));
        }
    };
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Local, format!("{}: {why}", path.display()))
            .advice("it holds this node's id and cluster: put a copy back, or see `raft inspect`")
    };
    let note: Note = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let cluster = u64::from_str_radix(&note.cluster, 16).map_err(|error| wrong(&error))?;
    Ok(Some(Known { id: NodeId(note.id), cluster: ClusterId(cluster) }))
}

/// Notes who the node of a directory is, durably.
///
/// # Errors
/// Of kind `Local` if that cannot be written.
pub fn note(dir: &Path, known: Known) -> Result<(), Failure> {
    if noted(dir)? == Some(known) {
        return Ok(());
    }
    let Known { id, cluster } = known;
    let note = Note { id: id.0, cluster: format!("{:016x}", cluster.0) };
    let path = dir.join(FILE);
    let beside = dir.join(format!("{FILE}.new"));
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&note)?)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written()
        .map_err(|error| Failure::local(format!("cannot write {}", path.display()), &error))?;
    sync(dir)
}

/// Asks the others until one knows which member is at this node's address.
///
/// # Errors
/// Of kind `Local` if there is nothing to ask with.
pub async fn found(search: &Search, credentials: &Credentials) -> Result<Known, Failure> {
    let Search { own, others } = search;
    let connector =
        QuicConnector::new(ClientCredentials::of_node(credentials), ConnectorConfig::default())
            .map_err(|error| Failure::new(Kind::Local, error))?;
    let mut options = ClientOptions::new(others.clone());
    options.deadline = PATIENCE;
    let client = Client::new(Arc::new(connector), options);
    // One answer is told once, however often it comes.
    let mut told = None;
    loop {
        let (kind, waits) = match client.members().await {
            Ok(members) => {
                let mut all = members.membership.members().iter();
                if let Some((id, _)) = all.find(|(_, member)| member.address == *own) {
                    info!(%id, cluster = %members.cluster, "this node was added at {own}");
                    return Ok(Known { id: *id, cluster: members.cluster });
                }
                let waits = format!(
                    "waiting to be added: cluster {} has no member at {own}; `etcdctl member add \
                     NAME --peer-urls=http://{own}` adds it",
                    members.cluster
                );
                (Some(members.cluster), waits)
            }
            Err(error) => {
                (None, format!("waiting for the members at {}: {error}", others.join(", ")))
            }
        };
        if told != Some(kind) {
            info!("{waits}");
            told = Some(kind);
        }
        sleep(PAUSE).await;
    }
}
