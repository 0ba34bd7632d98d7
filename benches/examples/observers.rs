//! What writes notice of members that do not vote: of one with thousands of watchers, and of one
//! that is 100 ms away.
//!
//! ```text
//! cargo run --release -p benches --example observers -- 4000 30
//! ```
//!
//! The first number is how many watches there are on the observer that is near, the second how
//! many seconds each phase takes. Each watch is of one of a thousand keys, which clients of the
//! voters write at a steady rate. All nodes, clients and watchers share one process and its
//! processors; the far observer is reached, and reaches the others, through proxies that keep each
//! datagram for 50 ms. Before, between and after both the same writes are measured without: what a
//! machine does else is then in all of them. It fails if the p99 beside an observer is over 1.5
//! times that without, or if the watchers are not told all.

use benches::{Bounds, Cluster, Steady, quantile};
use raft_core::types::NodeId;
use raft_kv::Client;
use raft_kv::api::{EventKind, Keys, Revision, Watch};
use raft_kv::client::{WatchBatch, Watcher};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Keys that are written.
const KEYS: u64 = 1000;
/// Clients that write, and how often each does in a second.
const WRITERS: usize = 8;
const RATE: u32 = 25;
/// Watches that share a connection.
const WATCHES_PER_CLIENT: usize = 100;
/// How much longer datagrams to and from the far observer take, each way.
const DELAY: Duration = Duration::from_millis(50);
/// What the p99 may be, times that without.
const BOUND: f64 = 1.5;
/// How long what was written may take to be told.
const PATIENCE: Duration = Duration::from_secs(30);

const NEAR: NodeId = NodeId(5);
const FAR: NodeId = NodeId(4);

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(watches)), Some(Ok(seconds))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: observers WATCHES SECONDS");
        std::process::exit(2);
    };
    let mut cluster = Cluster::with_far(FAR, DELAY).await;
    let clients: Vec<Client> = (0..WRITERS).map(|_| cluster.client()).collect();
    for number in 0..KEYS {
        clients[0].put(key(number), "first").await.expect("a healthy cluster");
    }
    let steady = Steady { rate: RATE, length: Duration::from_secs(seconds), keys: KEYS };
    let mut bounds = Bounds::default();

    let mut without = steady.measure(&clients, key, "writes").await;
    cluster.add_observer(NEAR).await;
    let told = Watchers::begin(&cluster, watches).await;
    let watched = steady.measure(&clients, key, "writes beside watchers").await;
    let wrong = told.end(&clients[0]).await;
    bounds.at_most("watchers that were not told all", wrong as f64, 0.0);
    cluster.remove(NEAR).await;
    without.extend(steady.measure(&clients, key, "writes").await);

    let node = cluster.add_observer(FAR).await;
    let far = steady.measure(&clients, key, "writes beside a far observer").await;
    let committed = cluster.nodes().map(|node| node.status().commit_index).max();
    while Some(node.status().last_applied) < committed {
        node.status_changed().await;
    }
    println!("it has come to entry {}", node.status().last_applied);
    cluster.remove(FAR).await;
    without.extend(steady.measure(&clients, key, "writes").await);

    let times = |beside: &[Duration]| quantile(beside, 990) / quantile(&without, 990);
    bounds.at_most("p99 beside watchers, times that without", times(&watched), BOUND);
    bounds.at_most("p99 beside a far observer, times that without", times(&far), BOUND);
    cluster.stop().await;
    bounds.end()
}

fn key(number: u64) -> String {
    format!("key/{number:04}")
}

/// Watchers, each of one key.
struct Watchers {
    watching: JoinSet<Told>,
    /// How often each key had been written when they began; nobody wrote meanwhile.
    begun: Vec<u64>,
    /// At which revision they may end.
    end: watch::Sender<Option<Revision>>,
    /// Whose connections they are.
    _clients: Vec<Client>,
}

/// What a watcher was told of its key.
struct Told {
    number: u64,
    changes: u64,
    /// The version that the last change made.
    version: u64,
}

impl Watchers {
    async fn begin(cluster: &Cluster, watches: u64) -> Self {
        let begun = versions(&cluster.client()).await.0;
        let (end, ends) = watch::channel(None);
        let (mut watching, mut clients) = (JoinSet::new(), Vec::new());
        let mut client = cluster.client_of(NEAR);
        for number in 0..watches {
            if (number as usize).is_multiple_of(WATCHES_PER_CLIENT) {
                client = cluster.client_of(NEAR);
                clients.push(client.clone());
            }
            let number = number % KEYS;
            let watcher = client.watch(Watch::of(Keys::One(key(number).into())));
            watcher.begun().await;
            watching.spawn(follow(number, watcher, ends.clone()));
        }
        Self { watching, begun, end, _clients: clients }
    }

    /// How many of them were not told of every change of their key, once each.
    async fn end(mut self, client: &Client) -> u64 {
        let (now, last) = versions(client).await;
        self.end.send_replace(Some(last));
        let mut wrong = 0;
        while let Some(told) = self.watching.join_next().await {
            let Told { number, changes, version } = told.expect("it only counts");
            let (begun, now) = (self.begun[number as usize], now[number as usize]);
            let is_right = changes == now - begun && (changes == 0 || version == now);
            wrong += u64::from(!is_right);
        }
        wrong
    }
}

/// How often each key was written, and when the last of them was.
async fn versions(client: &Client) -> (Vec<u64>, Revision) {
    let (mut versions, mut last) = (Vec::new(), Revision(0));
    for number in 0..KEYS {
        let pair = client.get_one(key(number)).await.expect("a healthy cluster");
        let pair = pair.expect("it was written");
        versions.push(pair.version);
        last = last.max(pair.mod_revision);
    }
    (versions, last)
}

/// Counts what a watch of a key tells, until it may end.
async fn follow(
    number: u64,
    mut watcher: Watcher,
    mut ends: watch::Receiver<Option<Revision>>,
) -> Told {
    let mut told = Told { number, changes: 0, version: 0 };
    loop {
        tokio::select! {
            batch = watcher.next() => {
                told.take(&batch.expect("it goes on").expect("nothing is compacted"));
            }
            _ = ends.changed() => break,
        }
    }
    let last = ends.borrow().unwrap_or_default();
    let rest = timeout(PATIENCE, watcher.caught_up(last)).await;
    for batch in rest.iter().flatten().flatten() {
        told.take(batch);
    }
    told
}

impl Told {
    fn take(&mut self, batch: &WatchBatch) {
        for event in &batch.events {
            let EventKind::Put(pair) = &event.kind else { continue };
            self.changes += 1;
            self.version = pair.version;
        }
    }
}
