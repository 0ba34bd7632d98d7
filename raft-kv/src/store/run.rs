//! Runs operations and transactions on the map, with etcd's semantics.
//!
//! Everything that can refuse a request is looked at before anything is written: a refused request
//! has no effect. For that, which branches of a transaction run is decided first, those of the
//! transactions within it too; so every compare sees what was there before the whole.

use super::budget::Budget;
use super::counts::Counts;
use super::lease::Leases;
use super::mvcc::Mvcc;
use super::range::Room;
use super::record::Record;
use super::validate::{check_sequential, key_of, shown, validate, validate_keys};
use crate::api::{
    Action, ActionReply, Attach, CommandReply, Compare, Keys, KvError, LeaseId, Op, OpReply,
    Operator, PAIR_OVERHEAD_BYTES, PREVIOUS_BYTES_MAX, Put, Range, RangeAnswer, Revision, Target,
    Txn, TxnReply,
};
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::vec;

/// Runs an action; one that opens a session is not this module's.
pub(super) fn run(
    mvcc: &mut Mvcc,
    leases: &mut Leases,
    counts: &mut Counts,
    action: &Action,
) -> CommandReply {
    validate(action)?;
    check_sequential(action, mvcc.next_revision())?;
    match action {
        Action::OpenSession
        | Action::Grant { .. }
        | Action::Revoke(_)
        | Action::Advance(_)
        | Action::Auth(_)
        | Action::Alarm(_)
        | Action::As(..) => Err(KvError::Malformed("not within a session".into())),
        Action::Op(op) => {
            let reply = run_one(mvcc, leases, counts, op)?;
            Ok(ActionReply::Op { revision: Revision(mvcc.revision()), reply })
        }
        Action::Txn(txn) => {
            let mut plan = Plan::of(mvcc);
            let succeeded = plan.holds_all(mvcc, &txn.compares);
            let replies = run_all(mvcc, leases, counts, plan, branch(txn, succeeded))?;
            counts.txns += 1;
            let revision = Revision(mvcc.revision());
            Ok(ActionReply::Txn(TxnReply { revision, succeeded, replies }))
        }
        Action::Compact(revision) => {
            mvcc.compact(revision.0)?;
            Ok(ActionReply::Compacted(Revision(mvcc.revision())))
        }
    }
}

/// Answers a read of the applied state, all at once; counts in `seen` the keys it goes through.
pub(super) fn read(mvcc: &Mvcc, range: &Range, seen: &mut u64) -> RangeAnswer {
    validate_keys(&range.keys)?;
    mvcc.check_readable(range.revision)?;
    Ok(mvcc.range(range, &mut Room::new(), seen))
}

/// Whether running `action` again does no harm, whatever the state. While there is an alarm members
/// go by it where they apply: like [`grows`] it must stay as it is.
pub(super) fn is_read_only(action: &Action) -> bool {
    match action {
        Action::OpenSession
        | Action::Compact(_)
        | Action::Grant { .. }
        | Action::Revoke(_)
        | Action::Advance(_)
        | Action::Auth(_)
        | Action::Alarm(_) => false,
        Action::As(_, action) => is_read_only(action),
        Action::Op(op) => reads(op),
        Action::Txn(txn) => only_reads(txn),
    }
}

fn reads(op: &Op) -> bool {
    match op {
        Op::Put(_) | Op::Delete { .. } => false,
        Op::Range(_) => true,
        Op::Txn(txn) => only_reads(txn),
    }
}

fn only_reads(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(reads)
}

/// Whether running `action` may need more room than there was. While there is an alarm members go
/// by it where they apply: it must stay as it is.
pub(crate) fn grows(action: &Action) -> bool {
    match action {
        Action::Op(op) => puts(op),
        Action::Txn(txn) => any_puts(txn),
        Action::Grant { .. } => true,
        Action::OpenSession
        | Action::Compact(_)
        | Action::Revoke(_)
        | Action::Advance(_)
        | Action::Auth(_)
        | Action::Alarm(_) => false,
        Action::As(_, action) => grows(action),
    }
}

fn puts(op: &Op) -> bool {
    match op {
        Op::Put(_) => true,
        Op::Delete { .. } | Op::Range(_) => false,
        Op::Txn(txn) => any_puts(txn),
    }
}

