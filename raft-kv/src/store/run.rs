//! Runs operations and transactions on the map, with etcd's semantics.
//!
//! Everything that can refuse a request is looked at before anything is written: a refused request
//! has no effect.

use super::mvcc::Mvcc;
use super::record::Record;
use super::validate::{validate, validate_keys};
use crate::api::{
    Action, ActionReply, CommandReply, Compare, Keys, KvError, Op, OpReply, Operator,
    PREVIOUS_BYTES_MAX, RANGE_BYTES_MAX, Range, RangeAnswer, Revision, Target, Txn, TxnReply,
};

/// Runs an action; one that opens a session is not this module's.
pub(super) fn run(mvcc: &mut Mvcc, action: &Action) -> CommandReply {
    validate(action)?;
    match action {
        Action::OpenSession
        | Action::Compact(_)
        | Action::Grant { .. }
        | Action::Revoke(_)
        | Action::Advance(_) => Err(KvError::Malformed("not within a session".into())),
        Action::Op(op) => {
            let mut replies = run_ops(mvcc, std::slice::from_ref(op))?;
            let reply = replies.pop().expect("one operation has one reply");
            Ok(ActionReply::Op { revision: Revision(mvcc.revision()), reply })
        }
        Action::Txn(txn) => run_txn(mvcc, txn).map(ActionReply::Txn),
    }
}

/// Answers a read of the applied state.
pub(super) fn read(mvcc: &Mvcc, range: &Range) -> RangeAnswer {
    validate_keys(&range.keys)?;
    check_revision(mvcc, range)?;
    Ok(mvcc.range(range, &mut RANGE_BYTES_MAX.clone(), &mut true))
}

/// Whether running `action` again does no harm, whatever the state.
pub(super) fn is_read_only(action: &Action) -> bool {
    let reads = |op: &Op| matches!(op, Op::Range(_));
    match action {
        Action::OpenSession
        | Action::Compact(_)
        | Action::Grant { .. }
        | Action::Revoke(_)
        | Action::Advance(_) => false,
        Action::Op(op) => reads(op),
        Action::Txn(txn) => txn.success.iter().chain(&txn.failure).all(reads),
    }
}

fn run_txn(mvcc: &mut Mvcc, txn: &Txn) -> Result<TxnReply, KvError> {
    let succeeded = txn.compares.iter().all(|compare| holds(mvcc, compare));
    let ops = if succeeded { &txn.success } else { &txn.failure };
    let replies = run_ops(mvcc, ops)?;
    Ok(TxnReply { revision: Revision(mvcc.revision()), succeeded, replies })
}

fn holds(mvcc: &Mvcc, compare: &Compare) -> bool {
    let Keys::One(key) = &compare.keys else { return false };
    let record = mvcc.current(key);
    let header = record.map(Record::header);
    let ordering = match &compare.target {
        Target::Version(version) => header.map_or(0, |header| header.version).cmp(version),
        Target::CreateRevision(revision) => {
            header.map_or(0, |header| header.create_revision).cmp(&revision.0)
        }
        Target::ModRevision(revision) => {
            header.map_or(0, |header| header.mod_revision).cmp(&revision.0)
        }
        // A missing key has no value, so nothing holds of it, not even inequality.
        Target::Value(value) => match record {
            Some(record) => record.value().cmp(value),
            None => return false,
        },
        Target::Lease(_) => return false,
    };
    match compare.operator {
        Operator::Equal => ordering.is_eq(),
        Operator::NotEqual => ordering.is_ne(),
        Operator::Greater => ordering.is_gt(),
        Operator::Less => ordering.is_lt(),
    }
}

/// Runs `ops` in order at one revision; each sees the writes before it.
fn run_ops(mvcc: &mut Mvcc, ops: &[Op]) -> Result<Vec<OpReply>, KvError> {
    for op in ops {
        if let Op::Range(range) = op {
            check_revision(mvcc, range)?;
        }
    }
    check_previous(mvcc, ops)?;
    let mut budget = RANGE_BYTES_MAX;
    let mut first = true;
    let replies = ops.iter().map(|op| run_op(mvcc, op, &mut budget, &mut first)).collect();
    mvcc.finish();
    Ok(replies)
}

fn run_op(mvcc: &mut Mvcc, op: &Op, budget: &mut usize, first: &mut bool) -> OpReply {
    match op {
        Op::Put(put) => {
            let value = put.value.as_deref().unwrap_or_default();
            let previous = mvcc.put(&put.key, value).filter(|_| put.prev_kv);
            OpReply::Put { prev_kv: previous.map(|record| record.pair(false)), key: None }
        }
        Op::Delete { keys, prev_kv } => {
            let mut prev_kvs = Vec::new();
            let deleted = mvcc.delete(keys, |record| {
                if *prev_kv {
                    prev_kvs.push(record.pair(false));
                }
            });
            OpReply::Delete { deleted, prev_kvs }
        }
        Op::Range(range) => OpReply::Range(mvcc.range(range, budget, first)),
        Op::Txn(_) => OpReply::Txn(TxnReply {
            revision: Revision(mvcc.revision()),
            succeeded: false,
            replies: Vec::new(),
        }),
    }
}

fn check_revision(mvcc: &Mvcc, range: &Range) -> Result<(), KvError> {
    let current = Revision(mvcc.revision());
    match range.revision {
        Some(requested) if requested > current => {
            Err(KvError::FutureRevision { requested, current })
        }
        _ => Ok(()),
    }
}

/// Refuses a request whose previous pairs would not fit into a reply. No key is put twice, nor put
/// and deleted, so what is there before the first operation is what there will be to return; only
/// overlapping deletes count double.
fn check_previous(mvcc: &Mvcc, ops: &[Op]) -> Result<(), KvError> {
    let mut size = 0;
    for op in ops {
        size += match op {
            Op::Put(put) if put.prev_kv => {
                mvcc.current(&put.key).map_or(0, |record| record.pair_size(false))
            }
            Op::Delete { keys, prev_kv: true } => mvcc.pair_sizes(keys),
            _ => 0,
        };
    }
    if size <= PREVIOUS_BYTES_MAX {
        return Ok(());
    }
    let (size, limit) = (size as u64, PREVIOUS_BYTES_MAX as u64);
    Err(KvError::TooLarge { what: "previous pairs in the reply".into(), size, limit })
}
