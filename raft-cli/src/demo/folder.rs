//! The folder of a cluster on one machine: who its members are, their certificates, and what
//! clients need. Owns the names of its files:
//!
//! ```text
//! demo.json               members and cluster token; written last, so it says "complete"
//! demo.lock               locked while a demo runs the cluster
//! client.json             endpoints and certificate files, for clients
//! ca.pem  ca-key.pem  client.pem  client-key.pem  n1.pem  n1-key.pem ...
//! n1/ n2/ n3/             data directories
//! n1.log n2.log n3.log    what the nodes logged
//! ```

use crate::args::connection::{CLIENT_FILE, ClientFile};
use crate::cert;
use crate::failure::{Failure, Kind};
use crate::random::random;
use raft_core::types::NodeId;
use raft_storage_redb::FileLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// The client certificate's name.
const CLIENT: &str = "client";
/// The file that says what the folder holds.
const DESCRIPTION: &str = "demo.json";
/// Locked while a demo runs the cluster.
const LOCK: &str = "demo.lock";
/// Version of [`DESCRIPTION`].
const VERSION: u32 = 1;
/// Ports are looked for here: below the range from which systems draw ports of their own accord,
/// so that no client's socket sits on a node's port while the node is down.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How many ports to try before giving up.
const PORT_TRIES: u16 = 2_000;

/// A cluster's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
    description: Description,
}

/// What `demo.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    version: u32,
    /// Drawn at random: no two demo clusters take each other's messages.
    cluster_token: String,
    /// Loopback addresses by node number.
    members: BTreeMap<u64, String>,
}

