//! Random runs of whole clusters: whatever networks, disks, clocks and operators do, the invariants
//! hold and clients see one copy; and once the faults end, all is soon well again.
//!
//! `SIM_SEEDS=A..B` chooses the seeds. A failure prints the few events it takes, their trace, and a
//! script that does the same; a seed always fails the same way.

use raft_core::testing::{
    CellClients, Cells, Event, Failure, Simulation, SimulationConfig, examine, seeds, sweep,
};
use std::collections::BTreeSet;

/// Seeds of a usual run: half a minute of one core, if the core is optimized.
const SEEDS: u64 = 1000;

/// So many runs and more must between them have seen every kind of event.
const SEEDS_TELLING: u64 = 200;

/// Seeds that once failed. In two, a learner's disk was lost right after a voter's, and what the
/// learner had acknowledged still made it a voter. In two, a voter's disk was lost while a change
/// that needs it was on its way from a leader that had crashed, and in nobody's log yet.
const SEEDS_FAILED: [u64; 4] = [61684, 66527, 79485, 90873];

/// Events and client operations of every run.
const EVENTS_MIN: u64 = 10_000;
const OPERATIONS_MIN: u64 = 200;

/// Kinds of steps that the specification has.
const STEPS: usize = 11;

type Run = Simulation<Cells, CellClients>;

fn make(config: SimulationConfig) -> Run {
    let clients = CellClients::new(config.clients);
    Simulation::new(Cells::machines(), clients, config)
}

fn run(seed: u64) -> Result<Run, Box<Failure>> {
    let judge = |run: &mut Run| run.workload().judge().map_err(|failure| failure.to_string());
    examine(&SimulationConfig::of(seed), make, judge)
}

#[test]
fn any_order_of_events_keeps_the_invariants() {
    let seeds = seeds(0..SEEDS);
    let covered = sweep(seeds.clone(), run).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{covered}");
    assert!(covered.events_min >= EVENTS_MIN, "{covered}");
    assert!(covered.operations_min >= OPERATIONS_MIN, "{covered}");
    if seeds.end - seeds.start >= SEEDS_TELLING {
        // What never happens tests nothing.
        assert_eq!(covered.missing(), [], "{covered}");
        assert_eq!(covered.steps.len(), STEPS, "{covered}");
    }
}

#[test]
fn what_failed_once_passes() {
    for seed in SEEDS_FAILED {
        run(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_seed_is_one_run_bit_for_bit() {
    let hash = |seed| {
        let run = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        run.trace_hash()
    };
    let first: Vec<u64> = (0..8).map(hash).collect();
    assert_eq!((0..8).map(hash).collect::<Vec<_>>(), first);
    assert_ne!(first[0], first[1]);
}

/// The documentation tells how many there are; so many there are.
#[test]
fn there_are_as_many_kinds_of_faults_as_promised() {
    let text = include_str!("../../../docs/checked.md").split_whitespace().collect::<Vec<_>>();
    let (all, faults) = (Event::ALL.len(), Event::faults().count());
    let told = format!("some of {all} kinds of events, {faults} of them faults");
    assert!(text.join(" ").contains(&told), "checked.md is to say: {told}");
    // And every one of them is switched on in some runs.
    let on = |seed| SimulationConfig::of(seed).weights.into_iter().map(|(event, _)| event);
    let on: BTreeSet<Event> = (0..SEEDS_TELLING).flat_map(on).collect();
    let never: Vec<Event> = Event::faults().filter(|event| !on.contains(event)).collect();
    assert_eq!(never, []);
}

/// A run that fails after much more than is printed: what is left out is in the middle, so that
/// the script still says of what cluster it is.
#[test]
fn a_long_script_keeps_its_beginning() {
    let script = |count: usize| -> Vec<String> {
        let first = "cluster nodes=3".to_owned();
        std::iter::once(first).chain((1..count).map(|number| format!("tick {number}"))).collect()
    };
    let failure = |count| Failure {
        seed: 7,
        message: "it is broken".into(),
        events: count,
        steps: vec![],
        shrunk: "it is broken".into(),
        trace: String::new(),
        script: script(count),
        replayed: None,
    };
    let shown = |count| {
        let text = failure(count).to_string();
        let from = text.find("--- script").expect("the script is shown");
        text[from..].lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let (all, cut) = (shown(200), shown(1_000));
    assert_eq!(all[..200], script(200));
    assert_eq!(cut[..8], script(1_000)[..8]);
    assert_eq!(cut[8], "... 800 lines are left out ...");
    assert_eq!(cut[9..201], script(1_000)[808..]);
}
