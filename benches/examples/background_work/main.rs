//! What writes notice of the work behind them: their latency beside checkpoints, beside a node
//! that starts, beside one that comes back after as many writes as there are keys, and beside a
//! wiped one that is sent a snapshot; and how long a node of so many keys takes to start and to
//! catch up.
//!
//! ```text
//! cargo build --release -p raft-cli
//! cargo run --release -p benches --example background_work -- 1000000 60
//! ```
//!
//! The nodes are three processes, as users have them, and share the machine's processors and one
//! disk with each other and the clients; each phase takes the given number of seconds. Writes that
//! overlap such work are compared with writes that overlap windows of the same lengths in which
//! there was none: a slow write overlaps more of either, so writes that overlap something are not
//! to be compared with all others. It fails if the p99 beside any of it is over twice that without,
//! or if the members' states differ. A file on the same disk tells when no flush was done at all,
//! whoever was to blame: each line is printed without the writes of those times, too.

mod disk;
mod nodes;
mod windows;

use benches::processes::Stores;
use benches::{Bounds, Fallible, payload, quantile, spread_key};
use clap::Parser;
use disk::Disk;
use nodes::{Checkpoints, Nodes};
use raft_kv::Client;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use windows::{Window, overlapping, quiet_windows, without};

/// Clients that fill the store.
const FILLERS: u64 = 512;
/// Clients whose latency is measured.
const CLIENTS: u64 = 32;
/// How long each of them waits between two writes: load, but not overload.
const PACE: Duration = Duration::from_millis(20);

/// Measures latencies beside work in the background.
#[derive(Parser)]
struct Arguments {
    /// How many keys there are.
    keys: u64,
    /// How long each phase takes, in seconds.
    seconds: u64,
    #[command(flatten)]
    stores: Stores,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build();
    match runtime.map_err(Into::into).and_then(|it| it.block_on(measure(&arguments))) {
        Ok(bounds) => bounds.end(),
        Err(error) => benches::ended(Err(error)),
    }
}

async fn measure(arguments: &Arguments) -> Fallible<Bounds> {
    let (keys, phase) = (arguments.keys.max(1), Duration::from_secs(arguments.seconds));
    let mut nodes = Nodes::start(&arguments.stores)?;
    let disk = Disk::watch(&arguments.stores.folder())?;
    let began = Instant::now();
    fill(&nodes.client, keys).await?;
    println!("{keys} keys written: {:.1} s", began.elapsed().as_secs_f64());

    let mut bounds = Bounds::default();
    let checkpoints = Checkpoints::watch(nodes.processes.ids());
    disk.stops();
    let writes = write(nodes.client.clone(), keys, phase).await?;
    report("checkpoints", &writes, &checkpoints.take(), &disk.stops(), &mut bounds);
    drop(checkpoints);

    for (wipe, away, what) in
        [(false, 0, "restarted"), (false, keys, "returning"), (true, 0, "wiped")]
    {
        let mut stopped = None;
        if away > 0 {
            stopped = Some(tokio::task::block_in_place(|| nodes.stop_follower())?);
            fill(&nodes.client, away).await?;
            println!("{away} writes while a node was away");
        }
        disk.stops();
        let writing = tokio::spawn(write(nodes.client.clone(), keys, phase));
        sleep(phase / 3).await;
        // A node that has only just begun with a checkpoint is not looked for here.
        let checkpoints = Checkpoints::watch(nodes.processes.ids());
        let began = Instant::now();
        let node = start_again(&mut nodes, stopped, wipe).await?;
        let ended = Instant::now();
        println!("{what} node: caught up after {:.2} s", (ended - began).as_secs_f64());
        let writes = writing.await??;
        let mut windows = checkpoints.take();
        windows.push((began, ended));
        report(&format!("a {what} node"), &writes, &windows, &disk.stops(), &mut bounds);
        nodes.caught_up(node).await;
        let differ = nodes.states().await.len() - 1;
        bounds.at_most("states of members, but for one", differ as f64, 0.0);
    }
    Ok(bounds)
}

/// Stops a node, if none is, and starts it again; returns it once it has caught up.
async fn start_again(nodes: &mut Nodes, stopped: Option<usize>, wipe: bool) -> Fallible<usize> {
    // What waits for processes is not to keep the clients waiting.
    let node = tokio::task::block_in_place(|| {
        let node = match stopped {
            Some(node) => node,
            None => nodes.stop_follower()?,
        };
        match wipe {
            true => nodes.processes.start_wiped(node).map(drop)?,
            false => nodes.processes.start_again(node)?,
        }
        Fallible::Ok(node)
    })?;
    nodes.caught_up(node).await;
    Ok(node)
}

async fn fill(client: &Client, keys: u64) -> Fallible<()> {
    let mut fillers = JoinSet::new();
    for filler in 0..FILLERS {
        let client = client.clone();
        fillers.spawn(async move {
            for number in (filler..keys).step_by(FILLERS as usize) {
                client.put(spread_key(number, keys), payload()).await?;
            }
            Fallible::Ok(())
        });
    }
    fillers.join_all().await.into_iter().collect()
}

/// Writes at a steady pace, to keys all over the store; when each was due and answered.
async fn write(client: Client, keys: u64, phase: Duration) -> Fallible<Vec<Window>> {
    let until = tokio::time::Instant::now() + phase;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            let mut due = tokio::time::Instant::now() + PACE * number as u32 / CLIENTS as u32;
            let (mut writes, mut next) = (Vec::new(), number);
            while due < until {
                sleep_until(due).await;
                client.put(spread_key(next, keys), payload()).await?;
                writes.push((due.into_std(), Instant::now()));
                next += CLIENTS;
                due += PACE;
            }
            Fallible::Ok(writes)
        });
    }
    let writes: Vec<_> = clients.join_all().await.into_iter().collect::<Fallible<_>>()?;
    Ok(writes.concat())
}

fn report(what: &str, writes: &[Window], work: &[Window], stops: &[Window], bounds: &mut Bounds) {
    let quiet = quiet_windows(writes, work);
    let length = work.iter().map(|(from, to)| *to - *from).max().unwrap_or_default().as_secs_f64();
    println!("{what}: {} pieces of work, the longest {:.0} ms", work.len(), length * 1e3);
    let undisturbed = without(writes, stops);
    let print = |title: &str, windows: &[Window]| {
        let p99 = print(title, &overlapping(writes, windows));
        let stood = overlapping(stops, windows);
        if !stood.is_empty() {
            let longest = quantile(&stood, 1000);
            println!("  the disk stood still {} times, for {longest:.0} ms at most", stood.len());
            print(&format!("{title}, but for those times"), &overlapping(&undisturbed, windows));
        }
        p99
    };
    let beside = print(&format!("writes beside {what}"), work);
    let quietly = print(&format!("writes in {} windows as long without", quiet.len()), &quiet);
    bounds.at_most(&format!("p99 beside {what}, times that without"), beside / quietly, 2.0);
}

/// Prints how long they took; the p99 in milliseconds.
fn print(what: &str, latencies: &[Duration]) -> f64 {
    let at = |part| quantile(latencies, part);
    let (count, p50, p99, p999) = (latencies.len(), at(500), at(990), at(999));
    println!("  {what}: {count}, p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms");
    p99
}
