//! The simulator with a state machine of a user: a few registers.

use bytes::Bytes;
use raft_core::log_store::StorageError;
use raft_core::state_machine::{CheckpointJob, Snapshot, StateMachine};
use raft_core::testing::linear::{
    History, Model, Operation, Register, RegisterOp, RegisterReply, check_keys,
};
use raft_core::testing::{
    Argument, Ask, CellClients, Cells, Event, Machines, Outcome, Random, Script, Simulation,
    SimulationConfig, Step, Workload, examine,
};
use raft_core::types::{Entry, NodeId, Payload, Run, SnapshotMeta, Version};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

const KEYS: u8 = 3;
const CLIENTS_MAX: usize = 32;

/// What survives a crash: what was applied, and the registers.
type Disk = Arc<Mutex<(SnapshotMeta, [u8; KEYS as usize])>>;

/// A bug of a state machine.
#[derive(Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// One node answers otherwise than the others.
    Differs,
    /// A checkpoint loses the newest value.
    Forgets,
    /// A snapshot that is cut short is taken for a whole one.
    Gullible,
    /// What is applied is durable at once, and how far it was applied is not.
    AppliesTwice,
}

/// A command is `key, expected, new`; 0 is expected of a plain write. The reply tells whether it
/// was as expected. A query is a key, and answers the value.
struct Registers {
    applied: SnapshotMeta,
    values: [u8; KEYS as usize],
    disk: Disk,
    bug: Bug,
    node: NodeId,
}

impl Registers {
    fn open(disk: Disk, bug: Bug, node: NodeId) -> Self {
        let (applied, values) = disk.lock().unwrap().clone();
        Self { applied, values, disk, bug, node }
    }

    fn command(&mut self, command: &[u8]) -> Bytes {
        let &[key, expected, new] = command else { panic!("no command of the workload") };
        let value = &mut self.values[key as usize];
        let swapped = expected == 0 || *value == expected;
        if swapped {
            *value = new;
        }
        let lies = self.bug == Bug::Differs && self.node == NodeId(2) && new == 99;
        if self.bug == Bug::AppliesTwice {
            self.disk.lock().unwrap().1 = self.values;
        }
        Bytes::copy_from_slice(&[u8::from(swapped != lies)])
    }
}

impl StateMachine for Registers {
    fn applied(&self) -> SnapshotMeta {
        self.applied.clone()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        let mut replies = Vec::new();
        for entry in run.entries() {
            self.applied.last = entry.id;
            replies.push(match &entry.payload {
                Payload::Noop => Bytes::new(),
                Payload::Command(command) => self.command(command),
                Payload::Membership(membership) => {
                    self.applied.membership = (**membership).clone();
                    Bytes::new()
                }
            });
        }
        replies
    }

    fn query(&self, query: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&[self.values[query[0] as usize]])
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        let mut frozen = (self.applied.clone(), self.values);
        if self.bug == Bug::Forgets {
            frozen.1[0] = 0;
        }
        let disk = Arc::clone(&self.disk);
        Some(Box::new(move || {
            let meta = frozen.0.clone();
            *disk.lock().unwrap() = frozen;
            Ok(meta)
        }))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let (meta, values) = self.disk.lock().unwrap().clone();
        Ok(Snapshot { meta, data: Box::new(Cursor::new(values)) })
    }

    fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        let read = snapshot.data.read_to_end(&mut bytes);
        read.map_err(|error| StorageError::Stream(error.to_string()))?;
        if self.bug == Bug::Gullible {
            bytes.resize(KEYS as usize, 0);
        }
        let values = bytes.try_into().map_err(|_| StorageError::Stream("cut short".into()))?;
        *self.disk.lock().unwrap() = (snapshot.meta.clone(), values);
        (self.applied, self.values) = (snapshot.meta, values);
        Ok(())
    }
}

/// The registers, one by one, as a model.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Named(Register<u8>);

impl Model for Named {
    type Op = (u8, RegisterOp<u8>);
    type Reply = RegisterReply<u8>;

    fn apply(&mut self, (_, op): &Self::Op) -> Self::Reply {
        self.0.apply(op)
    }

    fn is_read((_, op): &Self::Op, reply: &Self::Reply) -> bool {
        Register::is_read(op, reply)
    }

    fn may_bring_about(other: &Self::Op, (_, op): &Self::Op, reply: &Self::Reply) -> bool {
        Register::may_bring_about(&other.1, op, reply)
    }
}

/// Clients that write, swap and read.
struct Clients {
    history: History<(u8, RegisterOp<u8>), RegisterReply<u8>>,
    /// What each client waits for.
    open: [usize; CLIENTS_MAX],
    /// A model that is told every entry.
    values: [u8; KEYS as usize],
}

