//! Whether one client that asks ten times as much leaves the others alone.
//!
//! Eight clients put at a steady rate, each over its own connection; a ninth does the same, then
//! ten times as much, then as much as it can. Printed is how long the puts of the eight took; it
//! fails if their p99 beside one that asks ten times as much is over twice that without.
//!
//! `cargo run --release -p benches --example fairness [N]`, where `N` is how many requests of one
//! client a node has under way at most.

use benches::{Bounds, Cluster, PAYLOAD_BYTES};
use raft_kv::Client;
use raft_net_quic::Limits;
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Clients that are measured.
const CLIENTS: usize = 8;
/// Puts of one of them in a second.
const RATE: u32 = 50;
/// How long is measured, each time.
const MEASURED: Duration = Duration::from_secs(10);
/// Puts that the ninth has under way when it does as much as it can.
const FLOOD: usize = 4096;

#[tokio::main]
async fn main() -> ExitCode {
    let mut limits = Limits::default();
    if let Some(most) = std::env::args().nth(1) {
        limits.client_requests_in_flight_max = most.parse().expect("a number");
    }
    let cluster = Cluster::limited(&limits).await;
    let clients: Vec<_> = (0..=CLIENTS).map(|_| cluster.client()).collect();
    for client in &clients {
        client.put("warm", "up").await.expect("a cluster that works");
    }
    let [others @ .., ninth] = &clients[..] else { unreachable!("there are nine") };
    let (mut bounds, mut usual) = (Bounds::default(), f64::NAN);
    println!("{CLIENTS} clients, {RATE} puts of {PAYLOAD_BYTES} bytes a second each");
    for (what, rate, under_way) in [
        ("the ninth like them", RATE, 1),
        ("the ninth ten times as much", 10 * RATE, 64),
        ("the ninth as much as it can", u32::MAX, FLOOD),
        ("the ninth like them again", RATE, 1),
    ] {
        let until = Instant::now() + MEASURED;
        let abuse = tokio::spawn(flood(ninth.clone(), rate, under_way, until));
        let mut measured = JoinSet::new();
        for (number, client) in others.iter().enumerate() {
            measured.spawn(steady(client.clone(), number, until));
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
        match rate / RATE {
            1 => usual = at(990),
            10 => bounds.at_most("p99, times as much as usual", at(990) / usual, 2.0),
            _ => {}
        }
    }
    cluster.stop().await;
    bounds.end()
}

/// Puts at a steady rate; how long each took.
async fn steady(client: Client, number: usize, until: Instant) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut times = Vec::new();
    while Instant::now() < until {
        // What it waits for its turn counts: a late put is late.
        let due = ticks.tick().await;
        put(&client, number, times.len()).await;
        times.push(due.elapsed());
    }
    times
}

/// Puts at some rate, with so many under way at most; how many were done.
async fn flood(client: Client, rate: u32, under_way: usize, until: Instant) -> u32 {
    let mut writers = JoinSet::new();
    let pause = Duration::from_secs(1) / rate * u32::try_from(under_way).expect("few");
    for writer in 0..under_way {
        let client = client.clone();
        writers.spawn(async move {
            let mut ticks = interval(pause.max(Duration::from_nanos(1)));
            let mut done = 0;
            while timeout_at(until, ticks.tick()).await.is_ok() && Instant::now() < until {
                put(&client, CLIENTS + writer, done as usize).await;
                done += 1;
            }
            done
        });
    }
    writers.join_all().await.iter().sum()
}

async fn put(client: &Client, writer: usize, number: usize) {
    let key = format!("{writer}/{}", number % 100);
    // An answer is what is measured, whatever it says.
    let _ = client.put(key, vec![7; PAYLOAD_BYTES]).await;
}
