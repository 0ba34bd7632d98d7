//! A state machine and clients that are ready for use: registers and lists that only grow.
//!
//! For those who test a log store, or the core itself. A lost or doubled command shows in a list, a
//! stale read in either.

use super::{Ask, Workload};
use crate::log_store::StorageError;
use crate::state_machine::{CheckpointJob, Snapshot, StateMachine};
use crate::testing::linear::{
    Failure, History, List, ListOp, ListReply, Model, Outcome, Register, RegisterOp, RegisterReply,
    check_keys,
};
use crate::testing::random::{Random, StableHasher};
use crate::testing::replica::Machines;
use crate::types::{Entry, Payload, Run, SnapshotMeta};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::io::Cursor;
use std::str::FromStr;

/// Registers, by number.
const REGISTERS: usize = 4;
/// Lists, by number.
const LISTS: usize = 2;

/// Registers and lists. Commands are text, so that they can be read in a trace: `w:KEY:VALUE`
/// writes a register, `c:KEY:EXPECTED:NEW` changes it if it is as expected, `a:KEY:VALUE` puts a
/// value at the end of a list; queries are `r:KEY` and `l:KEY`.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    applied: SnapshotMeta,
    registers: [u64; REGISTERS],
    lists: [Vec<u64>; LISTS],
    digest: u64,
}

impl Cells {
    /// Cells on every node, in memory.
    pub fn machines() -> Machines<Self> {
        Machines::in_memory(|_, _| Self::default()).hashed_by(|cells: &Self| cells.digest)
    }

    fn command(&mut self, command: &[u8]) -> &'static str {
        let mut hasher = StableHasher::new();
        (self.digest, command).hash(&mut hasher);
        self.digest = hasher.finish();
        let (verb, [key, first, second]) = parse(command);
        match verb {
            b'w' => self.registers[key as usize] = first,
            b'a' => self.lists[key as usize].push(first),
            _ if self.registers[key as usize] == first => self.registers[key as usize] = second,
            _ => return "no",
        }
        "ok"
    }
}

impl StateMachine for Cells {
    fn applied(&self) -> SnapshotMeta {
        SnapshotMeta::default()
    }

    fn apply(&mut self, run: &Run) -> Vec<Bytes> {
        self.applied.last = run.last();
        let mut replies = Vec::with_capacity(run.len());
        for entry in run.entries() {
            replies.push(match &entry.payload {
                Payload::Command(command) => Bytes::from_static(self.command(command).as_bytes()),
                Payload::Noop => Bytes::new(),
                Payload::Membership(membership) => {
                    self.applied.membership = (**membership).clone();
                    Bytes::new()
                }
            });
        }
        replies
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let (verb, [key, ..]) = parse(query);
        match verb {
            b'r' => self.registers[key as usize].to_string().into(),
            _ => written(&self.lists[key as usize]).into(),
        }
    }

    fn checkpoint(&mut self) -> Option<CheckpointJob> {
        None
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let mut lines = vec![self.digest.to_string(), written(&self.registers)];
        lines.extend(self.lists.iter().map(|list| written(list)));
        // So that a snapshot that is cut short is none.
        lines.push("end".into());
        let data = Box::new(Cursor::new(lines.join("\n")));
        Ok(Snapshot { meta: self.applied.clone(), data })
    }

    fn restore(&mut self, mut snapshot: Snapshot) -> Result<(), StorageError> {
        let mut text = String::new();
        let read = snapshot.data.read_to_string(&mut text);
        read.map_err(|error| StorageError::Stream(error.to_string()))?;
        let cells = parse_snapshot(&text, snapshot.meta);
        *self = cells.ok_or_else(|| StorageError::Stream("no snapshot of cells".into()))?;
        Ok(())
    }
}

fn written(values: &[u64]) -> String {
    let words: Vec<String> = values.iter().map(u64::to_string).collect();
    words.join(",")
}

fn parse_values(text: &str) -> Option<Vec<u64>> {
    text.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
}

fn parse_snapshot(text: &str, applied: SnapshotMeta) -> Option<Cells> {
    let mut lines = text.strip_suffix("\nend")?.split('\n');
    let digest = lines.next()?.parse().ok()?;
    let registers = parse_values(lines.next()?)?.try_into().ok()?;
    let lists: Option<Vec<_>> = lines.map(parse_values).collect();
    Some(Cells { applied, registers, lists: lists?.try_into().ok()?, digest })
}

/// The verb and the numbers of a command or query; what is not there is 0.
fn parse(text: &[u8]) -> (u8, [u64; 3]) {
    let text = str::from_utf8(text).expect("commands are text");
    let mut words = text.split(':');
    let verb = words.next().and_then(|word| word.bytes().next()).expect("a verb");
    (verb, [(); 3].map(|()| words.next().map_or(0, number)))
}

fn number(word: &str) -> u64 {
    u64::from_str(word).expect("a number")
}

/// One of several, by number.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Keyed<M>(M);

impl<M: Model> Model for Keyed<M> {
    type Op = (usize, M::Op);
    type Reply = M::Reply;

    fn apply(&mut self, (_, op): &Self::Op) -> M::Reply {
        self.0.apply(op)
    }

    fn answers(&self, (_, op): &Self::Op, reply: &M::Reply) -> bool {
        self.0.answers(op, reply)
    }

    fn is_read((_, op): &Self::Op, reply: &M::Reply) -> bool {
        M::is_read(op, reply)
    }

    fn may_bring_about(other: &Self::Op, (_, op): &Self::Op, reply: &M::Reply) -> bool {
        M::may_bring_about(&other.1, op, reply)
    }

    fn may_yet_answer(&self, (_, op): &Self::Op, reply: &M::Reply) -> bool {
        self.0.may_yet_answer(op, reply)
    }
}

