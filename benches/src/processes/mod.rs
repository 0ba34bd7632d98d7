//! Three processes of one store on this machine, which end when this is dropped.

mod ask;
mod store;
mod usage;

pub use ask::{Status, keys_of, linearizable_read, put, status};
pub use store::{Kind, Store, Stores};
pub use usage::{has_thread, processor_time, resident_bytes};

use crate::Fallible;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many members a cluster has.
pub const MEMBERS: usize = 3;
/// How long a cluster may take until it is healthy, or a member until it has caught up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How long one question may take, but where it says otherwise.
const QUESTION: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Clone, Debug)]
pub struct Member {
    position: usize,
    name: String,
    /// Where it answers clients: by etcd's API, or ZooKeeper's protocol.
    pub client: String,
    /// Where it speaks to the others; ours also to clients, by its own protocol.
    pub peer: String,
    /// Where ZooKeeper elects.
    election: String,
    data: PathBuf,
}

impl Member {
    /// As ZooKeeper counts it.
    const fn number(&self) -> usize {
        self.position + 1
    }
}

/// See the module.
pub struct Processes {
    store: Store,
    members: Vec<Member>,
    children: Vec<Child>,
    /// How often each was wiped.
    lives: [u32; MEMBERS],
    // Dropped last: the processes write into it.
    folder: TempDir,
}

impl Processes {
    /// Starts a cluster in a new folder within `folder`, and waits until it serves.
    ///
    /// # Errors
    /// If it cannot be started, or does not serve in time.
    pub fn start(store: Store, folder: &Path) -> Fallible<Self> {
        let folder = TempDir::new_in(folder)?;
        let ports = free_ports(3 * MEMBERS)?;
        let member = |position: usize| {
            let address = |kind: usize| format!("127.0.0.1:{}", ports[kind * MEMBERS + position]);
            let name = format!("n{}", position + 1);
            let data = folder.path().join(&name);
            let (client, peer, election) = (address(0), address(1), address(2));
            Member { position, name, client, peer, election, data }
        };
        let members = (0..MEMBERS).map(member).collect();
        let mut processes =
            Self { store, members, children: Vec::new(), lives: [0; MEMBERS], folder };
        for position in 0..MEMBERS {
            let child = processes.spawn(position)?;
            processes.children.push(child);
        }
        for position in 0..MEMBERS {
            processes.until(position, |it| it.status(position).is_some_and(Status::is_healthy))?;
        }
        Ok(processes)
    }

    /// Whose store it is.
    pub const fn kind(&self) -> Kind {
        self.store.kind
    }

    /// Where they answer clients: by etcd's API, or ZooKeeper's protocol.
    pub fn clients(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    /// Where they speak to each other; ours also to clients, by its own protocol.
    pub fn peers(&self) -> Vec<String> {
        self.members.iter().map(|member| member.peer.clone()).collect()
    }

    /// Numbers of the processes.
    pub fn ids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// What a member says of itself, if it says anything.
    pub fn status(&self, position: usize) -> Option<Status> {
        status(self.store.kind, &self.members[position].client, QUESTION).ok()
    }

    /// Waits until one of them leads, and all others follow it; which.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn leader(&mut self) -> Fallible<usize> {
        let start = Instant::now();
        loop {
            let statuses: Vec<_> = (0..MEMBERS).map(|position| self.status(position)).collect();
            let healthy = statuses.iter().all(|it| it.is_some_and(Status::is_healthy));
            let leads = |status: &Option<Status>| status.is_some_and(|status| status.leads);
            match statuses.iter().position(leads) {
                Some(leader) if healthy => return Ok(leader),
                _ if start.elapsed() > PATIENCE => return Err("there is no leader".into()),
                _ => std::thread::sleep(BETWEEN_LOOKS),
            }
        }
    }

    /// Sends a signal to a member: stops, continues or kills it.
    ///
    /// # Errors
    /// If its process is gone.
    pub fn signal(&self, position: usize, signal: Signal) -> Fallible<()> {
        Ok(kill_process(Pid::from_child(&self.children[position]), signal)?)
    }

    /// Asks a member to end, and waits until it has.
    ///
    /// # Errors
    /// If its process is gone.
    pub fn stop(&mut self, position: usize) -> Fallible<()> {
        self.signal(position, Signal::TERM)?;
        self.children[position].wait()?;
        Ok(())
    }

    /// Kills a member, and waits until it has ended.
    ///
    /// # Errors
    /// If its process cannot be killed.
    pub fn kill(&mut self, position: usize) -> Fallible<()> {
        self.children[position].kill()?;
        self.children[position].wait()?;
        Ok(())
    }

    /// Starts a member again that was killed. It does not serve yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_again(&mut self, position: usize) -> Fallible<()> {
        self.children[position] = self.spawn(position)?;
        Ok(())
    }

    /// Starts a member again that was killed, without its data. It takes the place of the earlier
    /// one: as a new member, where members are told apart. When it was started.
    ///
    /// # Errors
    /// If the others do not take it, or it cannot be started.
    pub fn start_wiped(&mut self, position: usize) -> Fallible<Instant> {
        let member = &self.members[position];
        // Put aside and not removed: to remove so much may stop every flush of the disk.
        let life = self.lives[position];
        fs::rename(&member.data, member.data.with_extension(format!("life-{life}")))?;
        if self.store.kind != Kind::ZooKeeper {
            self.replace(position)?;
        }
        self.lives[position] += 1;
        let began = Instant::now();
        self.children[position] = self.spawn(position)?;
        Ok(began)
    }

    /// Has the others remove a member, and add one of the same addresses.
    fn replace(&self, position: usize) -> Fallible<()> {
        let member = &self.members[position];
        let other = &self.members[(position + 1) % MEMBERS].client;
        let ask = |path: &str, body: Value| ask::ask(other, path, &body, PATIENCE);
        let members = ask("/v3/cluster/member/list", json!({}))?;
        let peer = format!("http://{}", member.peer);
        let is_it = |it: &&Value| it["peerURLs"][0] == peer.as_str();
        let listed = members["members"].as_array().into_iter().flatten().find(is_it);
        let id = listed
            .and_then(|it| it["ID"].as_str())
            .ok_or_else(|| format!("{} is not listed in {members}", member.name))?;
        ask("/v3/cluster/member/remove", json!({ "ID": id }))?;
        ask("/v3/cluster/member/add", json!({ "peerURLs": [peer] }))?;
        Ok(())
    }

    /// Waits until something is so; looks again and again.
    ///
    /// # Errors
    /// If it takes too long, or the member ends.
    pub fn until(&mut self, position: usize, is_so: impl Fn(&Self) -> bool) -> Fallible<()> {
        let start = Instant::now();
        while !is_so(self) {
            let ended = self.children[position].try_wait()?.is_some();
            if ended || start.elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {} does not serve:\n{}",
                    self.members[position].name,
                    self.store.kind.name(),
                    fs::read_to_string(self.log(position))?
                )
                .into());
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    fn spawn(&self, position: usize) -> Fallible<Child> {
        let member = &self.members[position];
        // Who takes the place of another joins those that run.
        let existing = self.lives[position] > 0;
        let mut command = self.store.command(member, &self.members, existing)?;
        let log = File::options().create(true).append(true).open(self.log(position))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map_err(|error| format!("cannot start {program}: {error}").into())
    }

    fn log(&self, position: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.members[position].name))
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

/// Ports that nobody listens at now.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let any = |_| TcpListener::bind(("127.0.0.1", 0));
    let listeners: Vec<_> = (0..count).map(any).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
