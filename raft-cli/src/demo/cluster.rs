//! The processes of a cluster on one machine. Owns the children: starts them, waits until they
//! serve, stops and kills them. None outlives this process: each holds a pipe from it and stops
//! when the pipe ends, however that came about.

use super::Folder;
use crate::config::settings_in_environment;
use crate::failure::{Failure, Kind};
use futures_util::future::{join_all, select_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raft_core::types::NodeId;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// How long a node may take until it serves: start-up replays the log.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to stop cleanly before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Time between the two requests to stop that are sent when all nodes stop. Less and the system may
/// make one of them.
const HURRY_AFTER: Duration = Duration::from_millis(50);

/// The running nodes of a folder.
#[derive(Debug)]
pub struct Cluster {
    folder: Folder,
    binary: PathBuf,
    log_level: String,
    /// Whether its nodes serve clients of etcd's API, too.
    etcd: bool,
    children: BTreeMap<NodeId, Node>,
}

/// A node's process.
#[derive(Debug)]
struct Node {
    child: Child,
    /// The pipe whose end tells the child that its parent is gone. Apart from the child, because
    /// waiting for a child closes the pipe it has.
    _lifeline: Option<ChildStdin>,
}

impl Cluster {
    /// A cluster none of whose nodes runs yet. `binary` is `raft`; `log_level` says what nodes log.
    pub fn new(folder: Folder, binary: PathBuf, log_level: impl Into<String>) -> Self {
        let (log_level, etcd, children) = (log_level.into(), false, BTreeMap::new());
        Self { folder, binary, log_level, etcd, children }
    }

    /// The same whose nodes serve clients of etcd's API, too: over TCP, at their own addresses.
    #[must_use]
    pub fn with_etcd(self) -> Self {
        Self { etcd: true, ..self }
    }

    /// The arguments with which `raft` runs a node.
    pub fn serve_args(&self, id: NodeId) -> Vec<String> {
        let mut args = self.folder.serve_args(id);
        if self.etcd {
            args.extend(["--etcd-listen".to_owned(), self.folder.address(id).to_owned()]);
        }
        args
    }

    /// Its folder.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The program the nodes run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts every node and waits until each serves.
    ///
    /// # Errors
    /// As [`Cluster::start`]; the nodes started so far keep running.
    pub async fn start_all(&mut self) -> Result<(), Failure> {
        let ids: Vec<NodeId> = self.folder.ids().collect();
        for id in &ids {
            self.spawn(*id, &[])?;
        }
        for id in ids {
            self.wait_until_ready(id).await?;
        }
        Ok(())
    }

    /// Starts a node and waits until it serves. It need not have a leader then.
    ///
    /// # Errors
    /// If the process cannot be started, or ends before it serves: with the last line it logged.
    pub async fn start(&mut self, id: NodeId) -> Result<(), Failure> {
        self.start_with(id, &[]).await
    }

    /// As [`Cluster::start`], with arguments of `raft serve` that go behind the usual ones.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_with(&mut self, id: NodeId, extra: &[&str]) -> Result<(), Failure> {
        self.spawn(id, extra)?;
        self.wait_until_ready(id).await
    }

    fn spawn(&mut self, id: NodeId, extra: &[&str]) -> Result<(), Failure> {
        let log_file = self.folder.log_file(id);
        let failed = |what: &str| {
            let what = format!("cannot {what} {id}");
            move |error: io::Error| Failure::local(what, &error)
        };
        let log = OpenOptions::new().create(true).append(true).open(log_file);
        let mut command = Command::new(&self.binary);
        // What the environment says of nodes is not meant for these.
        command.env_remove("RAFT_CONFIG");
        for setting in settings_in_environment() {
            command.env_remove(setting);
        }
        command
            .args(self.serve_args(id))
            .args(["--exit-with-parent", "--log-level", &self.log_level])
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.map_err(failed("open the log file of"))?)
            // A group of its own: Ctrl-C reaches this process alone, which then stops its nodes.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed("start the process of"))?;
        let lifeline = child.stdin.take();
        self.children.insert(id, Node { child, _lifeline: lifeline });
        Ok(())
    }

    /// Waits for the line a node prints when it serves.
    async fn wait_until_ready(&mut self, id: NodeId) -> Result<(), Failure> {
        let Some(stdout) = self.children.get_mut(&id).and_then(|node| node.child.stdout.take())
        else {
            return Ok(());
        };
        let mut line = String::new();
        let mut reader = BufReader::new(stdout);
        let why = match timeout(READY_MAX, reader.read_line(&mut line)).await {
            Ok(Ok(bytes)) if bytes > 0 => return Ok(()),
            Ok(_) => match self.wait(id).await {
                Some(status) => format!("{}: {}", describe(status), self.last_words(id)),
                None => "it ended".into(),
            },
            Err(_) => format!("it does not serve within {} s", READY_MAX.as_secs()),
        };
        Err(Failure::new(Kind::Local, format!("{id} did not start: {why}")))
    }

    /// Whether a node's process runs, as far as is known.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.children.contains_key(&id)
    }

    /// The process of a node that runs.
    pub fn process_id(&self, id: NodeId) -> Option<u32> {
        self.children.get(&id).and_then(|node| node.child.id())
    }

    /// Sends a signal to a node; nothing happens if it does not run.
    pub fn signal(&self, id: NodeId, signal: Signal) {
        // A child that was not waited for keeps its number, so no other process can be hit.
        let number = self.process_id(id).and_then(|number| i32::try_from(number).ok());
        if let Some(number) = number {
            // Fails only if it has ended in the meantime, which is what the signal is about.
            let _ = kill(Pid::from_raw(number), signal);
        }
    }

    /// Waits until a node's process has ended; `None` if it does not run.
    pub async fn wait(&mut self, id: NodeId) -> Option<ExitStatus> {
        let status = self.children.get_mut(&id)?.child.wait().await;
        self.children.remove(&id);
        status.ok()
    }

    /// Kills a node as a power cut would: it gets no chance to do anything.
    pub async fn kill(&mut self, id: NodeId) {
        self.signal(id, Signal::SIGKILL);
        self.wait(id).await;
    }

    /// Kills every node at once.
    pub async fn kill_all(&mut self) {
        let ids: Vec<NodeId> = self.children.keys().copied().collect();
        for id in &ids {
            self.signal(*id, Signal::SIGKILL);
        }
        for id in ids {
            self.wait(id).await;
        }
    }

    /// Stops a node cleanly; kills it if it does not stop in time. `None` if it did not run.
    pub async fn stop(&mut self, id: NodeId) -> Option<ExitStatus> {
        self.signal(id, Signal::SIGTERM);
        let status = stop_or_kill(&mut self.children.get_mut(&id)?.child).await;
        self.children.remove(&id);
        status
    }

    /// Stops every node cleanly and at once; returns those that failed, and how.
    pub async fn stop_all(&mut self) -> Vec<(NodeId, ExitStatus)> {
        let ids: Vec<NodeId> = self.children.keys().copied().collect();
        for id in &ids {
            self.signal(*id, Signal::SIGTERM);
        }
        // The second request says that there is no need to wait for a successor: none stays.
        tokio::time::sleep(HURRY_AFTER).await;
        for id in &ids {
            self.signal(*id, Signal::SIGTERM);
        }
        let stops = self
            .children
            .iter_mut()
            .map(|(id, node)| async { (*id, stop_or_kill(&mut node.child).await) });
        let stopped = join_all(stops).await;
        self.children.clear();
        let failed = |(id, status): (NodeId, Option<ExitStatus>)| {
            status.filter(|status| !status.success()).map(|status| (id, status))
        };
        stopped.into_iter().filter_map(failed).collect()
    }

    /// Waits until some node's process ends; for ever if none runs.
    pub async fn next_exit(&mut self) -> (NodeId, ExitStatus) {
        loop {
            let waits = self
                .children
                .iter_mut()
                .map(|(id, node)| Box::pin(async { (*id, node.child.wait().await) }));
            let waits: Vec<_> = waits.collect();
            if waits.is_empty() {
                return std::future::pending().await;
            }
            let ((id, status), _, others) = select_all(waits).await;
            drop(others);
            self.children.remove(&id);
            if let Ok(status) = status {
                return (id, status);
            }
        }
    }

    /// The last line a node logged; empty if there is none.
    pub fn last_words(&self, id: NodeId) -> String {
        const TAIL: u64 = 4096;
        let read = || -> io::Result<String> {
            let mut file = std::fs::File::open(self.folder.log_file(id))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }
}

/// Says how a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".into(),
    }
}

async fn stop_or_kill(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(status) = timeout(STOP_MAX, child.wait()).await {
        return status.ok();
    }
    // Its end is certain now, and told by the status.
    let _ = child.start_kill();
    child.wait().await.ok()
}
