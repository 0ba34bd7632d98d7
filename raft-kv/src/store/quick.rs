//! What takes microseconds: few keys, each by its name, whatever else the store holds, and few
//! bytes. The node's loop does that itself instead of waking the thread that applies.

use super::mvcc::Mvcc;
use super::state::decode;
use crate::api::{Action, Keys, Op, Put, Query, Range, Txn};
use raft_core::types::{Payload, Run};

/// Most bytes that are copied, those of the run and those it may read.
const BYTES_MAX: usize = 64 * 1024;

/// Most keys that are touched.
const KEYS_MAX: usize = 32;

/// What may still be done at once.
struct Room<'a> {
    mvcc: &'a Mvcc,
    keys: usize,
    bytes: usize,
}

/// Whether applying `run` touches little.
pub(super) fn is_quick(mvcc: &Mvcc, run: &Run) -> bool {
    if run.len() > KEYS_MAX || run.size() > BYTES_MAX {
        return false;
    }
    let mut room = Room { mvcc, keys: KEYS_MAX, bytes: BYTES_MAX - run.size() };
    run.entries().iter().all(|entry| match &entry.payload {
        Payload::Noop => true,
        Payload::Membership(_) => false,
        // What makes no sense is refused, and that is quick.
        Payload::Command(command) => {
            decode(command).map_or(true, |command| room.has_for(&command.action))
        }
    })
}

/// Whether answering `query` reads little.
pub(super) fn is_quick_query(mvcc: &Mvcc, query: &Query) -> bool {
    match query {
        Query::Range(range) => Room { mvcc, keys: 1, bytes: BYTES_MAX }.has_for_range(range),
        Query::Summary => true,
        _ => false,
    }
}

/// Each takes what it needs off the room there is; false if that is not enough.
impl Room<'_> {
    fn has_for(&mut self, action: &Action) -> bool {
        match action {
            Action::Op(op) => self.has_for_op(op),
            Action::Txn(txn) => self.has_for_txn(txn),
            Action::As(_, action) => self.has_for(action),
            Action::Grant { .. } => self.take(1, 0),
            // These may go through as much as there is of leases, sessions, users or revisions.
            Action::Revoke(_)
            | Action::Advance(_)
            | Action::OpenSession
            | Action::Auth(_)
            | Action::Alarm(_)
            | Action::Compact(_) => false,
        }
    }

    fn has_for_txn(&mut self, txn: &Txn) -> bool {
        txn.compares.iter().all(|compare| self.has_for_keys(&compare.keys))
            && txn.success.iter().chain(&txn.failure).all(|op| self.has_for_op(op))
    }

    fn has_for_op(&mut self, op: &Op) -> bool {
        match op {
            Op::Put(Put { prev_kv: false, value: Some(_), .. }) => self.take(1, 0),
            // What is there is returned, or written again.
            Op::Put(put) => self.has_for_key(&put.key),
            Op::Delete { keys, .. } => self.has_for_keys(keys),
            Op::Range(range) => self.has_for_range(range),
            Op::Txn(txn) => self.has_for_txn(txn),
        }
    }

    fn has_for_range(&mut self, range: &Range) -> bool {
        // How much there was at an earlier revision is not known.
        range.revision.is_none() && self.has_for_keys(&range.keys)
    }

    fn has_for_keys(&mut self, keys: &Keys) -> bool {
        match keys {
            Keys::One(key) => self.has_for_key(key),
            Keys::Range { .. } => false,
        }
    }

    fn has_for_key(&mut self, key: &[u8]) -> bool {
        let there = self.mvcc.current(key).map_or(0, |record| record.bytes().len());
        self.take(1, there)
    }

    fn take(&mut self, keys: usize, bytes: usize) -> bool {
        let left = self.keys.checked_sub(keys).zip(self.bytes.checked_sub(bytes));
        let Some(left) = left else { return false };
        (self.keys, self.bytes) = left;
        true
    }
}
