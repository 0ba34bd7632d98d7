//! A set that grows: each member by itself is linearizable. A read of all members counts as one
//! read of each.

use super::explain::explain;
use super::list::elements;
use super::{Numbered, Trouble};
use crate::check::history::{Action, Ending};
use raft_core::testing::linear::{Register, RegisterOp, RegisterReply};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn judge(key: &str, operations: &Numbered<'_>) -> Result<(), Trouble> {
    // By their text: values have no order.
    let mut members: BTreeMap<String, &Value> = BTreeMap::new();
    for (_, operation) in operations {
        match &operation.action {
            Action::Add { value, .. } => {
                members.insert(value.to_string(), value);
            }
            Action::Read { result, .. } => {
                members.extend(elements(result).iter().map(|value| (value.to_string(), value)));
            }
            _ => {}
        }
    }
    for (text, member) in members {
        judge_member(&format!("{key}, member {text}"), member, operations)?;
    }
    Ok(())
}

fn judge_member(key: &str, member: &Value, operations: &Numbered<'_>) -> Result<(), Trouble> {
    explain(&Register(false), key, operations, |operation| match &operation.action {
        Action::Add { value, result } if value == member => {
            let create = RegisterOp::CompareAndSet { expected: false, new: true };
            Some((create, result.map(RegisterReply::Swapped)))
        }
        Action::Read { result, .. } if operation.outcome == Ending::Ok => {
            let there = elements(result).contains(member);
            Some((RegisterOp::Read, Some(RegisterReply::Value(there))))
        }
        _ => None,
    })
}
