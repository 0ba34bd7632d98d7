//! The reference: a store that keeps a copy of everything at every revision, and looks nothing up.

use bytes::Bytes;
use raft_kv::api::*;
use raft_kv::store::validate;
use std::collections::{BTreeMap, BTreeSet};

pub(super) type State = BTreeMap<Bytes, KeyValue>;

pub(super) struct Naive {
    /// `states[n]` is the state at revision `n + 1`.
    pub(super) states: Vec<State>,
    compacted: Revision,
    leases: BTreeSet<LeaseId>,
}

impl Naive {
    pub(super) fn new() -> Self {
        let (compacted, leases) = (Revision(0), BTreeSet::new());
        Self { states: vec![State::new()], compacted, leases }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    pub(super) fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    pub(super) fn run(&mut self, action: &Action) -> CommandReply {
        validate(action)?;
        match action {
            Action::Op(op) => {
                let reply = self.ops(std::slice::from_ref(op))?.remove(0);
                Ok(ActionReply::Op { revision: self.revision(), reply })
            }
            Action::Txn(txn) => {
                let (succeeded, ops) = branch(self.now(), txn);
                let replies = self.ops(ops)?;
                Ok(ActionReply::Txn(TxnReply { revision: self.revision(), succeeded, replies }))
            }
            Action::Compact(revision) => self.compact(*revision),
            Action::Grant { id: Some(id), ttl_ms } => match self.leases.insert(*id) {
                true => Ok(ActionReply::Granted { id: *id, ttl_ms: *ttl_ms }),
                false => Err(KvError::LeaseExists(*id)),
            },
            Action::Revoke(id) => self.revoke(*id),
            _ => panic!("not part of the model"),
        }
    }

    fn compact(&mut self, requested: Revision) -> CommandReply {
        let (current, compacted) = (self.revision(), self.compacted);
        if requested <= compacted {
            return Err(KvError::Compacted { requested, compacted });
        }
        if requested > current {
            return Err(KvError::FutureRevision { requested, current });
        }
        self.compacted = requested;
        Ok(ActionReply::Compacted(current))
    }

    fn revoke(&mut self, id: LeaseId) -> CommandReply {
        if !self.leases.remove(&id) {
            return Err(KvError::LeaseNotFound(id));
        }
        let mut state = self.now().clone();
        state.retain(|_, kv| kv.lease != Some(id));
        let deleted = (self.now().len() - state.len()) as u64;
        if deleted > 0 {
            self.states.push(state);
        }
        Ok(ActionReply::Revoked { revision: self.revision(), deleted })
    }

    fn ops(&mut self, ops: &[Op]) -> Result<Vec<OpReply>, KvError> {
        self.check(ops)?;
        let next = Revision(self.revision().0 + 1);
        let mut run = Run { naive: self, state: self.now().clone(), next, changed: false };
        let replies = run.ops(ops);
        let Run { state, changed, .. } = run;
        if changed {
            self.states.push(state);
        }
        Ok(replies)
    }

    /// What can refuse `ops`, in the order they run.
    fn check(&self, ops: &[Op]) -> Result<(), KvError> {
        for op in ops {
            match op {
                Op::Range(range) => self.check_revision(range)?,
                Op::Put(put) => {
                    if let Attach::To(lease) = put.lease
                        && !self.leases.contains(&lease)
                    {
                        return Err(KvError::LeaseNotFound(lease));
                    }
                    let keeps = put.value.is_none() || put.lease == Attach::Keep;
                    let key = self.key(put);
                    if keeps && !self.now().contains_key(&key) {
                        return Err(KvError::KeyNotFound(key.escape_ascii().to_string()));
                    }
                }
                Op::Delete { .. } => {}
                Op::Txn(txn) => self.check(branch(self.now(), txn).1)?,
            }
        }
        Ok(())
    }

    fn check_revision(&self, range: &Range) -> Result<(), KvError> {
        let (current, compacted) = (self.revision(), self.compacted);
        match range.revision {
            Some(requested) if requested > current => {
                Err(KvError::FutureRevision { requested, current })
            }
            Some(requested) if requested < compacted => {
                Err(KvError::Compacted { requested, compacted })
            }
            _ => Ok(()),
        }
    }

    /// The key that a put writes if it runs next.
    fn key(&self, put: &Put) -> Bytes {
        if !put.sequential {
            return put.key.clone();
        }
        let number = format!("{:020}", self.revision().0 + 1);
        [&put.key[..], number.as_bytes()].concat().into()
    }

    fn at(&self, revision: Revision) -> State {
        let state = revision.0.checked_sub(1).map(|at| &self.states[at as usize]);
        state.cloned().unwrap_or_default()
    }

    pub(super) fn read(&self, range: &Range) -> RangeAnswer {
        validate(&Action::Op(Op::Range(range.clone())))?;
        self.check_revision(range)?;
        let current = self.revision();
        Ok(range_of(&self.at(range.revision.unwrap_or(current)), range, current))
    }
}

/// A request that runs.
struct Run<'a> {
    naive: &'a Naive,
    state: State,
    next: Revision,
    changed: bool,
}

