//! Clients of the store, and what they check.

use super::requests;
use super::watches::Watches;
use crate::reference::Reference;
use bytes::Bytes;
use raft_core::state_machine::StateMachine;
use raft_core::testing::linear::{History, Model, Register, RegisterOp, RegisterReply};
use raft_core::testing::{Ask, Outcome, Random, Workload};
use raft_core::types::{Entry, Index, NodeId, Payload};
use raft_kv::api::*;
use raft_kv::codec;
use raft_kv::store::KvStore;
use std::collections::BTreeMap;
use std::mem::discriminant;
use tempfile::TempDir;

/// How much later a tick makes it, in milliseconds.
pub(super) const TICK_MS: u64 = 100;
/// Leaders propose what time it is once it is so much later.
const STAMP_MS: u64 = 1000;
/// The key of a lock. Keys under `a/` lie before all that anything may happen to.
const LOCK: &str = "a/lock";
const REGISTERS: u64 = 2;

/// Registers by number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Named(pub(super) Register<u64>);

impl Model for Named {
    type Op = (u64, RegisterOp<u64>);
    type Reply = RegisterReply<u64>;

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

/// What a client waits for.
#[derive(Clone, Debug)]
enum Waits {
    Nothing,
    /// Anything; the revision that was known when it was asked.
    Write {
        floor: u64,
    },
    Read {
        range: Range,
        floor: u64,
    },
    /// An operation on a register: its position in the history.
    Register(usize),
    Session,
    /// The request of the session that is under way; sent again until it is answered.
    Counted,
    Lock,
}

#[derive(Clone, Debug)]
struct Client {
    waits: Waits,
    session: Option<SessionId>,
    /// The last request of the session.
    seq: u64,
    /// Whether that one was answered.
    answered: bool,
    /// The token of the lock, if it ever held it.
    token: Option<Revision>,
}

/// What nodes know of time: the last stamp they saw applied, and their ticks then.
type Stamps = BTreeMap<NodeId, (Index, u64)>;

pub(super) struct Kv {
    pub(super) reference: Reference,
    clients: Vec<Client>,
    pub(super) watches: Watches,
    pub(super) history: History<(u64, RegisterOp<u64>), RegisterReply<u64>>,
    /// The newest revision that any client was told.
    told: u64,
    /// The token of the last fenced write that was taken.
    fenced: Revision,
    stamps: Stamps,
    /// When, by their ticks, nodes last proposed a stamp.
    proposed: BTreeMap<NodeId, u64>,
    /// Leases that holders want to keep, and when they asked, by the fastest clock.
    renewals: BTreeMap<LeaseId, u64>,
    /// The same of what was proposed, by what the stamp says.
    asked: BTreeMap<(Index, u64), BTreeMap<LeaseId, u64>>,
    /// Since when each lease is to live, by the fastest clock, and for how many milliseconds.
    alive: BTreeMap<LeaseId, (u64, u64)>,
    /// Ticks of the fastest clock.
    pub(super) now_ticks: u64,
    pub(super) commands: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) reads: u64,
    pub(super) fences: u64,
    /// Where the files of the stores are, if there are any.
    _folder: Option<TempDir>,
}

impl Kv {
    pub(super) fn new(clients: u64, folder: Option<TempDir>, watches: Watches) -> Self {
        let client =
            Client { waits: Waits::Nothing, session: None, seq: 0, answered: true, token: None };
        Self {
            reference: Reference::new(),
            clients: vec![client; clients as usize],
            watches,
            history: History::new(),
            told: 0,
            fenced: Revision(0),
            stamps: Stamps::new(),
            proposed: BTreeMap::new(),
            renewals: BTreeMap::new(),
            asked: BTreeMap::new(),
            alive: BTreeMap::new(),
            now_ticks: 0,
            commands: 0,
            refused: 0,
            expired: 0,
            reads: 0,
            fences: 0,
            _folder: folder,
        }
    }

    /// All is quiet, and these nodes have applied everything.
    pub(super) fn finish_watches(&mut self, members: &[NodeId]) {
        self.watches.finish(&self.reference, members);
    }

