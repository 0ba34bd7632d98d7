//! What it costs the state machine that time passes, with many leases that hold a key each: per
//! second of the cluster's time, of which nothing happens in most.
//!
//! ```text
//! cargo run --release -p benches --example expiry -- 500000
//! ```

use benches::run_of;
use raft_core::state_machine::StateMachine;
use raft_core::types::Index;
use raft_kv::api::{Action, Advance, Command, LeaseId, Op, Put};
use raft_kv::codec::encode;
use raft_kv::store::{KvStore, LEASES_MAX};
use std::time::{Duration, Instant};

/// Seconds over which the leases end, and for which nothing ends before and after.
const ENDING: u64 = 100;
const QUIET: u64 = 20;
/// Entries applied at once.
const RUN: u64 = 256;

fn main() {
    let leases = std::env::args().nth(1).and_then(|argument| argument.parse::<u64>().ok());
    let Some(leases) = leases.filter(|leases| (ENDING..=LEASES_MAX as u64).contains(leases)) else {
        eprintln!("usage: expiry LEASES, {ENDING} to {LEASES_MAX}");
        std::process::exit(2);
    };
    let mut bench = Bench { store: KvStore::in_memory(), next: 1, stamp: 0 };
    bench.grant(leases);
    // Leases begin to run with the first stamp after they were granted.
    let mut before = bench.keys();
    let (mut idle, mut busy, mut ended) = (Vec::new(), Vec::new(), 0);
    for second in 0..QUIET + ENDING + QUIET {
        let took = bench.pass(second * 1000);
        let keys = bench.keys();
        let expired = before - keys;
        (before, ended) = (keys, ended + expired);
        if expired == 0 { idle.push(took) } else { busy.push((took, expired)) }
    }
    assert_eq!(ended, leases, "all of them end");
    idle.sort_unstable();
    let total: Duration = busy.iter().map(|(took, _)| *took).sum();
    let worst = busy.iter().map(|(took, _)| *took).max().unwrap_or_default();
    println!("{leases} leases with a key each");
    println!("a second in which none ends: {:.1} us", micros(idle[idle.len() / 2]));
    println!("one that ends, with its key: {:.2} us", micros(total) / ended as f64);
    println!(
        "the longest second, of {} that end some {} leases each: {:.1} ms",
        busy.len(),
        ended / busy.len() as u64,
        micros(worst) / 1e3
    );
}

struct Bench {
    store: KvStore,
    /// The next entry.
    next: u64,
    /// The last stamp of time.
    stamp: u64,
}

impl Bench {
    /// Grants leases that end in the seconds after `QUIET`, the same number in each.
    fn grant(&mut self, leases: u64) {
        let commands = |index: u64| {
            let number = index.div_ceil(2);
            let id = LeaseId(number);
            let action = match index % 2 {
                1 => {
                    let ttl_ms = (QUIET + 1 + number % ENDING) * 1000;
                    Action::Grant { id: Some(id), ttl_ms }
                }
                _ => Action::Op(Op::Put(Put::new(format!("key/{number}"), "").with_lease(id))),
            };
            encode(&Command { request: None, fence: None, action })
        };
        while self.next <= 2 * leases {
            let count = RUN.min(2 * leases + 1 - self.next);
            self.store.apply(&run_of(self.next, count, commands));
            self.next += count;
        }
    }

    /// It is so late now; how long that took to apply, until nothing is left to do of it.
    fn pass(&mut self, time_ms: u64) -> Duration {
        let began = Instant::now();
        loop {
            let before = self.keys();
            let (seen, since) = (Index(self.next - 1), Index(self.stamp));
            let advance = Advance { time_ms, seen, renewed: Vec::new(), since };
            let command = Command { request: None, fence: None, action: Action::Advance(advance) };
            self.store.apply(&run_of(self.next, 1, |_| encode(&command)));
            (self.stamp, self.next) = (self.next, self.next + 1);
            // A stamp ends a bounded number of leases; leaders send the next one at once then.
            if self.keys() == before {
                return began.elapsed();
            }
        }
    }

    fn keys(&self) -> u64 {
        self.store.summary().keys
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
