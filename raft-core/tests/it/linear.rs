//! The linearizability checker: small histories by hand, good and bad; random ones against a
//! checker that tries everything; long ones.

use proptest::prelude::*;
use raft_core::testing::linear::{
    CONFIGURATIONS_MAX, Failure, History, Kind, List, ListOp, ListReply, Model, Operation, Outcome,
    Register, RegisterOp, RegisterReply, check, check_keys, check_within,
};

type Registers = Operation<RegisterOp<u64>, RegisterReply<u64>>;
type Lists = Operation<ListOp<u64>, ListReply<u64>>;

fn operation<O, R>(op: O, invoked: u64, answered: u64, outcome: Outcome<R>) -> Operation<O, R> {
    Operation { client: 1, op, invoked, answered, outcome }
}

fn write(value: u64, invoked: u64, answered: u64) -> Registers {
    let outcome = Outcome::Done(RegisterReply::Written);
    operation(RegisterOp::Write(value), invoked, answered, outcome)
}

/// A write of which nobody knows whether it was done.
fn lost_write(value: u64, invoked: u64) -> Registers {
    operation(RegisterOp::Write(value), invoked, invoked, Outcome::Unknown)
}

fn read(value: u64, invoked: u64, answered: u64) -> Registers {
    let outcome = Outcome::Done(RegisterReply::Value(value));
    operation(RegisterOp::Read, invoked, answered, outcome)
}

fn swap(expected: u64, new: u64, swapped: bool, invoked: u64, answered: u64) -> Registers {
    let op = RegisterOp::CompareAndSet { expected, new };
    operation(op, invoked, answered, Outcome::Done(RegisterReply::Swapped(swapped)))
}

fn append(value: u64, invoked: u64, answered: u64) -> Lists {
    operation(ListOp::Append(value), invoked, answered, Outcome::Done(ListReply::Appended))
}

fn list(values: &[u64], invoked: u64, answered: u64) -> Lists {
    let outcome = Outcome::Done(ListReply::Values(values.to_vec()));
    operation(ListOp::Read, invoked, answered, outcome)
}

/// The register begins with 0.
fn judge(history: &[Registers]) -> Result<Vec<usize>, Failure> {
    check(&Register(0), history)
}

/// There is no order, and none of `stuck` can come next.
#[track_caller]
fn refuted(history: &[Registers], stuck: &[usize]) {
    let failure = judge(history).unwrap_err();
    assert_eq!((failure.kind, &failure.stuck[..]), (Kind::Violation, stuck), "{failure}");
}

#[test]
fn one_after_the_other() {
    assert_eq!(judge(&[]), Ok(vec![]));
    assert_eq!(judge(&[read(0, 1, 2)]), Ok(vec![0]));
    assert_eq!(judge(&[write(1, 1, 2), read(1, 3, 4), write(2, 5, 6)]), Ok(vec![0, 1, 2]));
    refuted(&[read(1, 1, 2)], &[0]);
    refuted(&[write(1, 1, 2), read(0, 3, 4)], &[1]);
    refuted(&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)], &[2]);
}

#[test]
fn operations_that_overlap_take_either_order() {
    assert!(judge(&[write(1, 1, 4), read(0, 2, 3)]).is_ok());
    assert!(judge(&[write(1, 1, 4), read(1, 2, 3)]).is_ok());
    assert!(judge(&[write(1, 1, 9), write(2, 1, 9), read(1, 10, 11)]).is_ok());
    assert!(judge(&[write(1, 1, 9), write(2, 1, 9), read(2, 10, 11)]).is_ok());
    // Whoever is asked at the moment of another's answer overlaps it.
    assert!(judge(&[write(1, 1, 2), read(0, 2, 3)]).is_ok());
    // Two readers agree on the order of two writes.
    let writes = [write(1, 1, 9), write(2, 1, 9)];
    let agreed = [read(1, 2, 3), read(2, 4, 5), read(2, 6, 7)];
    assert!(judge(&[&writes[..], &agreed].concat()).is_ok());
    refuted(&[&writes[..], &[read(1, 2, 3), read(2, 4, 5), read(1, 6, 7)]].concat(), &[4]);
}