    pub(super) fn repeated(&self) -> u64 {
        self.reference.repeated
    }

    /// Every request of every session ran once, however often it was sent.
    pub(super) fn check_counters(&self) {
        for (number, client) in self.clients.iter().enumerate() {
            let key = Bytes::from(counter(number as u64));
            let version = self.reference.now().get(&key).map_or(0, |kv| kv.version);
            // The last one may not have been run yet.
            let least = client.seq - u64::from(!client.answered);
            assert!((least..=client.seq).contains(&version), "{version} of {client:?}");
        }
    }

    fn told(&mut self, revision: Revision) {
        self.told = self.told.max(revision.0);
    }

    fn ask_register(&mut self, client: u64, random: &mut Random) -> Ask {
        let register = random.below(REGISTERS);
        let key = Bytes::from(format!("a/register/{register}"));
        let (expected, new) = (random.below(4), 1 + random.below(4));
        let (op, ask) = match random.below(3) {
            0 => {
                let range = Range::of(Keys::One(key));
                (RegisterOp::Read, Ask::Query(codec::encode(&Query::Range(range))))
            }
            1 => (RegisterOp::Write(new), plain(Action::Op(put(key, new)))),
            _ => {
                let operator = Operator::Equal;
                let target = match expected {
                    0 => Target::Version(0),
                    _ => Target::Value(Bytes::from(expected.to_string())),
                };
                let compares = vec![Compare { keys: Keys::One(key.clone()), operator, target }];
                let txn = Txn { compares, success: vec![put(key, new)], failure: Vec::new() };
                (RegisterOp::CompareAndSet { expected, new }, plain(Action::Txn(txn)))
            }
        };
        let position = self.history.invoke(client, (register, op));
        self.clients[client as usize].waits = Waits::Register(position);
        ask
    }

    /// The next request of the session, or once more the last one if it has no answer.
    fn ask_counted(&mut self, number: u64) -> Ask {
        let client = &mut self.clients[number as usize];
        let Some(session) = client.session else {
            client.waits = Waits::Session;
            return plain(Action::OpenSession);
        };
        if client.answered {
            client.seq += 1;
            client.answered = false;
        }
        client.waits = Waits::Counted;
        let (seq, unanswered_from) = (client.seq, client.seq);
        let request = Some(RequestId { session, seq, unanswered_from });
        let action = Action::Op(put(counter(number).into(), seq));
        command(Command { request, fence: None, action })
    }

    /// Takes the lock, by force if it must; or writes as its holder, be it or not.
    fn ask_lock(&mut self, number: u64, random: &mut Random) -> Ask {
        let client = &mut self.clients[number as usize];
        match (client.token, random.below(4)) {
            (Some(token), 1..) => {
                client.waits = Waits::Write { floor: self.told };
                let fence = Some(Fence { key: LOCK.into(), token });
                let action = Action::Op(put("a/guarded".into(), token.0));
                command(Command { request: None, fence, action })
            }
            (_, 0) => {
                let keys = Keys::One(LOCK.into());
                client.waits = Waits::Write { floor: self.told };
                plain(Action::Op(Op::Delete { keys, prev_kv: false }))
            }
            _ => {
                let target = Target::CreateRevision(Revision(0));
                let operator = Operator::Equal;
                let compares = vec![Compare { keys: Keys::One(LOCK.into()), operator, target }];
                let success = vec![put(LOCK.into(), number)];
                client.waits = Waits::Lock;
                plain(Action::Txn(Txn { compares, success, failure: Vec::new() }))
            }
        }
    }