/// Clients of [`Cells`]: they read, write, compare and set registers, append to lists and read
/// them. No value is ever written twice.
#[derive(Clone, Debug)]
pub struct CellClients {
    registers: History<(usize, RegisterOp<u64>), RegisterReply<u64>>,
    lists: History<(usize, ListOp<u64>), ListReply<u64>>,
    /// What each client waits for.
    waits: Vec<Waits>,
    /// The last value that was written.
    written: u64,
    /// Values that a client has seen in a register, by number.
    seen: [u64; REGISTERS],
    /// Commands that were applied.
    applied: BTreeSet<Bytes>,
}

/// A position in one of the histories.
#[derive(Clone, Copy, Debug)]
enum Waits {
    Nothing,
    Register(usize),
    List(usize),
}

impl CellClients {
    /// So many clients, who have asked nothing yet.
    pub fn new(clients: u64) -> Self {
        Self {
            registers: History::new(),
            lists: History::new(),
            waits: vec![Waits::Nothing; clients as usize],
            written: 0,
            seen: [0; REGISTERS],
            applied: BTreeSet::new(),
        }
    }

    /// Whether what the clients saw can be explained by one copy of the cells.
    ///
    /// # Errors
    /// It cannot.
    pub fn judge(&self) -> Result<(), Failure> {
        check_keys(&Keyed(Register(0)), self.registers.operations(), |(key, _)| *key)?;
        check_keys(&Keyed(List::new()), self.lists.operations(), |(key, _)| *key)?;
        Ok(())
    }

    /// How many operations were done, certainly not done, and of unknown outcome.
    pub fn outcomes(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        let registers = self.registers.operations().iter().map(|it| kind(&it.outcome));
        let lists = self.lists.operations().iter().map(|it| kind(&it.outcome));
        registers.chain(lists).for_each(|kind| counts[kind] += 1);
        counts
    }

    fn ask_register(&mut self, client: u64, random: &mut Random) -> String {
        let key = random.below(REGISTERS as u64) as usize;
        let new = self.written + 1;
        let (op, text) = match random.below(4) {
            0 | 1 => (RegisterOp::Read, format!("r:{key}")),
            2 => (RegisterOp::Write(new), format!("w:{key}:{new}")),
            _ => {
                let expected = self.seen[key];
                (RegisterOp::CompareAndSet { expected, new }, format!("c:{key}:{expected}:{new}"))
            }
        };
        if op != RegisterOp::Read {
            self.written = new;
        }
        let position = self.registers.invoke(client, (key, op));
        self.waits[client as usize] = Waits::Register(position);
        text
    }

    fn ask_list(&mut self, client: u64, random: &mut Random) -> String {
        let key = random.below(LISTS as u64) as usize;
        let (op, text) = match random.below(3) {
            0 => (ListOp::Read, format!("l:{key}")),
            _ => {
                self.written += 1;
                (ListOp::Append(self.written), format!("a:{key}:{}", self.written))
            }
        };
        let position = self.lists.invoke(client, (key, op));
        self.waits[client as usize] = Waits::List(position);
        text
    }

    fn register_reply(&mut self, position: usize, reply: &[u8]) -> RegisterReply<u64> {
        let (key, op) = &self.registers.operations()[position].op;
        match op {
            RegisterOp::Read => {
                let value = number(str::from_utf8(reply).expect("replies are text"));
                self.seen[*key] = value;
                RegisterReply::Value(value)
            }
            RegisterOp::Write(_) => RegisterReply::Written,
            RegisterOp::CompareAndSet { .. } => RegisterReply::Swapped(reply == b"ok"),
        }
    }

    fn list_reply(&self, position: usize, reply: &[u8]) -> ListReply<u64> {
        match self.lists.operations()[position].op.1 {
            ListOp::Append(_) => ListReply::Appended,
            ListOp::Read => {
                let text = str::from_utf8(reply).expect("replies are text");
                ListReply::Values(parse_values(text).expect("numbers"))
            }
        }
    }
}

impl Workload<Cells> for CellClients {
    fn ask(&mut self, client: u64, random: &mut Random) -> Option<Ask> {
        let text = match random.once_in(3) {
            true => self.ask_list(client, random),
            false => self.ask_register(client, random),
        };
        let reads = text.starts_with(['r', 'l']);
        let text = Bytes::from(text);
        Some(if reads { Ask::Query(text) } else { Ask::Command(text) })
    }

    fn answer(&mut self, client: u64, outcome: Outcome<Bytes>) {
        match std::mem::replace(&mut self.waits[client as usize], Waits::Nothing) {
            Waits::Nothing => panic!("client {client} is answered, and has not asked"),
            Waits::Register(position) => {
                let outcome = map(outcome, |reply| self.register_reply(position, &reply));
                self.registers.answer(position, outcome);
            }
            Waits::List(position) => {
                let outcome = map(outcome, |reply| self.list_reply(position, &reply));
                self.lists.answer(position, outcome);
            }
        }
    }

    fn applied(&mut self, entry: &Entry, _: &Bytes) {
        if let Payload::Command(command) = &entry.payload {
            assert!(self.applied.insert(command.clone()), "{entry} is applied twice");
        }
    }
}

fn map<T, U>(outcome: Outcome<T>, reply: impl FnOnce(T) -> U) -> Outcome<U> {
    match outcome {
        Outcome::Done(it) => Outcome::Done(reply(it)),
        Outcome::NotDone => Outcome::NotDone,
        Outcome::Unknown => Outcome::Unknown,
    }
}

fn kind<T>(outcome: &Outcome<T>) -> usize {
    match outcome {
        Outcome::Done(_) => 0,
        Outcome::NotDone => 1,
        Outcome::Unknown => 2,
    }
}
