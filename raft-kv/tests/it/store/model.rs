//! The store against a naive one, fed with whatever comes to mind.
//!
//! `RUN_SLOW_TESTS=1` tries a hundred times as much.

use super::naive::Naive;
use super::support::{Fed, bytes_of, contents, read, replayed, restored};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raft_core::state_machine::StateMachine;
use raft_core::types::{Payload, Run};
use raft_kv::api::*;
use raft_kv::store::KvStore;
use std::env;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

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

fn revision() -> impl Strategy<Value = Option<Revision>> {
    option::of((0..30_u64).prop_map(Revision))
}

fn order() -> impl Strategy<Value = Option<Order>> {
    let by = prop_oneof![
        Just(OrderBy::Key),
        Just(OrderBy::Version),
        Just(OrderBy::CreateRevision),
        Just(OrderBy::ModRevision),
        Just(OrderBy::Value),
    ];
    option::of((by, any::<bool>()).prop_map(|(by, descending)| Order { by, descending }))
}

fn filter() -> impl Strategy<Value = Filter> {
    let one = || option::weighted(0.3, (0..30_u64).prop_map(Revision));
    let all =
        (one(), one(), one(), one()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            Filter {
                min_mod_revision: min_mod,
                max_mod_revision: max_mod,
                min_create_revision: min_create,
                max_create_revision: max_create,
            }
        });
    prop_oneof![2 => Just(Filter::NONE), 1 => all]
}

fn range() -> impl Strategy<Value = Range> {
    let flags = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (keys(), 0..4_u64, revision(), flags, order(), filter()).prop_map(
        |(keys, limit, revision, (keys_only, count_only, count_all), order, filter)| Range {
            limit,
            revision,
            keys_only,
            count_only,
            count_all,
            order,
            filter,
            ..Range::of(keys)
        },
    )
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (1..4_u64).prop_map(LeaseId)
}

fn put() -> impl Strategy<Value = Put> {
    let value = "[x-z]{0,3}".prop_map(Bytes::from);
    let lease = prop_oneof![
        6 => Just(Attach::None),
        2 => lease().prop_map(Attach::To),
        1 => Just(Attach::Keep),
    ];
    (key(), option::weighted(0.9, value), lease, any::<bool>())
        .prop_map(|(key, value, lease, prev_kv)| Put { value, lease, prev_kv, ..Put::new(key, "") })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => put().prop_map(Op::Put),
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
        option::of(lease()).prop_map(Target::Lease),
    ];
    let keys = prop_oneof![2 => key().prop_map(Keys::One), 1 => keys()];
    (keys, operator, target).prop_map(|(keys, operator, target)| Compare { keys, operator, target })
}

/// Transactions within each other, down to a depth that is refused.
fn txn() -> impl Strategy<Value = Txn> {
    let of = |op: BoxedStrategy<Op>| {
        (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
            .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
    };
    let nested = op().prop_recursive(9, 40, 4, move |inner| {
        prop_oneof![2 => op(), 1 => of(inner.boxed()).prop_map(|txn| Op::Txn(txn.into()))]
    });
    of(nested.boxed())
}

fn action() -> impl Strategy<Value = Action> {
    let sequential = put().prop_map(|put| Action::Op(Op::Put(Put { sequential: true, ..put })));
    prop_oneof![
        12 => op().prop_map(Action::Op),
        12 => txn().prop_map(Action::Txn),
        2 => sequential,
        3 => (0..40_u64).prop_map(|revision| Action::Compact(Revision(revision))),
        2 => lease().prop_map(|id| Action::Grant { id: Some(id), ttl_ms: 60_000 }),
        1 => lease().prop_map(Action::Revoke),
    ]
}

fn cases(few: u32) -> ProptestConfig {
    let slow = env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1");
    ProptestConfig { cases: if slow { 100 * few } else { few }, ..ProptestConfig::default() }
}

/// The summary without what depends on how far compacted versions are purged.
fn logical(store: &KvStore) -> Summary {
    Summary { bytes: 0, ..store.summary() }
}

proptest! {
    #![proptest_config(cases(300))]

    fn naive_store(
        actions in vec(action(), 1..40),
        reads in vec(range(), 1..20),
    ) {
        let mut fed = Fed::in_memory();
        let mut naive = Naive::new();
        for action in actions {
            prop_assert_eq!(fed.run(action.clone()), naive.run(&action), "{:?}", action);
            prop_assert_eq!(fed.store.summary().revision, naive.revision());
            prop_assert_eq!(fed.store.summary().keys, naive.now().len() as u64);
        }
        let copy = restored(&fed.store).unwrap();
        prop_assert_eq!(copy.summary(), fed.store.summary());
        prop_assert_eq!(contents(&copy), contents(&fed.store));
        for range in reads {
            let expected = naive.read(&range);
            prop_assert_eq!(&fed.read(range.clone()), &expected, "{:?}", range);
            prop_assert_eq!(&read(&copy, range), &expected, "in the copy");
        }
    }
}

/// What happens to a store that is asked meanwhile.
#[derive(Clone, Debug)]
enum Step {
    Action(Action),
    Read(Range),
    Checkpoint,
    Crash,
    /// The checkpoint of the store is taken over by an empty one, which goes on with the log.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => action().prop_map(Step::Action),
        4 => (0..40_u64).prop_map(|number| Step::Action(Action::Compact(Revision(number)))),
        6 => range().prop_map(Step::Read),
        4 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
        1 => Just(Step::Restore),
    ]
}

