//! The limits of `api`, checked before a request is proposed and again when it is applied: a
//! command in the log may come from anywhere, and every node must treat it alike.

use super::lease::validate_grant;
use crate::api::{
    Action, Compare, KEY_BYTES_MAX, Keys, KvError, Op, Put, SEQUENCE_DIGITS, TXN_DEPTH_MAX,
    TXN_OPS_MAX, Target, Txn, VALUE_BYTES_MAX,
};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Checks `action` against the limits of [`crate::api`]: keys are not empty nor too long, values
/// not too long, transactions not too many operations nor too deep; and no branch of a transaction
/// puts a key twice, or puts a key that it also deletes, in whatever order. What a transaction
/// within a branch writes counts as the branch's; its own two branches may write the same keys, as
/// one of them runs. As in etcd, one such transaction may delete what one before it has put. What a
/// sequential key collides with depends on the revision: here only those that begin alike are
/// compared.
///
/// # Errors
/// [`KvError::KeyEmpty`], [`KvError::TooLarge`], [`KvError::TooManyOps`], [`KvError::TooDeep`] or
/// [`KvError::DuplicateKey`]; the action had and will have no effect.
pub fn validate(action: &Action) -> Result<(), KvError> {
    match action {
        Action::OpenSession
        | Action::Compact(_)
        | Action::Revoke(_)
        | Action::Advance(_)
        | Action::Auth(_)
        | Action::Alarm(_) => Ok(()),
        Action::As(_, action) => match **action {
            Action::As(..) => Err(KvError::Malformed("an authority within another one".into())),
            ref action => validate(action),
        },
        Action::Grant { id, ttl_ms } => validate_grant(*id, *ttl_ms),
        Action::Op(op) => {
            Limits::default().op(op, 0)?;
            match op {
                Op::Txn(_) => check_duplicates(std::slice::from_ref(op), None),
                Op::Put(_) | Op::Delete { .. } | Op::Range(_) => Ok(()),
            }
        }
        Action::Txn(txn) => {
            Limits::default().txn(txn, 1)?;
            check_duplicates(&txn.success, None)?;
            check_duplicates(&txn.failure, None)
        }
    }
}

/// Checks that a transaction has up to `most` compares, and as many operations in each branch.
/// Those within it have what the longest of its three lists leaves of that, each, as in etcd.
///
/// # Errors
/// [`KvError::TooManyOps`].
#[cfg(feature = "client")]
pub(crate) fn validate_lists(action: &Action, most: usize) -> Result<(), KvError> {
    fn check(txn: &Txn, left: usize, most: usize) -> Result<(), KvError> {
        let longest = lengths(txn).into_iter().max().unwrap_or(0);
        let Some(rest) = left.checked_sub(longest) else {
            return too_many(most - left + longest, most);
        };
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            Op::Txn(txn) => check(txn, rest, most),
            Op::Put(_) | Op::Delete { .. } | Op::Range(_) => Ok(()),
        })
    }
    match action {
        Action::Txn(txn) => check(txn, most, most),
        Action::Op(Op::Txn(txn)) => check(txn, most, most),
        _ => Ok(()),
    }
}

/// Checks the sequential keys that `action` would make if it took revision `next` against the other
/// keys of the same branch.
///
/// # Errors
/// [`KvError::DuplicateKey`].
pub(super) fn check_sequential(action: &Action, next: u64) -> Result<(), KvError> {
    match action {
        Action::Txn(txn) if is_sequential(&txn.success) || is_sequential(&txn.failure) => {
            check_duplicates(&txn.success, Some(next))?;
            check_duplicates(&txn.failure, Some(next))
        }
        Action::Op(op @ Op::Txn(_)) if is_sequential(std::slice::from_ref(op)) => {
            check_duplicates(std::slice::from_ref(op), Some(next))
        }
        _ => Ok(()),
    }
}

/// Checks the keys of a read; see [`validate`].
///
/// # Errors
/// [`KvError::KeyEmpty`] or [`KvError::TooLarge`].
pub fn validate_keys(keys: &Keys) -> Result<(), KvError> {
    match keys {
        Keys::One(key) => validate_key(key, KEY_BYTES_MAX),
        Keys::Range { start, end } => {
            // One byte more, so that a read can go on right after the longest key.
            let longest = KEY_BYTES_MAX + 1;
            at_most("key", start.len(), longest)?;
            at_most("key", end.as_ref().map_or(0, |end| end.len()), longest)
        }
    }
}

/// The key that `put` writes at `revision`.
pub(super) fn key_of(put: &Put, revision: u64) -> Cow<'_, [u8]> {
    if !put.sequential {
        return Cow::Borrowed(&put.key);
    }
    let number = format!("{revision:0SEQUENCE_DIGITS$}");
    Cow::Owned([&put.key[..], number.as_bytes()].concat())
}

/// A key in an error, cut short so that it stays a message.
pub(super) fn shown(key: &[u8]) -> String {
    key[..key.len().min(64)].escape_ascii().to_string()
}

/// Goes through a request and all that is within it.
#[derive(Default)]
struct Limits {
    /// Compares and operations seen, in all branches.
    total: usize,
}

impl Limits {
    /// A transaction `depth` deep, the outermost being 1.
    fn txn(&mut self, txn: &Txn, depth: usize) -> Result<(), KvError> {
        if depth > TXN_DEPTH_MAX {
            return Err(KvError::TooDeep(depth as u64));
        }
        self.total += lengths(txn).into_iter().sum::<usize>();
        if self.total > TXN_OPS_MAX {
            return too_many(self.total, TXN_OPS_MAX);
        }
        txn.compares.iter().try_for_each(validate_compare)?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| self.op(op, depth))
    }

    fn op(&mut self, op: &Op, depth: usize) -> Result<(), KvError> {
        match op {
            Op::Put(put) => validate_put(put),
            Op::Delete { keys, .. } => validate_keys(keys),
            Op::Range(range) => validate_keys(&range.keys),
            Op::Txn(txn) => self.txn(txn, depth + 1),
        }
    }
}

