//! Looks for an order that explains the operations of a key. If there is none, looks for the
//! earliest moment at which there was none any more, and for the fewest operations that show it.

use super::{Trouble, Violation, describe};
use crate::check::history::{Ending, Operation};
use raft_core::testing::linear::{self, Failure, Kind, Model, Outcome};
use serde_json::Value;
use std::fmt;

/// Combinations visited for one key before it is given up.
const CONFIGURATIONS_MAX: usize = 1 << 19;
/// The same for one step towards a smaller example.
const CONFIGURATIONS_SMALL: usize = 1 << 12;
/// Steps towards a smaller example.
const STEPS_MAX: usize = 600;

/// A value that prints as JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Word(pub(super) Value);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An operation as the model sees it.
type Modelled<M> = linear::Operation<<M as Model>::Op, <M as Model>::Reply>;

/// Judges those of `operations` for which `model` says what they are to the model, and what the
/// reply was if they were answered; the others are left out.
pub(super) fn explain<M>(
    initial: &M,
    key: &str,
    operations: &[(usize, &Operation)],
    model: impl Fn(&Operation) -> Option<(M::Op, Option<M::Reply>)>,
) -> Result<(), Trouble>
where
    M: Model,
    M::Op: Clone,
    M::Reply: Clone,
{
    let mut kept = Vec::new();
    let mut modelled: Vec<Modelled<M>> = Vec::new();
    for (at, operation) in operations {
        let Some((op, reply)) = model(operation) else { continue };
        let outcome = match (operation.outcome, reply) {
            (Ending::Ok, Some(reply)) => Outcome::Done(reply),
            (Ending::Failed, _) => Outcome::NotDone,
            _ => Outcome::Unknown,
        };
        let Operation { client, start, end, .. } = **operation;
        modelled.push(linear::Operation { client, op, invoked: start, answered: end, outcome });
        kept.push((*at, *operation));
    }
    match linear::check_within(initial, &modelled, CONFIGURATIONS_MAX) {
        Ok(_) => return Ok(()),
        Err(failure) if failure.kind == Kind::Undecided => return Err(Trouble::Undecided),
        Err(_) => {}
    }
    let (mut example, at) = earliest(initial, modelled);
    shrink(initial, &mut example);
    let Err(failure) = linear::check_within(initial, &example, CONFIGURATIONS_MAX) else {
        // Shrinking keeps what is wrong wrong.
        return Err(Trouble::Undecided);
    };
    Err(Trouble::Violation(Box::new(told(key, &kept, &example, &failure, at))))
}

