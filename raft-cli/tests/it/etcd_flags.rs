//! etcd's flags on `raft serve`: what they come to, and that its tools find what they expect.

mod cluster;
mod settings;
mod table;
mod tls;

use crate::cluster::support::{GUARD, binary};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command as Blocking, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// What has to be installed to run the tests.
const ETCDCTL: &str = "etcdctl is not there: apt-get install etcd-client";

/// A port that nobody has, for both protocols: between those of demo clusters and those that
/// systems draw of their own accord.
pub(crate) fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % 700).expect("it is small");
    let ports = (0..700).map(|step| 32_000 + (start + step) % 700);
    for port in ports {
        static TAKEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
        let mut taken = TAKEN.lock().unwrap();
        if taken.contains(&port) {
            continue;
        }
        let tcp = TcpListener::bind(("127.0.0.1", port));
        let udp = UdpSocket::bind(("127.0.0.1", port));
        if tcp.is_ok() && udp.is_ok() {
            taken.push(port);
            return port;
        }
    }
    panic!("no port is free")
}

/// A process of `raft serve`, killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    log: tokio::io::Lines<BufReader<ChildStderr>>,
    /// What it has logged so far.
    pub(crate) logged: Vec<String>,
}

impl Node {
    /// Starts it in `dir` with an environment of its own.
    pub(crate) fn start(dir: &Path, environment: &[(&str, &str)], words: &[String]) -> Self {
        let mut child = Command::new(binary())
            .arg("serve")
            .args(words)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log, logged: Vec::new() }
    }

    /// Waits until it has logged `text`; the line.
    pub(crate) async fn until_logged(&mut self, text: &str) -> String {
        if let Some(line) = self.logged.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            let line = timeout(GUARD, self.log.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in {:#?}", self.logged));
            let Some(line) = line.unwrap() else {
                panic!("it ended without {text:?}: {:#?}", self.logged)
            };
            self.logged.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until clients are served.
    pub(crate) async fn ready(&mut self) {
        self.until_logged("ready to serve client requests").await;
    }

    /// Ends it as a power failure would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Runs etcdctl; what it prints, on stdout if it succeeds and on stderr if not.
pub(crate) async fn etcdctl(words: &[&str]) -> Result<String, String> {
    let found = Blocking::new("etcdctl").arg("version").output();
    assert!(found.is_ok(), "{ETCDCTL}");
    let mut command = Command::new("etcdctl");
    let command = command.args(words).env("ETCDCTL_API", "3").kill_on_drop(true);
    let output = timeout(GUARD, command.output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// The same until it succeeds.
pub(crate) async fn etcdctl_soon(words: &[&str]) -> String {
    let tried = async {
        loop {
            match etcdctl(words).await {
                Ok(text) => return text,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(GUARD, tried).await.expect("it succeeds in the end")
}
