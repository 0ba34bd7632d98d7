//! What could have known of what, against the definition: random histories of a store that keeps
//! its promises, in which causes are found by following every path.

use super::{history, judged, long};
use raft_cli::check::causal::Trace;
use raft_cli::check::history::{Action, Ending, History, Operation, Workload};
use raft_cli::check::page::page;
use raft_core::testing::Random;
use raft_kv::clocks::Relation;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CLIENTS: u64 = 4;

/// Operations under way at once, that take effect in any order, some of them unanswered.
fn random_history(random: &mut Random) -> History {
    let (mut now, mut revision) = (0, 1);
    let mut operations = Vec::new();
    let mut idle: Vec<u64> = (1..=CLIENTS).collect();
    let mut under_way: Vec<Operation> = Vec::new();
    for value in 0..40_u64 {
        now += 1;
        if !idle.is_empty() && random.once_in(2) {
            let client = idle.swap_remove(random.below(idle.len() as u64) as usize);
            let action = match random.once_in(2) {
                true => Action::Write { value: value.into(), token: None, revision: None },
                false => Action::Read { result: Value::Null, token: None, revision: None },
            };
            let (workload, key, outcome) = (Workload::Register, "x".into(), Ending::Ok);
            let (start, end, position) = (now, 0, None);
            under_way.push(Operation {
                workload,
                client,
                key,
                action,
                start,
                end,
                outcome,
                position,
            });
        } else if !under_way.is_empty() {
            let at = random.below(under_way.len() as u64) as usize;
            let writes = matches!(under_way[at].action, Action::Write { .. });
            if under_way[at].position.is_none() && !random.once_in(6) {
                revision += u64::from(writes);
                under_way[at].position = Some(revision);
                continue;
            }
            let mut ended = under_way.swap_remove(at);
            if ended.position.is_none() {
                ended.outcome = if writes { Ending::Unknown } else { Ending::Failed };
            }
            ended.end = now;
            idle.push(ended.client);
            operations.push(ended);
        }
    }
    let mut history = History { operations, ..History::default() };
    history.sort();
    history
}

fn is_write(operation: &Operation) -> bool {
    matches!(operation.action, Action::Write { .. }) && operation.position.is_some()
}

/// For every operation those that it could have known of.
fn causes(operations: &[Operation]) -> Vec<BTreeSet<usize>> {
    let mut direct = vec![BTreeSet::new(); operations.len()];
    let mut last = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        direct[at].extend(last.insert(operation.client, at));
        let Some(position) = operation.position else { continue };
        let seen = |write: &usize| {
            let first = operations[*write].position.expect("it is a write's");
            is_write(&operations[*write]) && first <= position && *write != at
        };
        let placed = (0..operations.len()).filter(|other| operations[*other].position.is_some());
        direct[at].extend(placed.filter(seen));
    }
    let mut all = direct.clone();
    // As many steps as a path can have.
    for _ in 0..operations.len() {
        for causes in &mut all {
            let more: Vec<usize> =
                causes.iter().flat_map(|cause| &direct[*cause]).copied().collect();
            causes.extend(more);
        }
    }
    all
}

#[test]
fn operations_are_before_after_or_concurrent() {
    let mut found = BTreeMap::new();
    for seed in 0..200 {
        let history = random_history(&mut Random::new(seed));
        let operations = &history.operations;
        let all = (0..operations.len()).collect();
        let (trace, causes) = (Trace::of(&history, &all), causes(operations));
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other))) {
            let placed = |at: usize| operations[at].position.is_some();
            let expected = match (causes[other].contains(&one), causes[one].contains(&other)) {
                (true, _) => Some(Relation::Before),
                (_, true) => Some(Relation::After),
                _ if one == other => Some(Relation::Equal),
                _ => (placed(one) && placed(other)).then_some(Relation::Concurrent),
            };
            let relation = trace.relation(one, other);
            assert_eq!(relation, expected, "seed {seed}: {one} and {other} of {operations:#?}");
            if expected == Some(Relation::Before) {
                assert!(trace.stamp(one) < trace.stamp(other), "seed {seed}: {one}, {other}");
            }
            *found.entry(format!("{relation:?}")).or_insert(0) += 1;
        }
        let stamps: BTreeSet<_> = all.iter().map(|at| trace.stamp(*at)).collect();
        assert_eq!(stamps.len(), operations.len(), "seed {seed}: none is another's");
    }
    assert_eq!(found.len(), 5, "all of them are there: {found:?}");
}

/// The clocks go on although no order of these makes sense, and none is left out.
#[test]
fn a_history_that_contradicts_itself_is_gone_through() {
    let history = history(&long(
        r#"register 1 x 1..2 ok {"op":"read","result":2,"position":9}
           register 1 x 3..4 ok {"op":"write","value":1,"position":5}
           register 2 x 1..2 ok {"op":"read","result":1,"position":7}
           register 2 x 3..4 ok {"op":"write","value":2,"position":3}"#,
    ));
    let all = (0..4).collect();
    let trace = Trace::of(&history, &all);
    assert!(all.iter().all(|at| trace.stamp(*at).is_some()), "{trace:?}");
}

/// Whoever asked first may be answered last: neither times nor numbers of clients tell the order.
#[test]
fn the_page_draws_causes_above_their_effects() {
    let report = judged(
        r#"register 1 x 0..5 ok {"op":"read","result":2,"position":6}
           register 3 x 1..2 ok {"op":"write","value":1,"position":5}
           register 3 x 3..9 ok {"op":"write","value":2,"position":6}
           register 2 x 6..7 ok {"op":"read","result":1,"position":5}"#,
    );
    let html = page(&report);
    let rows: Vec<&str> = html.split("<g><path").skip(1).collect();
    let row = |text: &str| {
        let is = |row: &&str| row.contains(&format!(">{text}<"));
        rows.iter().position(is).unwrap_or_else(|| panic!("{text} in {html}"))
    };
    let [first, second, stale] = [row("write 1"), row("write 2"), row("read 1")];
    let read = row("read 2");
    assert!(first < second && second < read && first < stale, "{html}");
    assert!(rows[first].contains(">before</text>"), "{html}");
    assert!(rows[second].contains(">concurrent</text>"), "{html}");
    assert!(rows[read].contains(">concurrent</text>"), "{html}");
}