const fn lengths(txn: &Txn) -> [usize; 3] {
    [txn.compares.len(), txn.success.len(), txn.failure.len()]
}

fn too_many(count: usize, limit: usize) -> Result<(), KvError> {
    Err(KvError::TooManyOps { count: count as u64, limit: limit as u64 })
}

fn validate_put(put: &Put) -> Result<(), KvError> {
    let number = if put.sequential { SEQUENCE_DIGITS } else { 0 };
    validate_key(&put.key, KEY_BYTES_MAX - number)?;
    at_most("value", put.value.as_ref().map_or(0, |value| value.len()), VALUE_BYTES_MAX)
}

fn validate_compare(compare: &Compare) -> Result<(), KvError> {
    validate_keys(&compare.keys)?;
    match &compare.target {
        Target::Value(value) => at_most("value", value.len(), VALUE_BYTES_MAX),
        _ => Ok(()),
    }
}

fn validate_key(key: &[u8], limit: usize) -> Result<(), KvError> {
    if key.is_empty() {
        return Err(KvError::KeyEmpty);
    }
    at_most("key", key.len(), limit)
}

fn at_most(what: &str, size: usize, limit: usize) -> Result<(), KvError> {
    if size <= limit {
        return Ok(());
    }
    Err(KvError::TooLarge { what: what.into(), size: size as u64, limit: limit as u64 })
}

fn is_sequential(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op {
        Op::Put(put) => put.sequential,
        Op::Txn(txn) => is_sequential(&txn.success) || is_sequential(&txn.failure),
        Op::Delete { .. } | Op::Range(_) => false,
    })
}

fn check_duplicates(ops: &[Op], next: Option<u64>) -> Result<(), KvError> {
    Written::by(ops, next).map(drop)
}

/// What a branch writes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<PutKey<'a>>,
    deletes: Vec<&'a Keys>,
}

/// A key that is put.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PutKey<'a> {
    key: Cow<'a, [u8]>,
    /// Whether `key` is only what it begins with: then nothing but its like is compared with it.
    beginning: bool,
}

impl<'a> Written<'a> {
    /// What `ops` write if they take revision `next`, or whichever they take.
    ///
    /// # Errors
    /// If a key is written twice.
    fn by(ops: &'a [Op], next: Option<u64>) -> Result<Self, KvError> {
        let mut written = Self::default();
        for op in ops {
            if let Op::Delete { keys, .. } = op {
                written.deletes.push(keys);
            }
        }
        for op in ops {
            if let Op::Txn(txn) = op {
                let success = Self::by(&txn.success, next)?;
                let failure = Self::by(&txn.failure, next)?;
                written.add_either(success, failure)?;
            }
        }
        for op in ops {
            if let Op::Put(put) = op {
                written.put(PutKey::of(put, next))?;
            }
        }
        Ok(written)
    }

    /// One of two branches runs: they may write the same keys.
    fn add_either(&mut self, success: Self, failure: Self) -> Result<(), KvError> {
        let mut puts = success.puts;
        puts.extend(failure.puts);
        puts.into_iter().try_for_each(|key| self.put(key))?;
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn put(&mut self, put: PutKey<'a>) -> Result<(), KvError> {
        let deleted = !put.beginning && self.deletes.iter().any(|keys| keys.contains(&put.key));
        if deleted || self.puts.contains(&put) {
            return Err(KvError::DuplicateKey(shown(&put.key)));
        }
        self.puts.insert(put);
        Ok(())
    }
}

impl<'a> PutKey<'a> {
    fn of(put: &'a Put, next: Option<u64>) -> Self {
        match next {
            Some(next) => Self { key: key_of(put, next), beginning: false },
            None => Self { key: Cow::Borrowed(&put.key), beginning: put.sequential },
        }
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use crate::api::{Operator, Range};

    /// What a transaction may have is what those around it leave of the limit, as in etcd.
    #[test]
    fn lists_within_have_what_is_left() {
        let read = || Op::Range(Range::of(Keys::One("a".into())));
        let reads = |count| vec![read(); count];
        let of = |success| Txn { success, ..Txn::default() };
        let nested = |success| Op::Txn(Box::new(of(success)));
        let refused = |txn| validate_lists(&Action::Txn(txn), 128).err();
        let with = |own: usize, within: usize| {
            let mut ops = reads(own - 1);
            ops.push(nested(reads(within)));
            of(ops)
        };
        assert_eq!(refused(of(reads(128))), None);
        assert_eq!(refused(with(28, 100)), None);
        let many = Some(KvError::TooManyOps { count: 129, limit: 128 });
        assert_eq!(refused(of(reads(129))), many);
        assert_eq!(refused(Txn { failure: reads(129), ..Txn::default() }), many);
        assert_eq!(refused(with(28, 101)), many);
        assert_eq!(refused(of(vec![nested(reads(126)), nested(reads(126))])), None, "each has it");
        let keys = Keys::One("a".into());
        let compare = Compare { keys, operator: Operator::Equal, target: Target::Version(0) };
        let compares = vec![compare; 129];
        assert_eq!(refused(Txn { compares, ..Txn::default() }), many);
        assert_eq!(validate_lists(&Action::Op(nested(reads(129))), 128).err(), many);
    }
}
