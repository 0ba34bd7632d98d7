//! The three processes: what they say of themselves, and when they write checkpoints.

use crate::windows::Window;
use benches::Fallible;
use benches::processes::{MEMBERS, Processes, Stores, has_thread};
use raft_cli::args::connection::Target;
use raft_cli::client::connector;
use raft_kv::Client;
use raft_kv::api::NodeStatus;
use raft_kv::client::ClientOptions;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often it is looked what the nodes do.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How long a request may take, while a node is away or comes back.
const PATIENCE: Duration = Duration::from_secs(60);
/// A checkpoint of each node every few seconds, at the pace of the writes.
const CHECKPOINT_BYTES: &str = "4MiB";
/// The thread that writes it.
const CHECKPOINT_THREAD: &str = "raft-checkpoint";

/// See the module.
pub(super) struct Nodes {
    pub(super) processes: Processes,
    pub(super) client: Client,
}

impl Nodes {
    /// Starts them.
    pub(super) fn start(stores: &Stores) -> Fallible<Self> {
        let mut ours = stores.ours()?;
        ours.flags.extend(["--checkpoint-bytes", CHECKPOINT_BYTES].map(Into::into));
        let mut processes = Processes::start(ours, &stores.folder())?;
        processes.leader()?;
        let endpoints = processes.peers();
        // With etcd's flags and no certificates, members prove nothing.
        let target = Target {
            endpoints: endpoints.clone(),
            ca: None,
            identity: None,
            user: None,
            password_file: None,
            deadline: None,
        };
        let client = Client::new(connector(&target)?, ClientOptions::new(endpoints));
        Ok(Self { processes, client: client.with_deadline(PATIENCE) })
    }

    /// Stops one that does not lead, as it is asked to; which.
    pub(super) fn stop_follower(&mut self) -> Fallible<usize> {
        let follower = (self.processes.leader()? + 1) % MEMBERS;
        self.processes.stop(follower)?;
        Ok(follower)
    }

    /// What each of them says of itself, if it does.
    async fn statuses(&self) -> Vec<Option<NodeStatus>> {
        let client = self.client.with_deadline(Duration::from_secs(1));
        let mut statuses = Vec::new();
        for peer in self.processes.peers() {
            statuses.push(client.status(&peer).await.ok());
        }
        statuses
    }

    /// Waits until a node has applied what the cluster had committed when it was asked first.
    pub(super) async fn caught_up(&self, position: usize) {
        let statuses = self.statuses().await;
        let committed = statuses.iter().flatten().map(|status| status.commit_index).max();
        loop {
            let status = self.statuses().await.swap_remove(position);
            if status.is_some_and(|status| Some(status.last_applied) >= committed) {
                return;
            }
            sleep(BETWEEN_LOOKS).await;
        }
    }

    /// The states of the members, once all have applied the same: one, if they agree.
    pub(super) async fn states(&self) -> BTreeSet<u64> {
        loop {
            let statuses = self.statuses().await;
            let applied: BTreeSet<_> =
                statuses.iter().map(|it| it.as_ref().map(|it| it.last_applied)).collect();
            if applied.len() == 1 && statuses.iter().all(Option::is_some) {
                return statuses.into_iter().flatten().map(|status| status.state_hash).collect();
            }
            // Whoever is behind is told of the next entry at the latest.
            sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// When any of the processes writes a checkpoint: while it has a thread for it.
pub(super) struct Checkpoints {
    seen: Arc<Mutex<Vec<Window>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Looks for them from now on.
    pub(super) fn watch(processes: Vec<u32>) -> Self {
        let seen = Arc::<Mutex<Vec<Window>>>::default();
        let is_over = Arc::<AtomicBool>::default();
        let (pushed, ends) = (Arc::clone(&seen), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut begun: Vec<Option<Instant>> = vec![None; processes.len()];
            while !ends.load(Ordering::Relaxed) {
                for (process, begun) in processes.iter().zip(&mut begun) {
                    let now = Instant::now();
                    match (has_thread(*process, CHECKPOINT_THREAD), begun.is_some()) {
                        (true, false) => *begun = Some(now),
                        (false, true) => {
                            let window = begun.take().map(|begun| (begun, now));
                            pushed.lock().expect("nobody panics with it").extend(window);
                        }
                        _ => {}
                    }
                }
                thread::sleep(BETWEEN_LOOKS);
            }
        });
        Self { seen, is_over, thread: Some(thread) }
    }

    /// Those that have ended.
    pub(super) fn take(&self) -> Vec<Window> {
        std::mem::take(&mut *self.seen.lock().expect("nobody panics with it"))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}
