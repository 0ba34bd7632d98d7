//! The store against a naive one that keeps a copy of everything at every revision.

use super::support::{Fed, bytes_of, contents, read, replayed, restored};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Payload, Run};
use raft_kv::api::*;
use raft_kv::store::validate;
use std::collections::BTreeMap;

type State = BTreeMap<Bytes, KeyValue>;

/// The reference: `states[n]` is the state at revision `n + 1`.
struct Naive {
    states: Vec<State>,
}

impl Naive {
    fn new() -> Self {
        Self { states: vec![State::new()] }
    }

    fn revision(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    fn run(&mut self, action: &Action) -> CommandReply {
        validate(action)?;
        match action {
            Action::Op(op) => {
                let reply = self.ops(std::slice::from_ref(op))?.remove(0);
                Ok(ActionReply::Op { revision: self.revision(), reply })
            }
            Action::Txn(txn) => {
                let now = self.states.last().unwrap();
                let succeeded = txn.compares.iter().all(|compare| holds(now, compare));
                let replies = self.ops(if succeeded { &txn.success } else { &txn.failure })?;
                Ok(ActionReply::Txn(TxnReply { revision: self.revision(), succeeded, replies }))
            }
            _ => panic!("not part of the model"),
        }
    }

    fn ops(&mut self, ops: &[Op]) -> Result<Vec<OpReply>, KvError> {
        let begun = self.revision();
        for op in ops {
            if let Op::Range(Range { revision: Some(requested), .. }) = op
                && *requested > begun
            {
                return Err(KvError::FutureRevision { requested: *requested, current: begun });
            }
        }
        let mut state = self.states.last().unwrap().clone();
        let mut changed = false;
        let mut replies = Vec::new();
        for op in ops {
            let next = Revision(begun.0 + 1);
            replies.push(match op {
                Op::Put(put) => {
                    let old = state.get(&put.key).cloned();
                    let (create_revision, version) =
                        old.as_ref().map_or((next, 1), |kv| (kv.create_revision, kv.version + 1));
                    let (key, value) = (put.key.clone(), put.value.clone().unwrap());
                    let (mod_revision, lease) = (next, None);
                    let kv = KeyValue { key, value, create_revision, mod_revision, version, lease };
                    state.insert(kv.key.clone(), kv);
                    changed = true;
                    OpReply::Put { prev_kv: old.filter(|_| put.prev_kv), key: None }
                }
                Op::Txn(_) => panic!("not part of the model"),
                Op::Delete { keys, prev_kv } => {
                    let gone: Vec<KeyValue> =
                        state.values().filter(|kv| within(&kv.key, keys)).cloned().collect();
                    state.retain(|key, _| !within(key, keys));
                    changed |= !gone.is_empty();
                    let deleted = gone.len() as u64;
                    OpReply::Delete { deleted, prev_kvs: if *prev_kv { gone } else { vec![] } }
                }
                Op::Range(range) => {
                    let shown = match range.revision {
                        Some(revision) => self.at(revision),
                        None => state.clone(),
                    };
                    let current = if changed { next } else { begun };
                    OpReply::Range(range_of(&shown, range, current))
                }
            });
        }
        if changed {
            self.states.push(state);
        }
        Ok(replies)
    }

    fn at(&self, revision: Revision) -> State {
        let state = revision.0.checked_sub(1).map(|at| &self.states[at as usize]);
        state.cloned().unwrap_or_default()
    }

    fn read(&self, range: &Range) -> RangeAnswer {
        validate(&Action::Op(Op::Range(range.clone())))?;
        let current = self.revision();
        let requested = range.revision.unwrap_or(current);
        if requested > current {
            return Err(KvError::FutureRevision { requested, current });
        }
        Ok(range_of(&self.at(requested), range, current))
    }
}

fn within(key: &Bytes, keys: &Keys) -> bool {
    match keys {
        Keys::One(one) => key == one,
        Keys::Range { start, end } => key >= start && end.as_ref().is_none_or(|end| key < end),
    }
}

fn range_of(state: &State, range: &Range, revision: Revision) -> RangeReply {
    let all: Vec<&KeyValue> = state.values().filter(|kv| within(&kv.key, &range.keys)).collect();
    let limit = match range.limit {
        _ if range.count_only => 0,
        0 => all.len(),
        limit => limit as usize,
    };
    let mut kvs: Vec<KeyValue> = all.iter().take(limit).map(|kv| (*kv).clone()).collect();
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    let more = !range.count_only && limit < all.len();
    let counted = if range.count_only || range.count_all { all.len() } else { kvs.len() };
    RangeReply { revision, kvs, more, count: counted as u64 }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let Keys::One(key) = &compare.keys else { panic!("not part of the model") };
    let kv = state.get(key);
    let ordering = match &compare.target {
        Target::Version(version) => kv.map_or(0, |kv| kv.version).cmp(version),
        Target::CreateRevision(revision) => {
            kv.map_or(Revision(0), |kv| kv.create_revision).cmp(revision)
        }
        Target::Lease(lease) => kv.and_then(|kv| kv.lease).cmp(lease),
        Target::ModRevision(revision) => kv.map_or(Revision(0), |kv| kv.mod_revision).cmp(revision),
        Target::Value(value) => match kv {
            Some(kv) => kv.value.cmp(value),
            None => return false,
        },
    };
    match compare.operator {
        Operator::Equal => ordering.is_eq(),
        Operator::NotEqual => ordering.is_ne(),
        Operator::Greater => ordering.is_gt(),
        Operator::Less => ordering.is_lt(),
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    "[a-c]{1,2}".prop_map(Bytes::from)
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        3 => key().prop_map(Keys::One),
        2 => (key(), option::of(key())).prop_map(|(start, end)| Keys::Range { start, end }),
        1 => "[a-c]?".prop_map(Keys::prefix),
    ]
}

fn range() -> impl Strategy<Value = Range> {
    let revision = option::of((0..30_u64).prop_map(Revision));
    let flags = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (keys(), 0..4_u64, revision, flags).prop_map(
        |(keys, limit, revision, (keys_only, count_only, count_all))| Range {
            limit,
            revision,
            keys_only,
            count_only,
            count_all,
            ..Range::of(keys)
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let value = "[x-z]{0,3}".prop_map(Bytes::from);
    prop_oneof![
        4 => (key(), value, any::<bool>())
            .prop_map(|(key, value, prev_kv)| Op::Put(Put { prev_kv, ..Put::new(key, value) })),
        2 => (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| Op::Delete { keys, prev_kv }),
        2 => range().prop_map(Op::Range),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let operator = prop_oneof![
        Just(Operator::Equal),
        Just(Operator::NotEqual),
        Just(Operator::Greater),
        Just(Operator::Less),
    ];
    let target = prop_oneof![
        (0..4_u64).prop_map(Target::Version),
        (0..20_u64).prop_map(|revision| Target::CreateRevision(Revision(revision))),
        (0..20_u64).prop_map(|revision| Target::ModRevision(Revision(revision))),
        "[x-z]{0,2}".prop_map(|value| Target::Value(value.into())),
    ];
    (key().prop_map(Keys::One), operator, target).prop_map(|(keys, operator, target)| Compare {
        keys,
        operator,
        target,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let txn = (vec(compare(), 0..3), vec(op(), 0..5), vec(op(), 0..5))
        .prop_map(|(compares, success, failure)| Action::Txn(Txn { compares, success, failure }));
    prop_oneof![op().prop_map(Action::Op), txn]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_the_naive_store_does(
        actions in vec(action(), 1..40),
        reads in vec(range(), 1..20),
    ) {
        let mut fed = Fed::in_memory();
        let mut naive = Naive::new();
        for action in actions {
            prop_assert_eq!(fed.run(action.clone()), naive.run(&action), "{:?}", action);
            prop_assert_eq!(fed.store.summary().revision, naive.revision());
            prop_assert_eq!(fed.store.summary().keys, naive.states.last().unwrap().len() as u64);
        }
        let copy = restored(&fed.store).unwrap();
        prop_assert_eq!(contents(&copy), contents(&fed.store));
        for range in reads {
            let expected = naive.read(&range);
            prop_assert_eq!(&fed.read(range.clone()), &expected, "{:?}", range);
            prop_assert_eq!(&read(&copy, range), &expected, "in the copy");
        }
    }
}

/// What happens to a store between two commands.
#[derive(Clone, Debug)]
enum Event {
    Command(Action),
    /// A command of the last opened session, with a sequence number near those before.
    Request(u64, Action),
    OpenSession,
    Noop,
    Checkpoint,
    /// A checkpoint is begun, and the process ends before it is written.
    CheckpointLost,
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => action().prop_map(Event::Command),
        4 => (1..8_u64, action()).prop_map(|(seq, action)| Event::Request(seq, action)),
        1 => Just(Event::OpenSession),
        1 => Just(Event::Noop),
        2 => Just(Event::Checkpoint),
        1 => Just(Event::CheckpointLost),
        1 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_anywhere_changes_nothing(events in vec(event(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kv.redb");
        let mut fed = Fed::at(&path);
        let mut session = SessionId(1);
        for event in events {
            match event {
                Event::Command(action) => drop(fed.run(action)),
                Event::Request(seq, action) => {
                    let unanswered_from = seq.saturating_sub(2);
                    let request = RequestId { session, seq, unanswered_from };
                    drop(fed.command(Some(request), action));
                }
                Event::OpenSession => session = fed.open_session(),
                Event::Noop => drop(fed.entry(Payload::Noop)),
                Event::Checkpoint => {
                    if let Some(job) = fed.store.checkpoint() {
                        prop_assert_eq!(job().unwrap(), fed.store.applied());
                        let copy = restored(&fed.store).unwrap();
                        prop_assert_eq!(contents(&copy), contents(&replayed(&fed.log)));
                    }
                }
                Event::CheckpointLost => {
                    drop(fed.store.checkpoint());
                    fed = fed.crash(&path);
                }
                Event::Crash => fed = fed.crash(&path),
            }
        }
        let fresh = replayed(&fed.log);
        prop_assert_eq!(fed.store.summary(), fresh.summary());
        if fed.store.checkpoint().is_some_and(|job| job().is_ok()) {
            let copy = restored(&fed.store).unwrap();
            prop_assert_eq!(contents(&copy), contents(&fresh));
        }
    }

    #[test]
    fn runs_may_be_cut_anywhere(actions in vec(action(), 1..40), cut in 0..40_usize) {
        let mut fed = Fed::in_memory();
        for action in actions {
            let _ = fed.run(action);
        }
        let mut other = replayed(&fed.log[..cut.min(fed.log.len())]);
        if let Some(run) = Run::new(fed.log[cut.min(fed.log.len())..].to_vec()) {
            other.apply(&run);
        }
        prop_assert_eq!(other.summary(), fed.store.summary());
        prop_assert_eq!(
            bytes_of(other.snapshot().unwrap()),
            bytes_of(fed.store.snapshot().unwrap())
        );
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let mut fed = Fed::in_memory();
        let reply = fed.entry(Payload::Command(bytes.clone().into()));
        raft_kv::codec::decode::<CommandReply>(&reply).unwrap().ok();
        fed.store.query(&bytes);
    }
}
