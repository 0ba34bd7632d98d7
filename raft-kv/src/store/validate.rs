//! The limits of `api`, checked before a request is proposed and again when it is applied: a
//! command in the log may come from anywhere, and every node must treat it alike.

use super::lease::validate_grant;
use crate::api::{
    Action, Compare, KEY_BYTES_MAX, Keys, KvError, Op, TXN_OPS_MAX, Target, VALUE_BYTES_MAX,
};
use std::collections::BTreeSet;
use std::ops::Bound;

/// Checks `action` against the limits of [`crate::api`]: keys are not empty nor too long, values
/// not too long, transactions not too many operations; and no branch of a transaction puts a key
/// twice, or puts a key that it also deletes, in whatever order.
///
/// # Errors
/// [`KvError::KeyEmpty`], [`KvError::TooLarge`], [`KvError::TooManyOps`] or
/// [`KvError::DuplicateKey`]; the action had and will have no effect.
pub fn validate(action: &Action) -> Result<(), KvError> {
    match action {
        Action::OpenSession | Action::Compact(_) | Action::Revoke(_) | Action::Advance(_) => Ok(()),
        Action::Grant { id, ttl_ms } => validate_grant(*id, *ttl_ms),
        Action::Op(op) => validate_op(op),
        Action::Txn(txn) => {
            for count in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
                if count > TXN_OPS_MAX {
                    let (count, limit) = (count as u64, TXN_OPS_MAX as u64);
                    return Err(KvError::TooManyOps { count, limit });
                }
            }
            txn.compares.iter().try_for_each(validate_compare)?;
            validate_branch(&txn.success)?;
            validate_branch(&txn.failure)
        }
    }
}

/// Checks the keys of a read; see [`validate`].
///
/// # Errors
/// [`KvError::KeyEmpty`] or [`KvError::TooLarge`].
pub fn validate_keys(keys: &Keys) -> Result<(), KvError> {
    match keys {
        Keys::One(key) => validate_key(key),
        Keys::Range { start, end } => {
            // One byte more, so that a read can go on right after the longest key.
            let longest = KEY_BYTES_MAX + 1;
            at_most("key", start.len(), longest)?;
            at_most("key", end.as_ref().map_or(0, |end| end.len()), longest)
        }
    }
}

fn validate_op(op: &Op) -> Result<(), KvError> {
    match op {
        Op::Put(put) => {
            validate_key(&put.key)?;
            at_most("value", put.value.as_ref().map_or(0, |value| value.len()), VALUE_BYTES_MAX)
        }
        Op::Delete { keys, .. } => validate_keys(keys),
        Op::Range(range) => validate_keys(&range.keys),
        Op::Txn(_) => Err(KvError::TooDeep(2)),
    }
}

fn validate_compare(compare: &Compare) -> Result<(), KvError> {
    validate_keys(&compare.keys)?;
    match &compare.target {
        Target::Value(value) => at_most("value", value.len(), VALUE_BYTES_MAX),
        _ => Ok(()),
    }
}

fn validate_branch(ops: &[Op]) -> Result<(), KvError> {
    ops.iter().try_for_each(validate_op)?;
    let mut puts = BTreeSet::new();
    for op in ops {
        if let Op::Put(put) = op
            && !puts.insert(&put.key[..])
        {
            return Err(duplicate(&put.key));
        }
    }
    for op in ops {
        if let Op::Delete { keys, .. } = op
            && let Some(key) = first_in(&puts, keys)
        {
            return Err(duplicate(key));
        }
    }
    Ok(())
}

fn first_in<'a>(puts: &BTreeSet<&'a [u8]>, keys: &Keys) -> Option<&'a [u8]> {
    match keys {
        Keys::One(key) => puts.get(&key[..]).copied(),
        Keys::Range { start, end } => {
            let first =
                *puts.range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded)).next()?;
            end.as_ref().is_none_or(|end| first < &end[..]).then_some(first)
        }
    }
}

fn validate_key(key: &[u8]) -> Result<(), KvError> {
    if key.is_empty() {
        return Err(KvError::KeyEmpty);
    }
    at_most("key", key.len(), KEY_BYTES_MAX)
}

fn at_most(what: &str, size: usize, limit: usize) -> Result<(), KvError> {
    if size <= limit {
        return Ok(());
    }
    Err(KvError::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 })
}

/// Names the key, cut short so that an error stays an error message.
fn duplicate(key: &[u8]) -> KvError {
    let shown = &key[..key.len().min(64)];
    KvError::DuplicateKey(shown.escape_ascii().to_string())
}
