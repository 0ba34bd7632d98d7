//! A cluster for one test: processes on loopback, a temporary folder, a client. Waits are for
//! events; their bounds are guards against a test that hangs and assert nothing about speed.

use super::alike::at_the_end;
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raft_cli::args::connection::ClientFile;
use raft_cli::demo::{Cluster, Folder, Observer};
use raft_core::transport::{Channel, Connector};
use raft_core::types::NodeId;
use raft_kv::api::{Consistency, Keys, Range, Reply, Request, RequestBody};
use raft_kv::client::Client;
use raft_kv::wire;
use raft_net_quic::{ClientCredentials, ConnectorConfig, QuicConnector};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Guard for every wait.
pub(crate) const GUARD: Duration = Duration::from_secs(90);

/// Whether slow tests are to run in full.
pub(crate) fn slow() -> bool {
    std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1")
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_raft"))
}

/// A cluster whose processes end with the test, however it ends.
pub(crate) struct TestCluster {
    pub(crate) processes: Cluster,
    pub(crate) observer: Observer,
    // Dropped last: the processes write into it.
    _dir: TempDir,
}

impl TestCluster {
    /// A cluster of `nodes` whose processes are not started yet.
    pub(crate) fn new(nodes: u8) -> Self {
        let dir = TempDir::new().unwrap();
        let folder = Folder::open_or_make(dir.path(), Some(nodes), None).unwrap();
        let observer = Observer::new(&folder).unwrap();
        let processes = Cluster::new(folder, binary(), "info");
        Self { processes, observer, _dir: dir }
    }

    /// Starts three nodes and waits until one leads.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::new(3);
        cluster.processes.start_all().await.unwrap();
        cluster.leader().await;
        cluster
    }

    pub(crate) async fn leader(&self) -> NodeId {
        self.observer.leader(GUARD).await.unwrap().id
    }

    /// The other nodes.
    pub(crate) fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.processes.folder().ids().filter(|id| *id != than).collect()
    }

    /// A client with time to live through an election.
    pub(crate) fn client(&self) -> Client {
        self.observer.client().with_deadline(GUARD)
    }

    /// A client that has no connections yet.
    pub(crate) fn fresh_client(&self) -> Client {
        Observer::new(self.processes.folder()).unwrap().client().clone()
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        self.client().put(key.to_owned(), value.to_owned()).await.unwrap();
    }

    /// A linearizable read of one key.
    pub(crate) async fn value(&self, key: &str) -> Option<Bytes> {
        self.client().get_one(key.to_owned()).await.unwrap().map(|pair| pair.value)
    }

    /// A connection to one node and no other.
    pub(crate) async fn channel(&self, id: NodeId) -> Arc<dyn Channel> {
        let address = self.processes.folder().address(id);
        connector(self.processes.folder().dir()).connect(address).await.unwrap()
    }

    /// Everything a node has logged.
    pub(crate) fn log_of(&self, id: NodeId) -> String {
        std::fs::read_to_string(self.processes.folder().log_file(id)).unwrap()
    }

    /// Waits until a node has logged `text`.
    pub(crate) async fn until_logged(&self, id: NodeId, text: &str) {
        let logged = async {
            while !self.log_of(id).contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(GUARD, logged).await.unwrap_or_else(|_| panic!("no {text:?}"));
    }

    /// Runs a node of this cluster that is expected to fail, with changed arguments.
    pub(crate) async fn serve_fails(&self, id: NodeId, changes: &[(&str, &str)]) -> Failed {
        let mut args = self.processes.folder().serve_args(id);
        for (option, value) in changes {
            match args.iter().position(|arg| arg == option) {
                Some(position) => args[position + 1] = (*value).to_owned(),
                None => args.extend([(*option).to_owned(), (*value).to_owned()]),
            }
        }
        run(&args).await
    }
}