fn any_puts(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(puts)
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn run_one(
    mvcc: &mut Mvcc,
    leases: &mut Leases,
    counts: &mut Counts,
    op: &Op,
) -> Result<OpReply, KvError> {
    let mut plan = Plan::of(mvcc);
    if let Op::Txn(_) = op {
        plan.add(mvcc, std::slice::from_ref(op));
        plan.check(mvcc, leases)?;
        counts.txns += 1;
    } else {
        // Nearly every request is of this kind: it is worth no list.
        check(mvcc, leases, &[op])?;
    }
    Ok(Running::of(mvcc, leases, counts, plan).finish(|running| running.op(op)))
}

/// Runs `ops` in order at one revision; each sees the writes before it.
fn run_all<'a>(
    mvcc: &mut Mvcc,
    leases: &mut Leases,
    counts: &mut Counts,
    mut plan: Plan<'a>,
    ops: &'a [Op],
) -> Result<Vec<OpReply>, KvError> {
    plan.add(mvcc, ops);
    plan.check(mvcc, leases)?;
    Ok(Running::of(mvcc, leases, counts, plan).finish(|running| running.ops(ops)))
}

/// What of a request will run.
struct Plan<'a> {
    /// Of every transaction that will run, whether its compares hold, in the order they begin.
    decisions: Vec<bool>,
    /// The operations that are no transactions, in order.
    ops: Vec<&'a Op>,
    /// What it may look at.
    budget: Budget,
}

impl<'a> Plan<'a> {
    fn of(mvcc: &Mvcc) -> Self {
        Self { decisions: Vec::new(), ops: Vec::new(), budget: Budget::of(mvcc) }
    }

    /// Whether all of `compares` hold. If the budget ends before that is known, it is refused in
    /// the end whatever is said here.
    fn holds_all(&mut self, mvcc: &Mvcc, compares: &[Compare]) -> bool {
        compares.iter().all(|compare| holds(mvcc, compare, &mut self.budget))
    }

    fn add(&mut self, mvcc: &Mvcc, ops: &'a [Op]) {
        for op in ops {
            if let Op::Txn(txn) = op {
                let succeeded = self.holds_all(mvcc, &txn.compares);
                self.decisions.push(succeeded);
                self.add(mvcc, branch(txn, succeeded));
            } else {
                self.ops.push(op);
            }
        }
    }

    /// Looks at all that can refuse it.
    fn check(&mut self, mvcc: &Mvcc, leases: &Leases) -> Result<(), KvError> {
        self.budget.spend_on(mvcc, &self.ops)?;
        check(mvcc, leases, &self.ops)
    }
}

/// Looks at all that can refuse `ops`. No key is written before it is put, so what is there now is
/// what each put will find.
fn check(mvcc: &Mvcc, leases: &Leases, ops: &[&Op]) -> Result<(), KvError> {
    for op in ops {
        match op {
            Op::Range(range) => mvcc.check_readable(range.revision)?,
            Op::Put(put) => check_put(mvcc, leases, put)?,
            Op::Delete { .. } | Op::Txn(_) => {}
        }
    }
    check_previous(mvcc, ops)
}

fn check_put(mvcc: &Mvcc, leases: &Leases, put: &Put) -> Result<(), KvError> {
    if let Attach::To(lease) = put.lease
        && !leases.contains(lease)
    {
        return Err(KvError::LeaseNotFound(lease));
    }
    if keeps(put) {
        let key = key_of(put, mvcc.next_revision());
        if mvcc.current(&key).is_none() {
            return Err(KvError::KeyNotFound(shown(&key)));
        }
    }
    Ok(())
}

/// Whether something of what was there is kept.
fn keeps(put: &Put) -> bool {
    put.value.is_none() || put.lease == Attach::Keep
}

/// Refuses a request whose previous pairs would not fit into a reply. A delete may also return what
/// a put before it has written; overlapping deletes count double.
fn check_previous(mvcc: &Mvcc, ops: &[&Op]) -> Result<(), KvError> {
    let mut size = 0;
    for (at, op) in ops.iter().enumerate() {
        size += match op {
            Op::Put(put) if put.prev_kv => {
                let key = key_of(put, mvcc.next_revision());
                mvcc.current(&key).map_or(0, |record| record.pair_size(false))
            }
            Op::Delete { keys, prev_kv: true } => {
                mvcc.pair_sizes(keys) + put_sizes(&ops[..at], keys)
            }
            _ => 0,
        };
    }
    if size <= PREVIOUS_BYTES_MAX {
        return Ok(());
    }
    let (size, limit) = (size as u64, PREVIOUS_BYTES_MAX as u64);
    Err(KvError::TooLarge { what: "previous pairs in the reply".into(), size, limit })
}

/// Bytes that what `ops` put among `keys` may count in a reply, beyond what was there.
fn put_sizes(ops: &[&Op], keys: &Keys) -> usize {
    let size = |put: &Put| {
        let value = put.value.as_ref().map_or(0, |value| value.len());
        put.key.len() + crate::api::SEQUENCE_DIGITS + value + PAIR_OVERHEAD_BYTES
    };
    let puts = ops.iter().filter_map(|op| match op {
        Op::Put(put) if put.sequential || keys.contains(&put.key) => Some(size(put)),
        _ => None,
    });
    puts.sum()
}

