//! The kit of state machines.

use super::ledger::{Bug, Ledger};
use bytes::Bytes;
use raft_core::state_machine::Journal;
use raft_core::testing::Breach;
use raft_core::testing::state_machine::{Check, Report, check};

/// Keys are written again and again, in an order in which they first come up late.
fn commands() -> Vec<Bytes> {
    let command = |number: u64| {
        let key = "k".repeat(1 + (number * number % 11) as usize % (1 + number as usize / 4));
        format!("{key}={number}").into()
    };
    (0..40).map(command).collect()
}

fn queries() -> impl Iterator<Item = Bytes> {
    (1..12).map(|length| "k".repeat(length).into())
}

fn in_memory(bug: Bug) -> Result<Report, Breach> {
    Check::in_memory(|| Ledger::in_memory(bug), &commands()).queries(queries()).run()
}

fn durable(bug: Bug) -> Result<Report, Breach> {
    Check::durable(|dir| Ledger::open(dir, bug), &commands()).queries(queries()).run()
}

#[test]
fn sound_machines_pass() {
    let report = in_memory(Bug::None).unwrap();
    println!("{report}");
    assert!(report.restores > 90 && report.refused > 10 && report.restarts == 0, "{report}");
    let report = durable(Bug::None).unwrap();
    println!("{report}");
    assert!(report.restores > 90 && report.freezes > 20 && report.restarts > 40, "{report}");
    check(|| Ledger::in_memory(Bug::None), &commands()).unwrap();
}

#[test]
fn the_journal_passes() {
    let numbers = (1..=40_u64).map(|number| Bytes::copy_from_slice(&number.to_be_bytes()));
    Check::in_memory(Journal::new, &commands()).queries(numbers).run().unwrap();
}

fn found(bug: Bug, rule: &str, result: Result<Report, Breach>) {
    let breach = result.expect_err(&format!("{bug:?}"));
    println!("{bug:?}: {breach}\n");
    assert_eq!(breach.rule, rule, "{bug:?}: {breach}");
}

#[test]
fn every_bug_in_memory_breaks_its_rule() {
    let bugs = [
        (Bug::RepliesInNanoseconds, "deterministic"),
        (Bug::RepliesByHashMapOrder, "deterministic"),
        (Bug::RepliesAtRandom, "deterministic"),
        (Bug::RepliesToNoops, "replies"),
        (Bug::SkipsReplies, "replies"),
        (Bug::CountsRuns, "deterministic"),
        (Bug::AnswersQuicklyAndWrong, "quick"),
        (Bug::KeepsOldDataInRestore, "restore"),
        (Bug::LosesDataInRestore, "restore"),
        (Bug::ClearsBeforeItReads, "stream"),
        (Bug::IgnoresReadErrors, "stream"),
        (Bug::CallsADamagedStreamAnEngineError, "stream"),
        (Bug::SnapshotsHaveTheNewestMembership, "snapshot"),
        (Bug::SnapshotsClaimLess, "restore"),
        (Bug::SnapshotsFollowTheMachine, "restore"),
    ];
    for (bug, rule) in bugs {
        found(bug, rule, in_memory(bug));
    }
    // Two machines may be fed in two seconds already.
    let breach = in_memory(Bug::RepliesInSeconds).unwrap_err();
    assert!(["clock", "deterministic"].contains(&breach.rule), "{breach}");
    // Without queries nothing that queries do can be seen.
    check(|| Ledger::in_memory(Bug::QueriesCount), &commands()).unwrap();
    found(Bug::QueriesCount, "deterministic", in_memory(Bug::QueriesCount));
}

#[test]
fn every_bug_of_a_durable_one_breaks_its_rule() {
    let bugs = [
        (Bug::CheckpointsAreLate, "freeze"),
        (Bug::AppliesTwice, "restart"),
        (Bug::AppliesNever, "restart"),
        (Bug::LosesTheCheckpoint, "restart"),
    ];
    for (bug, rule) in bugs {
        found(bug, rule, durable(bug));
    }
}

#[test]
fn a_breach_says_what_to_fix() {
    let breach = in_memory(Bug::KeepsOldDataInRestore).unwrap_err();
    let text = breach.to_string();
    assert!(breach.step.contains("restored in one that held other data"), "{text}");
    assert!(breach.step.contains("query 1 bytes \"k\""), "{text}");
    assert_eq!(breach.expected, "0 bytes \"\"");
}
