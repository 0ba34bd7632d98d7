//! What writes notice of the work behind them: their latency beside checkpoints, beside a node
//! that starts, beside one that comes back after as many writes as there are keys, and beside a
//! wiped one that is sent a snapshot; and how long a node of so many keys takes to start and to
//! catch up. Each node is asked for a checkpoint every two seconds.
//!
//! ```text
//! cargo run --release -p benches --example background_work -- 1000000 60
//! ```
//!
//! Three nodes, the clients and redb share one process, its processors and one disk; each phase
//! takes the given number of seconds. Writes that overlap such work are compared with writes that
//! overlap windows of the same lengths in which there was none: a slow write overlaps more of
//! either, so writes that overlap something are not to be compared with all others. It fails if
//! the p99 beside any of it is over twice that without, or if the members' states differ.

use benches::{Bounds, Cluster, Machine, payload};
use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::node::{Node, ReadMode};
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::types::{Run, SnapshotMeta};
use raft_kv::Client;
use raft_kv::api::{Query, Summary};
use raft_kv::codec::{decode, encode};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::process::ExitCode;
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

/// How often each node is asked for a checkpoint.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(2);
/// By how much a window is moved to find one without work.
const STEP: Duration = Duration::from_millis(250);

/// From when to when something was under way.
type Window = (Instant, Instant);

/// When there was work on any node.
#[derive(Default)]
struct Work(Mutex<Vec<Window>>);

impl Work {
    /// The work that ended since it was last asked.
    fn take(&self) -> Vec<Window> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

/// Counts as work while it lives.
struct Working {
    work: Arc<Work>,
    began: Instant,
}

impl Working {
    fn new(work: &Arc<Work>) -> Self {
        Self { work: Arc::clone(work), began: Instant::now() }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let window = (self.began, Instant::now());
        self.work.0.lock().expect("nobody panics with it").push(window);
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

    fn is_quick(&self, run: &Run) -> bool {
        self.machine.is_quick(run)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.machine.query(query)
    }

    fn quick_query(&self, query: &[u8]) -> Option<Bytes> {
        self.machine.quick_query(query)
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

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(keys)), Some(Ok(seconds))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: background_work KEYS SECONDS");
        std::process::exit(2);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(keys.max(1), Duration::from_secs(seconds)))
}

async fn measure(keys: u64, phase: Duration) -> ExitCode {
    let work = Arc::<Work>::default();
    let noticed = Arc::clone(&work);
    let around =
        move |machine| -> Machine { Box::new(Noticed { machine, work: Arc::clone(&noticed) }) };
    let mut cluster = Cluster::start_with(around).await;
    let client = cluster.client().with_deadline(Duration::from_secs(60));
    let began = Instant::now();
    fill(&client, keys).await;
    println!("{keys} keys written: {:.1} s", began.elapsed().as_secs_f64());

    work.take();
    let mut writing = tokio::spawn(write(client.clone(), keys, phase));
    let nodes: Vec<_> = cluster.nodes().cloned().collect();
    let mut turns = nodes.iter().cycle();
    let writes = loop {
        tokio::select! {
            writes = &mut writing => break writes.expect("it does not panic"),
            () = sleep(BETWEEN_CHECKPOINTS / 3) => {}
        }
        // One after another, as nodes do that count what they have applied.
        turns.next().expect("there are three").checkpoint().expect("it runs");
    };
    let mut bounds = Bounds::default();
    report("checkpoints", &writes, &work.take(), &mut bounds);

    for (wipe, away, what) in
        [(false, 0, "restarted"), (false, keys, "returning"), (true, 0, "wiped")]
    {
        let mut stopped = None;
        if away > 0 {
            stopped = Some(cluster.stop_follower().await);
            fill(&client, away).await;
            println!("{away} writes while a node was away");
        }
        let writing = tokio::spawn(write(client.clone(), keys, phase));
        sleep(phase / 3).await;
        work.take();
        let began = Instant::now();
        let stopped = match stopped {
            Some(stopped) => stopped,
            None => cluster.stop_follower().await,
        };
        let node = cluster.start_again(stopped, wipe);
        let started = began.elapsed();
        caught_up(&cluster, &node).await;
        let ended = Instant::now();
        let (started, all) = (started.as_secs_f64(), (ended - began).as_secs_f64());
        println!("{what} node: started after {started:.2} s, caught up after {all:.2} s");
        let writes = writing.await.expect("it does not panic");
        let mut windows = work.take();
        windows.push((began, ended));
        report(&format!("a {what} node"), &writes, &windows, &mut bounds);
        caught_up(&cluster, &node).await;
        let differ = states(&cluster).await.len() - 1;
        bounds.at_most("states of members, but for one", differ as f64, 0.0);
    }
    cluster.stop().await;
    bounds.end()
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

/// Writes at a steady pace, to keys all over the store; when each was due and answered.
async fn write(client: Client, keys: u64, phase: Duration) -> Vec<Window> {
    let until = tokio::time::Instant::now() + phase;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            let mut due = tokio::time::Instant::now() + PACE * number as u32 / CLIENTS as u32;
            let (mut writes, mut next) = (Vec::new(), number);
            while due < until {
                sleep_until(due).await;
                // A Weyl sequence: each key in its turn, far from the last one.
                let at = next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
                client.put(key(at), payload()).await.expect("a healthy cluster");
                writes.push((due.into_std(), Instant::now()));
                next += CLIENTS;
                due += PACE;
            }
            writes
        });
    }
    clients.join_all().await.concat()
}

