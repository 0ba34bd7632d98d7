//! Judges whether what clients saw of a system can be explained by one copy of it that did one
//! thing at a time: linearizability (Herlihy and Wing, 1990).
//!
//! A [`Model`] says what the one copy does. A [`History`] says what clients asked, when they asked
//! it, when they were answered, and what; [`check`] looks for an order of the operations that gives
//! every answer and contradicts no client's clock. An operation whose outcome is unknown may have
//! taken effect at any time after it was asked, or may never; one that was certainly not done has
//! no effect at all. Histories over many independent objects are judged object by object:
//! [`check_keys`].
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017): of what was placed
//! and the state it left, each combination is visited once. It knows no network and no time but the
//! numbers in the history, and never holds more than a stated number of combinations.
//!
//! # Example
//!
//! ```
//! use raft_core::testing::linear::{self, History, Outcome, Register, RegisterOp, RegisterReply};
//!
//! let mut history = History::new();
//! let write = history.invoke(1, RegisterOp::Write(7));
//! let early = history.invoke(2, RegisterOp::Read);
//! history.answer(early, Outcome::Done(RegisterReply::Value(7)));
//! let late = history.invoke(3, RegisterOp::Read);
//! // One reader saw the new value, so every later one must, though the write is still under way.
//! history.answer(late, Outcome::Done(RegisterReply::Value(0)));
//! history.answer(write, Outcome::Done(RegisterReply::Written));
//!
//! let failure = linear::check(&Register(0), history.operations()).unwrap_err();
//! assert_eq!(failure.stuck, [late]);
//! println!("{failure}");
//! ```

mod failure;
mod models;
mod search;

pub use failure::{Failure, Kind};
pub use models::{List, ListOp, ListReply, Register, RegisterOp, RegisterReply};

use search::{Found, Search};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;

/// Most combinations of what was placed and the state it left that [`check`] visits, and holds.
pub const CONFIGURATIONS_MAX: usize = 1 << 20;

/// The one copy that does one thing at a time: a value of this type is its state. Cloning it should
/// be cheap: the search keeps a state for each step.
pub trait Model: Clone + Eq + Hash {
    /// What clients ask.
    type Op: Debug;
    /// What they are answered.
    type Reply: PartialEq + Debug;

    /// Does `op` and answers it.
    fn apply(&mut self, op: &Self::Op) -> Self::Reply;

    /// Whether `op`, if it is answered with `reply`, changes no state whatever; `false` if unsure.
    /// Only to save time, but much of it: such an operation leaves the search no choice.
    fn is_read(_op: &Self::Op, _reply: &Self::Reply) -> bool {
        false
    }

    /// Whether `op` may be answered with `reply` now or after any further operations; `true` if
    /// unsure. Only to save time: a state that grows and never shrinks is soon known to be wrong.
    fn may_yet_answer(&self, _op: &Self::Op, _reply: &Self::Reply) -> bool {
        true
    }
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome<R> {
    /// It was done, with this reply.
    Done(R),
    /// It was certainly not done, and will not be.
    NotDone,
    /// Nobody knows: it may take effect at any time after it was asked, or never.
    Unknown,
}

/// What one client asked, and what came of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operation<O, R> {
    /// Who asked; only printed.
    pub client: u64,
    /// What was asked.
    pub op: O,
    /// When: any number, as long as a greater one is later. An operation that was answered at the
    /// very number at which another was asked counts as overlapping it.
    pub invoked: u64,
    /// When it was answered; says something only of one that was done.
    pub answered: u64,
    /// What came of it.
    pub outcome: Outcome<R>,
}

/// Operations as they are asked and answered. Each event is later than all before it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
    events: u64,
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, R> History<O, R> {
    /// Nobody has asked anything.
    pub const fn new() -> Self {
        Self { operations: Vec::new(), events: 0 }
    }

    /// `client` asks for `op`; its position among the [`History::operations`]. Until it is answered
    /// its outcome is unknown.
    pub fn invoke(&mut self, client: u64, op: O) -> usize {
        self.events += 1;
        let (invoked, answered, outcome) = (self.events, u64::MAX, Outcome::Unknown);
        self.operations.push(Operation { client, op, invoked, answered, outcome });
        self.operations.len() - 1
    }

    /// The operation at `position` ends.
    ///
    /// # Panics
    /// If there is no such operation.
    pub fn answer(&mut self, position: usize, outcome: Outcome<R>) {
        self.events += 1;
        let operation = &mut self.operations[position];
        operation.answered = self.events;
        operation.outcome = outcome;
    }

    /// All operations, in the order in which they were asked.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// The same, to be kept.
    pub fn into_operations(self) -> Vec<Operation<O, R>> {
        self.operations
    }
}

/// Looks for an order of `history` that explains it, beginning with `initial`; the order, as
/// positions in `history`. Operations of unknown outcome are left out of it where nothing speaks
/// for their having taken effect.
///
/// # Errors
/// There is none, with what comes nearest to one; or none was found within
/// [`CONFIGURATIONS_MAX`].
pub fn check<M: Model>(
    initial: &M,
    history: &[Operation<M::Op, M::Reply>],
) -> Result<Vec<usize>, Failure> {
    check_within(initial, history, CONFIGURATIONS_MAX)
}

/// [`check`], visiting `configurations_max` combinations at most.
///
/// # Errors
/// As [`check`].
pub fn check_within<M: Model>(
    initial: &M,
    history: &[Operation<M::Op, M::Reply>],
    configurations_max: usize,
) -> Result<Vec<usize>, Failure> {
    let numbered: Vec<_> = history.iter().enumerate().collect();
    run(initial, &numbered, None, configurations_max)
}

/// [`check`] of each key by itself: `key_of` names what an operation is about, and every key begins
/// as `initial`. How many keys there are.
///
/// # Errors
/// As [`check`], of the first key, in order, that has no explanation.
pub fn check_keys<M: Model, K: Ord + Debug>(
    initial: &M,
    history: &[Operation<M::Op, M::Reply>],
    key_of: impl Fn(&M::Op) -> K,
) -> Result<usize, Failure> {
    let mut keys: BTreeMap<K, Vec<Numbered<'_, M>>> = BTreeMap::new();
    for (position, operation) in history.iter().enumerate() {
        keys.entry(key_of(&operation.op)).or_default().push((position, operation));
    }
    for (key, operations) in &keys {
        run(initial, operations, Some(format!("{key:?}")), CONFIGURATIONS_MAX)?;
    }
    Ok(keys.len())
}

/// An operation with its position in the history.
type Numbered<'a, M> = (usize, &'a Operation<<M as Model>::Op, <M as Model>::Reply>);

fn run<M: Model>(
    initial: &M,
    history: &[Numbered<'_, M>],
    key: Option<String>,
    configurations_max: usize,
) -> Result<Vec<usize>, Failure> {
    match Search::new(initial, history, configurations_max).run() {
        Found::Order(order) => Ok(order),
        Found::Nothing(nearest) => Err(Failure::new(Kind::Violation, key, history, &nearest)),
        Found::TooMuch(nearest) => Err(Failure::new(Kind::Undecided, key, history, &nearest)),
    }
}
