//! The model checker: every order of a few events on the shipped core keeps the invariants.
//!
//! Some small worlds are explored to their ends, or up to `MODEL_STATES` states each, by default
//! two million; together they have more. With `RUN_SLOW_TESTS=1` two larger ones are explored up to
//! ten million states each, where those that differ only in what they have spent of the bounds are
//! one.
//! `cargo test --release -p raft-core --test it model -- --nocapture` prints what was explored.

use raft_core::raft::{Config, Input};
use raft_core::testing::{Bounds, Cluster, Model, Report, Sight};
use raft_core::types::{Change, NodeId, WriteSeq};

/// States of an exploration, unless `MODEL_STATES` says how many. From so many on it must have come
/// across what it is meant to.
const STATES: usize = 2_000_000;

/// States of an exploration in the slow tests.
const STATES_SLOW: usize = 10_000_000;

fn states_max() -> usize {
    let text = std::env::var("MODEL_STATES").ok();
    text.map_or(STATES, |text| text.parse().expect("a number"))
}

fn is_slow() -> bool {
    std::env::var("RUN_SLOW_TESTS").is_ok_and(|value| value == "1")
}

/// Explores `model`, which must come across `must_see` unless it is cut short.
#[track_caller]
fn explore(model: Model, states_max: usize, must_see: &[Sight]) -> Report {
    let must_see = if states_max >= STATES { must_see.to_vec() } else { Vec::new() };
    match (Model { states_max, must_see, ..model }).explore() {
        Ok(report) => {
            println!("{report}\n");
            report
        }
        Err(violation) => panic!("{violation}"),
    }
}

/// Explores `model` to its end, unless it is cut short.
#[track_caller]
fn explore_all(model: Model, must_see: &[Sight]) {
    let report = explore(model, states_max(), must_see);
    assert!(report.complete || states_max() < STATES, "{report}");
}

#[track_caller]
fn explore_slowly(model: Model, must_see: &[Sight]) {
    if is_slow() {
        let report = explore(Model { by_content: true, ..model }, STATES_SLOW, must_see);
        assert!(report.contents >= Some(STATES_SLOW), "{report}");
    }
}

/// Two voters and a learner; the learner takes the place of `n1`.
fn replacement(bounds: Bounds) -> Model {
    let promote = Change::Promote { node: NodeId(3) };
    let changes = vec![vec![promote, Change::Demote { node: NodeId(1) }]];
    Model { voters: 2, learners: 1, changes, bounds, ..Model::default() }
}

#[test]
fn three_voters_in_three_terms() {
    let bounds = Bounds { terms: 2, messages: 3, campaigns: 2, commands: 1, ..Bounds::none() };
    let must_see = [Sight::Election, Sight::Truncation, Sight::OldTermCommit, Sight::StepDown];
    explore_all(Model { bounds, ..Model::default() }, &must_see);
}

#[test]
fn three_voters_from_nothing() {
    let bounds = Bounds { terms: 2, messages: 3, campaigns: 2, ..Bounds::none() };
    let must_see = [Sight::Election, Sight::Truncation];
    explore_all(Model { led: false, bounds, ..Model::default() }, &must_see);
}

#[test]
fn three_voters_with_a_crash() {
    let bounds = Bounds { messages: 3, campaigns: 1, crashes: 1, commands: 1, ..Bounds::none() };
    let must_see = [Sight::Recovery, Sight::LostWrite, Sight::Truncation, Sight::OldTermCommit];
    explore_all(Model { bounds, ..Model::default() }, &must_see);
}

/// Two candidates of a term, and a node that crashes: what it has voted before it still knows.
#[test]
fn three_voters_with_rivals_and_a_crash() {
    let bounds = Bounds { messages: 3, campaigns: 2, crashes: 1, losses: 1, ..Bounds::none() };
    let must_see = [Sight::Recovery, Sight::LostWrite, Sight::Loss];
    explore_all(Model { bounds, ..Model::default() }, &must_see);
}

#[test]
fn three_voters_that_lose_a_message() {
    let bounds = Bounds { messages: 3, campaigns: 1, losses: 1, commands: 1, ..Bounds::none() };
    let must_see = [Sight::Loss, Sight::Truncation, Sight::OldTermCommit];
    explore_all(Model { bounds, ..Model::default() }, &must_see);
}

