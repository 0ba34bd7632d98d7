//! What it costs the state machine that time passes, with many leases that hold a key each, and
//! with many sessions of clients that are gone: by what ends, not by what there is.
//!
//! ```text
//! cargo run --release -p benches --example expiry -- 500000
//! ```
//!
//! The number is that of leases, and a seventh of it, or what the store takes, that of sessions.
//! Each is measured with a sixteenth of as many first. It fails if one that ends costs over four
//! times that, or if a step of time in which nothing ends takes over a millisecond.

use benches::{Bounds, run_of};
use raft_core::state_machine::StateMachine;
use raft_core::types::Index;
use raft_kv::api::{Action, ActionReply, Advance, Command, CommandReply, LeaseId, Op, Put};
use raft_kv::codec::{decode, encode};
use raft_kv::store::{KvStore, LEASES_MAX, SESSION_IDLE_MS, SESSIONS_MAX};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Seconds over which leases end, and steps of time in which nothing ends before and after.
const ENDING: u64 = 100;
const QUIET: u64 = 20;
/// Minutes over which sessions are opened: less than it takes the first of them to end.
const MINUTES: u64 = 50;
/// Entries applied at once.
const RUN: u64 = 256;
/// How much less there is of what is measured first.
const LESS: u64 = 16;
/// What one that ends may cost, times what it costs where there are fewer.
const BOUND: f64 = 4.0;
/// What a step in which nothing ends may take, in microseconds.
const IDLE_MAX: f64 = 1000.0;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;

fn main() -> ExitCode {
    let leases = std::env::args().nth(1).and_then(|argument| argument.parse::<u64>().ok());
    let least = ENDING * LESS;
    let Some(leases) = leases.filter(|leases| (least..=LEASES_MAX as u64).contains(leases)) else {
        eprintln!("usage: expiry LEASES, {least} to {LEASES_MAX}");
        return ExitCode::from(2);
    };
    let mut bounds = Bounds::default();
    let few = end_leases(leases / LESS);
    few.hold("leases", None, &mut bounds);
    end_leases(leases).hold("leases", Some(&few), &mut bounds);
    // When all places are taken the store drops some by itself.
    let sessions = (leases / 7).min(SESSIONS_MAX as u64 / LESS * (LESS - 1)).max(least);
    let few = end_sessions(sessions / LESS);
    few.hold("sessions", None, &mut bounds);
    end_sessions(sessions).hold("sessions", Some(&few), &mut bounds);
    bounds.end()
}

/// Leases that end in the seconds after the quiet ones, as many in each.
fn end_leases(leases: u64) -> Costs {
    let mut bench = Bench::new(|bench| bench.store.summary().keys);
    bench.apply(2 * leases, |index| {
        let number = index.div_ceil(2);
        let id = LeaseId(number);
        match index % 2 {
            1 => {
                let ttl_ms = (QUIET + 1 + number % ENDING) * SECOND_MS;
                Action::Grant { id: Some(id), ttl_ms }
            }
            _ => Action::Op(Op::Put(Put::new(format!("key/{number}"), "").with_lease(id))),
        }
    });
    // They begin to run with the first stamp after they were granted.
    let steps = (0..QUIET + ENDING + QUIET).map(|second| second * SECOND_MS);
    bench.measure(leases, steps)
}

/// Sessions that are opened, as many in each minute, and end an hour later.
fn end_sessions(sessions: u64) -> Costs {
    let mut bench = Bench::new(|bench| bench.store.summary().sessions);
    for minute in 0..MINUTES {
        let share = |minute: u64| minute * sessions / MINUTES;
        bench.apply(share(minute + 1) - share(minute), |_| Action::OpenSession);
        bench.pass(minute * MINUTE_MS);
    }
    let end = MINUTES + SESSION_IDLE_MS / MINUTE_MS + QUIET;
    bench.measure(sessions, (MINUTES..end).map(|minute| minute * MINUTE_MS))
}

/// What steps of time took.
struct Costs {
    count: u64,
    /// Those in which nothing ended, in order, and those in which something did.
    idle: Vec<Duration>,
    busy: Vec<Duration>,
}

impl Costs {
    fn hold(&self, what: &str, fewer: Option<&Self>, bounds: &mut Bounds) {
        let worst = self.busy.iter().max().copied().unwrap_or_default();
        println!("{} {what}", self.count);
        println!("  one that ends: {:.2} us", self.each());
        println!("  the longest of {} steps: {:.1} ms", self.busy.len(), micros(worst) / 1e3);
        let idle = self.idle.get(self.idle.len() / 2).copied();
        let idle = idle.map_or(f64::NAN, micros);
        bounds.at_most("a step in which none ends, in us", idle, IDLE_MAX);
        if let Some(fewer) = fewer {
            let times = self.each() / fewer.each();
            bounds.at_most("one that ends, times that where there are fewer", times, BOUND);
        }
    }

    /// Microseconds for each that ended.
    fn each(&self) -> f64 {
        micros(self.busy.iter().sum()) / self.count as f64
    }
}

struct Bench {
    store: KvStore,
    /// How many there are of what ends.
    left: fn(&Self) -> u64,
    /// The next entry.
    next: u64,
    /// The last stamp of time.
    stamp: u64,
}

impl Bench {
    fn new(left: fn(&Self) -> u64) -> Self {
        Self { store: KvStore::in_memory(), left, next: 1, stamp: 0 }
    }

    /// Applies so many commands.
    fn apply(&mut self, count: u64, action: impl Fn(u64) -> Action) {
        let end = self.next + count;
        while self.next < end {
            let count = RUN.min(end - self.next);
            let command =
                |index| encode(&Command { request: None, fence: None, action: action(index) });
            self.store.apply(&run_of(self.next, count, command));
            self.next += count;
        }
    }

    /// Has time pass until all have ended.
    fn measure(&mut self, count: u64, steps: impl Iterator<Item = u64>) -> Costs {
        assert_eq!((self.left)(self), count, "all of them are there");
        let mut costs = Costs { count, idle: Vec::new(), busy: Vec::new() };
        for time_ms in steps {
            let before = (self.left)(self);
            let took = self.pass(time_ms);
            let is_idle = (self.left)(self) == before;
            if is_idle { costs.idle.push(took) } else { costs.busy.push(took) }
        }
        assert_eq!((self.left)(self), 0, "all of them end");
        costs.idle.sort_unstable();
        costs
    }

    /// It is so late now; how long that took to apply, until nothing is left to do of it.
    fn pass(&mut self, time_ms: u64) -> Duration {
        let began = Instant::now();
        loop {
            let (seen, since) = (Index(self.next - 1), Index(self.stamp));
            let advance = Advance { time_ms, seen, renewed: Vec::new(), since };
            let command = Command { request: None, fence: None, action: Action::Advance(advance) };
            let replies = self.store.apply(&run_of(self.next, 1, |_| encode(&command)));
            (self.stamp, self.next) = (self.next, self.next + 1);
            // A stamp starts and ends a bounded number; leaders send the next one at once then.
            match replies.first().map(|reply| decode::<CommandReply>(reply)) {
                Some(Ok(Ok(ActionReply::Advanced { more: true, .. }))) => {}
                Some(Ok(Ok(ActionReply::Advanced { .. }))) => return began.elapsed(),
                other => panic!("not what a stamp answers: {other:?}"),
            }
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
