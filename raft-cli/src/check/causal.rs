//! What could have known of what: logical clocks for the operations of a history, whose own times
//! say only what came first by one clock that looks at all of them.
//!
//! Every client has clocks, and so has the store. A request carries its client's to the store,
//! where what it writes takes its place among all writes, which is its revision; an answer carries
//! those of the store back, as of the position that it names. So an operation is where it took
//! effect: a write at the store, a read at its client. Nothing is judged here: whether an order is
//! one that a store may show is not for clocks to say.

use super::history::{Action, Ending, History, Operation};
use raft_core::types::NodeId;
use raft_kv::clocks::{LamportClock, Relation, Stamp, VersionVector};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// The store among the clients; no client has this number.
const STORE: NodeId = NodeId(u64::MAX);

/// Where some operations of a history stand among causes and effects.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    events: BTreeMap<usize, Event>,
}

#[derive(Clone, Debug)]
struct Event {
    stamp: Stamp,
    known: VersionVector,
    /// Whether it is known what it met.
    is_placed: bool,
}

/// The clocks of a client or of the store.
struct Clocks {
    id: NodeId,
    lamport: LamportClock,
    known: VersionVector,
}

impl Clocks {
    fn new(id: NodeId) -> Self {
        Self { id, lamport: LamportClock::new(id), known: VersionVector::default() }
    }

    /// Something happens here.
    fn tick(&mut self) -> Event {
        self.known.tick(self.id);
        Event { stamp: self.lamport.tick(), known: self.known.clone(), is_placed: false }
    }

    /// What happened elsewhere becomes known here.
    fn receive(&mut self, event: &Event) -> Event {
        self.known.merge(&event.known);
        self.known.tick(self.id);
        let stamp = self.lamport.receive(event.stamp);
        Event { stamp, known: self.known.clone(), is_placed: true }
    }
}

impl Trace {
    /// Of these operations, by their positions in the history; all others count.
    pub fn of(history: &History, wanted: &BTreeSet<usize>) -> Self {
        let mut events = BTreeMap::new();
        if !wanted.is_empty() {
            walk(&history.operations, |at, event| {
                if wanted.contains(&at) {
                    events.insert(at, event.clone());
                }
            });
        }
        Self { events }
    }

    /// The time stamp of an operation. By stamps every cause comes before its effects.
    pub fn stamp(&self, at: usize) -> Option<Stamp> {
        Some(self.events.get(&at)?.stamp)
    }

    /// How one operation stands to another: before it if the other could have known of it. `None`
    /// if that cannot be told, as nothing says where one of them took effect.
    pub fn relation(&self, one: usize, other: usize) -> Option<Relation> {
        let (one, other) = (self.events.get(&one)?, self.events.get(&other)?);
        match one.known.relation(&other.known) {
            Relation::Concurrent if !(one.is_placed && other.is_placed) => None,
            relation => Some(relation),
        }
    }
}

/// Whether an operation has changed the store, at the position that was answered.
fn wrote(operation: &Operation) -> bool {
    let changes = match &operation.action {
        Action::Write { .. } | Action::Append { .. } | Action::Acquire { .. } | Action::Release => {
            true
        }
        Action::Cas { result, .. } | Action::Add { result, .. } => *result == Some(true),
        Action::Read { .. } | Action::Event { .. } | Action::Watched { .. } => false,
    };
    changes && operation.outcome == Ending::Ok
}

/// Goes through all operations so that those of a client come one after the other, writes by
/// revision, and reads after the writes they may have seen. Where a history contradicts itself,
/// what has to wait for least comes first.
fn walk(operations: &[Operation], mut visit: impl FnMut(usize, &Event)) {
    let mut lines: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
    let mut by_end: Vec<usize> = (0..operations.len()).collect();
    // Whoever asks one thing at a time knows of what was answered; what a watcher sums up at its
    // end began before all that it was told.
    by_end.sort_by_key(|at| (operations[*at].end, *at));
    for at in by_end {
        lines.entry(operations[at].client).or_default().push_back(at);
    }
    let writes = operations.iter().filter(|operation| wrote(operation));
    let mut writes: Vec<u64> = writes.filter_map(|operation| operation.position).collect();
    writes.sort_unstable();
    // Twice the number of writes that come first, and one more for a write: a read as of the same
    // place knows nothing of it.
    let place = |at: usize| {
        let operation = &operations[at];
        let first = match operation.position {
            None => 0,
            Some(position) if wrote(operation) => {
                writes.partition_point(|write| *write < position) * 2 + 1
            }
            Some(position) => writes.partition_point(|write| *write <= position) * 2,
        };
        Reverse((first, operation.end, at))
    };
    let mut heads: BinaryHeap<_> =
        lines.values_mut().filter_map(VecDeque::pop_front).map(place).collect();
    let (mut store, mut clients) = (Clocks::new(STORE), BTreeMap::new());
    while let Some(Reverse((_, _, at))) = heads.pop() {
        let operation = &operations[at];
        let id = NodeId(operation.client);
        let client = clients.entry(id).or_insert_with(|| Clocks::new(id));
        visit(at, &happen(operation, client, &mut store));
        let line = lines.get_mut(&operation.client);
        heads.extend(line.and_then(VecDeque::pop_front).map(place));
    }
}

/// What an operation brings about, where it takes effect.
fn happen(operation: &Operation, client: &mut Clocks, store: &mut Clocks) -> Event {
    let asked = client.tick();
    match operation.position {
        // Nobody knows what it met, or whether it arrived.
        None => asked,
        Some(_) if wrote(operation) => {
            let written = store.receive(&asked);
            client.receive(&written);
            written
        }
        Some(_) => {
            let (stamp, known) = (store.lamport.now(), store.known.clone());
            client.receive(&Event { stamp, known, is_placed: true })
        }
    }
}
