//! Three processes of one store on this machine, which end when this is dropped.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many members a cluster has.
const MEMBERS: usize = 3;
/// How long a cluster may take until it is healthy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose store it is. Both take the same flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Etcd,
}

pub(super) struct Processes {
    children: Vec<Child>,
    /// Where members speak etcd's API.
    pub(super) clients: Vec<String>,
    /// Where members speak to each other; ours also to clients, by its own protocol.
    pub(super) peers: Vec<String>,
    // Dropped last: the processes write into it.
    folder: TempDir,
}

impl Processes {
    /// Starts a cluster, and waits until it serves.
    pub(super) fn start(kind: Kind, binary: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = TempDir::new_in(folder)?;
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let ports = free_ports(2 * MEMBERS)?;
        let clients: Vec<String> = ports[..MEMBERS].iter().map(address).collect();
        let peers: Vec<String> = ports[MEMBERS..].iter().map(address).collect();
        let named = |(number, peer): (usize, &String)| format!("n{}=http://{peer}", number + 1);
        let cluster = peers.iter().enumerate().map(named).collect::<Vec<_>>().join(",");
        let mut processes = Self { children: Vec::new(), clients, peers, folder };
        for number in 0..MEMBERS {
            let child = processes.member(kind, binary, number, &cluster)?;
            processes.children.push(child);
        }
        processes.until_healthy()?;
        Ok(processes)
    }

    fn member(
        &self,
        kind: Kind,
        binary: &Path,
        number: usize,
        cluster: &str,
    ) -> Result<Child, Box<dyn Error>> {
        let name = format!("n{}", number + 1);
        let (client, peer) = (&self.clients[number], &self.peers[number]);
        let [client, peer] = [client, peer].map(|address| format!("http://{address}"));
        let data = self.folder.path().join(&name);
        let log = File::create(self.folder.path().join(format!("{name}.log")))?;
        let mut command = Command::new(binary);
        if kind == Kind::Ours {
            command.arg("serve");
        }
        command
            .args(["--name", &name, "--initial-cluster", cluster, "--data-dir"])
            .arg(data)
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            // Neither is to run into its quota, nor the faster one into a longer history.
            .args(["--auto-compaction-mode", "revision", "--auto-compaction-retention", "100000"])
            .args(["--quota-backend-bytes", "8589934592"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let failed = |error| format!("cannot start {}: {error}", binary.display());
        Ok(command.spawn().map_err(failed)?)
    }

    fn until_healthy(&mut self) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        for number in 0..MEMBERS {
            while !is_healthy(&self.clients[number]) {
                let ended = self.children[number].try_wait()?.is_some();
                if ended || start.elapsed() > PATIENCE {
                    let log = self.folder.path().join(format!("n{}.log", number + 1));
                    let log = std::fs::read_to_string(log)?;
                    return Err(format!("n{} does not serve:\n{log}", number + 1).into());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Numbers of the processes.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(Child::id)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a member says of itself.
fn is_healthy(address: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}

/// Ports that nobody listens at now.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let any = |_| TcpListener::bind(("127.0.0.1", 0));
    let listeners: Vec<_> = (0..count).map(any).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
