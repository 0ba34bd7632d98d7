//! A store as simple as can be: a copy of everything at every revision, and nothing looked up.
//! It is told the entries of the log in order, and says what each must be answered.

use bytes::Bytes;
use raft_core::types::Index;
use raft_kv::api::*;
use raft_kv::store::validate;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Everything there is at one revision.
pub(super) type Contents = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) ttl_ms: u64,
    pub(super) granted_at: u64,
    /// `None` while its time does not run.
    pub(super) deadline_ms: Option<u64>,
}

#[derive(Default)]
struct Session {
    unanswered_from: u64,
    replies: BTreeMap<u64, CommandReply>,
}

pub(super) struct Reference {
    /// What was there at revision `n` is at `n`; nothing is at 0, and there is nothing at 1.
    states: Vec<Contents>,
    /// What has happened at revision `n` is at `n`, in order, each with what was there before.
    events: Vec<Vec<Event>>,
    pub(super) compacted: u64,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    sessions: BTreeMap<SessionId, Session>,
    pub(super) time_ms: u64,
    pub(super) stamped: u64,
    /// Leases that the last entry ended because their time was over.
    pub(super) expired: Vec<LeaseId>,
    /// Requests that were answered as they had been before.
    pub(super) repeated: u64,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self {
            states: vec![Contents::new(); 2],
            events: vec![Vec::new(); 2],
            compacted: 0,
            leases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            time_ms: 0,
            stamped: 0,
            expired: Vec::new(),
            repeated: 0,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub(super) fn now(&self) -> &Contents {
        self.at(self.revision())
    }

    pub(super) fn at(&self, revision: u64) -> &Contents {
        &self.states[revision as usize]
    }

    /// What has happened at this revision.
    pub(super) fn events(&self, revision: u64) -> &[Event] {
        &self.events[revision as usize]
    }

    /// What entry `index` must be answered; `actual` is what it was answered, and only looked at
    /// for the id of a lease that was made up.
    pub(super) fn apply(
        &mut self,
        index: Index,
        command: &Command,
        actual: &CommandReply,
    ) -> CommandReply {
        self.expired.clear();
        let Some(request) = &command.request else {
            return match &command.action {
                Action::OpenSession => {
                    let id = SessionId(index.0);
                    self.sessions.insert(id, Session { unanswered_from: 1, ..Session::default() });
                    Ok(ActionReply::Session(id))
                }
                Action::Advance(advance) => self.advance(index, advance),
                _ => self.run(index, command, actual),
            };
        };
        let Some(session) = self.sessions.get_mut(&request.session) else {
            return Err(KvError::SessionUnknown(request.session));
        };
        session.unanswered_from = session.unanswered_from.max(request.unanswered_from);
        session.replies = session.replies.split_off(&session.unanswered_from);
        if request.seq < session.unanswered_from {
            return Err(KvError::AnsweredBefore(request.seq));
        }
        if let Some(reply) = session.replies.get(&request.seq) {
            self.repeated += 1;
            return reply.clone();
        }
        let reply = self.run(index, command, actual);
        let session = self.sessions.get_mut(&request.session).unwrap();
        session.replies.insert(request.seq, reply.clone());
        reply
    }

    fn run(&mut self, index: Index, command: &Command, actual: &CommandReply) -> CommandReply {
        if let Some(Fence { key, token }) = &command.fence
            && self.now().get(key).map(|kv| kv.create_revision) != Some(*token)
        {
            return Err(KvError::Fenced { token: *token });
        }
        validate(&command.action)?;
        match &command.action {
            Action::Op(op) => {
                let reply = self.write(std::slice::from_ref(op))?.remove(0);
                Ok(ActionReply::Op { revision: Revision(self.revision()), reply })
            }
            Action::Txn(txn) => {
                let succeeded = holds(self.now(), &txn.compares);
                let ops = if succeeded { &txn.success } else { &txn.failure };
                let replies = self.write(ops)?;
                let revision = Revision(self.revision());
                Ok(ActionReply::Txn(TxnReply { revision, succeeded, replies }))
            }
            Action::Compact(revision) => {
                if revision.0 <= self.compacted {
                    let compacted = Revision(self.compacted);
                    return Err(KvError::Compacted { requested: *revision, compacted });
                }
                self.check_revision(Some(*revision))?;
                self.compacted = revision.0;
                Ok(ActionReply::Compacted(Revision(self.revision())))
            }
            Action::Grant { id, ttl_ms } => {
                if let Some(id) = id.filter(|id| self.leases.contains_key(id)) {
                    return Err(KvError::LeaseExists(id));
                }
                let id = id.unwrap_or_else(|| match actual {
                    Ok(ActionReply::Granted { id, .. }) if !self.leases.contains_key(id) => *id,
                    other => panic!("no new lease: {other:?}"),
                });
                let ttl_ms = (*ttl_ms).max(LEASE_TTL_MIN_MS);
                let lease = Lease { ttl_ms, granted_at: index.0, deadline_ms: None };
                self.leases.insert(id, lease);
                Ok(ActionReply::Granted { id, ttl_ms })
            }
            Action::Revoke(id) => {
                let deleted = self.end(*id).ok_or(KvError::LeaseNotFound(*id))?;
                Ok(ActionReply::Revoked { revision: Revision(self.revision()), deleted })
            }
            Action::OpenSession
            | Action::Advance(_)
            | Action::Auth(_)
            | Action::Alarm(_)
            | Action::As(..) => Err(KvError::Malformed("not within a session".into())),
        }
    }

    fn advance(&mut self, index: Index, advance: &Advance) -> CommandReply {
        if advance.since.0 != self.stamped {
            return Err(KvError::Malformed("another came between".into()));
        }
        self.stamped = index.0;
        self.time_ms = self.time_ms.max(advance.time_ms);
        let now_ms = self.time_ms;
        for lease in self.leases.values_mut().filter(|it| it.granted_at <= advance.seen.0) {
            lease.deadline_ms.get_or_insert(now_ms + lease.ttl_ms);
        }
        let mut ttls_ms = Vec::new();
        for id in &advance.renewed {
            let lease = self.leases.get_mut(id);
            ttls_ms.push(lease.as_ref().map_or(0, |lease| lease.ttl_ms));
            if let Some(Lease { ttl_ms, deadline_ms: Some(deadline), .. }) = lease {
                *deadline = now_ms + *ttl_ms;
            }
        }
        let over = self.leases.iter().filter_map(|(id, lease)| {
            lease.deadline_ms.filter(|deadline| *deadline < now_ms).map(|deadline| (deadline, *id))
        });
        let mut over: Vec<(u64, LeaseId)> = over.collect();
        over.sort_unstable();
        for (_, id) in over {
            self.end(id);
            self.expired.push(id);
        }
        Ok(ActionReply::Advanced { ttls_ms, more: false })
    }

    /// Ends a lease, and its keys in one revision.
    fn end(&mut self, id: LeaseId) -> Option<u64> {
        self.leases.remove(&id)?;
        let mut next = self.now().clone();
        let mut gone = Vec::new();
        next.retain(|_, kv| {
            let goes = kv.lease == Some(id);
            gone.extend(goes.then(|| kv.clone()));
            !goes
        });
        let deleted = gone.len() as u64;
        if deleted > 0 {
            let revision = self.revision() + 1;
            self.events.push(gone.into_iter().map(|kv| deletion(kv, revision)).collect());
            self.states.push(next);
        }
        Some(deleted)
    }

    fn check_revision(&self, revision: Option<Revision>) -> Result<(), KvError> {
        let (current, compacted) = (Revision(self.revision()), Revision(self.compacted));
        match revision {
            Some(requested) if requested > current => {
                Err(KvError::FutureRevision { requested, current })
            }
            Some(requested) if requested < compacted => {
                Err(KvError::Compacted { requested, compacted })
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, ops: &[Op]) -> Result<Vec<OpReply>, KvError> {
        self.check(ops)?;
        let before = self.now().clone();
        let mut working = Working { next: before.clone(), events: Vec::new() };
        let replies = ops.iter().map(|op| self.op(&before, &mut working, op)).collect();
        if working.written() {
            self.states.push(working.next);
            self.events.push(working.events);
        }
        Ok(replies)
    }

    /// All that can refuse what will run.
    fn check(&self, ops: &[Op]) -> Result<(), KvError> {
        for op in ops {
            match op {
                Op::Range(range) => self.check_revision(range.revision)?,
                Op::Put(put) => {
                    if let Attach::To(lease) = put.lease
                        && !self.leases.contains_key(&lease)
                    {
                        return Err(KvError::LeaseNotFound(lease));
                    }
                    let key = self.key_of(put);
                    let keeps = put.value.is_none() || put.lease == Attach::Keep;
                    if keeps && !self.now().contains_key(&key) {
                        return Err(KvError::KeyNotFound(key.escape_ascii().to_string()));
                    }
                }
                Op::Delete { .. } => {}
                Op::Txn(txn) => self.check(branch(self.now(), txn))?,
            }
        }
        Ok(())
    }

    fn key_of(&self, put: &Put) -> Bytes {
        if !put.sequential {
            return put.key.clone();
        }
        let number = format!("{:020}", self.revision() + 1);
        [&put.key[..], number.as_bytes()].concat().into()
    }

    fn op(&self, before: &Contents, working: &mut Working, op: &Op) -> OpReply {
        let revision = self.revision() + 1;
        match op {
            Op::Put(put) => {
                let key = self.key_of(put);
                let previous = working.next.get(&key).cloned();
                let value = put.value.clone();
                let kept = || previous.clone().unwrap();
                let pair = KeyValue {
                    key: key.clone(),
                    value: value.unwrap_or_else(|| kept().value),
                    create_revision: previous
                        .as_ref()
                        .map_or(Revision(revision), |kv| kv.create_revision),
                    mod_revision: Revision(revision),
                    version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
                    lease: match put.lease {
                        Attach::None => None,
                        Attach::To(lease) => Some(lease),
                        Attach::Keep => kept().lease,
                    },
                };
                let kind = EventKind::Put(pair.clone());
                working.events.push(Event { kind, prev_kv: previous.clone() });
                working.next.insert(key.clone(), pair);
                let prev_kv = previous.filter(|_| put.prev_kv);
                OpReply::Put { prev_kv, key: put.sequential.then_some(key) }
            }
            Op::Delete { keys, prev_kv } => {
                let gone: Vec<KeyValue> =
                    working.next.values().filter(|kv| keys.contains(&kv.key)).cloned().collect();
                working.next.retain(|key, _| !keys.contains(key));
                working.events.extend(gone.iter().map(|kv| deletion(kv.clone(), revision)));
                let deleted = gone.len() as u64;
                OpReply::Delete { deleted, prev_kvs: if *prev_kv { gone } else { Vec::new() } }
            }
            Op::Range(range) => {
                let contents = range.revision.map_or(&working.next, |revision| self.at(revision.0));
                OpReply::Range(read(
                    contents,
                    range,
                    self.revision() + u64::from(working.written()),
                ))
            }
            Op::Txn(txn) => {
                let succeeded = holds(before, &txn.compares);
                let ops = branch(before, txn);
                let replies = ops.iter().map(|op| self.op(before, working, op)).collect();
                let revision = Revision(self.revision() + u64::from(working.written()));
                OpReply::Txn(TxnReply { revision, succeeded, replies })
            }
        }
    }
}

/// What a request has made so far.
struct Working {
    next: Contents,
    events: Vec<Event>,
}

impl Working {
    fn written(&self) -> bool {
        !self.events.is_empty()
    }
}

fn deletion(kv: KeyValue, revision: u64) -> Event {
    let kind = EventKind::Delete { key: kv.key.clone(), mod_revision: Revision(revision) };
    Event { kind, prev_kv: Some(kv) }
}

fn branch<'a>(before: &Contents, txn: &'a Txn) -> &'a [Op] {
    if holds(before, &txn.compares) { &txn.success } else { &txn.failure }
}

fn holds(contents: &Contents, compares: &[Compare]) -> bool {
    compares.iter().all(|compare| {
        let mut found = contents.values().filter(|kv| compare.keys.contains(&kv.key)).peekable();
        match found.peek() {
            Some(_) => found.all(|kv| fulfils(compare, Some(kv))),
            None => fulfils(compare, None),
        }
    })
}

fn fulfils(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let missing = KeyValue::default();
    let it = kv.unwrap_or(&missing);
    let ordering = match &compare.target {
        Target::Version(version) => it.version.cmp(version),
        Target::CreateRevision(revision) => it.create_revision.cmp(revision),
        Target::ModRevision(revision) => it.mod_revision.cmp(revision),
        Target::Value(value) if kv.is_some() => it.value.cmp(value),
        Target::Value(_) => return false,
        Target::Lease(lease) => it.lease.cmp(lease),
    };
    match compare.operator {
        Operator::Equal => ordering == Ordering::Equal,
        Operator::NotEqual => ordering != Ordering::Equal,
        Operator::Greater => ordering == Ordering::Greater,
        Operator::Less => ordering == Ordering::Less,
    }
}

/// A read of `contents`, by a store that is at `revision`.
pub(super) fn read(contents: &Contents, range: &Range, revision: u64) -> RangeReply {
    let all: Vec<&KeyValue> = contents.values().filter(|kv| range.keys.contains(&kv.key)).collect();
    let revision = Revision(revision);
    if range.count_only {
        return RangeReply { revision, kvs: Vec::new(), more: false, count: all.len() as u64 };
    }
    let Filter { min_mod_revision, max_mod_revision, min_create_revision, max_create_revision } =
        range.filter;
    let mut kvs: Vec<KeyValue> = all.iter().map(|kv| (*kv).clone()).collect();
    kvs.retain(|kv| {
        min_mod_revision.is_none_or(|least| kv.mod_revision >= least)
            && max_mod_revision.is_none_or(|most| kv.mod_revision <= most)
            && min_create_revision.is_none_or(|least| kv.create_revision >= least)
            && max_create_revision.is_none_or(|most| kv.create_revision <= most)
    });
    if let Some(Order { by, descending }) = range.order {
        kvs.sort_by(|a, b| {
            let ordering = match by {
                OrderBy::Key => a.key.cmp(&b.key),
                OrderBy::Version => a.version.cmp(&b.version),
                OrderBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
                OrderBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
                OrderBy::Value => a.value.cmp(&b.value),
            };
            if descending { ordering.reverse() } else { ordering }
        });
    }
    let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    let count = if range.count_all { all.len() } else { kvs.len() };
    RangeReply { revision, kvs, more, count: count as u64 }
}