/// A store in `directory` that was restored from `fed`'s checkpoint and goes on with its log.
fn handed_over(fed: Fed, directory: &Path, number: usize) -> (Fed, PathBuf) {
    let path = directory.join(format!("kv{number}.redb"));
    let mut store = KvStore::open(&path).unwrap();
    // Without a checkpoint it is the whole log that is handed over.
    if let Ok(snapshot) = fed.store.snapshot() {
        store.restore(snapshot).unwrap();
    }
    let applied = store.applied().last.index.0 as usize;
    if let Some(run) = Run::new(fed.log[applied..].to_vec()) {
        store.apply(&run);
    }
    (Fed { store, log: fed.log }, path)
}

proptest! {
    #![proptest_config(cases(60))]

    fn restarts_and_restores(steps in vec(step(), 1..50)) {
        let directory = tempfile::tempdir().unwrap();
        let mut path = directory.path().join("kv.redb");
        let mut fed = Fed::at(&path);
        let mut naive = Naive::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Action(action) => {
                    prop_assert_eq!(fed.run(action.clone()), naive.run(&action), "{:?}", action);
                }
                Step::Read(range) => {
                    prop_assert_eq!(fed.read(range.clone()), naive.read(&range), "{:?}", range);
                }
                Step::Checkpoint => drop(fed.store.checkpoint().map(|job| job().unwrap())),
                Step::Crash => fed = fed.crash(&path),
                Step::Restore => (fed, path) = handed_over(fed, directory.path(), number),
            }
            prop_assert_eq!(fed.store.summary().revision, naive.revision());
        }
        prop_assert_eq!(logical(&fed.store), logical(&replayed(&fed.log)));
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
    #![proptest_config(cases(40))]

    fn a_crash_anywhere(events in vec(event(), 1..40)) {
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
        prop_assert_eq!(logical(&fed.store), logical(&fresh));
        if fed.store.checkpoint().is_some_and(|job| job().is_ok()) {
            let copy = restored(&fed.store).unwrap();
            prop_assert_eq!(contents(&copy), contents(&fresh));
        }
    }

    fn cut_runs(actions in vec(action(), 1..40), cut in 0..40_usize) {
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

/// Making up transactions within transactions takes more stack than threads of tests have.
const STACK_BYTES: usize = 32 * 1024 * 1024;

fn with_a_large_stack(test: fn()) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

#[test]
fn answers_as_the_naive_store_does() {
    with_a_large_stack(naive_store);
}

#[test]
fn restarts_and_restores_change_no_answer() {
    with_a_large_stack(restarts_and_restores);
}

#[test]
fn a_crash_anywhere_changes_nothing() {
    with_a_large_stack(a_crash_anywhere);
}

#[test]
fn runs_may_be_cut_anywhere() {
    with_a_large_stack(cut_runs);
}