impl Run<'_> {
    fn revision(&self) -> Revision {
        if self.changed { self.next } else { self.naive.revision() }
    }

    fn ops(&mut self, ops: &[Op]) -> Vec<OpReply> {
        ops.iter().map(|op| self.op(op)).collect()
    }

    fn op(&mut self, op: &Op) -> OpReply {
        match op {
            Op::Put(put) => self.put(put),
            Op::Delete { keys, prev_kv } => {
                let (gone, kept) =
                    self.state.clone().into_iter().partition(|(key, _)| within(key, keys));
                let gone: State = gone;
                self.state = kept;
                self.changed |= !gone.is_empty();
                let deleted = gone.len() as u64;
                let prev_kvs = if *prev_kv { gone.into_values().collect() } else { vec![] };
                OpReply::Delete { deleted, prev_kvs }
            }
            Op::Range(range) => {
                let shown = match range.revision {
                    Some(revision) => self.naive.at(revision),
                    None => self.state.clone(),
                };
                OpReply::Range(range_of(&shown, range, self.revision()))
            }
            Op::Txn(txn) => {
                let (succeeded, ops) = branch(self.naive.now(), txn);
                let replies = self.ops(ops);
                OpReply::Txn(TxnReply { revision: self.revision(), succeeded, replies })
            }
        }
    }

    fn put(&mut self, put: &Put) -> OpReply {
        let (key, mod_revision) = (self.naive.key(put), self.next);
        let old = self.state.get(&key).cloned();
        let (create_revision, version) =
            old.as_ref().map_or((self.next, 1), |kv| (kv.create_revision, kv.version + 1));
        let value = put.value.clone().unwrap_or_else(|| old.clone().unwrap().value);
        let lease = match put.lease {
            Attach::None => None,
            Attach::To(lease) => Some(lease),
            Attach::Keep => old.as_ref().unwrap().lease,
        };
        let kv =
            KeyValue { key: key.clone(), value, create_revision, mod_revision, version, lease };
        self.state.insert(key.clone(), kv);
        self.changed = true;
        OpReply::Put { prev_kv: old.filter(|_| put.prev_kv), key: put.sequential.then_some(key) }
    }
}

/// Which branch of `txn` runs on `state`, and whether it is the first.
fn branch<'a>(state: &State, txn: &'a Txn) -> (bool, &'a [Op]) {
    let succeeded = txn.compares.iter().all(|compare| holds(state, compare));
    (succeeded, if succeeded { &txn.success } else { &txn.failure })
}

fn within(key: &Bytes, keys: &Keys) -> bool {
    match keys {
        Keys::One(one) => key == one,
        Keys::Range { start, end } => key >= start && end.as_ref().is_none_or(|end| key < end),
    }
}

fn range_of(state: &State, range: &Range, revision: Revision) -> RangeReply {
    let all: Vec<&KeyValue> = state.values().filter(|kv| within(&kv.key, &range.keys)).collect();
    if range.count_only {
        let count = all.len() as u64;
        return RangeReply { revision, count, ..RangeReply::default() };
    }
    let Filter { min_mod_revision, max_mod_revision, min_create_revision, max_create_revision } =
        range.filter;
    let mut kvs: Vec<KeyValue> = all.iter().map(|kv| (*kv).clone()).collect();
    kvs.retain(|kv| min_mod_revision.is_none_or(|min| kv.mod_revision >= min));
    kvs.retain(|kv| max_mod_revision.is_none_or(|max| kv.mod_revision <= max));
    kvs.retain(|kv| min_create_revision.is_none_or(|min| kv.create_revision >= min));
    kvs.retain(|kv| max_create_revision.is_none_or(|max| kv.create_revision <= max));
    if let Some(Order { by, descending }) = range.order {
        // Sorting is stable: equal ones stay in the order of their keys.
        kvs.sort_by(|a, b| {
            let (a, b) = if descending { (b, a) } else { (a, b) };
            match by {
                OrderBy::Key => a.key.cmp(&b.key),
                OrderBy::Version => a.version.cmp(&b.version),
                OrderBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
                OrderBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
                OrderBy::Value => a.value.cmp(&b.value),
            }
        });
    }
    let limit = if range.limit == 0 { kvs.len() } else { range.limit as usize };
    let more = limit < kvs.len();
    kvs.truncate(limit);
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    let count = if range.count_all { all.len() } else { kvs.len() } as u64;
    RangeReply { revision, kvs, more, count }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let missing = KeyValue::default();
    let mut found: Vec<(&KeyValue, bool)> =
        state.values().filter(|kv| within(&kv.key, &compare.keys)).map(|kv| (kv, true)).collect();
    if found.is_empty() {
        found.push((&missing, false));
    }
    found.into_iter().all(|(kv, exists)| {
        let ordering = match &compare.target {
            Target::Version(version) => kv.version.cmp(version),
            Target::CreateRevision(revision) => kv.create_revision.cmp(revision),
            Target::ModRevision(revision) => kv.mod_revision.cmp(revision),
            Target::Lease(lease) => kv.lease.cmp(lease),
            Target::Value(_) if !exists => return false,
            Target::Value(value) => kv.value.cmp(value),
        };
        match compare.operator {
            Operator::Equal => ordering.is_eq(),
            Operator::NotEqual => ordering.is_ne(),
            Operator::Greater => ordering.is_gt(),
            Operator::Less => ordering.is_lt(),
        }
    })
}