#[test]
fn three_voters_with_a_leader_that_hears_nobody() {
    let bounds = Bounds { messages: 3, campaigns: 1, step_downs: 1, commands: 1, ..Bounds::none() };
    explore_all(Model { bounds, ..Model::default() }, &[Sight::Deafness, Sight::Election]);
}

/// Figure 8: `n1` and `n2` have led a term each and have appended what nobody else has. `n1` may
/// come back and replicate its old entry, and `n2` may then replace that everywhere. A leader that
/// commits an old entry by counting is found after 26 steps, in some 360,000 states; the slow tests
/// go on up to ten million.
#[test]
fn three_voters_of_figure_8() {
    let bounds = Bounds { terms: 2, messages: 3, campaigns: 2, losses: 1, ..Bounds::none() };
    let unheard = vec![NodeId(1), NodeId(2)];
    let model = Model { led: false, unheard, single_entries: true, bounds, ..Model::default() };
    let states_max = if is_slow() { STATES_SLOW } else { states_max() };
    explore(model, states_max, &[Sight::Truncation, Sight::OldTermCommit, Sight::Loss]);
}

/// Entries that a later leader replicates one by one.
#[test]
fn three_voters_in_four_terms() {
    let bounds = Bounds { terms: 3, messages: 2, campaigns: 3, commands: 1, ..Bounds::none() };
    let must_see = [Sight::Election, Sight::Truncation, Sight::OldTermCommit];
    explore_all(Model { single_entries: true, bounds, ..Model::default() }, &must_see);
}

#[test]
fn three_voters_with_heartbeats() {
    let bounds = Bounds { messages: 3, campaigns: 1, commands: 1, beats: 1, ..Bounds::none() };
    explore_all(Model { bounds, ..Model::default() }, &[Sight::Truncation]);
}

#[test]
fn reads_with_a_crash() {
    let bounds =
        Bounds { messages: 3, campaigns: 1, crashes: 1, commands: 1, reads: 1, ..Bounds::none() };
    explore_all(Model { voters: 2, bounds, ..Model::default() }, &[Sight::Read, Sight::Recovery]);
}

#[test]
fn a_snapshot_that_is_doubled() {
    let bounds = Bounds {
        messages: 4,
        duplicates: 1,
        beats: 1,
        commands: 1,
        checkpoints: 1,
        ..Bounds::none()
    };
    let must_see = [Sight::Compaction, Sight::SnapshotInstall];
    explore_all(Model { voters: 2, learners: 1, bounds, ..Model::default() }, &must_see);
}

#[test]
fn a_voter_is_replaced_and_another_elected() {
    let bounds = Bounds { messages: 3, campaigns: 1, changes: 1, ..Bounds::none() };
    let must_see = [Sight::JointMembership, Sight::JointLeft, Sight::Election];
    explore_all(replacement(bounds), &must_see);
}

#[test]
fn leadership_is_handed_over() {
    let bounds = Bounds { messages: 3, commands: 1, changes: 1, transfers: true, ..Bounds::none() };
    explore_all(Model { bounds, ..Model::default() }, &[Sight::Transfer, Sight::Election]);
}

#[test]
fn ten_million_states_with_crashes() {
    let bounds = Bounds {
        terms: 2,
        messages: 3,
        campaigns: 2,
        crashes: 1,
        duplicates: 1,
        losses: 1,
        commands: 1,
        ..Bounds::none()
    };
    let must_see =
        [Sight::Election, Sight::Recovery, Sight::LostWrite, Sight::Truncation, Sight::Loss];
    explore_slowly(Model { bounds, ..Model::default() }, &must_see);
}

#[test]
fn ten_million_states_with_a_change_and_a_snapshot() {
    let bounds = Bounds {
        messages: 3,
        campaigns: 1,
        crashes: 1,
        losses: 1,
        beats: 1,
        commands: 1,
        changes: 1,
        checkpoints: 1,
        ..Bounds::none()
    };
    let must_see = [Sight::JointMembership, Sight::JointLeft, Sight::SnapshotInstall, Sight::Loss];
    explore_slowly(replacement(bounds), &must_see);
}

