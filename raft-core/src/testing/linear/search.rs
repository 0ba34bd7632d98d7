//! The search for an order.
//!
//! A configuration is a set of operations that were placed and the state they left. It is extended
//! by any operation that nothing unplaced precedes, if it is answered as it was in fact. The
//! configuration with the most answered operations goes first, of those the one that took the
//! fewest operations of unknown outcome for done: so those are only drawn upon where nothing else
//! explains an answer.
//!
//! What need not be tried:
//! - An operation that only reads is placed as soon as it is answered rightly. Whatever order there
//!   is, it can as well come first in it.
//! - An operation of unknown outcome is not placed where it changes nothing.
//! - Of two configurations with the same answered operations and the same state, the one that took
//!   more unknown operations for done (those of the other and then some) can do nothing that the
//!   other cannot.

use super::failure::short;
use super::{Model, Numbered, Operation, Outcome};
use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};

/// What came of a search.
pub(super) enum Found {
    /// An order, as positions in the history.
    Order(Vec<usize>),
    /// There is none.
    Nothing(Nearest),
    /// None within the bound.
    TooMuch(Nearest),
}

/// The configuration that comes nearest to an order.
pub(super) struct Nearest {
    /// Positions of what was placed, in order.
    pub(super) placed: Vec<usize>,
    /// Positions of the answered operations that would have to come next, and what each would be
    /// answered.
    pub(super) stuck: Vec<(usize, String)>,
    /// How many configurations were visited.
    pub(super) visited: usize,
}

/// So many of the operations to come are asked whether they may yet be answered rightly.
const AHEAD: usize = 96;

/// A search under way.
pub(super) struct Search<'a, M: Model> {
    initial: M,
    /// Those that were answered, by when they were asked.
    known: Vec<Known<'a, M>>,
    /// Those of unknown outcome, by when they were asked.
    unknown: Vec<Unknown<'a, M>>,
    configurations_max: usize,
    configurations: Vec<Configuration<M>>,
    /// Positions in `configurations`, by the hash of answered operations and state.
    visited: HashMap<u64, Vec<usize>>,
    queue: BinaryHeap<Waiting>,
}

struct Known<'a, M: Model> {
    position: usize,
    invoked: u64,
    answered: u64,
    op: &'a M::Op,
    reply: &'a M::Reply,
}

struct Unknown<'a, M: Model> {
    position: usize,
    invoked: u64,
    op: &'a M::Op,
}

/// A configuration in the queue; the greatest goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// Answered operations placed.
    known: usize,
    /// Unknown ones placed, with the one to come if they are drawn upon.
    unknown: Reverse<usize>,
    /// Which; of equals the newest.
    at: usize,
    draw: bool,
}

#[derive(Clone)]
struct Configuration<M> {
    state: M,
    known: Prefix,
    unknown: Bits,
    unknown_count: usize,
    parent: usize,
    /// Positions in the history, placed since the parent.
    steps: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(initial: &M, history: &[Numbered<'a, M>], configurations_max: usize) -> Self {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (position, operation) in history {
            let Operation { op, invoked, answered, outcome, .. } = *operation;
            let (position, invoked, answered) = (*position, *invoked, *answered);
            match outcome {
                Outcome::Done(reply) => {
                    known.push(Known { position, invoked, answered, op, reply });
                }
                Outcome::Unknown => unknown.push(Unknown { position, invoked, op }),
                Outcome::NotDone => {}
            }
        }
        known.sort_by_key(|known| known.invoked);
        unknown.sort_by_key(|unknown| unknown.invoked);
        Self {
            initial: initial.clone(),
            known,
            unknown,
            configurations_max,
            configurations: Vec::new(),
            visited: HashMap::new(),
            queue: BinaryHeap::new(),
        }
    }