    fn done(&mut self, number: usize, waits: Waits, reply: &Bytes) {
        let told = self.told;
        if let Waits::Read { range, floor } = waits {
            self.reads += 1;
            return self.check_read(&range, floor, &codec::decode(reply).expect("an answer"));
        }
        if let Waits::Register(position) = waits
            && self.history.operations()[position].op.1 == RegisterOp::Read
        {
            let answer: RangeAnswer = codec::decode(reply).expect("an answer");
            let kvs = answer.expect("a plain read").kvs;
            let value = kvs.first().map_or(0, |kv| number_in(&kv.value));
            return self.history.answer(position, Outcome::Done(RegisterReply::Value(value)));
        }
        let reply: CommandReply = codec::decode(reply).expect("a reply");
        let revision = match &reply {
            Ok(ActionReply::Op { revision, .. } | ActionReply::Revoked { revision, .. }) => {
                Some(*revision)
            }
            Ok(ActionReply::Compacted(revision)) => Some(*revision),
            Ok(ActionReply::Txn(txn)) => Some(txn.revision),
            _ => None,
        };
        let client = &mut self.clients[number];
        match (waits, reply) {
            (Waits::Session, Ok(ActionReply::Session(id))) => client.session = Some(id),
            (Waits::Counted, Ok(ActionReply::Op { .. })) => client.answered = true,
            (Waits::Counted | Waits::Session, other) => panic!("answered {other:?}"),
            (Waits::Lock, Ok(ActionReply::Txn(txn))) if txn.succeeded => {
                client.token = Some(txn.revision);
            }
            (Waits::Register(position), Ok(ActionReply::Txn(txn))) => {
                let swapped = RegisterReply::Swapped(txn.succeeded);
                self.history.answer(position, Outcome::Done(swapped));
            }
            (Waits::Register(position), Ok(_)) => {
                self.history.answer(position, Outcome::Done(RegisterReply::Written));
            }
            (Waits::Write { floor }, Ok(_)) => {
                // What was told before anyone asked is not taken back.
                assert!(revision.is_none_or(|it| it.0 >= floor), "{revision:?} after {floor}");
            }
            _ => {}
        }
        if let Some(revision) = revision {
            self.told(revision);
        }
        assert!(self.told >= told);
    }

    /// A linearizable read sees all that was known when it began, and one state of the store.
    fn check_read(&mut self, range: &Range, floor: u64, answer: &RangeAnswer) {
        match answer {
            Ok(reply) => {
                let revision = reply.revision.0;
                assert!(revision >= floor, "a read at {revision}, of what was known at {floor}");
                let seen = range.revision.map_or(revision, |revision| revision.0);
                let contents = self.reference.at(seen);
                assert_eq!(*reply, crate::reference::read(contents, range, revision));
                self.told(reply.revision);
            }
            Err(KvError::Compacted { requested, compacted }) => {
                assert!(requested < compacted && compacted.0 <= self.reference.compacted);
            }
            Err(KvError::FutureRevision { requested, current }) => {
                assert!(requested > current && current.0 >= floor);
            }
            Err(error) => panic!("a read is answered {error}"),
        }
    }

    /// No lease ends before its time, by the fastest clock there is.
    fn check_leases(&mut self, command: &Command, reply: &CommandReply) {
        let now = self.now_ticks;
        for id in &self.reference.expired {
            self.expired += 1;
            let (since, ttl_ms) = self.alive[id];
            let lived_ms = (now - since) * TICK_MS;
            assert!(lived_ms >= ttl_ms, "{id} of {ttl_ms} ms ends after {lived_ms} ms");
        }
        match (&command.action, reply) {
            (Action::Grant { .. }, Ok(ActionReply::Granted { id, ttl_ms })) => {
                self.alive.insert(*id, (now, *ttl_ms));
            }
            (Action::Advance(advance), Ok(_)) => {
                let asked = self.asked.remove(&(advance.since, advance.time_ms));
                // Of two that say the same time, the other one may have named others.
                let asked = asked.unwrap_or_default().into_iter();
                for (id, asked) in asked.filter(|(id, _)| advance.renewed.contains(id)) {
                    let (since, _) = self.alive.entry(id).or_default();
                    *since = (*since).max(asked);
                }
            }
            _ => {}
        }
    }
}

