//! Three nodes on this machine that reach each other through proxies; clients reach them directly.
//! Owns the processes, the proxies, and the folder unless it was lent one.

use super::proxy::Proxy;
use crate::args::connection::{ClientFile, Target};
use crate::demo::{Cluster, Folder, Observer};
use crate::failure::{Failure, Kind};
use raft_core::types::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a fresh cluster may take to elect its first leader.
const LEADER_MAX: Duration = Duration::from_secs(180);
/// Enough for a minority to fail.
const NODES: u8 = 3;

/// A running cluster whose network can be made bad.
pub struct LocalCluster {
    /// The nodes' processes.
    pub processes: Cluster,
    /// What is between them.
    pub proxy: Proxy,
    /// Sees them from outside.
    pub observer: Observer,
}

impl LocalCluster {
    /// Starts a cluster of three in the empty folder `dir` and waits until one leads. `binary` is
    /// `raft`; the proxies' chance follows from `seed`.
    ///
    /// # Errors
    /// If it cannot be started, or none leads for long.
    pub async fn start(dir: &Path, binary: PathBuf, seed: u64) -> Result<Self, Failure> {
        let folder = Folder::open_or_make(dir, Some(NODES), None)?;
        let mut addresses: BTreeMap<NodeId, SocketAddr> = BTreeMap::new();
        for id in folder.ids() {
            let address = folder.address(id);
            let parsed = address.parse().map_err(|_| {
                Failure::new(Kind::Local, format!("{address} is not an address and a port"))
            })?;
            addresses.insert(id, parsed);
        }
        // The proxies have threads of their own runtime, which must not be made within another.
        let proxy = std::thread::scope(|scope| {
            let start = scope.spawn(|| Proxy::start(&addresses, seed));
            start.join().unwrap_or_else(|_| Err(Failure::new(Kind::Local, "no proxies")))
        })?;
        let observer = Observer::new(&folder)?;
        let processes = Cluster::new(folder, binary, "info");
        let mut cluster = Self { processes, proxy, observer };
        for id in cluster.nodes() {
            cluster.start_node(id).await?;
        }
        cluster.observer.leader(LEADER_MAX).await?;
        Ok(cluster)
    }

    /// How clients reach it.
    ///
    /// # Errors
    /// If what the folder says of that cannot be read.
    pub fn target(&self) -> Result<Target, Failure> {
        let file = ClientFile::read(self.processes.folder().dir())?;
        let ClientFile { endpoints, ca, cert, key } = file;
        let identity = Some((cert, key));
        let (user, password_file, deadline) = (None, None, None);
        Ok(Target { endpoints, ca: Some(ca), identity, user, password_file, deadline })
    }

    /// Its nodes, ascending.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.processes.folder().ids().collect()
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_node(&mut self, id: NodeId) -> Result<(), Failure> {
        let peers = self.proxy.peer_addresses(id);
        self.processes.start_with(id, &["--peer-address", &peers]).await
    }
}