/// What one reader saw, every later one sees, though the write is still under way.
#[test]
fn once_seen_always_seen() {
    refuted(&[write(1, 1, 20), read(1, 2, 3), read(0, 4, 5)], &[2]);
    refuted(&[lost_write(1, 1), read(1, 2, 3), read(0, 4, 5)], &[2]);
    assert!(judge(&[lost_write(1, 1), read(0, 2, 3), read(1, 4, 5)]).is_ok());
    // Readers that overlap may see it in either order.
    assert!(judge(&[write(1, 1, 20), read(1, 2, 5), read(0, 4, 6)]).is_ok());
}

#[test]
fn an_unknown_write_may_come_at_any_time_or_never() {
    assert_eq!(judge(&[lost_write(1, 1), read(0, 2, 3)]), Ok(vec![1]));
    assert_eq!(judge(&[lost_write(1, 1), read(0, 2, 3), read(1, 4, 5)]), Ok(vec![1, 0, 2]));
    // Once, but not twice.
    let once = [lost_write(1, 1), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)];
    assert!(judge(&once).is_ok());
    let twice = [&once[..], &[write(3, 8, 9), read(1, 10, 11)]].concat();
    refuted(&twice, &[5]);
    // And not before it was asked for.
    refuted(&[read(1, 1, 2), lost_write(1, 3)], &[0]);
}

#[test]
fn what_was_not_done_has_no_effect() {
    let refused = operation(RegisterOp::Write(1), 1, 2, Outcome::NotDone);
    assert_eq!(judge(&[refused.clone(), read(0, 3, 4)]), Ok(vec![1]));
    refuted(&[refused, read(1, 3, 4)], &[1]);
}

#[test]
fn compare_and_set() {
    assert!(judge(&[swap(0, 1, true, 1, 2), swap(0, 2, false, 3, 4), read(1, 5, 6)]).is_ok());
    // Both won.
    refuted(&[swap(0, 1, true, 1, 9), swap(0, 2, true, 1, 9)], &[1]);
    // Both lost, although nobody else wrote.
    refuted(&[swap(0, 1, false, 1, 9), swap(0, 2, false, 1, 9)], &[0, 1]);
    // A chain through one that was lost.
    let lost = operation(RegisterOp::CompareAndSet { expected: 1, new: 2 }, 1, 1, Outcome::Unknown);
    assert!(judge(&[lost.clone(), swap(0, 1, true, 1, 9), swap(2, 3, true, 1, 9)]).is_ok());
    refuted(&[lost, swap(2, 3, true, 1, 9)], &[1]);
}

#[test]
fn lists() {
    let both = [append(1, 1, 9), append(2, 1, 9)];
    let judge = |reads: &[Lists]| check(&List::new(), &[&both[..], reads].concat());
    assert!(judge(&[list(&[], 1, 2), list(&[2], 3, 4), list(&[2, 1], 10, 11)]).is_ok());
    assert!(judge(&[list(&[1], 2, 3), list(&[2, 1], 10, 11)]).is_err());
    assert!(judge(&[list(&[1], 10, 11)]).is_err(), "an append is lost");
    assert!(judge(&[list(&[1, 2, 1], 10, 11)]).is_err(), "an append is done twice");
}