impl Clients {
    fn new() -> Self {
        Self { history: History::new(), open: [0; CLIENTS_MAX], values: [0; KEYS as usize] }
    }
}

impl Workload<Registers> for Clients {
    fn ask(&mut self, client: u64, random: &mut Random) -> Option<Ask> {
        let key = random.below(u64::from(KEYS)) as u8;
        let (expected, new) = (1 + random.below(4) as u8, 1 + random.below(100) as u8);
        let (op, ask) = match random.below(3) {
            0 => (RegisterOp::Read, Ask::Query(Bytes::copy_from_slice(&[key]))),
            1 => (RegisterOp::Write(new), Ask::Command(Bytes::copy_from_slice(&[key, 0, new]))),
            _ => {
                let command = Bytes::copy_from_slice(&[key, expected, new]);
                (RegisterOp::CompareAndSet { expected, new }, Ask::Command(command))
            }
        };
        self.open[client as usize] = self.history.invoke(client, (key, op));
        Some(ask)
    }

    fn answer(&mut self, client: u64, outcome: Outcome<Bytes>) {
        let open = self.open[client as usize];
        let outcome = match outcome {
            Outcome::Done(reply) => Outcome::Done(match self.history.operations()[open].op.1 {
                RegisterOp::Read => RegisterReply::Value(reply[0]),
                RegisterOp::Write(_) => RegisterReply::Written,
                RegisterOp::CompareAndSet { .. } => RegisterReply::Swapped(reply[0] == 1),
            }),
            Outcome::NotDone => Outcome::NotDone,
            Outcome::Unknown => Outcome::Unknown,
        };
        self.history.answer(open, outcome);
    }

    fn applied(&mut self, entry: &Entry, reply: &Bytes) {
        let Payload::Command(command) = &entry.payload else { return };
        let &[key, expected, new] = &command[..] else { panic!("no command of the workload") };
        let swapped = expected == 0 || self.values[key as usize] == expected;
        if swapped {
            self.values[key as usize] = new;
        }
        assert_eq!(reply[..], [u8::from(swapped)], "{entry}");
    }
}

fn simulation(seed: u64, bug: Bug) -> Simulation<Registers, Clients> {
    simulation_of(SimulationConfig::of(seed), bug)
}

fn simulation_of(config: SimulationConfig, bug: Bug) -> Simulation<Registers, Clients> {
    let disks: Arc<Mutex<BTreeMap<(NodeId, u64), Disk>>> = Arc::default();
    let machines = Machines::durable(move |node, life| {
        let disk = Arc::clone(disks.lock().unwrap().entry((node, life)).or_default());
        Registers::open(disk, bug, node)
    });
    let machines = machines.hashed_by(|machine: &Registers| {
        u64::from_be_bytes([0, 0, 0, 0, 0, machine.values[0], machine.values[1], machine.values[2]])
    });
    Simulation::new(machines, Clients::new(), config)
}

type Registered = Operation<(u8, RegisterOp<u8>), RegisterReply<u8>>;

fn judge(history: &[Registered]) {
    check_keys(&Named(Register(0)), history, |op| op.0).unwrap();
}

#[test]
fn clients_of_a_state_machine_see_one_copy() {
    let (mut done, mut unknown) = (0, 0);
    for seed in 0..30 {
        let mut simulation = simulation(seed, Bug::None);
        simulation.run();
        let history = simulation.workload().history.operations();
        judge(history);
        let count = |wanted: fn(&Outcome<RegisterReply<u8>>) -> bool| {
            history.iter().filter(|it| wanted(&it.outcome)).count()
        };
        done += count(|outcome| matches!(outcome, Outcome::Done(_)));
        unknown += count(|outcome| *outcome == Outcome::Unknown);
    }
    // What never happens tests nothing.
    assert!(done > 2_000 && unknown > 500, "{done} done, {unknown} unknown");
}

/// However quiet it was before: in the end the leader does a command, and every member answers.
#[test]
fn everybody_is_asked_once_the_faults_have_ended() {
    let quiet = SimulationConfig { events: 0, operations: 0, ..SimulationConfig::of(1) };
    let config = SimulationConfig { nodes: 3, spares: 0, answer_lost_once_in: 1, ..quiet };
    let mut simulation = simulation_of(config, Bug::None);
    simulation.run();
    let history = simulation.workload().history.operations();
    judge(history);
    let done = |reads: bool| {
        let of_kind = history.iter().filter(|it| (it.op.1 == RegisterOp::Read) == reads);
        of_kind.filter(|it| matches!(it.outcome, Outcome::Done(_))).count()
    };
    assert!(done(false) >= 1 && done(true) >= 3, "{history:?}");
    assert!(history.iter().all(|it| it.outcome != Outcome::Unknown), "{history:?}");
}

