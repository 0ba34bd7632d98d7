//! The limits of the interface, checked before a command is sent or proposed.
//!
//! It is a first look, so that a bad command costs little and is refused early; what counts is
//! what the state machine says when it applies the command.

use crate::api::{
    Action, KEY_BYTES_MAX, Keys, KvError, Op, TXN_OPS_MAX, Target, Txn, VALUE_BYTES_MAX,
};

/// Whether `action` keeps to the limits.
///
/// # Errors
/// The first limit it breaks.
pub(crate) fn validate(action: &Action) -> Result<(), KvError> {
    match action {
        Action::OpenSession => Ok(()),
        Action::Op(op) => validate_op(op),
        Action::Txn(txn) => validate_txn(txn),
    }
}

fn validate_txn(txn: &Txn) -> Result<(), KvError> {
    for count in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
        if count > TXN_OPS_MAX {
            return Err(KvError::TooManyOps { count: count as u64, limit: TXN_OPS_MAX as u64 });
        }
    }
    for compare in &txn.compares {
        validate_key(&compare.key)?;
        if let Target::Value(value) = &compare.target {
            within("value", value.len(), VALUE_BYTES_MAX)?;
        }
    }
    txn.success.iter().chain(&txn.failure).try_for_each(validate_op)
}

fn validate_op(op: &Op) -> Result<(), KvError> {
    match op {
        Op::Put { key, value, .. } => {
            validate_key(key)?;
            within("value", value.len(), VALUE_BYTES_MAX)
        }
        Op::Delete { keys, .. } => validate_keys(keys),
        Op::Range(range) => validate_keys(&range.keys),
    }
}

fn validate_keys(keys: &Keys) -> Result<(), KvError> {
    match keys {
        Keys::One(key) => validate_key(key),
        Keys::Range { start, end } => {
            within("key", start.len(), KEY_BYTES_MAX)?;
            within("key", end.as_ref().map_or(0, bytes::Bytes::len), KEY_BYTES_MAX)
        }
    }
}

fn validate_key(key: &[u8]) -> Result<(), KvError> {
    if key.is_empty() {
        return Err(KvError::KeyEmpty);
    }
    within("key", key.len(), KEY_BYTES_MAX)
}

fn within(what: &str, size: usize, limit: usize) -> Result<(), KvError> {
    if size <= limit {
        return Ok(());
    }
    Err(KvError::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 })
}