#[test]
fn keys_are_judged_one_by_one() {
    /// Two registers, and operations that name one of them.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Named(Register<u64>);
    impl Model for Named {
        type Op = (&'static str, RegisterOp<u64>);
        type Reply = RegisterReply<u64>;
        fn apply(&mut self, (_, op): &Self::Op) -> Self::Reply {
            self.0.apply(op)
        }
    }
    let named = |key, of: Registers| {
        let Registers { client, op, invoked, answered, outcome } = of;
        Operation { client, op: (key, op), invoked, answered, outcome }
    };
    let mut history = vec![
        named("a", write(1, 1, 2)),
        named("b", read(0, 3, 4)),
        named("a", read(1, 5, 6)),
        named("b", write(5, 5, 6)),
    ];
    assert_eq!(check_keys(&Named(Register(0)), &history, |op| op.0), Ok(2));
    history.push(named("b", read(1, 7, 8)));
    let failure = check_keys(&Named(Register(0)), &history, |op| op.0).unwrap_err();
    assert_eq!(failure.key.as_deref(), Some("\"b\""));
    assert_eq!((&failure.placed[..], &failure.stuck[..]), (&[1, 3][..], &[4][..]));
}

#[test]
fn a_failure_is_told_to_a_person() {
    let failure = judge(&[write(1, 1, 2), read(1, 3, 4), lost_write(7, 3), read(0, 5, 6)]);
    let expected = "\
the history is not linearizable
2 of 4 operations, 3 of them answered, can be placed; visited 3
  #0 client 1 at 1..2: Write(1) -> Written
  #1 client 1 at 3..4: Read -> Value(1)
none of these can come next:
  #3 client 1 at 5..6: Read -> Value(0); here it would be answered Value(1)
";
    assert_eq!(failure.unwrap_err().to_string(), expected);
}

#[test]
fn the_search_gives_up_in_time() {
    // Any order of the writes might do, and none does.
    let mut history: Vec<Registers> = (1..=12).map(|value| write(value, 1, 50)).collect();
    history.push(read(99, 51, 52));
    let gave_up = check_within(&Register(0), &history, 1000).unwrap_err();
    assert_eq!(gave_up.kind, Kind::Undecided);
    assert_eq!(judge(&history).unwrap_err().kind, Kind::Violation);
}

/// Tries every order, and every choice of the unknown ones.
fn brute_force<M: Model>(state: &M, left: &[&Operation<M::Op, M::Reply>]) -> bool {
    let done = |it: &&Operation<M::Op, M::Reply>| matches!(it.outcome, Outcome::Done(_));
    if !left.iter().any(done) {
        return true;
    }
    let until = left.iter().filter(|it| done(it)).map(|it| it.answered).min();
    (0..left.len()).any(|at| {
        let operation = left[at];
        if Some(operation.invoked) > until {
            return false;
        }
        let mut state = state.clone();
        let reply = state.apply(&operation.op);
        let fits = match &operation.outcome {
            Outcome::Done(expected) => reply == *expected,
            Outcome::NotDone => false,
            Outcome::Unknown => true,
        };
        let rest: Vec<_> = left.iter().enumerate().filter(|(other, _)| *other != at).collect();
        fits && brute_force(&state, &rest.into_iter().map(|(_, it)| *it).collect::<Vec<_>>())
    })
}

/// Operations on a register of few values, with answers that may or may not be right.
fn some_registers() -> impl Strategy<Value = Vec<Registers>> {
    let one = (0..3u64, 0..3u64, 0..5u8, any::<bool>(), 0..12u64, 0..6u64, 0..8u8);
    let one = one.prop_map(|(a, b, kind, yes, invoked, lasts, ends)| {
        let answered = invoked + lasts;
        let mut it = match kind {
            0 | 1 => read(a, invoked, answered),
            2 | 3 => write(a, invoked, answered),
            _ => swap(a, b, yes, invoked, answered),
        };
        match ends {
            0 => it.outcome = Outcome::NotDone,
            1 | 2 => it.outcome = Outcome::Unknown,
            _ => {}
        }
        it
    });
    prop::collection::vec(one, 0..8)
}

/// Operations on a list, and what some reads may have seen.
fn some_lists() -> impl Strategy<Value = Vec<Lists>> {
    let seen = prop::collection::vec(0..3u64, 0..4);
    let one = (0..3u64, seen, any::<bool>(), 0..12u64, 0..6u64, 0..6u8);
    let one = one.prop_map(|(value, seen, reads, invoked, lasts, ends)| {
        let mut it = match reads {
            true => list(&seen, invoked, invoked + lasts),
            false => append(value, invoked, invoked + lasts),
        };
        if ends == 0 {
            it.outcome = Outcome::Unknown;
        }
        it
    });
    prop::collection::vec(one, 0..7)
}

/// The order that was found is one: it gives every answer, and contradicts nobody's clock.
fn verify<M: Model>(mut state: M, history: &[Operation<M::Op, M::Reply>], order: &[usize]) {
    let mut latest = 0;
    for (at, position) in order.iter().enumerate() {
        assert!(!order[..at].contains(position), "{position} comes twice in {order:?}");
        let operation = &history[*position];
        let reply = state.apply(&operation.op);
        if let Outcome::Done(expected) = &operation.outcome {
            assert_eq!(reply, *expected);
            assert!(operation.answered >= latest, "{position} comes too late in {order:?}");
        }
        latest = latest.max(operation.invoked);
    }
    for (position, operation) in history.iter().enumerate() {
        let done = matches!(operation.outcome, Outcome::Done(_));
        assert!(!done || order.contains(&position), "{position} is missing in {order:?}");
    }
}

fn compare<M: Model>(initial: &M, history: &[Operation<M::Op, M::Reply>]) {
    let left: Vec<_> = history.iter().collect();
    let found = check(initial, history);
    assert_eq!(found.is_ok(), brute_force(initial, &left), "{found:?}");
    if let Ok(order) = found {
        verify(initial.clone(), history, &order);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn registers_are_judged_as_by_brute_force(history in some_registers()) {
        compare(&Register(0), &history);
    }

    #[test]
    fn lists_are_judged_as_by_brute_force(history in some_lists()) {
        compare(&List::new(), &history);
    }
}

/// A splitmix generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A history of `count` operations by `clients` that a correct system gave: each operation has its
/// effect at some moment between question and answer, and every fiftieth is lost, before that or
/// after.
fn long_history<M: Model>(
    mut state: M,
    (count, clients): (usize, u64),
    mut op: impl FnMut(&mut Random, u64) -> M::Op,
) -> Vec<Operation<M::Op, M::Reply>> {
    enum Stage<R> {
        Idle,
        Asked(usize),
        Run(usize, R),
    }
    let mut random = Random(7);
    let mut history = History::new();
    let mut stages: Vec<Stage<M::Reply>> = (0..clients).map(|_| Stage::Idle).collect();
    while history.operations().len() < count {
        let client = random.below(clients);
        let stage = &mut stages[client as usize];
        let lost = random.below(100) == 0;
        *stage = match std::mem::replace(stage, Stage::Idle) {
            Stage::Idle => {
                let number = history.operations().len() as u64;
                Stage::Asked(history.invoke(client, op(&mut random, number)))
            }
            Stage::Asked(_) | Stage::Run(..) if lost => Stage::Idle,
            Stage::Asked(at) => Stage::Run(at, state.apply(&history.operations()[at].op)),
            Stage::Run(at, reply) => {
                history.answer(at, Outcome::Done(reply));
                Stage::Idle
            }
        };
    }
    history.into_operations()
}

fn some_register_op(random: &mut Random, number: u64) -> RegisterOp<u64> {
    match random.below(4) {
        0 | 1 => RegisterOp::Read,
        2 => RegisterOp::Write(number),
        _ => RegisterOp::CompareAndSet { expected: number.saturating_sub(8), new: number },
    }
}

fn some_list_op(random: &mut Random, number: u64) -> ListOp<u64> {
    if random.below(2) == 0 { ListOp::Read } else { ListOp::Append(number) }
}

#[test]
fn long_histories_are_judged() {
    let mut history = long_history(Register(0), (10_000, 12), some_register_op);
    // Little more than a step for each: the bound is far away.
    check_within(&Register(0), &history, CONFIGURATIONS_MAX / 16).unwrap();
    // The last read of a value that was written sees what was never written.
    let reads = |it: &&mut Registers| matches!(it.outcome, Outcome::Done(RegisterReply::Value(_)));
    let last = history.iter_mut().rev().find(reads).unwrap();
    last.outcome = Outcome::Done(RegisterReply::Value(u64::MAX));
    assert_eq!(judge(&history).unwrap_err().kind, Kind::Violation);
}

#[test]
fn long_histories_of_lists_are_judged() {
    let history = long_history(List::new(), (2_000, 12), some_list_op);
    check_within(&List::new(), &history, CONFIGURATIONS_MAX / 16).unwrap();
}