/// Who stands still takes nothing in, whoever asks.
#[test]
fn a_paused_node_does_nothing() {
    const NODE: NodeId = NodeId(1);
    let mut config =
        SimulationConfig { nodes: 1, spares: 0, blank: false, ..SimulationConfig::of(1) };
    config.raft.version = Version::CURRENT;
    let mut run = simulation_of(config, Bug::None);
    let mut salt = 0;
    let mut take = |run: &mut Simulation<Registers, Clients>, event| {
        salt += 1;
        run.take(Step { event, node: NODE, salt });
    };
    for _ in 0..50 {
        take(&mut run, Event::TickAll);
        take(&mut run, Event::Persist);
    }
    assert_eq!(run.cluster().leader(), Some(NODE));
    take(&mut run, Event::Client);
    take(&mut run, Event::Pause);
    let core =
        |run: &Simulation<Registers, Clients>| run.cluster().server(NODE).raft().unwrap().clone();
    let (before, operations) = (core(&run), run.operations());
    assert_eq!((operations, run.happened(Event::Pause)), (1, 1));
    let asks = [Event::Client, Event::Transfer, Event::Campaign, Event::Change, Event::Snapshot];
    let goes_on = [Event::Deliver, Event::Tick, Event::Persist, Event::Freeze, Event::Flush];
    for event in asks.into_iter().chain(goes_on).cycle().take(200) {
        take(&mut run, event);
    }
    assert_eq!((core(&run), run.operations()), (before, operations));
    take(&mut run, Event::Pause);
    // Some clients wait.
    (0..10).for_each(|_| take(&mut run, Event::Client));
    (0..100).for_each(|_| take(&mut run, Event::Change));
    assert!(run.operations() > operations && run.happened(Event::Change) > 0);
}

/// The message of the first panic in some runs with this bug.
fn found(bug: Bug) -> String {
    for seed in 0..40 {
        let run = catch_unwind(AssertUnwindSafe(|| simulation(seed, bug).run()));
        if let Err(panic) = run {
            return *panic.downcast::<String>().unwrap();
        }
    }
    String::from("nothing found")
}

#[test]
fn state_machines_that_break_their_contract_are_found_out() {
    let differs = found(Bug::Differs);
    // By another node, or by the model if that node was the first.
    let by_whom = ["another state after", "left == right"];
    assert!(by_whom.iter().any(|by| differs.contains(by)), "{differs}");
    let forgets = found(Bug::Forgets);
    assert!(forgets.contains(": state "), "{forgets}");
    let gullible = found(Bug::Gullible);
    assert!(gullible.contains("is restored as Ok"), "{gullible}");
    let twice = found(Bug::AppliesTwice);
    assert!(twice.contains("state"), "{twice}");
}

#[test]
fn a_failure_is_shrunk_to_what_it_takes() {
    let make = |config| simulation_of(config, Bug::Differs);
    let fails = |seed| {
        let config = SimulationConfig { events: 3000, ..SimulationConfig::of(seed) };
        examine(&config, make, |_| Ok(())).err()
    };
    let failure = (0..40).find_map(fails).expect("the bug shows");
    assert!(failure.steps.len() < failure.events / 4, "{failure}");
    assert!(!failure.shrunk.starts_with("nothing"), "{failure}");
    assert!(failure.trace.contains(" apply "), "{failure}");
    assert!(failure.script[0].starts_with("cluster nodes="), "{failure}");
    // The core does nothing wrong, and the script knows no other machine than a right one.
    assert_eq!(failure.replayed, None, "{failure}");
}

/// What is done to a simulated cluster can be said as a script, which then does just the same.
#[test]
fn a_run_is_a_script() {
    for seed in 0..12 {
        // What rots is for the disk to choose, and what another version says is for that to know.
        let unsaid = [Event::BitRot, Event::Version];
        let config = SimulationConfig { events: 2000, traced: true, ..SimulationConfig::of(seed) };
        let clients = CellClients::new(config.clients);
        let mut run = Simulation::new(Cells::machines(), clients, config.without(&unsaid));
        run.run();
        let mut script = Script::new();
        let mut printed = String::new();
        for line in run.cluster().script() {
            let mut words = line.split(' ');
            let verb = words.next().unwrap();
            let arguments: Vec<Argument> = words
                .map(|word| match word.split_once('=') {
                    Some((key, value)) => Argument::Keyed(key.into(), value.into()),
                    None => Argument::Positional(word.into()),
                })
                .collect();
            let lines = script.run(verb, &arguments).unwrap();
            printed.extend(lines.lines().filter(|it| !it.contains(" refuses")).map(|it| {
                let mut line = it.to_owned();
                line.push('\n');
                line
            }));
        }
        let trace = run.take_trace();
        let differs = trace.lines().zip(printed.lines()).find(|(run, script)| run != script);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(trace.lines().count(), printed.lines().count(), "seed {seed}");
    }
}