impl Folder {
    /// Opens the folder at `dir`, or makes it: certificates, members on free ports from
    /// `base_port` on (any, if `None`).
    ///
    /// # Errors
    /// If the folder holds something else or another number of nodes, or cannot be made.
    pub fn open_or_make(
        dir: &Path,
        nodes: Option<u8>,
        base_port: Option<u16>,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|source| failed("create", dir, &source))?;
        let dir = dir.canonicalize().map_err(|source| failed("find", dir, &source))?;
        match fs::read(dir.join(DESCRIPTION)) {
            Ok(bytes) => Self::open(dir, &bytes, nodes, base_port),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(dir, nodes.unwrap_or(3), base_port)
            }
            Err(source) => Err(failed("read", &dir.join(DESCRIPTION), &source)),
        }
    }

    fn open(
        dir: PathBuf,
        bytes: &[u8],
        nodes: Option<u8>,
        base_port: Option<u16>,
    ) -> Result<Self, Failure> {
        let unusable = |why: String| in_the_way(&dir, &why);
        let description: Description = serde_json::from_slice(bytes)
            .map_err(|error| unusable(format!("{DESCRIPTION}: {error}")))?;
        if description.version != VERSION {
            let version = description.version;
            return Err(unusable(format!("{DESCRIPTION} has the unknown version {version}")));
        }
        let made_with = description.members.len();
        if nodes.is_some_and(|nodes| usize::from(nodes) != made_with) {
            return Err(unusable(format!("it was made with {made_with} nodes; leave --nodes out")));
        }
        let port = base_port.map(|port| format!(":{port}"));
        let first = description.members.values().next();
        if let (Some(port), Some(first)) = (port, first)
            && !first.ends_with(&port)
        {
            return Err(unusable(format!("it was made with {first}; leave --base-port out")));
        }
        Ok(Self { dir, description })
    }

    fn make(dir: PathBuf, nodes: u8, base_port: Option<u16>) -> Result<Self, Failure> {
        let mut entries = fs::read_dir(&dir).map_err(|source| failed("read", &dir, &source))?;
        if entries.next().is_some() {
            let why = format!("it is not empty and has no {DESCRIPTION}; choose another");
            return Err(in_the_way(&dir, &why));
        }
        let ports = match base_port {
            Some(first) => given_ports(first, nodes)?,
            None => free_ports(nodes)?,
        };
        let members =
            (1..).zip(ports).map(|(id, port)| (id, format!("127.0.0.1:{port}"))).collect();
        let cluster_token = format!("demo-{:016x}", random()?);
        let description = Description { version: VERSION, cluster_token, members };
        let folder = Self { dir, description };
        cert::make_authority(&folder.dir, false)?;
        cert::make_client(&folder.dir, CLIENT, false)?;
        for id in folder.ids() {
            let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
            cert::make_node(&folder.dir, id, &hosts, false)?;
        }
        let relative = cert::Files::of(Path::new(""), CLIENT);
        let client = ClientFile {
            endpoints: folder.description.members.values().cloned().collect(),
            ca: cert::Files::of(Path::new(""), cert::AUTHORITY).certificate,
            cert: relative.certificate,
            key: relative.key,
        };
        folder.write(CLIENT_FILE, &client)?;
        folder.write(DESCRIPTION, &folder.description)?;
        Ok(folder)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let file = self.dir.join(name);
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|error| failed("write", &file, &error.into()))?;
        text.push('\n');
        fs::write(&file, text).map_err(|source| failed("write", &file, &source))
    }

    /// Keeps others from running the cluster, until the lock is dropped.
    ///
    /// # Errors
    /// Of kind `Local` if another process runs it.
    pub fn lock(&self) -> Result<FileLock, Failure> {
        let path = self.dir.join(LOCK);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        match FileLock::exclusive(file) {
            Ok(lock) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another demo", self.dir.display());
                Err(Failure::new(Kind::Local, text).advice("stop it, or choose another --dir"))
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }

    /// The folder itself, an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The nodes, ascending.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.description.members.keys().copied().map(NodeId)
    }

    /// Where a node listens; empty for one that is not a member.
    pub fn address(&self, id: NodeId) -> &str {
        self.description.members.get(&id.0).map_or("", String::as_str)
    }

    /// A node's data directory.
    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// A node's log of what it did (not Raft's log).
    pub fn log_file(&self, id: NodeId) -> PathBuf {
        self.dir.join(format!("{id}.log"))
    }

    /// The arguments with which `raft` runs a node of this cluster.
    pub fn serve_args(&self, id: NodeId) -> Vec<String> {
        let members: Vec<String> =
            self.ids().map(|id| format!("{id}={}", self.address(id))).collect();
        let files = cert::Files::of(&self.dir, &id.to_string());
        let authority = cert::Files::of(&self.dir, cert::AUTHORITY);
        let text = |path: &Path| path.display().to_string();
        [
            ("--id", id.0.to_string()),
            ("--data-dir", text(&self.data_dir(id))),
            ("--cluster", members.join(",")),
            ("--cluster-token", self.description.cluster_token.clone()),
            ("--ca", text(&authority.certificate)),
            ("--cert", text(&files.certificate)),
            ("--key", text(&files.key)),
        ]
        .into_iter()
        .fold(vec!["serve".to_owned()], |mut args, (option, value)| {
            args.extend([option.to_owned(), value]);
            args
        })
    }
}

fn given_ports(first: u16, nodes: u8) -> Result<Vec<u16>, Failure> {
    let Some(last) = first.checked_add(u16::from(nodes).saturating_sub(1)) else {
        return Err(Failure::usage(format!("there are no {nodes} ports from {first} on")));
    };
    match (first..=last).find(|port| !is_free(*port)) {
        Some(taken) => Err(Failure::new(Kind::Local, format!("port {taken} is in use"))),
        None => Ok((first..=last).collect()),
    }
}

fn free_ports(nodes: u8) -> Result<Vec<u16>, Failure> {
    let span = u64::from(PORTS.end - PORTS.start);
    let offset = u16::try_from(random()? % span).unwrap_or(0);
    let from_offset = (PORTS.start + offset..PORTS.end).chain(PORTS.start..PORTS.start + offset);
    let free = from_offset.take(usize::from(PORT_TRIES)).filter(|port| is_free(*port));
    let ports: Vec<u16> = free.take(usize::from(nodes)).collect();
    if ports.len() < usize::from(nodes) {
        let why = format!("found no {nodes} free ports between {} and {}", PORTS.start, PORTS.end);
        return Err(Failure::new(Kind::Local, why));
    }
    Ok(ports)
}

/// Peers and clients come over UDP, those of etcd over TCP.
fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

fn in_the_way(dir: &Path, why: &str) -> Failure {
    Failure::usage(format!("{}: {why}", dir.display()))
}

fn failed(action: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot {action} {}", path.display()), error)
}
