//! The model checker: every order of a few events on the shipped core keeps the invariants.
//!
//! Two small worlds are explored to their ends in every run, larger ones as far as a bound goes:
//! `MODEL_STATES=1000000` worlds each, by default fewer in a build that is not optimized. With
//! `RUN_SLOW_TESTS=1` it is ten million each. `cargo test --release -p raft-core --test it model
//! -- --nocapture` prints what was explored.

use raft_core::testing::{Bounds, Model, Report, Sight};
use raft_core::types::{Change, NodeId};

/// Worlds of a larger exploration, unless `MODEL_STATES` says how many.
const STATES: usize = if cfg!(debug_assertions) { 20_000 } else { 250_000 };

/// Worlds of a larger exploration in the slow tests.
const STATES_SLOW: usize = 10_000_000;

fn states_max() -> usize {
    let text = std::env::var("MODEL_STATES").ok();
    text.map_or(STATES, |text| text.parse().expect("a number"))
}

fn slow() -> bool {
    std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1")
}

#[track_caller]
fn explore(model: &Model) -> Report {
    match model.explore() {
        Ok(report) => {
            println!("{report}\n");
            report
        }
        Err(violation) => panic!("{violation}"),
    }
}

/// Three voters that crash, lose, double and reorder.
fn crashes() -> Model {
    let bounds = Bounds {
        terms: 2,
        messages: 5,
        campaigns: 2,
        crashes: 1,
        duplicates: 1,
        losses: 1,
        commands: 2,
        ..Bounds::none()
    };
    Model { bounds, states_max: states_max(), ..Model::default() }
}

/// Two voters and a learner, which takes the place of one of them.
fn replacement() -> Model {
    let changes =
        vec![vec![Change::Promote { node: NodeId(3) }, Change::Demote { node: NodeId(1) }]];
    let bounds = Bounds {
        terms: 1,
        messages: 5,
        campaigns: 1,
        crashes: 1,
        beats: 2,
        changes: 1,
        checkpoints: 1,
        ..Bounds::none()
    };
    Model { voters: 2, learners: 1, changes, bounds, states_max: states_max(), ..Model::default() }
}

#[test]
fn one_election_in_any_order() {
    let bounds = Bounds { terms: 1, messages: 6, campaigns: 2, ..Bounds::none() };
    let must_see = vec![Sight::Election, Sight::StepDown];
    let report = explore(&Model { bounds, must_see, ..Model::default() });
    assert!(report.complete);
}

#[test]
fn three_voters_with_crashes() {
    explore(&crashes());
}

#[test]
fn a_membership_change_with_checkpoints() {
    explore(&replacement());
}

#[test]
fn ten_million_states_with_crashes() {
    if slow() {
        let report = explore(&Model { states_max: STATES_SLOW, ..crashes() });
        assert!(report.states >= STATES_SLOW);
    }
}

#[test]
fn ten_million_states_with_a_membership_change() {
    if slow() {
        let report = explore(&Model { states_max: STATES_SLOW, ..replacement() });
        assert!(report.states >= STATES_SLOW);
    }
}

#[test]
fn what_had_to_be_seen_and_was_not_is_a_failure() {
    let must_see = vec![Sight::Truncation];
    let bounds = Bounds { commands: 1, ..Bounds::none() };
    let violation = Model { bounds, must_see, ..Model::default() }.explore().unwrap_err();
    assert!(violation.broken.contains("Truncation"), "{violation}");
}