    pub(super) fn run(mut self) -> Found {
        let root = Configuration {
            state: self.initial.clone(),
            known: Prefix::default(),
            unknown: Bits::default(),
            unknown_count: 0,
            parent: usize::MAX,
            steps: Vec::new(),
        };
        self.visit(root);
        while let Some(Waiting { at, draw, known, .. }) = self.queue.pop() {
            if known == self.known.len() {
                return Found::Order(self.placed(at));
            }
            if self.configurations.len() >= self.configurations_max {
                return Found::TooMuch(self.nearest());
            }
            if draw { self.draw(at) } else { self.extend(at) }
        }
        Found::Nothing(self.nearest())
    }

    /// Answered operations that nothing unplaced precedes, and until when they must be asked.
    fn candidates(&self, known: &Prefix) -> (Vec<usize>, u64) {
        let mut candidates = Vec::new();
        let mut until = u64::MAX;
        for (at, operation) in self.known.iter().enumerate().skip(known.len) {
            if operation.invoked > until {
                break;
            }
            if !known.contains(at) {
                candidates.push(at);
                until = until.min(operation.answered);
            }
        }
        (candidates, until)
    }

    /// Places each answered operation that can come next.
    fn extend(&mut self, at: usize) {
        let (mut candidates, _) = self.candidates(&self.configurations[at].known);
        // Of equals the one added last is tried first: the one answered first, which cannot wait.
        candidates.sort_by_key(|candidate| Reverse(self.known[*candidate].answered));
        for candidate in candidates {
            let Known { op, reply, position, .. } = self.known[candidate];
            let parent = &self.configurations[at];
            let mut state = parent.state.clone();
            // Reads that fit were placed before.
            if M::is_read(op, reply) || state.apply(op) != *reply {
                continue;
            }
            let mut known = parent.known.clone();
            known.insert(candidate);
            let (unknown, unknown_count) = (parent.unknown.clone(), parent.unknown_count);
            let (parent, steps) = (at, vec![position]);
            self.visit(Configuration { state, known, unknown, unknown_count, parent, steps });
        }
        if !self.unknown.is_empty() {
            let parent = &self.configurations[at];
            let unknown = Reverse(parent.unknown_count + 1);
            self.queue.push(Waiting { known: parent.known.count, unknown, at, draw: true });
        }
    }

    /// Places each operation of unknown outcome that can come next.
    fn draw(&mut self, at: usize) {
        let (_, until) = self.candidates(&self.configurations[at].known);
        for candidate in 0..self.unknown.len() {
            let Unknown { op, invoked, position } = self.unknown[candidate];
            if invoked > until {
                break;
            }
            let parent = &self.configurations[at];
            if parent.unknown.contains(candidate) {
                continue;
            }
            let mut state = parent.state.clone();
            state.apply(op);
            if state == parent.state {
                continue;
            }
            let mut unknown = parent.unknown.clone();
            unknown.insert(candidate);
            let (known, unknown_count) = (parent.known.clone(), parent.unknown_count + 1);
            let (parent, steps) = (at, vec![position]);
            self.visit(Configuration { state, known, unknown, unknown_count, parent, steps });
        }
    }

    /// Puts a configuration into the queue, unless it is hopeless or no better than another.
    fn visit(&mut self, mut configuration: Configuration<M>) {
        let hopeless = !self.settle(&mut configuration);
        let mut hasher = DefaultHasher::new();
        (&configuration.known, &configuration.state).hash(&mut hasher);
        let alike = self.visited.entry(hasher.finish()).or_default();
        let outdone = alike.iter().any(|at| {
            let other = &self.configurations[*at];
            other.known == configuration.known
                && other.state == configuration.state
                && other.unknown.is_subset(&configuration.unknown)
        });
        if outdone {
            return;
        }
        let at = self.configurations.len();
        alike.push(at);
        let Configuration { known, unknown_count, .. } = &configuration;
        if !hopeless {
            let unknown = Reverse(*unknown_count);
            self.queue.push(Waiting { known: known.count, unknown, at, draw: false });
        }
        self.configurations.push(configuration);
    }

