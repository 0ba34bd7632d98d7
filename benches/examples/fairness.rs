//! Whether one client that asks ten times as much leaves the others alone.
//!
//! Eight clients work at a steady rate, each over its own connection; a ninth does the same, then
//! ten times as much, then as much as it can. That is done with puts and then with counts of all
//! keys, which are read a part at a time and by turns. Printed is how long the requests of the
//! eight took; it fails if their p99 beside one that asks ten times as much is over twice that
//! without.
//!
//! `cargo run --release -p benches --example fairness [N [KEYS]]`, where `N` is how many requests
//! of one client a node has under way at most (0 for the default), and `KEYS` how many keys are
//! counted.

use benches::{Bounds, Cluster, PAYLOAD_BYTES};
use raft_kv::Client;
use raft_kv::api::{Consistency, Keys, Op, Put, Range, Txn};
use raft_net_quic::Limits;
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Clients that are measured.
const CLIENTS: usize = 8;
/// Requests of one of them in a second.
const PUTS: u32 = 50;
const COUNTS: u32 = 2;
/// How long is measured, each time.
const MEASURED: Duration = Duration::from_secs(10);
/// Requests that the ninth has under way when it does as much as it can.
const FLOOD: usize = 4096;
/// Keys that are counted, unless another number is asked for.
const KEYS: u64 = 100_000;

/// What is asked.
#[derive(Clone, Copy)]
enum Work {
    Puts,
    Counts,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse().expect("a number"));
    let mut limits = Limits::default();
    if let Some(most) = arguments.next().filter(|most| *most > 0) {
        limits.client_requests_in_flight_max = most;
    }
    let keys = arguments.next().map_or(KEYS, |keys| u64::try_from(keys).expect("a number"));
    let cluster = Cluster::limited(&limits).await;
    let clients: Vec<_> = (0..=CLIENTS).map(|_| cluster.client()).collect();
    for client in &clients {
        client.put("warm", "up").await.expect("a cluster that works");
    }
    let mut bounds = Bounds::default();
    println!("{CLIENTS} clients, {PUTS} puts of {PAYLOAD_BYTES} bytes a second each");
    measure(&clients, Work::Puts, PUTS, &mut bounds).await;
    fill(&clients, keys).await;
    println!("{CLIENTS} clients, {COUNTS} counts of {keys} keys a second each");
    measure(&clients, Work::Counts, COUNTS, &mut bounds).await;
    cluster.stop().await;
    bounds.end()
}

/// Writes the keys that are counted.
async fn fill(clients: &[Client], keys: u64) {
    const AT_ONCE: u64 = 100;
    let mut writers = JoinSet::new();
    for (client, writer) in clients.iter().zip(0..) {
        let (client, step) = (client.clone(), clients.len() * AT_ONCE as usize);
        writers.spawn(async move {
            for first in (writer * AT_ONCE..keys).step_by(step) {
                let put = |number| Op::Put(Put::new(format!("k{number:09}"), ""));
                let success = (first..keys.min(first + AT_ONCE)).map(put).collect();
                let txn = Txn { success, ..Txn::default() };
                client.txn(txn).await.expect("a cluster that works");
            }
        });
    }
    writers.join_all().await;
}

/// Has the ninth do more and more, and looks at the others.
async fn measure(clients: &[Client], work: Work, rate: u32, bounds: &mut Bounds) {
    let [others @ .., ninth] = clients else { unreachable!("there are nine") };
    let mut usual = f64::NAN;
    for (what, more, under_way) in [
        ("the ninth like them", 1, 1),
        ("the ninth ten times as much", 10, 64),
        ("the ninth as much as it can", u32::MAX / rate, FLOOD),
        ("the ninth like them again", 1, 1),
    ] {
        let until = Instant::now() + MEASURED;
        let abuse = tokio::spawn(flood(ninth.clone(), work, more * rate, under_way, until));
        let mut measured = JoinSet::new();
        for (number, client) in others.iter().enumerate() {
            measured.spawn(steady(client.clone(), work, rate, number, until));
        }
        let mut times = measured.join_all().await.concat();
        times.sort_unstable();
        let done = abuse.await.expect("it does not panic");
        let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e3;
        println!(
            "{what}: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms; the ninth {:.0}/s",
            at(500),
            at(990),
            at(999),
            f64::from(done) / MEASURED.as_secs_f64(),
        );
        match more {
            1 => usual = at(990),
            10 => bounds.at_most("p99, times as much as usual", at(990) / usual, 2.0),
            _ => {}
        }
    }
}

/// Asks at a steady rate; how long each answer took.
async fn steady(
    client: Client,
    work: Work,
    rate: u32,
    number: usize,
    until: Instant,
) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut times = Vec::new();
    while Instant::now() < until {
        // What it waits for its turn counts: a late answer is late.
        let due = ticks.tick().await;
        ask(&client, work, number, times.len()).await;
        times.push(due.elapsed());
    }
    times
}

/// Asks at some rate, with so many under way at most; how many answers there were.
async fn flood(client: Client, work: Work, rate: u32, under_way: usize, until: Instant) -> u32 {
    let mut askers = JoinSet::new();
    let pause = Duration::from_secs(1) / rate * u32::try_from(under_way).expect("few");
    for asker in 0..under_way {
        let client = client.clone();
        askers.spawn(async move {
            let mut ticks = interval(pause.max(Duration::from_nanos(1)));
            let mut done = 0;
            while timeout_at(until, ticks.tick()).await.is_ok() && Instant::now() < until {
                ask(&client, work, CLIENTS + asker, done as usize).await;
                done += 1;
            }
            done
        });
    }
    askers.join_all().await.iter().sum()
}

/// An answer is what is measured, whatever it says.
async fn ask(client: &Client, work: Work, asker: usize, number: usize) {
    match work {
        Work::Puts => {
            let key = format!("{asker}/{}", number % 100);
            let _ = client.put(key, vec![7; PAYLOAD_BYTES]).await;
        }
        Work::Counts => {
            let all = Range { count_only: true, ..Range::of(Keys::all()) };
            let _ = client.get(all, Consistency::Linearizable).await;
        }
    }
}
