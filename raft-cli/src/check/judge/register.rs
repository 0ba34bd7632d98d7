//! One value: linearizable.

use super::explain::{Word, explain};
use super::{Numbered, Trouble};
use crate::check::history::{Action, Ending};
use raft_core::testing::linear::{Register, RegisterOp, RegisterReply};
use serde_json::Value;

pub(super) fn judge(key: &str, operations: &Numbered<'_>) -> Result<(), Trouble> {
    explain(&Register(Word(Value::Null)), key, operations, |operation| match &operation.action {
        Action::Read { result, .. } if operation.outcome == Ending::Ok => {
            Some((RegisterOp::Read, Some(RegisterReply::Value(Word(result.clone())))))
        }
        Action::Write { value, .. } => {
            Some((RegisterOp::Write(Word(value.clone())), Some(RegisterReply::Written)))
        }
        Action::Cas { expected, value, result } => {
            let (expected, new) = (Word(expected.clone()), Word(value.clone()));
            let swap = RegisterOp::CompareAndSet { expected, new };
            Some((swap, result.map(RegisterReply::Swapped)))
        }
        // A read that was not answered asks for nothing.
        _ => None,
    })
}
