//! Which stores there are, where their programs are, and how one member of each is started.

use super::Member;
use crate::Fallible;
use clap::Args;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Whose store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This project's.
    Ours,
    /// etcd, which takes the same flags.
    Etcd,
    /// ZooKeeper, which takes a file.
    ZooKeeper,
}

impl Kind {
    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Etcd => "etcd",
            Self::ZooKeeper => "ZooKeeper",
        }
    }
}

/// A store that can be started.
#[derive(Clone, Debug)]
pub struct Store {
    /// Whose it is.
    pub kind: Kind,
    /// Its binary; of ZooKeeper its jar.
    pub program: PathBuf,
    /// Flags of its own, beside those that all members get.
    pub flags: Vec<String>,
    /// By how much longer each flush takes than the disk makes it.
    pub flush_delay: Option<Duration>,
}

/// Where the stores are.
#[derive(Args, Clone, Debug)]
pub struct Stores {
    /// The binary of this project.
    #[arg(long, value_name = "FILE")]
    raft: Option<PathBuf>,
    /// More flags of its nodes, beside those of etcd that all get: `--election-timeout 500`.
    #[arg(long, value_name = "FLAGS", default_value = "", allow_hyphen_values = true)]
    raft_flags: String,
    /// The binary of etcd.
    #[arg(long, value_name = "FILE", default_value = "etcd")]
    etcd: PathBuf,
    /// ZooKeeper's jar, beside those that it needs. It is left out where there is none.
    #[arg(long, value_name = "FILE", default_value = "/usr/share/java/zookeeper.jar")]
    zookeeper: PathBuf,
    /// Where all keep their data: a folder on the disk that is to be measured. Default: where this
    /// project is built.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Stores {
    /// This project's store.
    ///
    /// # Errors
    /// If it is not built.
    pub fn ours(&self) -> Fallible<Store> {
        let program = self.raft.clone().unwrap_or_else(|| workspace().join("target/release/raft"));
        match program.is_file() {
            true => {
                let flags = self.raft_flags.split_whitespace().map(Into::into).collect();
                Ok(Store { flags, ..Store::of(Kind::Ours, program) })
            }
            false => {
                let built = "cargo build --release -p raft-cli";
                Err(format!("no {}: {built}", program.display()).into())
            }
        }
    }

    /// etcd, which is found to be missing when it is started.
    pub fn etcd(&self) -> Store {
        Store::of(Kind::Etcd, self.etcd.clone())
    }

    /// ZooKeeper.
    ///
    /// # Errors
    /// If it is not there.
    pub fn zookeeper(&self) -> Fallible<Store> {
        match self.zookeeper.is_file() {
            true => Ok(Store::of(Kind::ZooKeeper, self.zookeeper.clone())),
            false => {
                let missing =
                    format!("ZooKeeper is not installed: no {}", self.zookeeper.display());
                Err(missing.into())
            }
        }
    }

    /// All that are installed, this project's first.
    ///
    /// # Errors
    /// If this project's is not built.
    pub fn all(&self) -> Fallible<Vec<Store>> {
        let mut stores = vec![self.ours()?, self.etcd()];
        match self.zookeeper() {
            Ok(store) => stores.push(store),
            Err(missing) => eprintln!("{missing}; it is left out"),
        }
        Ok(stores)
    }

    /// Where all keep their data.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| workspace().join("target"))
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in it")
}

impl Store {
    const fn of(kind: Kind, program: PathBuf) -> Self {
        Self { kind, program, flags: Vec::new(), flush_delay: None }
    }

    /// How a member is started. `members` are all, itself included; `existing` if it joins those
    /// that run already.
    pub(super) fn command(
        &self,
        member: &Member,
        members: &[Member],
        existing: bool,
    ) -> Fallible<Command> {
        let mut command = match self.kind {
            Kind::ZooKeeper => self.java(),
            Kind::Ours | Kind::Etcd => self.run(self.program.as_os_str()),
        };
        match self.kind {
            Kind::ZooKeeper => {
                command.arg(zookeeper_file(member, members)?);
            }
            Kind::Ours => {
                command.arg("serve");
                etcd_flags(&mut command, member, members, existing);
            }
            Kind::Etcd => etcd_flags(&mut command, member, members, existing),
        }
        command.args(&self.flags);
        Ok(command)
    }

    /// ZooKeeper as its packages start it; every request durable before it is answered, which is
    /// its default.
    fn java(&self) -> Command {
        let mut command = self.run(OsStr::new("java"));
        command.args(["-Xms1g", "-Xmx3g", "-Dzookeeper.admin.enableServer=false", "-cp"]);
        command.arg(&self.program);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
        command
    }

    /// The program, traced by `strace` if flushes are to take longer: it stops nothing but these
    /// calls, by which all three stores flush. It traces as a grandchild (`-D`), so that the
    /// process started is the store's.
    fn run(&self, program: &OsStr) -> Command {
        let Some(delay) = self.flush_delay else { return Command::new(program) };
        let delay = delay.as_micros();
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]);
        command.args(["-e", "trace=fsync,fdatasync"]);
        command.args(["-e", &format!("inject=fsync,fdatasync:delay_exit={delay}"), "--"]);
        command.arg(program);
        command
    }
}

fn etcd_flags(command: &mut Command, member: &Member, members: &[Member], existing: bool) {
    let named = |member: &Member| format!("{}=http://{}", member.name, member.peer);
    let cluster = members.iter().map(named).collect::<Vec<_>>().join(",");
    let [client, peer] = [&member.client, &member.peer].map(|address| format!("http://{address}"));
    command
        .args(["--name", &member.name, "--initial-cluster", &cluster, "--data-dir"])
        .arg(&member.data)
        .args(["--initial-cluster-state", if existing { "existing" } else { "new" }])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        // Neither is to run into its quota, nor the faster one into a longer history.
        .args(["--auto-compaction-mode", "revision", "--auto-compaction-retention", "100000"])
        .args(["--quota-backend-bytes", "8589934592"]);
}

/// Writes what ZooKeeper is started with, into its folder.
fn zookeeper_file(member: &Member, members: &[Member]) -> Fallible<PathBuf> {
    fs::create_dir_all(&member.data)?;
    fs::write(member.data.join("myid"), member.number().to_string())?;
    let (_, port) = member.client.rsplit_once(':').ok_or("an address has a port")?;
    let mut text = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\ndataDir={}\n\
         clientPortAddress=127.0.0.1\nclientPort={port}\n",
        member.data.display()
    );
    for other in members {
        let (_, election) = other.election.rsplit_once(':').ok_or("an address has a port")?;
        text += &format!("server.{}={}:{election}\n", other.number(), other.peer);
    }
    let path = member.data.join("zoo.cfg");
    fs::write(&path, text)?;
    Ok(path)
}
