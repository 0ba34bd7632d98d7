//! Many seeds, on all cores, and what they have covered between them.

use super::{Event, Failure, Simulation, Workload};
use crate::state_machine::StateMachine;
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What some runs have covered between them.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// How many runs.
    pub runs: u64,
    /// Events that did something.
    pub events: u64,
    /// The fewest of any run.
    pub events_min: u64,
    /// What clients have asked and a node has taken in.
    pub operations: u64,
    /// The least of any run.
    pub operations_min: u64,
    /// How often each event has happened and did something.
    pub happened: BTreeMap<Event, u64>,
    /// How often each step of the [`Spec`](crate::testing::Spec) was taken.
    pub steps: BTreeMap<&'static str, u64>,
    /// The longest it took to have a leader again once faults had ended, in ticks.
    pub leader_ticks_max: u64,
    /// The longest it took until all was well.
    pub whole_ticks_max: u64,
    /// Ticks of the fastest clocks.
    pub ticks: u64,
    /// Time that runs took, added up.
    pub busy: Duration,
}

impl Sweep {
    /// Events in each second of a core's time, recovery and judgement included.
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.busy.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The events that have never happened.
    pub fn missing(&self) -> Vec<Event> {
        let never = |event: &Event| !self.happened.contains_key(event);
        Event::ALL.iter().copied().filter(never).collect()
    }

    fn add<M: StateMachine, W: Workload<M>>(&mut self, run: &Simulation<M, W>, busy: Duration) {
        let (events, operations) = (run.events() as u64, run.operations());
        self.events_min = if self.runs == 0 { events } else { self.events_min.min(events) };
        self.operations_min =
            if self.runs == 0 { operations } else { self.operations_min.min(operations) };
        self.runs += 1;
        self.events += events;
        self.operations += operations;
        self.ticks += run.ticks();
        self.busy += busy;
        for event in Event::ALL.iter().filter(|event| run.happened(**event) > 0) {
            *self.happened.entry(*event).or_default() += run.happened(*event);
        }
        for (step, count) in run.cluster().spec().steps() {
            *self.steps.entry(step).or_default() += count;
        }
        if let Some(recovery) = run.recovery() {
            self.leader_ticks_max = self.leader_ticks_max.max(recovery.leader_ticks);
            self.whole_ticks_max = self.whole_ticks_max.max(recovery.whole_ticks);
        }
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, events, events_min, operations, operations_min, busy, .. } = self;
        writeln!(f, "{runs} seeds: {events} events ({events_min} or more each),")?;
        writeln!(f, "{operations} client operations ({operations_min} or more each),")?;
        let Self { ticks, leader_ticks_max, whole_ticks_max, .. } = self;
        writeln!(f, "{ticks} ticks; then a leader within {leader_ticks_max}, all well within")?;
        let per_second = self.events_per_second();
        writeln!(f, "{whole_ticks_max}. {busy:.1?}, {per_second:.0} events per second and core")?;
        writeln!(f, "{:?}", self.happened)?;
        write!(f, "{:?}", self.steps)
    }
}

/// Runs `run` for every one of `seeds`, on as many threads as there are cores.
///
/// # Errors
/// The failure of the lowest seed that is known to fail; no more are begun once one has.
pub fn sweep<M: StateMachine, W: Workload<M>>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<Simulation<M, W>, Box<Failure>> + Sync,
) -> Result<Sweep, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let result = Mutex::new((Sweep::default(), None::<Box<Failure>>));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let began = Instant::now();
            let outcome = run(seed);
            let busy = began.elapsed();
            let mut result = result.lock().expect("no thread panics with it");
            match outcome {
                Ok(simulation) => result.0.add(&simulation, busy),
                Err(failure) => {
                    failed.store(true, Ordering::Relaxed);
                    if result.1.as_ref().is_none_or(|known| known.seed > seed) {
                        result.1 = Some(failure);
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let (sweep, failure) = result.into_inner().expect("no thread panics with it");
    failure.map_or(Ok(sweep), Err)
}

/// The seeds that the environment asks for by `SIM_SEEDS=A..B`, or else `usual`.
///
/// # Panics
/// If it asks for something else.
pub fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(text) = env::var("SIM_SEEDS") else { return usual };
    let (from, to) = text.split_once("..").expect("SIM_SEEDS=A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}