impl Workload<KvStore> for Kv {
    fn ask(&mut self, number: u64, random: &mut Random) -> Option<Ask> {
        let (revision, floor) = (self.reference.revision(), self.told);
        if random.once_in(10) {
            self.renewals.insert(requests::lease(random), self.now_ticks);
        }
        Some(match random.below(12) {
            0..6 => {
                self.clients[number as usize].waits = Waits::Write { floor };
                plain(requests::action(random, revision))
            }
            6 | 7 => {
                let range = requests::range(random, revision);
                let query = codec::encode(&Query::Range(range.clone()));
                self.clients[number as usize].waits = Waits::Read { range, floor };
                Ask::Query(query)
            }
            8 | 9 => self.ask_register(number, random),
            10 => self.ask_counted(number),
            _ => self.ask_lock(number, random),
        })
    }

    fn answer(&mut self, number: u64, outcome: Outcome<Bytes>) {
        let number = number as usize;
        let waits = std::mem::replace(&mut self.clients[number].waits, Waits::Nothing);
        match (outcome, waits) {
            (Outcome::Done(reply), waits) => self.done(number, waits, &reply),
            (Outcome::NotDone, Waits::Register(at)) => self.history.answer(at, Outcome::NotDone),
            (Outcome::Unknown, Waits::Register(at)) => self.history.answer(at, Outcome::Unknown),
            _ => {}
        }
    }

    fn applied(&mut self, entry: &Entry, reply: &Bytes) {
        let Payload::Command(bytes) = &entry.payload else { return };
        let command: Command = codec::decode(bytes).expect("a command of the workload");
        let actual: CommandReply = codec::decode(reply).expect("a reply");
        let expected = self.reference.apply(entry.id.index, &command, &actual);
        self.commands += 1;
        match (&actual, &expected) {
            // Their texts may differ.
            (Err(actual), Err(expected)) if discriminant(actual) == discriminant(expected) => {
                self.refused += 1;
            }
            _ => assert_eq!(actual, expected, "{entry}: {command:?}"),
        }
        if let (Some(fence), Ok(_)) = (&command.fence, &actual) {
            assert!(fence.token >= self.fenced, "{fence:?} after {}", self.fenced);
            self.fenced = fence.token;
            self.fences += 1;
        }
        self.check_leases(&command, &actual);
    }

    fn tick(&mut self, ticks: u64) {
        self.now_ticks = ticks;
        self.watches.step(&self.reference);
    }

    fn lead(&mut self, node: NodeId, ticks: u64, store: &KvStore) -> Option<Bytes> {
        let summary = store.summary();
        let stamp = self.stamps.entry(node).or_insert((summary.stamped, ticks));
        // Measured from when it was noticed, so rather too little.
        if stamp.0 != summary.stamped || stamp.1 > ticks {
            *stamp = (summary.stamped, ticks);
        }
        let passed_ms = (ticks - stamp.1) * TICK_MS;
        // One that is under way is waited for: where entries go one by one, one more at each tick
        // would be more than ever arrive.
        let proposed = self
            .proposed
            .get(&node)
            .is_some_and(|proposed| (*proposed..*proposed + STAMP_MS / TICK_MS).contains(&ticks));
        if passed_ms < STAMP_MS || proposed || summary.leases == 0 {
            return None;
        }
        self.proposed.insert(node, ticks);
        let (time_ms, since) = (summary.time_ms + passed_ms, summary.stamped);
        let renewals = std::mem::take(&mut self.renewals);
        let renewed = renewals.keys().copied().collect();
        let asked = self.asked.entry((since, time_ms)).or_default();
        for (id, ticks) in renewals {
            // Two leaders may have measured the same: what was asked first is sure to count.
            asked.entry(id).or_insert(ticks);
        }
        let seen = store.applied().last.index;
        let action = Action::Advance(Advance { time_ms, seen, renewed, since });
        Some(codec::encode(&Command { request: None, fence: None, action }))
    }
}

fn counter(client: u64) -> String {
    format!("a/counter/{client}")
}

fn number_in(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("digits").parse().expect("a number")
}

fn put(key: Bytes, value: u64) -> Op {
    Op::Put(Put::new(key, value.to_string()))
}

fn plain(action: Action) -> Ask {
    command(Command { request: None, fence: None, action })
}

fn command(command: Command) -> Ask {
    Ask::Command(codec::encode(&command))
}