impl Drop for TestCluster {
    /// Compares the nodes that run. If the test failed, or they differ, it shows what the nodes
    /// logged: their folder goes with the test.
    fn drop(&mut self) {
        let mut differs = None;
        if !std::thread::panicking() {
            match at_the_end(&self.processes) {
                Ok((nodes, last)) => println!("{nodes} nodes agree up to entry {last}"),
                Err(error) => differs = Some(error),
            }
            if differs.is_none() {
                return;
            }
        }
        for id in self.processes.folder().ids() {
            let log = std::fs::read_to_string(self.processes.folder().log_file(id));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- the last lines of {id}'s log:\n{tail}");
        }
        if let Some(differs) = differs {
            panic!("the states of members differ: {differs}");
        }
    }
}

/// A running verb of a cluster's client, killed when it is dropped.
pub(crate) struct Raft {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    // Open, so that what reads it waits.
    _stdin: ChildStdin,
}

/// How a verb ended, and what it printed that was not read before.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Starts a verb with time to live through an election.
pub(crate) fn raft(cluster: &TestCluster, words: &[&str]) -> Raft {
    let mut child = Command::new(binary())
        .arg("--dir")
        .arg(cluster.processes.folder().dir())
        .args(["--deadline", "90s"])
        .args(words)
        // Verbs that are run by this one find the cluster, and the binary, too.
        .env("RAFT_DIR", cluster.processes.folder().dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let stdin = child.stdin.take().unwrap();
    Raft { child, stdout, stderr, _stdin: stdin }
}

impl Raft {
    /// The next line on its stdout.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(GUARD, self.stdout.next_line()).await.expect("it prints").unwrap();
        match line {
            Some(line) => line,
            None => panic!("it has ended: {:?}", self.stderr.next_line().await),
        }
    }

    /// The next line on its stderr.
    pub(crate) async fn error_line(&mut self) -> String {
        let line = timeout(GUARD, self.stderr.next_line()).await.expect("it prints").unwrap();
        line.expect("it has not ended")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
    }

    /// Waits until nobody has its output open any more.
    pub(crate) async fn until_output_ends(mut self) {
        let ended = async { while self.stdout.next_line().await.unwrap().is_some() {} };
        timeout(GUARD, ended).await.expect("it ends");
    }

    /// Sends a signal, and waits as [`Raft::ended`].
    pub(crate) async fn ended_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended().await
    }

    /// Waits until it has ended, and everything that holds its output.
    pub(crate) async fn ended(mut self) -> Ended {
        let all = async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            while let Some(line) = self.stdout.next_line().await.unwrap() {
                stdout.push_str(&(line + "\n"));
            }
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                stderr.push_str(&(line + "\n"));
            }
            let status = self.child.wait().await.unwrap();
            Ended { code: status.code().expect("not by a signal"), stdout, stderr }
        };
        timeout(GUARD, all).await.expect("it ends")
    }
}

/// How a process failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: i32,
    /// The line that says `error: `.
    pub(crate) error: String,
}

/// Runs the binary to its end; it must fail with an exit code and one line that says why.
pub(crate) async fn run(args: &[String]) -> Failed {
    let mut command = Command::new(binary());
    let command = command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(GUARD, command.output()).await;
    let Output { status, stderr, .. } = ended.expect("it must end").unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line says what is wrong: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    Failed { code: status.code().expect("not ended by a signal"), error: errors[0].to_owned() }
}

/// Connects with the client certificate in `dir`.
pub(crate) fn connector(dir: &Path) -> QuicConnector {
    let file = ClientFile::read(dir).unwrap();
    let credentials =
        ClientCredentials::from_files(&file.ca, Some((&file.cert, &file.key))).unwrap();
    QuicConnector::new(credentials, ConnectorConfig::default()).unwrap()
}

/// Sends a request over one connection, as a client that knows no other node.
pub(crate) async fn ask(channel: Arc<dyn Channel>, deadline: Duration, body: RequestBody) -> Reply {
    let deadline_ms = deadline.as_millis().try_into().unwrap();
    let request = wire::encode_request(&Request { deadline_ms, body });
    wire::decode_reply(&channel.call(request).await.unwrap()).unwrap()
}

/// A linearizable read of one key, for [`ask`].
pub(crate) fn read(key: &'static str, consistency: Consistency) -> RequestBody {
    RequestBody::Read { range: Range::of(Keys::One(Bytes::from(key))), consistency }
}
