//! The clusters that are compared, each of three processes on loopback: this store's, and etcd's
//! own. `etcdctl` speaks to either.

use super::normal::Names;
use crate::cluster::support::{GUARD, TestCluster, binary};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// How many members a cluster has.
pub(super) const MEMBERS: usize = 3;

/// How a program ended, and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A cluster.
pub(super) struct Side {
    pub(super) name: &'static str,
    /// Where clients reach the members, in the order of their names.
    pub(super) clients: Vec<String>,
    /// What is called otherwise here than there.
    pub(super) names: Names,
    /// Where programs run: what they write has the same name on both sides.
    dir: TempDir,
    // They end when they are dropped.
    members: Members,
}

enum Members {
    Ours { _cluster: Box<TestCluster> },
    Started(Started),
}

/// Members that were started with etcd's flags.
struct Started {
    /// etcd, or what stands in for it.
    program: Vec<String>,
    dir: TempDir,
    processes: Vec<Child>,
}

impl Started {
    fn new(program: &[&str]) -> Self {
        let program = program.iter().map(ToString::to_string).collect();
        Self { program, dir: tempfile::tempdir().unwrap(), processes: Vec::new() }
    }

    /// Starts a member that clients reach at one address and members at another.
    fn start(&mut self, name: &str, [client, peer]: [&str; 2], cluster: &str, state: &str) {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = program(&self.program[0], self.dir.path());
        let started = command
            .args(&self.program[1..])
            .args(["--name", name, "--data-dir", name, "--unsafe-no-fsync"])
            .args(["--log-level", "error", "--initial-cluster", cluster])
            .args(["--initial-cluster-state", state])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let started = started.unwrap_or_else(|error| missing(&self.program[0], &error));
        self.processes.push(started);
    }
}

impl Side {
    /// This store.
    pub(super) async fn ours() -> Self {
        let mut cluster = TestCluster::new(u8::try_from(MEMBERS).unwrap());
        let folder = cluster.processes.folder().clone();
        let ports = free_ports(MEMBERS);
        let clients: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        for (id, client) in folder.ids().zip(&clients) {
            let listen = ["--etcd-listen", client];
            cluster.processes.start_with(id, &listen).await.unwrap();
        }
        let members = Members::Ours { _cluster: Box::new(cluster) };
        Self::of("this store", clients, members).await
    }

    /// etcd.
    pub(super) async fn theirs() -> Self {
        Self::of_program("etcd", &["etcd"], MEMBERS).await
    }

    /// One member of this store, which is started as etcd would be.
    pub(super) async fn ours_alone() -> Self {
        let program = binary();
        Self::of_program("this store", &[program.to_str().unwrap(), "serve"], 1).await
    }

    /// One member of etcd.
    pub(super) async fn theirs_alone() -> Self {
        Self::of_program("etcd", &["etcd"], 1).await
    }

    async fn of_program(name: &'static str, program: &[&str], members: usize) -> Self {
        let ports = free_ports(2 * members);
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let (clients, peers) = ports.split_at(members);
        let clients: Vec<String> = clients.iter().map(address).collect();
        let peers: Vec<String> = peers.iter().map(address).collect();
        let listed: Vec<String> = (1..).zip(&peers).map(listed).collect();
        let mut started = Started::new(program);
        for (number, (client, peer)) in (1..).zip(clients.iter().zip(&peers)) {
            started.start(&format!("n{number}"), [client, peer], &listed.join(","), "new");
        }
        Self::of(name, clients, Members::Started(started)).await
    }

    /// Where a member is to be that joins later. What is said of it there is called alike.
    pub(super) fn expect_another(&mut self) {
        let ports = free_ports(2);
        self.names.joining = Some([0, 1].map(|at| format!("127.0.0.1:{}", ports[at])));
    }

