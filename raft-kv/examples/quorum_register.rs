//! A register in the manner of Dynamo: three replicas, reads and writes of any two. Overlapping
//! quorums are not enough.
//!
//! 1. Without further care a reader sees the new value and a later one the old: the checker rejects
//!    the history, although `R + W > N`.
//! 2. With read repair (a reader writes what it has read to a quorum before it answers) and reads
//!    before writes (a writer first looks for the newest version), every history passes.
//! 3. Compare-and-set cannot be made of it: two of them find the old value, and both succeed. That
//!    takes consensus.
//!
//! Everything happens in a small simulation: messages arrive in an order that a seed decides.

mod support;

use raft_core::testing::linear::{self, History, Outcome, Register, RegisterOp, RegisterReply};
use support::{Shown, ensure};

const REPLICAS: usize = 3;
const QUORUM: usize = 2;
const SEEDS: u64 = 2_000;

/// A value and how new it is: the number of the write, and who wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Version {
    number: u64,
    writer: usize,
    value: u64,
}

/// How careful clients are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// As they come.
    None,
    /// Read repair, and reads before writes.
    RepairAndReadFirst,
}

type Op = RegisterOp<u64>;
type Reply = RegisterReply<u64>;

/// An operation under way, one phase after another.
struct Running {
    position: usize,
    op: Op,
    phase: Phase,
    /// The newest version that replicas have told of.
    newest: Version,
    answers: usize,
}

#[derive(Clone)]
enum Phase {
    /// Asks replicas for what they have.
    Reading,
    /// Has replicas take a version; this is the reply once a quorum has it.
    Writing(Version, Reply),
}

/// A message on its way to a replica. Its answer needs no time: the order of arrival says it all.
struct Message {
    client: usize,
    /// The client's phase that sent it; what comes later is still done, and not waited for.
    phase: u64,
    replica: usize,
    write: Option<Version>,
}

struct Simulation {
    care: Care,
    replicas: [Version; REPLICAS],
    messages: Vec<Message>,
    clients: Vec<Client>,
    history: History<Op, Reply>,
    random: u64,
}

#[derive(Default)]
struct Client {
    /// What it is going to do, the last first.
    plan: Vec<Op>,
    running: Option<Running>,
    phase: u64,
    writes: u64,
}