/// Waits until the node has applied what the cluster had committed at some time.
async fn caught_up(cluster: &Cluster, node: &Node) {
    let committed = cluster.nodes().map(|node| node.status().commit_index).max();
    while Some(node.status().last_applied) < committed {
        node.status_changed().await;
    }
}

/// The states of the members, once all have applied the same: one, if they agree.
async fn states(cluster: &Cluster) -> BTreeSet<u64> {
    loop {
        let (mut applied, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for node in cluster.nodes() {
            let answer = node.query(encode(&Query::Summary), ReadMode::Local).await;
            let summary: Summary = decode(&answer.expect("it runs").reply).expect("its own");
            applied.insert(summary.last_applied);
            hashes.insert(summary.state_hash);
        }
        if applied.len() == 1 {
            return hashes;
        }
        // Whoever is behind is told of the next entry at the latest.
        sleep(STEP).await;
    }
}

fn report(what: &str, writes: &[Window], work: &[Window], bounds: &mut Bounds) {
    let quiet = quiet_windows(writes, work);
    let length = work.iter().map(|(from, to)| *to - *from).max().unwrap_or_default().as_secs_f64();
    println!("{what}: {} pieces of work, the longest {:.0} ms", work.len(), length * 1e3);
    let beside = print(&format!("writes beside {what}"), overlapping(writes, work));
    let without = format!("writes in {} windows as long without", quiet.len());
    let without = print(&without, overlapping(writes, &quiet));
    bounds.at_most(&format!("p99 beside {what}, times that without"), beside / without, 2.0);
}

/// Windows as long as those of the work, as near to them as there was no work.
fn quiet_windows(writes: &[Window], work: &[Window]) -> Vec<Window> {
    let (Some(first), Some(last)) = (
        writes.iter().map(|(due, _)| *due).min(),
        writes.iter().map(|(_, answered)| *answered).max(),
    ) else {
        return Vec::new();
    };
    let is_quiet = |window: &Window| {
        first <= window.0 && window.1 <= last && !work.iter().any(|other| overlap(window, other))
    };
    let near = |(from, to): &Window| {
        let earlier = |step| Some((from.checked_sub(STEP * step)?, to.checked_sub(STEP * step)?));
        let later = |step| Some((*from + STEP * step, *to + STEP * step));
        let steps = 1..=((last - first).as_millis() / STEP.as_millis()) as u32;
        steps.flat_map(|step| [earlier(step), later(step)]).flatten().find(is_quiet)
    };
    work.iter().filter_map(near).collect()
}

/// How long those took that overlap any of the windows, in order.
fn overlapping(writes: &[Window], windows: &[Window]) -> Vec<Duration> {
    let within = writes.iter().filter(|write| windows.iter().any(|window| overlap(write, window)));
    let mut latencies: Vec<_> = within.map(|(due, answered)| *answered - *due).collect();
    latencies.sort_unstable();
    latencies
}

fn overlap(one: &Window, other: &Window) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// Prints how long they took; the p99 in milliseconds.
fn print(what: &str, latencies: Vec<Duration>) -> f64 {
    let at = |part: f64| {
        let position = (latencies.len() as f64 * part) as usize;
        let latency = latencies.get(position.min(latencies.len().max(1) - 1));
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    let count = latencies.len();
    println!("  {what}: {count}, p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms");
    p99
}

fn key(number: u64) -> String {
    format!("key/{number:010}")
}
