//! Logical clocks against the definition: random runs of processes that send each other messages,
//! in which what happens before what is found by following every path.

use proptest::collection::vec;
use proptest::prelude::*;
use raft_core::types::NodeId;
use raft_kv::clocks::{LamportClock, Relation, Stamp, VersionVector};
use std::collections::BTreeSet;

const PROCESSES: usize = 4;

/// What a process does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Something of its own, which also sends a message to whoever takes it.
    Act,
    /// Receives the message of an earlier event; which, modulo their number.
    Receive(usize),
}

struct Event {
    /// The events it follows at once: its process's last one, and the message's.
    causes: Vec<usize>,
    stamp: Stamp,
    vector: VersionVector,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![Just(Step::Act), any::<usize>().prop_map(Step::Receive)];
    vec((0..PROCESSES, step), 1..60)
}

fn run(steps: &[(usize, Step)]) -> Vec<Event> {
    let ids = (0..PROCESSES as u64).map(NodeId);
    let mut clocks: Vec<_> = ids.map(LamportClock::new).collect();
    let mut vectors = vec![VersionVector::default(); PROCESSES];
    let mut last = [None; PROCESSES];
    let mut events: Vec<Event> = Vec::new();
    for (process, step) in steps {
        let mut causes: Vec<usize> = last[*process].into_iter().collect();
        let (clock, vector) = (&mut clocks[*process], &mut vectors[*process]);
        let stamp = match step {
            Step::Receive(which) if !events.is_empty() => {
                let which = which % events.len();
                causes.push(which);
                vector.merge(&events[which].vector);
                clock.receive(events[which].stamp)
            }
            _ => clock.tick(),
        };
        vector.tick(NodeId(*process as u64));
        last[*process] = Some(events.len());
        events.push(Event { causes, stamp, vector: vector.clone() });
    }
    events
}

/// For every event those that happened before it.
fn happened_before(events: &[Event]) -> Vec<BTreeSet<usize>> {
    let mut before: Vec<BTreeSet<usize>> = Vec::new();
    for event in events {
        let all = event.causes.iter().flat_map(|cause| before[*cause].iter().chain([cause]));
        let all = all.copied().collect();
        before.push(all);
    }
    before
}

proptest! {
    #[test]
    fn what_happens_before_has_the_lesser_stamp_and_stamps_are_unique(steps in steps()) {
        let events = run(&steps);
        for (effect, before) in happened_before(&events).iter().enumerate() {
            for cause in before {
                prop_assert!(events[*cause].stamp < events[effect].stamp);
            }
        }
        let stamps: BTreeSet<_> = events.iter().map(|event| event.stamp).collect();
        prop_assert_eq!(stamps.len(), events.len());
    }

    /// The logs of all processes, merged by stamp: no effect stands before its cause.
    #[test]
    fn a_trace_merged_by_stamps_is_in_causal_order(steps in steps()) {
        let events = run(&steps);
        let mut trace: Vec<usize> = (0..events.len()).rev().collect();
        trace.sort_by_key(|event| events[*event].stamp);
        let mut seen = BTreeSet::new();
        for event in trace {
            prop_assert!(events[event].causes.iter().all(|cause| seen.contains(cause)));
            seen.insert(event);
        }
    }

    #[test]
    fn vectors_tell_exactly_what_happened_before_what(steps in steps()) {
        let events = run(&steps);
        let before = happened_before(&events);
        for (a, one) in events.iter().enumerate() {
            for (b, other) in events.iter().enumerate() {
                let expected = match (before[b].contains(&a), before[a].contains(&b)) {
                    (true, _) => Relation::Before,
                    (_, true) => Relation::After,
                    _ if a == b => Relation::Equal,
                    _ => Relation::Concurrent,
                };
                prop_assert_eq!(one.vector.relation(&other.vector), expected);
            }
        }
    }

    /// Merging is a least upper bound: the order of messages does not matter, nor how often.
    #[test]
    fn vectors_merge_in_any_order(steps in steps(), picks in vec(any::<usize>(), 3)) {
        let events = run(&steps);
        let pick = |place: usize| &events[picks[place] % events.len()].vector;
        let merged = |parts: &[&VersionVector]| {
            let mut all = VersionVector::default();
            parts.iter().for_each(|part| all.merge(part));
            all
        };
        let all = merged(&[pick(0), pick(1), pick(2)]);
        prop_assert_eq!(&all, &merged(&[pick(2), pick(1), pick(2), pick(0), &all]));
        prop_assert!((0..3).all(|place| all.includes(pick(place))));
    }
}

/// Why there are vectors at all: stamps order these two, although neither knew of the other.
#[test]
fn stamps_cannot_tell_concurrent_from_causal() {
    let (mut a, mut b) = (LamportClock::new(NodeId(1)), LamportClock::new(NodeId(2)));
    let (mut known_to_a, mut known_to_b) = (VersionVector::default(), VersionVector::default());
    let first = a.tick();
    known_to_a.tick(NodeId(1));
    b.tick();
    known_to_b.tick(NodeId(2));
    let alone = b.tick();
    known_to_b.tick(NodeId(2));
    assert!(first < alone);
    assert_eq!(known_to_a.relation(&known_to_b), Relation::Concurrent);
    // The same stamps, and a message in between.
    let mut b = LamportClock::new(NodeId(2));
    let told = b.receive(first);
    assert_eq!(told, alone);
    let mut informed = known_to_a.clone();
    informed.tick(NodeId(2));
    assert_eq!(known_to_a.relation(&informed), Relation::Before);
    assert_eq!((told.to_string(), informed.to_string()), ("2@n2".into(), "[n1:1 n2:1]".into()));
}
