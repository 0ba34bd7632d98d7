//! What writes notice of the work behind them: their latency while nothing else happens, while
//! checkpoints are written, and while a wiped node is sent a snapshot; and how long a node of so
//! many keys takes to start and to catch up. A checkpoint is asked for every five seconds.
//!
//! ```text
//! cargo run --release -p benches --example background_work -- 1000000 60
//! ```
//!
//! Three nodes, the clients and redb share one process and its processors; each phase takes the
//! given number of seconds. `during` are the writes that overlap a checkpoint or a snapshot.

use benches::{Cluster, Machine, payload};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::node::Node;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{Run, SnapshotMeta};
use raft_kv::Client;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

/// Clients that fill the store.
const FILLERS: u64 = 512;
/// Clients whose latency is measured.
const CLIENTS: u64 = 32;
/// How long each of them waits between two writes: load, but not overload.
const PACE: Duration = Duration::from_millis(20);

/// How often checkpoints are asked for.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(5);

/// How much of each kind of work is under way, and was begun, on all nodes.
#[derive(Default)]
struct Work {
    now: AtomicU64,
    begun: AtomicU64,
}

/// Counts as work while it lives.
struct Working(Arc<Work>);

impl Working {
    fn new(work: &Arc<Work>) -> Self {
        work.now.fetch_add(1, Ordering::SeqCst);
        work.begun.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(work))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A state machine whose checkpoints and snapshots are noticed.
struct Noticed<M> {
    machine: M,
    work: Arc<Work>,
}

impl<M: StateMachine> StateMachine for Noticed<M> {
    fn applied(&self) -> SnapshotMeta {
        self.machine.applied()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.machine.apply(run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.machine.query(query)
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let working = Working::new(&self.work);
        let job = self.machine.checkpoint()?;
        Some(Box::new(move || {
            let _working = working;
            job()
        }))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let working = Working::new(&self.work);
        let Snapshot { meta, data } = self.machine.snapshot()?;
        Ok(Snapshot { meta, data: Box::new(Sent { data, _working: working }) })
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let _working = Working::new(&self.work);
        self.machine.restore(snapshot)
    }
}

/// A snapshot that is being sent.
struct Sent {
    data: Box<dyn Read + Send>,
    _working: Working,
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.data.read(buffer)
    }
}

/// Latencies of writes, in microseconds.
#[derive(Default)]
struct Latencies {
    quiet: Vec<u64>,
    during: Vec<u64>,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(keys)), Some(Ok(seconds))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: background_work KEYS SECONDS");
        std::process::exit(2);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(keys.max(1), Duration::from_secs(seconds)));
}

async fn measure(keys: u64, phase: Duration) {
    let work = Arc::<Work>::default();
    let noticed = Arc::clone(&work);
    let around =
        move |machine| -> Machine { Box::new(Noticed { machine, work: Arc::clone(&noticed) }) };
    let mut cluster = Cluster::start_with(around).await;
    let client = cluster.client().with_deadline(Duration::from_secs(60));
    let began = Instant::now();
    fill(&client, keys).await;
    println!("{keys} keys written: {:.1} s", began.elapsed().as_secs_f64());

    let mut writing = tokio::spawn(write(client.clone(), keys, phase, Arc::clone(&work)));
    let latencies = loop {
        tokio::select! {
            latencies = &mut writing => break latencies,
            () = sleep(BETWEEN_CHECKPOINTS) => {}
        }
        cluster.nodes().for_each(|node| node.checkpoint().expect("it runs"));
    };
    report("steady writes", latencies.expect("it does not panic"));

    for (wipe, what) in [(false, "restarted"), (true, "wiped")] {
        let writing = tokio::spawn(write(client.clone(), keys, phase, Arc::clone(&work)));
        let began = Instant::now();
        let node = cluster.restart_follower(wipe).await;
        let started = began.elapsed();
        caught_up(&cluster, &node).await;
        let (started, all) = (started.as_secs_f64(), began.elapsed().as_secs_f64());
        println!("{what} node: started after {started:.2} s, caught up after {all:.2} s");
        report(&format!("writes beside a {what} node"), writing.await.expect("it does not panic"));
    }
    println!("checkpoints and snapshots: {}", work.begun.load(Ordering::SeqCst));
    cluster.stop().await;
}

async fn fill(client: &Client, keys: u64) {
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let client = client.clone();
        fillers.spawn(async move {
            for number in (filler..keys).step_by(FILLERS as usize) {
                client.put(key(number), payload()).await.expect("a healthy cluster");
            }
        });
    }
    fillers.join_all().await;
}

/// Writes at a steady pace, and sorts the latencies by whether there was work meanwhile.
async fn write(client: Client, keys: u64, phase: Duration, work: Arc<Work>) -> Latencies {
    let latencies = Arc::<Mutex<Latencies>>::default();
    let until = tokio::time::Instant::now() + phase;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, latencies, work) = (client.clone(), Arc::clone(&latencies), Arc::clone(&work));
        clients.spawn(async move {
            let mut due = tokio::time::Instant::now() + PACE * number as u32 / CLIENTS as u32;
            let mut next = number;
            while due < until {
                sleep_until(due).await;
                let busy = || (work.now.load(Ordering::SeqCst), work.begun.load(Ordering::SeqCst));
                let before = busy();
                client.put(key(next % keys), payload()).await.expect("a healthy cluster");
                let micros = due.elapsed().as_micros() as u64;
                let quiet = before.0 == 0 && busy() == before;
                let mut latencies = latencies.lock().expect("nobody panics with it");
                let side = if quiet { &mut latencies.quiet } else { &mut latencies.during };
                side.push(micros);
                drop(latencies);
                next += CLIENTS;
                due += PACE;
            }
        });
    }
    clients.join_all().await;
    std::mem::take(&mut *latencies.lock().expect("nobody panics with it"))
}

/// Waits until the node has applied what the cluster had committed at some time.
async fn caught_up(cluster: &Cluster, node: &Node) {
    let committed = cluster.nodes().map(|node| node.status().commit_index).max();
    while Some(node.status().last_applied) < committed {
        node.status_changed().await;
    }
}

fn report(what: &str, latencies: Latencies) {
    for (when, mut micros) in [("quiet", latencies.quiet), ("during", latencies.during)] {
        micros.sort_unstable();
        let at = |part: f64| {
            let position = ((micros.len() as f64 * part) as usize).min(micros.len().max(1) - 1);
            micros.get(position).map_or(f64::NAN, |micros| *micros as f64 / 1e3)
        };
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        let count = micros.len();
        println!("{what}, {when}: {count} writes, p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms");
    }
}

fn key(number: u64) -> String {
    format!("key/{number:010}")
}
