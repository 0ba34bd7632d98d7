//! What takes microseconds: few keys, each by its name, whatever else the store holds. The node's
//! loop does that itself instead of waking the thread that applies.

use super::state::decode;
use crate::api::{Action, Keys, Op, Query, Txn};
use raft_core::types::{Payload, Run};

/// Most bytes of a run that is quick.
const BYTES_MAX: usize = 64 * 1024;

/// Most keys it may touch.
const KEYS_MAX: usize = 32;

/// Whether applying `run` touches few keys, each by its name.
pub(super) fn is_quick(run: &Run) -> bool {
    let mut left = KEYS_MAX;
    run.len() <= KEYS_MAX
        && run.size() <= BYTES_MAX
        && run.entries().iter().all(|entry| match &entry.payload {
            Payload::Noop => true,
            Payload::Membership(_) => false,
            Payload::Command(command) => {
                // What makes no sense is refused, and that is quick.
                decode(command).map_or(true, |command| takes(&mut left, &command.action))
            }
        })
}

/// Whether `query` is about one key.
pub(super) const fn is_quick_query(query: &Query) -> bool {
    match query {
        Query::Range(range) => matches!(range.keys, Keys::One(_)),
        Query::Summary => true,
        _ => false,
    }
}

/// Takes the keys of `action` off those that are left; false if it needs more.
fn takes(left: &mut usize, action: &Action) -> bool {
    match action {
        Action::OpenSession | Action::Grant { .. } => spend(left),
        Action::Op(op) => takes_op(left, op),
        Action::Txn(txn) => takes_txn(left, txn),
        Action::As(_, action) => takes(left, action),
        // These go through as much as there is of leases, users or revisions.
        Action::Revoke(_) | Action::Advance(_) | Action::Auth(_) | Action::Compact(_) => false,
    }
}

fn takes_txn(left: &mut usize, txn: &Txn) -> bool {
    txn.compares.iter().all(|compare| takes_keys(left, &compare.keys))
        && txn.success.iter().chain(&txn.failure).all(|op| takes_op(left, op))
}

fn takes_op(left: &mut usize, op: &Op) -> bool {
    match op {
        Op::Put(_) => spend(left),
        Op::Delete { keys, .. } => takes_keys(left, keys),
        Op::Range(range) => takes_keys(left, &range.keys),
        Op::Txn(txn) => takes_txn(left, txn),
    }
}

fn takes_keys(left: &mut usize, keys: &Keys) -> bool {
    matches!(keys, Keys::One(_)) && spend(left)
}

fn spend(left: &mut usize) -> bool {
    let enough = *left > 0;
    *left = left.saturating_sub(1);
    enough
}
