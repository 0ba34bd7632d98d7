//! No lease ends early, whoever leads, whatever is delayed, and however slowly clocks run: the
//! stamps of several nodes, and a real store, in simulated time.

use super::super::stamp::{LastStamp, NextStamp};
use super::*;
use crate::api::{Advance, Command, CommandReply, LEASE_TTL_MIN_MS, LeaseId};
use crate::store::KvStore;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Entry, Payload, Run};
use std::collections::BTreeMap;

/// A small generator, so that a seed is all there is to know of a run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A node that may lead or believe that it does.
struct Clocked {
    /// How fast its monotonic clock runs, beside real time.
    rate: f64,
    last: LastStamp,
    /// The highest entry applied on it, and the state then.
    seen: (Index, Summary),
    /// Whether it waits for the outcome of a stamp.
    waits: bool,
}

/// A stamp on its way into the log.
struct Proposed {
    by: usize,
    /// When its maker looked at the clock.
    looked: f64,
    next: NextStamp,
    advance: Advance,
}

struct World {
    random: Random,
    /// Real time in seconds.
    now: f64,
    origin: Instant,
    nodes: Vec<Clocked>,
    proposed: Vec<Proposed>,
    store: KvStore,
    index: u64,
    /// From when on each lease has to live, and for how long.
    leases: BTreeMap<LeaseId, (f64, f64)>,
    ended: u64,
    refused: u64,
}

impl World {
    fn new(seed: u64, rates: &[f64]) -> Self {
        let node = |rate: &f64| Clocked {
            rate: *rate,
            last: LastStamp::default(),
            seen: (Index(0), Summary::default()),
            waits: false,
        };
        Self {
            random: Random(seed),
            now: 0.0,
            origin: Instant::now(),
            nodes: rates.iter().map(node).collect(),
            proposed: Vec::new(),
            store: KvStore::in_memory(),
            index: 0,
            leases: BTreeMap::new(),
            ended: 0,
            refused: 0,
        }
    }

    fn apply(&mut self, action: Action) -> CommandReply {
        self.index += 1;
        let command = codec::encode(&Command { request: None, fence: None, action });
        let entry = Entry { id: LogId::new(self.index, 1), payload: Payload::Command(command) };
        let run = Run::new(vec![entry]).expect("one entry is a run");
        let reply = codec::decode(&self.store.apply(&run).remove(0)).expect("a reply");
        self.check();
        reply
    }

    /// Whatever has ended has lived for as long as it had to.
    fn check(&mut self) {
        let answer = self.store.query(&codec::encode(&Query::Leases));
        let living: Vec<LeaseId> = codec::decode(&answer).expect("a list");
        let (now, mut ended) = (self.now, 0);
        self.leases.retain(|id, (since, ttl)| {
            let lives = living.binary_search(id).is_ok();
            // A nanosecond for what is lost in floating point numbers.
            assert!(lives || now - *since >= *ttl - 1e-9, "{id} ended after {}", now - *since);
            ended += u64::from(!lives);
            lives
        });
        self.ended += ended;
    }

    fn clock(&self, node: usize) -> Instant {
        self.origin + Duration::from_secs_f64(self.now * self.nodes[node].rate)
    }

    fn step(&mut self) {
        self.now += self.random.below(400_000) as f64 / 1e6;
        let node = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(10) {
            0 => self.grant(),
            1 => {
                // It restarts.
                self.nodes[node].last = LastStamp::default();
                self.nodes[node].waits = false;
            }
            // It gives up waiting; what it has proposed may come into the log all the same.
            2 if self.random.one_in(4) => {
                self.nodes[node].last.forget();
                self.nodes[node].waits = false;
            }
            2..=4 => self.look(node),
            5..=7 => self.propose(node),
            _ => self.commit(),
        }
    }

    fn grant(&mut self) {
        let ttl_ms = LEASE_TTL_MIN_MS + self.random.below(4_000);
        let Ok(ActionReply::Granted { id, .. }) = self.apply(Action::Grant { id: None, ttl_ms })
        else {
            panic!("there is room")
        };
        self.leases.insert(id, (self.now, ttl_ms as f64 / 1e3));
    }

    /// The node applies what there is, or some of it, and looks at the state.
    fn look(&mut self, node: usize) {
        let now = self.clock(node);
        let state = self.store.summary();
        let clocked = &mut self.nodes[node];
        if !self.random.one_in(3) {
            clocked.seen = (state.last_applied, state);
        }
        if !clocked.waits {
            clocked.last.saw(&clocked.seen.1, now);
        }
    }

    /// The node looks at its clock and proposes a stamp.
    fn propose(&mut self, node: usize) {
        let now = self.clock(node);
        let clocked = &mut self.nodes[node];
        let Some(next) = clocked.last.next(now).filter(|_| !clocked.waits) else { return };
        clocked.waits = true;
        let living: Vec<_> = self.leases.keys().copied().collect();
        let renewed = living.into_iter().filter(|_| self.random.one_in(6)).collect();
        let (time_ms, since, seen) = (next.time_ms, next.since, self.nodes[node].seen.0);
        let advance = Advance { time_ms, seen, renewed, since };
        self.proposed.push(Proposed { by: node, looked: self.now, next, advance });
    }

    /// One of the stamps on their way comes into the log, or is lost.
    fn commit(&mut self) {
        if self.proposed.is_empty() {
            return;
        }
        let which = self.random.below(self.proposed.len() as u64) as usize;
        let Proposed { by, looked, next, advance } = self.proposed.swap_remove(which);
        if self.random.one_in(5) {
            self.nodes[by].waits = false;
            self.nodes[by].last.forget();
            return;
        }
        let renewed = advance.renewed.clone();
        let reply = self.apply(Action::Advance(advance));
        let own = self.nodes[by].waits;
        self.nodes[by].waits = false;
        let Ok(ActionReply::Advanced { ttls_ms, .. }) = reply else {
            self.refused += 1;
            return self.nodes[by].last.forget();
        };
        for (id, ttl_ms) in renewed.iter().zip(ttls_ms) {
            if ttl_ms > 0 {
                let (since, _) = self.leases.get_mut(id).expect("it lives");
                *since = since.max(looked);
            }
        }
        if own {
            self.nodes[by].last.taken(next, Index(self.index));
            let state = self.store.summary();
            self.nodes[by].seen = (state.last_applied, state);
        }
    }
}

/// Runs some seeds, with clocks that run at these rates; how many leases ended.
fn run(rates: &[f64]) -> u64 {
    let (mut ended, mut refused) = (0, 0);
    for seed in 1..=100 {
        let mut world = World::new(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15), rates);
        for _ in 0..1_000 {
            world.step();
        }
        ended += world.ended;
        refused += world.refused;
    }
    assert!(refused > 100, "leaders meet: {refused}");
    ended
}

#[tokio::test(start_paused = true)]
async fn no_lease_ends_early_whoever_leads_and_however_slow_clocks_are() {
    let ended = run(&[1.0, 1.0, 1.0]);
    assert!(ended > 1_000, "{ended}");
    let ended = run(&[1.0, 0.9, 0.4]);
    assert!(ended > 500, "{ended}");
}

/// A clock that gains a second in ten takes that from leases, and no more.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "ended after")]
async fn a_clock_that_is_fast_is_seen() {
    run(&[1.5, 1.0, 1.0]);
}