/// A request that can no longer fail.
struct Running<'a> {
    mvcc: &'a mut Mvcc,
    leases: &'a mut Leases,
    counts: &'a mut Counts,
    /// See [`Plan::decisions`].
    decisions: vec::IntoIter<bool>,
    room: Room,
}

impl<'a> Running<'a> {
    fn of(
        mvcc: &'a mut Mvcc,
        leases: &'a mut Leases,
        counts: &'a mut Counts,
        plan: Plan<'_>,
    ) -> Self {
        Self { mvcc, leases, counts, decisions: plan.decisions.into_iter(), room: Room::new() }
    }

    /// Does `work`, and ends the request with it.
    fn finish<T>(mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let done = work(&mut self);
        self.mvcc.finish();
        done
    }

    fn ops(&mut self, ops: &[Op]) -> Vec<OpReply> {
        ops.iter().map(|op| self.op(op)).collect()
    }

    fn op(&mut self, op: &Op) -> OpReply {
        match op {
            Op::Put(put) => self.put(put),
            Op::Delete { keys, prev_kv } => self.delete(keys, *prev_kv),
            Op::Range(range) => {
                self.counts.ranges += 1;
                OpReply::Range(self.mvcc.range(range, &mut self.room, &mut 0))
            }
            Op::Txn(txn) => {
                let succeeded = self.decisions.next().expect("each transaction was decided on");
                let replies = self.ops(branch(txn, succeeded));
                let revision = Revision(self.mvcc.revision());
                OpReply::Txn(TxnReply { revision, succeeded, replies })
            }
        }
    }

    fn put(&mut self, put: &Put) -> OpReply {
        self.counts.puts += 1;
        let key = key_of(put, self.mvcc.next_revision());
        let kept = if keeps(put) { self.mvcc.current(&key).cloned() } else { None };
        let value = match (&put.value, &kept) {
            (Some(value), _) => &value[..],
            (None, kept) => kept.as_ref().map_or(&[][..], Record::value),
        };
        let lease = match put.lease {
            Attach::None => None,
            Attach::To(lease) => Some(lease),
            Attach::Keep => kept.as_ref().and_then(Record::lease),
        };
        let previous = self.mvcc.put(&key, value, lease);
        self.attach(&key, previous.as_ref().and_then(Record::lease), lease);
        let prev_kv = previous.filter(|_| put.prev_kv).map(|record| record.pair(false));
        OpReply::Put { prev_kv, key: put.sequential.then(|| key.into_owned().into()) }
    }

    /// `key`, which hung on the lease `old`, hangs on `new` from now on.
    fn attach(&mut self, key: &[u8], old: Option<LeaseId>, new: Option<LeaseId>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.leases.detach(key, old);
        }
        if let Some(new) = new {
            self.leases.attach(key, new);
        }
    }

    fn delete(&mut self, keys: &Keys, prev_kv: bool) -> OpReply {
        self.counts.deletes += 1;
        let mut prev_kvs = Vec::new();
        let deleted = self.mvcc.delete(keys, |record| {
            if let Some(lease) = record.lease() {
                self.leases.detach(record.key(), lease);
            }
            if prev_kv {
                prev_kvs.push(record.pair(false));
            }
        });
        OpReply::Delete { deleted, prev_kvs }
    }
}

/// Whether all keys that exist fulfil `compare`. If there is none, it is as if there were one with
/// all numbers 0 and without a value.
fn holds(mvcc: &Mvcc, compare: &Compare, budget: &mut Budget) -> bool {
    let (mut found, mut holds) = (false, true);
    mvcc.visit(&compare.keys, None, false, |record| {
        found = true;
        holds = fulfils(compare, Some(record));
        if holds { budget.spend() } else { ControlFlow::Break(()) }
    });
    if found { holds } else { fulfils(compare, None) }
}

fn fulfils(compare: &Compare, record: Option<&Record>) -> bool {
    let header = record.map(Record::header);
    let number = |of: u64, expected: u64| of.cmp(&expected);
    let ordering = match &compare.target {
        Target::Version(version) => number(header.map_or(0, |header| header.version), *version),
        Target::CreateRevision(revision) => {
            number(header.map_or(0, |header| header.create_revision), revision.0)
        }
        Target::ModRevision(revision) => {
            number(header.map_or(0, |header| header.mod_revision), revision.0)
        }
        // What does not exist has no value, so nothing holds of it, not even inequality.
        Target::Value(value) => match record {
            Some(record) => record.value().cmp(value),
            None => return false,
        },
        Target::Lease(lease) => header.and_then(|header| header.lease).cmp(lease),
    };
    match compare.operator {
        Operator::Equal => ordering == Ordering::Equal,
        Operator::NotEqual => ordering != Ordering::Equal,
        Operator::Greater => ordering == Ordering::Greater,
        Operator::Less => ordering == Ordering::Less,
    }
}