/// What was known when for the first time there was no explanation, and when that was.
fn earliest<M: Model>(initial: &M, modelled: Vec<Modelled<M>>) -> (Vec<Modelled<M>>, u64)
where
    M::Op: Clone,
    M::Reply: Clone,
{
    let done = modelled.iter().filter(|it| matches!(it.outcome, Outcome::Done(_)));
    let mut ends: Vec<u64> = done.map(|it| it.answered).collect();
    ends.sort_unstable();
    ends.dedup();
    // A part of a history that has an explanation has one: halving finds the first that has none.
    let (mut low, mut high) = (0, ends.len().saturating_sub(1));
    while low < high {
        let middle = low.midpoint(high);
        match is_wrong(initial, &known_at(&modelled, ends[middle])) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    let at = ends.get(low).copied().unwrap_or(u64::MAX);
    let part = known_at(&modelled, at);
    if is_wrong(initial, &part) { (part, at) } else { (modelled, at) }
}

/// What was known at a time: what was asked later was not, what was answered later is unknown.
fn known_at<O: Clone, R: Clone>(
    modelled: &[linear::Operation<O, R>],
    at: u64,
) -> Vec<linear::Operation<O, R>> {
    let known = |it: &linear::Operation<O, R>| {
        let outcome = match &it.outcome {
            _ if it.invoked > at => Outcome::NotDone,
            Outcome::Done(_) if it.answered > at => Outcome::Unknown,
            other => other.clone(),
        };
        linear::Operation { outcome, ..it.clone() }
    };
    modelled.iter().map(known).collect()
}

fn is_wrong<M: Model>(initial: &M, modelled: &[Modelled<M>]) -> bool {
    let checked = linear::check_within(initial, modelled, CONFIGURATIONS_SMALL);
    checked.is_err_and(|failure| failure.kind == Kind::Violation)
}

/// Forgets as many answers as it can: first of reads, which say nothing without, then of writes,
/// which may then have been done at any later time or never. What is wrong even so is wrong with
/// the answers too.
fn shrink<M: Model>(initial: &M, example: &mut Vec<Modelled<M>>)
where
    M::Op: Clone,
    M::Reply: Clone,
{
    let is_done = |it: &Modelled<M>| matches!(it.outcome, Outcome::Done(_));
    let mut steps = 0;
    for reads_only in [true, false] {
        let mut chunk = example.len();
        while chunk > 0 {
            let forgettable =
                |at: &usize| is_done(&example[*at]) && (!reads_only || is_read::<M>(&example[*at]));
            let done: Vec<usize> = (0..example.len()).filter(forgettable).collect();
            for part in done.chunks(chunk) {
                steps += 1;
                if steps > STEPS_MAX {
                    return;
                }
                let less = without::<M>(example, part);
                if is_wrong(initial, &less) {
                    *example = less;
                }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }
}

fn is_read<M: Model>(operation: &Modelled<M>) -> bool {
    matches!(&operation.outcome, Outcome::Done(reply) if M::is_read(&operation.op, reply))
}

/// The same without some of the answers.
fn without<M: Model>(example: &[Modelled<M>], forgotten: &[usize]) -> Vec<Modelled<M>>
where
    M::Op: Clone,
    M::Reply: Clone,
{
    let mut less = example.to_vec();
    for at in forgotten {
        let read = is_read::<M>(&less[*at]);
        less[*at].outcome = if read { Outcome::NotDone } else { Outcome::Unknown };
    }
    // A write that brings about no answer that is left can as well be left out. Of a register that
    // is so because a later write leaves nothing of it; of a list the model says that it matters.
    for at in 0..less.len() {
        let op = &less[at].op;
        let matters = |it: &Modelled<M>| match &it.outcome {
            Outcome::Done(reply) => M::may_bring_about(op, &it.op, reply),
            _ => false,
        };
        if less[at].outcome == Outcome::Unknown && !less.iter().any(matters) {
            less[at].outcome = Outcome::NotDone;
        }
    }
    less
}

fn told<O, R>(
    key: &str,
    operations: &[(usize, &Operation)],
    example: &[linear::Operation<O, R>],
    failure: &Failure,
    at: u64,
) -> Violation {
    let done = example.iter().zip(operations);
    let done = done.filter(|(it, _)| matches!(it.outcome, Outcome::Done(_)));
    let done: Vec<(usize, &Operation)> = done.map(|(_, numbered)| *numbered).collect();
    // What explains an answer is drawn too, though the contradiction does not need its own answer.
    let mut involved: Vec<usize> =
        failure.placed.iter().map(|place| operations[*place].0).collect();
    involved.extend(done.iter().map(|(position, _)| *position));
    involved.sort_unstable();
    involved.dedup();
    let decisive: Vec<usize> = failure.stuck.iter().map(|place| operations[*place].0).collect();
    let mut lines = vec!["these answers contradict each other, whatever else happened:".to_owned()];
    lines.extend(done.iter().map(|(_, it)| format!("  {}", describe(it))));
    if !failure.placed.is_empty() {
        lines.push("the longest order that explains some of them:".to_owned());
        let placed = failure.placed.iter().map(|place| operations[*place].1);
        lines.extend(placed.map(|it| format!("  {}", describe(it))));
    }
    lines.push("next would have to come one of these, and none can:".to_owned());
    let stuck = failure.stuck.iter().map(|place| operations[*place].1);
    lines.extend(stuck.map(|it| format!("  {}", describe(it))));
    let stuck: Vec<String> = failure
        .stuck
        .iter()
        .map(|place| operations[*place].1)
        .map(|it| format!("{it} of client {}", it.client))
        .collect();
    Violation {
        key: key.to_owned(),
        what: format!("no order explains {}", stuck.join(" or ")),
        detail: lines.join("\n"),
        at,
        involved,
        decisive,
    }
}