#[test]
fn what_had_to_be_seen_and_was_not_is_a_failure() {
    let must_see = vec![Sight::Truncation];
    let bounds = Bounds { commands: 1, ..Bounds::none() };
    let violation = Model { bounds, must_see, ..Model::default() }.explore().unwrap_err();
    assert!(violation.broken.contains("Truncation"), "{violation}");
}

/// The same world explored twice is the same to the last count, and names do not matter: a third
/// voter that a change mentions, but that is never asked for, ends all exchanges of names.
#[test]
fn exploration_repeats_itself_and_symmetry_loses_nothing() {
    let bounds = Bounds { messages: 2, campaigns: 1, commands: 1, ..Bounds::none() };
    let model = Model { bounds, ..Model::default() };
    let [first, second] = [0, 1].map(|_| model.explore().expect("no violation"));
    assert_eq!(first.to_string(), second.to_string());
    let changes = vec![vec![Change::Demote { node: NodeId(3) }]];
    let named = Model { changes, ..model }.explore().expect("no violation");
    assert!(first.symmetry == 6 && named.symmetry == 1);
    assert!(first.states < named.states && named.states <= 6 * first.states);
    assert_eq!(first.depth, named.depth);
}

/// Messages that can mean nothing any more are dropped, and that hides nothing: kept, they lead to
/// no other state of any node. With a crash, which may undo what made them meaningless; and with a
/// change that is never asked for, so that no names are exchanged.
#[test]
fn dropping_what_means_nothing_any_more_loses_nothing() {
    let bounds = Bounds { messages: 3, campaigns: 2, crashes: 1, ..Bounds::none() };
    let changes = vec![vec![Change::Demote { node: NodeId(3) }]];
    let model = Model { bounds, changes, ..Model::default() };
    let dropped = model.explore().expect("no violation");
    let kept = Model { keeps_spent: true, ..model }.explore().expect("no violation");
    println!("{dropped}\n\n{kept}\n");
    assert!(dropped.complete && kept.complete && dropped.states < kept.states);
    assert!(dropped.has_same_nodes(&kept), "{dropped}\n{kept}");
}

/// A node that was rebased does what it would have done: it sends the same, and asks for the same
/// writes but for their numbers.
#[test]
fn a_rebased_node_behaves_alike() {
    let config = Config {
        id: NodeId(1),
        election_ticks_min: 10,
        election_ticks_max: 20,
        heartbeat_ticks: 3,
        ..Config::default()
    };
    let mut cluster = Cluster::new(3, &config, 7, false);
    let (mut compared, mut number) = (0, 0_u64);
    for round in 0..400_u64 {
        match round % 8 {
            0 => (1..=3).for_each(|id| (0..5).for_each(|_| cluster.tick(NodeId(id)))),
            1 => {
                number += 1;
                let leader = cluster.leader().unwrap_or(NodeId(1));
                cluster.propose(leader, &[number.to_string().into()]);
            }
            2 => cluster.persist(NodeId(1 + round / 8 % 3), None),
            3 => (1..=3).for_each(|id| cluster.persist(NodeId(id), None)),
            _ => {}
        }
        let Some(envelope) = cluster.pool().first().cloned() else { continue };
        if let Some(raft) = cluster.server(envelope.to).raft() {
            let (mut plain, mut rebased) = (raft.clone(), raft.clone());
            let shift = rebased.rebase();
            // What a rebased node has not heard, it does not refuse for.
            if !envelope.message.to_string().starts_with("RequestVote ") {
                plain.step(Input::Message(envelope.clone()));
                rebased.step(Input::Message(envelope));
                let (a, b) = (plain.take_output(), rebased.take_output());
                assert_eq!((a.messages, a.apply, a.reads), (b.messages, b.apply, b.reads));
                let lowered = a.write.map(|it| (WriteSeq(it.seq.0 - shift), it.ops));
                assert_eq!(lowered, b.write.map(|it| (it.seq, it.ops)));
                plain.rebase();
                rebased.rebase();
                assert!(plain == rebased, "{plain:?}\n{rebased:?}");
                compared += 1;
            }
        }
        cluster.deliver(0);
    }
    assert!(compared > 100, "only {compared} steps were compared");
}