    /// Places all that can be placed without a choice; whether there is hope.
    fn settle(&self, configuration: &mut Configuration<M>) -> bool {
        loop {
            let (candidates, _) = self.candidates(&configuration.known);
            let mut moved = false;
            for candidate in candidates {
                let Known { op, reply, position, .. } = self.known[candidate];
                if M::is_read(op, reply) && configuration.state.answers(op, reply) {
                    configuration.known.insert(candidate);
                    configuration.steps.push(position);
                    moved = true;
                }
            }
            if !moved {
                return self.is_hopeful(configuration);
            }
        }
    }

    /// Whether the answers next to come can come about.
    fn is_hopeful(&self, configuration: &Configuration<M>) -> bool {
        let Configuration { state, known: placed, unknown: drawn, .. } = configuration;
        let left = || {
            let left = self.known.iter().enumerate().skip(placed.len);
            left.filter(|(at, _)| !placed.contains(*at)).map(|(_, known)| known)
        };
        left().take(AHEAD).all(|Known { op, reply, answered, position, .. }| {
            if !state.may_yet_answer(op, reply) {
                return false;
            }
            let comes_about = |(invoked, other): (u64, &M::Op)| {
                invoked <= *answered && M::may_bring_about(other, op, reply)
            };
            let others = left().take_while(|other| other.invoked <= *answered);
            let mut others = others.filter(|other| other.position != *position);
            let undrawn = self.unknown.iter().enumerate().filter(|(at, _)| !drawn.contains(*at));
            others.any(|other| comes_about((other.invoked, other.op)))
                || state.answers(op, reply)
                || undrawn.map(|(_, it)| it).any(|it| comes_about((it.invoked, it.op)))
        })
    }

    /// Positions of what was placed, in order.
    fn placed(&self, mut at: usize) -> Vec<usize> {
        let mut placed = Vec::new();
        while let Some(configuration) = self.configurations.get(at) {
            placed.extend(configuration.steps.iter().rev());
            at = configuration.parent;
        }
        placed.reverse();
        placed
    }

    fn nearest(&self) -> Nearest {
        let counts = self.configurations.iter().enumerate();
        // The first of equals: it took the fewest unknown operations for done.
        let nearest = counts.max_by_key(|(at, it)| (it.known.count, Reverse(*at)));
        let (at, configuration) = nearest.expect("the search begins with a configuration");
        let (candidates, _) = self.candidates(&configuration.known);
        let stuck = candidates.into_iter().map(|candidate| {
            let Known { op, position, .. } = self.known[candidate];
            (position, short(&configuration.state.clone().apply(op)))
        });
        let (placed, stuck) = (self.placed(at), stuck.collect());
        let visited = self.configurations.len();
        Nearest { placed, stuck, visited }
    }
}

/// A set of numbers: all below `len`, and some above.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Prefix {
    len: usize,
    count: usize,
    /// Bits of the numbers from `len` on, rounded down to a word.
    ahead: Bits,
}

impl Prefix {
    fn contains(&self, number: usize) -> bool {
        number < self.len || self.ahead.contains(number - self.base())
    }

    const fn base(&self) -> usize {
        self.len / WORD * WORD
    }

    fn insert(&mut self, number: usize) {
        self.ahead.insert(number - self.base());
        self.count += 1;
        let base = self.base();
        while self.ahead.contains(self.len - base) {
            self.len += 1;
        }
        self.ahead.drop_words((self.base() - base) / WORD);
    }
}

const WORD: usize = u64::BITS as usize;

/// A set of small numbers. The last word is not 0, so that equal sets are equal.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, number: usize) -> bool {
        self.0.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    fn insert(&mut self, number: usize) {
        if self.0.len() <= number / WORD {
            self.0.resize(number / WORD + 1, 0);
        }
        self.0[number / WORD] |= 1 << (number % WORD);
    }

    fn is_subset(&self, other: &Self) -> bool {
        let words = self.0.iter().zip(&other.0);
        self.0.len() <= other.0.len() && words.into_iter().all(|(own, other)| own & !other == 0)
    }

    fn drop_words(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }
}
