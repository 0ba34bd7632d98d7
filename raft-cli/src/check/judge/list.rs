//! A list that grows: linearizable, each element there once, none lost that was acknowledged.

use super::explain::{Word, explain};
use super::{Numbered, Trouble, violation};
use crate::check::history::{Action, Ending, Operation};
use raft_core::testing::linear::{List, ListOp, ListReply};
use serde_json::Value;
use std::collections::HashMap;

pub(super) fn judge(key: &str, operations: &Numbered<'_>) -> Result<(), Trouble> {
    let mut appends: HashMap<&Value, (usize, &Operation)> = HashMap::new();
    for (at, operation) in operations {
        if let Action::Append { value } = &operation.action {
            appends.insert(value, (*at, operation));
        }
    }
    let reads = operations.iter().filter_map(|(at, it)| match &it.action {
        Action::Read { result, .. } if it.outcome == Ending::Ok => Some((*at, *it, result)),
        _ => None,
    });
    for (at, read, result) in reads {
        plain_faults(key, (at, read), elements(result), &appends)?;
    }
    explain(&List::new(), key, operations, |operation| match &operation.action {
        Action::Append { value } => {
            Some((ListOp::Append(Word(value.clone())), Some(ListReply::Appended)))
        }
        Action::Read { result, .. } if operation.outcome == Ending::Ok => {
            let words = elements(result).iter().cloned().map(Word).collect();
            Some((ListOp::Read, Some(ListReply::Values(words))))
        }
        _ => None,
    })
}

/// The elements of what was read; null is an empty list.
pub(super) fn elements(result: &Value) -> &[Value] {
    result.as_array().map_or(&[], Vec::as_slice)
}

/// What is seen of a single read, and is best said in words of its own.
fn plain_faults(
    key: &str,
    read: (usize, &Operation),
    elements: &[Value],
    appends: &HashMap<&Value, (usize, &Operation)>,
) -> Result<(), Trouble> {
    let mut places: HashMap<&Value, usize> = HashMap::new();
    for (place, element) in elements.iter().enumerate() {
        let append = appends.get(element).copied();
        let others: Vec<_> = append.into_iter().collect();
        if places.insert(element, place).is_some() {
            let what = format!("{element} is in the list twice: it was appended more than once");
            return Err(violation(key, what, read, &others));
        }
        match append {
            None => {
                let what = format!("{element} is in the list and was never appended");
                return Err(violation(key, what, read, &[]));
            }
            Some((_, append)) if append.outcome == Ending::Failed => {
                let what = format!("{element} is in the list, though it was answered: not done");
                return Err(violation(key, what, read, &others));
            }
            Some(_) => {}
        }
    }
    let mut lost = appends.iter().filter(|(element, (_, append))| {
        append.outcome == Ending::Ok && append.end < read.1.start && !places.contains_key(**element)
    });
    // Of several the first: the others may follow from it.
    let first = lost.by_ref().min_by_key(|(_, (at, append))| (append.end, *at));
    match first {
        Some((element, append)) => {
            let what =
                format!("{element} was acknowledged before this read and is not in the list");
            Err(violation(key, what, read, &[*append]))
        }
        None => Ok(()),
    }
}