impl Simulation {
    fn new(care: Care, seed: u64, plans: &[&[Op]]) -> Self {
        let plan =
            |ops: &&[Op]| Client { plan: ops.iter().rev().cloned().collect(), ..Client::default() };
        Self {
            care,
            replicas: [Version::default(); REPLICAS],
            messages: Vec::new(),
            clients: plans.iter().map(plan).collect(),
            history: History::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below `limit`, by xorshift.
    fn draw(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % limit
    }

    /// Lets clients begin and messages arrive, in any order, until all is done.
    fn run(mut self) -> History<Op, Reply> {
        loop {
            let ready = |client: &Client| client.running.is_none() && !client.plan.is_empty();
            let ready: Vec<usize> =
                (0..self.clients.len()).filter(|client| ready(&self.clients[*client])).collect();
            let choices = ready.len() + self.messages.len();
            if choices == 0 {
                return self.history;
            }
            match self.draw(choices) {
                choice if choice < ready.len() => self.begin(ready[choice]),
                choice => {
                    let message = self.messages.swap_remove(choice - ready.len());
                    self.arrive(&message);
                }
            }
        }
    }

    fn begin(&mut self, client: usize) {
        let Some(op) = self.clients[client].plan.pop() else { return };
        let position = self.history.invoke(client as u64, op.clone());
        let (newest, answers) = (Version::default(), 0);
        let running = Running { position, op, phase: Phase::Reading, newest, answers };
        self.clients[client].running = Some(running);
        match (self.care, &self.clients[client].running) {
            (Care::None, Some(Running { op: RegisterOp::Write(value), .. })) => {
                // It counts its own writes, as if nobody else wrote.
                let (value, number) = (*value, self.clients[client].writes + 1);
                let version = Version { number, writer: client, value };
                self.enter(client, Phase::Writing(version, RegisterReply::Written));
            }
            _ => self.enter(client, Phase::Reading),
        }
    }

    /// The client sends the messages of its next phase to all replicas.
    fn enter(&mut self, client: usize, phase: Phase) {
        let state = &mut self.clients[client];
        state.phase += 1;
        let Some(running) = &mut state.running else { return };
        let write = match &phase {
            Phase::Reading => None,
            Phase::Writing(version, _) => Some(*version),
        };
        (running.phase, running.answers) = (phase, 0);
        let phase = state.phase;
        let to = |replica| Message { client, phase, replica, write };
        self.messages.extend((0..REPLICAS).map(to));
    }

    fn arrive(&mut self, message: &Message) {
        let replica = &mut self.replicas[message.replica];
        if let Some(version) = message.write {
            *replica = version.max(*replica);
        }
        let found = *replica;
        let state = &mut self.clients[message.client];
        let Some(running) = state.running.as_mut().filter(|_| state.phase == message.phase) else {
            return;
        };
        running.newest = found.max(running.newest);
        running.answers += 1;
        if running.answers == QUORUM {
            self.phase_ended(message.client);
        }
    }

    fn phase_ended(&mut self, client: usize) {
        let Some(running) = &self.clients[client].running else { return };
        let newest = running.newest;
        let next = Version { number: newest.number + 1, writer: client, value: 0 };
        match (running.phase.clone(), &running.op) {
            (Phase::Writing(version, reply), _) => {
                self.clients[client].writes = version.number;
                self.answer(client, reply);
            }
            (Phase::Reading, RegisterOp::Write(value)) => {
                let version = Version { value: *value, ..next };
                self.enter(client, Phase::Writing(version, RegisterReply::Written));
            }
            (Phase::Reading, RegisterOp::Read) => match self.care {
                Care::None => self.answer(client, RegisterReply::Value(newest.value)),
                Care::RepairAndReadFirst => {
                    self.enter(client, Phase::Writing(newest, RegisterReply::Value(newest.value)));
                }
            },
            (Phase::Reading, RegisterOp::CompareAndSet { expected, new }) => {
                if newest.value == *expected {
                    let version = Version { value: *new, ..next };
                    self.enter(client, Phase::Writing(version, RegisterReply::Swapped(true)));
                } else {
                    self.enter(client, Phase::Writing(newest, RegisterReply::Swapped(false)));
                }
            }
        }
    }

    fn answer(&mut self, client: usize, reply: Reply) {
        if let Some(running) = self.clients[client].running.take() {
            self.history.answer(running.position, Outcome::Done(reply));
        }
    }
}

/// How many of many histories cannot be explained by one copy of the register, and one of them.
fn rejected(care: Care, plans: &[&[Op]]) -> (u64, Option<String>) {
    let (mut rejected, mut example) = (0, None);
    for seed in 0..SEEDS {
        let history = Simulation::new(care, seed, plans).run();
        if let Err(failure) = linear::check(&Register(0), history.operations()) {
            rejected += 1;
            example.get_or_insert_with(|| failure.to_string());
        }
    }
    (rejected, example)
}

pub(crate) fn main() -> Shown {
    let read = || RegisterOp::Read;
    let (writes, reads) = ([RegisterOp::Write(1), RegisterOp::Write(2)], [read(), read(), read()]);
    let one_writer: [&[Op]; 3] = [&writes[..1], &reads, &reads];
    let several: [&[Op]; 4] = [&writes[..1], &writes[1..], &reads, &reads];

    let (count, example) = rejected(Care::None, &one_writer);
    println!("two of three, as it comes: {count} of {SEEDS} histories are rejected, such as");
    println!("{}", example.unwrap_or_default());
    ensure(count > 0, "overlapping quorums alone are not linearizable")?;

    for plans in [&one_writer[..], &several[..]] {
        let (count, example) = rejected(Care::RepairAndReadFirst, plans);
        println!("with read repair and reads before writes: {count} of {SEEDS} are rejected");
        ensure(count == 0, &format!("every history passes: {}", example.unwrap_or_default()))?;
    }

    let swap = |new| [RegisterOp::CompareAndSet { expected: 0, new }];
    let (one, other) = (swap(1), swap(2));
    let (count, example) = rejected(Care::RepairAndReadFirst, &[&one, &other, &reads]);
    println!("compare-and-set on top of that: {count} of {SEEDS} are rejected, such as");
    println!("{}", example.unwrap_or_default());
    ensure(count > 0, "quorums cannot do compare-and-set")
}
