//! Writes at a steady rate, and how long they take.

use crate::PAYLOAD_BYTES;
use raft_kv::Client;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Clients that write at a steady rate: load, but not overload.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// Writes of one client in a second.
    pub rate: u32,
    /// How long they write.
    pub length: Duration,
    /// How many keys are written, each in its turn.
    pub keys: u64,
}

impl Steady {
    /// Has each of the clients write the keys that `key` names; prints how long that took, and
    /// returns all times. A write that begins late counts from when it was due.
    pub async fn measure(
        &self,
        clients: &[Client],
        key: fn(u64) -> String,
        what: &str,
    ) -> Vec<Duration> {
        let Self { rate, length, keys } = *self;
        let begin = Instant::now();
        let mut writing = JoinSet::new();
        for (client, writer) in clients.iter().cloned().zip(0..) {
            let (writers, pace) = (clients.len() as u64, Duration::from_secs(1) / rate);
            writing.spawn(async move {
                let (mut times, mut due) =
                    (Vec::new(), begin + pace / writers as u32 * writer as u32);
                let mut number = writer;
                while due < begin + length {
                    sleep_until(due).await;
                    let written = client.put(key(number % keys), vec![7; PAYLOAD_BYTES]).await;
                    written.expect("a healthy cluster");
                    times.push(due.elapsed());
                    due += pace;
                    number += writers;
                }
                times
            });
        }
        let times = writing.join_all().await.concat();
        let at = |part| quantile(&times, part);
        let (count, p50, p99, p999) = (times.len(), at(500), at(990), at(999));
        println!("{what}: {count}, p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms");
        times
    }
}

/// In milliseconds; `part` of a thousand are below it. No number if there are no times.
pub fn quantile(times: &[Duration], part: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let time = times.get((times.len() * part / 1000).min(last));
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