    /// Starts the member that was expected, and has been added.
    pub(super) fn start_another(&mut self) {
        let number = self.clients.len() + 1;
        let [client, peer] = self.names.joining.clone().expect("it is expected");
        let known = (1..number).map(|known| listed((known, self.names.peer(known))));
        let cluster = known.chain([listed((number, &peer))]).collect::<Vec<_>>().join(",");
        let Members::Started(started) = &mut self.members else { panic!("it has other flags") };
        started.start(&format!("n{number}"), [&client, &peer], &cluster, "existing");
    }

    /// Waits until it is healthy, and asks who is who.
    async fn of(name: &'static str, clients: Vec<String>, members: Members) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut side = Self { name, clients, names: Names::default(), dir, members };
        let healthy = async {
            while side.run(&["endpoint", "health"], "").await.code != 0 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(GUARD, healthy).await.expect("it becomes healthy");
        let known = async {
            loop {
                let told = side.run(&["member", "list", "-w", "json"], "").await;
                let told: Value = serde_json::from_str(&told.stdout).unwrap();
                let named = |member: &Value| member["name"].is_string();
                // A member tells its name once it has started.
                if told["members"].as_array().is_some_and(|members| members.iter().all(named)) {
                    return told;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let members = timeout(GUARD, known).await.expect("they tell their names");
        side.names.learn_members(&members);
        side.have_first_lead().await;
        side
    }

    /// Has the first member lead, on both sides: who does is told by many verbs.
    async fn have_first_lead(&self) {
        let (first, _) = self.names.ids().find(|(_, name)| *name == "n1").expect("there is one");
        let leads = |status: &Status| status.leads && format!("{:x}", status.id) == first;
        let moving = async {
            while !self.status().await.iter().any(leads) {
                let words = ["move-leader", "{n1}", "--endpoints", "{leader}"];
                self.etcdctl(&words.map(ToOwned::to_owned), "").await;
            }
        };
        timeout(GUARD, moving).await.expect("it leads");
    }

    /// Runs `etcdctl` to its end. In words, `{c1}` is where clients reach the first member, `{p1}`
    /// where members do, and `{n1}` is its id; `{leader}` and `{follower}` are where clients reach
    /// such, `{leader-id}` and `{follower-id}` their ids; `{lease1}` is the first lease that was
    /// granted.
    pub(super) async fn etcdctl(&self, words: &[String], input: &str) -> Outcome {
        let words = self.filled(words).await;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.run(&words, input).await
    }

    async fn run(&self, words: &[&str], input: &str) -> Outcome {
        let running = self.started(words, input);
        let output = timeout(GUARD, async { running.await.wait_with_output().await.unwrap() });
        let output = output.await.unwrap_or_else(|_| panic!("{}: {words:?} hangs", self.name));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    async fn started(&self, words: &[&str], input: &str) -> Child {
        let mut child = self.spawned(words);
        // It may end without reading it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        child
    }

    fn spawned(&self, words: &[&str]) -> Child {
        let mut command = program("etcdctl", self.dir.path());
        if !words.contains(&"--endpoints") {
            command.args(["--endpoints", &self.clients.join(",")]);
        }
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| missing("etcdctl", &error))
    }

    /// Starts `etcdctl`, which goes on being told what to do.
    pub(super) async fn start_asking(&self, words: &[String]) -> (Running, ChildStdin) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = self.spawned(&words);
        let stdin = child.stdin.take().unwrap();
        (Running::of(child, &words), stdin)
    }

    /// Starts `etcdctl`, which is read line by line.
    pub(super) async fn start(&self, words: &[String]) -> Running {
        let words = self.filled(words).await;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Running::of(self.started(&words, "").await, &words)
    }

    async fn filled(&self, words: &[String]) -> Vec<String> {
        let mut filled = words.to_vec();
        let mut fill = |what: String, with: &str| {
            filled.iter_mut().for_each(|word| *word = word.replace(&what, with));
        };
        for (number, client) in (1..).zip(&self.clients) {
            fill(format!("{{c{number}}}"), client);
            fill(format!("{{p{number}}}"), self.names.peer(number));
        }
        if let Some([_, peer]) = &self.names.joining {
            fill("{joining}".into(), peer);
        }
        for (id, name) in self.names.ids() {
            fill(format!("{{{name}}}"), &id);
        }
        for (number, lease) in (1..).zip(&self.names.leases) {
            fill(format!("{{lease{number}}}"), &format!("{lease:x}"));
        }
        if words.iter().any(|word| word.contains("{leader") || word.contains("{follower")) {
            let (leaders, followers): (Vec<_>, Vec<_>) =
                self.status().await.into_iter().partition(|status| status.leads);
            for (role, members) in [("leader", leaders), ("follower", followers)] {
                let Status { address, id, .. } = members.first().expect("there is one");
                fill(format!("{{{role}}}"), address);
                fill(format!("{{{role}-id}}"), &format!("{id:x}"));
            }
        }
        filled
    }

    /// What each member says of itself, once one leads.
    pub(super) async fn status(&self) -> Vec<Status> {
        let mut last = None;
        let led = async {
            loop {
                let told = self.run(&["endpoint", "status", "-w", "json"], "").await;
                let statuses: Option<Vec<Status>> = serde_json::from_str::<Value>(&told.stdout)
                    .ok()
                    .and_then(|told| told.as_array()?.iter().map(Status::of).collect());
                if let Some(statuses) = statuses
                    && statuses.iter().any(|status| status.leads)
                {
                    return statuses;
                }
                last = Some(told);
                sleep(Duration::from_millis(50)).await;
            }
        };
        let found = timeout(GUARD, led).await;
        found.unwrap_or_else(|_| panic!("{}: none leads: {last:?}", self.name))
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// What a member says of itself.
pub(super) struct Status {
    address: String,
    id: u64,
    leads: bool,
}

impl Status {
    fn of(told: &Value) -> Option<Self> {
        let status = &told["Status"];
        let id = status["header"]["member_id"].as_u64()?;
        let leads = status["leader"].as_u64() == Some(id);
        Some(Self { address: told["Endpoint"].as_str()?.to_owned(), id, leads })
    }
}

/// A program that runs until it is told to end.
pub(super) struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    words: String,
}

impl Running {
    fn of(mut child: Child, words: &[&str]) -> Self {
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout, words: words.join(" ") }
    }

    /// The next line it prints.
    pub(super) async fn line(&mut self) -> String {
        let line = timeout(GUARD, self.stdout.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{}: it prints nothing", self.words)).unwrap();
        line.unwrap_or_else(|| panic!("{}: it has ended", self.words))
    }

    /// What it prints up to a line that is `last`.
    pub(super) async fn until(&mut self, last: &str) -> Vec<String> {
        let mut lines = vec![];
        while lines.last().is_none_or(|line| line != last) {
            lines.push(self.line().await);
        }
        lines
    }

    /// Waits until it ends by itself; its exit code.
    pub(super) async fn ended(mut self) -> Option<i32> {
        timeout(GUARD, self.child.wait()).await.expect("it ends").unwrap().code()
    }

    /// Ends it as Ctrl-C does; its exit code.
    pub(super) async fn interrupted(mut self) -> Option<i32> {
        let id = self.child.id().expect("it runs").try_into().unwrap();
        let id = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        timeout(GUARD, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

/// A member as `--initial-cluster` lists it.
fn listed((number, peer): (usize, impl std::fmt::Display)) -> String {
    format!("n{number}=http://{peer}")
}

fn program(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command.env("ETCDCTL_API", "3").current_dir(dir).kill_on_drop(true);
    command
}

fn missing(name: &str, error: &std::io::Error) -> ! {
    panic!(
        "{name} cannot be run: {error}. Install etcd 3.4: on Debian, `apt-get install etcd-server \
         etcd-client`"
    )
}

/// Ports below those that systems draw by themselves.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let first = 12_000 + u16::try_from(std::process::id() % 18_000).unwrap();
    static USED: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = first + USED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
