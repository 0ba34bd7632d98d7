//! Every distinct node, message and past that was come across, by number, and every distinct step
//! of a node.
//!
//! A world of a million states has some thousands of distinct node states, so each step of the core
//! is taken once, and a world is a few numbers.

use super::event::Event;
use super::facts::{Facts, Sight};
use super::node::{Node, Outcome, Setting};
use super::record::{Broken, Record};
use crate::raft::{Envelope, Message, RoleName};
use crate::types::{Index, NodeId, ReadId, Term};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Numbers things in the order they are first come across.
#[derive(Debug)]
pub(super) struct Numbered<T> {
    items: Vec<Arc<T>>,
    numbers: HashMap<Arc<T>, u32>,
}

impl<T: Hash + Eq> Numbered<T> {
    fn new() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }

    /// The number of `item`, and whether it is new.
    pub(super) fn number(&mut self, item: T) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&item) {
            return (*number, false);
        }
        let number = u32::try_from(self.items.len()).expect("fewer than 2^32");
        let item = Arc::new(item);
        self.items.push(Arc::clone(&item));
        self.numbers.insert(item, number);
        (number, true)
    }

    pub(super) fn of(&self, number: u32) -> &Arc<T> {
        &self.items[number as usize]
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len()
    }
}

/// Hashes a key that is one `u64`.
#[derive(Default)]
pub(super) struct OneWord(u64);

impl Hasher for OneWord {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mixed(self.0 ^ word);
    }
}

/// Spreads the bits of `word` (splitmix64).
pub(super) const fn mixed(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What an event does to a node, by number.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) node: u32,
    /// Messages sent, in order.
    pub(super) sends: Box<[u32]>,
    /// Whether the record of the past has to hear of it.
    telling: bool,
    elected: bool,
    restarted: bool,
    read: Option<ReadId>,
    answered: Box<[(ReadId, Index)]>,
    /// Bits of `Sight`.
    pub(super) seen: u32,
}

/// A message that only whoever asked can use, with its term.
#[derive(Clone, Copy)]
enum Answer {
    Append(Term),
    /// Whether it was granted.
    Vote(Term, bool),
    PreVote(Term),
}

impl Answer {
    const fn of(envelope: &Envelope) -> Option<Self> {
        let term = envelope.term;
        match envelope.message {
            Message::AppendEntriesResponse { .. } => Some(Self::Append(term)),
            Message::RequestVoteResponse { granted: true, pre_vote: true } => {
                Some(Self::PreVote(term))
            }
            Message::RequestVoteResponse { granted, .. } => Some(Self::Vote(term, granted)),
            _ => None,
        }
    }
}

/// What is known of a node by its number.
#[derive(Clone)]
struct Entry {
    facts: Facts,
    /// What may happen to it but for messages.
    options: Box<[Event]>,
    /// The node it was before, and what happened then; `None` at the start of the world.
    origin: Option<(u32, Event)>,
}

/// The numbers.
pub(super) struct Atlas {
    pub(super) setting: Setting,
    nodes: Numbered<Node>,
    entries: Vec<Entry>,
    pub(super) messages: Numbered<Envelope>,
    /// The node and event that first sent it, and how many went to the same receiver before.
    sources: Vec<(u32, Event, usize)>,
    receivers: Vec<NodeId>,
    answers: Vec<Option<Answer>>,
    pub(super) records: Numbered<Record>,
    numbers: HashMap<u64, u32, BuildHasherDefault<OneWord>>,
    steps: Vec<Step>,
}

impl Atlas {
    pub(super) fn new(setting: Setting) -> Self {
        Self {
            setting,
            nodes: Numbered::new(),
            entries: Vec::new(),
            messages: Numbered::new(),
            sources: Vec::new(),
            receivers: Vec::new(),
            answers: Vec::new(),
            records: Numbered::new(),
            numbers: HashMap::default(),
            steps: Vec::new(),
        }
    }

    /// The number of `node`, which came about as `origin` says.
    pub(super) fn number(&mut self, node: Node, origin: Option<(u32, Event)>) -> u32 {
        let (number, new) = self.nodes.number(node);
        if new {
            let node = self.nodes.of(number);
            let facts = Facts::of(node);
            let options = options(node, &self.setting).into();
            self.entries.push(Entry { facts, options, origin });
        }
        number
    }

    /// The nodes of the start, by id.
    pub(super) fn first_nodes(&self) -> Vec<u32> {
        let first = self.entries.iter().take_while(|entry| entry.origin.is_none());
        (0..).zip(first).map(|(number, _)| number).collect()
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        self.nodes.of(node)
    }

    pub(super) fn facts(&self, node: u32) -> &Facts {
        &self.entries[node as usize].facts
    }

    pub(super) fn options(&self, node: u32) -> &[Event] {
        &self.entries[node as usize].options
    }

    pub(super) fn origin(&self, node: u32) -> Option<(u32, Event)> {
        self.entries[node as usize].origin
    }

    pub(super) fn source(&self, message: u32) -> (u32, Event, usize) {
        self.sources[message as usize]
    }

    pub(super) fn receiver(&self, message: u32) -> NodeId {
        self.receivers[message as usize]
    }

    /// Whether `message` can never again mean anything to `node` or what becomes of it, crashes
    /// included: it answers a question of a campaign or a leadership that is over for good.
    pub(super) fn is_spent(&self, node: u32, message: u32) -> bool {
        let Some(answer) = self.answers[message as usize] else { return false };
        let facts = self.facts(node);
        let durable = facts.durable_term;
        match answer {
            Answer::Append(term) => durable > term || durable == term && !facts.leads,
            // Not before the term is durable: after a crash it may be asked for again.
            Answer::Vote(term, true) => durable > term || durable == term && !facts.campaigns,
            Answer::Vote(term, false) => durable >= term,
            Answer::PreVote(term) => durable > term,
        }
    }

    /// That `message` does nothing to `node` now.
    pub(super) fn check_idle(&mut self, node: u32, message: u32) -> Result<(), Broken> {
        let step = self.take(node, Event::Deliver(message))?;
        let step = self.step(step);
        if step.node == node && step.sends.is_empty() && !step.telling {
            return Ok(());
        }
        Err(format!("{} still means something", self.messages.of(message)))
    }

    /// The numbers of distinct nodes, messages and steps.
    pub(super) const fn sizes(&self) -> (usize, usize, usize) {
        (self.nodes.len(), self.messages.len(), self.steps.len())
    }

    pub(super) fn step(&self, step: u32) -> &Step {
        &self.steps[step as usize]
    }

    /// The step that `event` is for `node`.
    pub(super) fn take(&mut self, node: u32, event: Event) -> Result<u32, Broken> {
        let key = u64::from(node) << 32 | u64::from(event.code());
        if let Some(step) = self.numbers.get(&key) {
            return Ok(*step);
        }
        let before = Arc::clone(self.nodes.of(node));
        let message = match event {
            Event::Deliver(message) => Some(Arc::clone(self.messages.of(message))),
            _ => None,
        };
        let setting = &self.setting;
        let after = || before.after(setting, event, message.as_deref());
        let outcome = catch_unwind(AssertUnwindSafe(after)).map_err(what)?;
        let numbered = || self.numbered(node, event, &before, outcome);
        let step = catch_unwind(AssertUnwindSafe(numbered)).map_err(what)?;
        let number = u32::try_from(self.steps.len()).expect("fewer than 2^32");
        self.steps.push(step);
        self.numbers.insert(key, number);
        Ok(number)
    }

    fn numbered(&mut self, node: u32, event: Event, before: &Node, outcome: Outcome) -> Step {
        let Outcome { node: after, sends, read, answered, seen } = outcome;
        let (old, new) = (before.raft.status(), after.raft.status());
        let elected = new.role == RoleName::Leader && (old.role, old.term) != (new.role, new.term);
        let restarted = matches!(event, Event::Restart(_));
        let commits = !restarted && new.commit_index > old.commit_index;
        let mut seen = seen.into_iter().fold(0, |set, sight| set | 1 << sight as u32);
        let mut note = |holds: bool, sight: Sight| seen |= u32::from(holds) << sight as u32;
        note(elected, Sight::Election);
        note(old.role == RoleName::Leader && new.role != old.role, Sight::StepDown);
        note(new.membership.is_joint(), Sight::JointMembership);
        note(old.membership.is_joint() && !new.membership.is_joint(), Sight::JointLeft);
        note(new.log_start.index > old.log_start.index && !restarted, Sight::Compaction);
        note(!answered.is_empty(), Sight::Read);
        note(new.transfer.is_some(), Sight::Transfer);
        let telling = elected || commits || read.is_some() || !answered.is_empty() || restarted;
        let mut to_same: HashMap<NodeId, usize> = HashMap::new();
        let mut numbers = Vec::new();
        for envelope in sends {
            let to = envelope.to;
            let place = to_same.entry(to).or_default();
            let (number, new) = self.messages.number(envelope);
            if new {
                self.sources.push((node, event, *place));
                self.receivers.push(to);
                self.answers.push(Answer::of(self.messages.of(number)));
            }
            *place += 1;
            numbers.push(number);
        }
        let after = self.number(after, Some((node, event)));
        let (sends, answered) = (numbers.into(), answered.into());
        Step { node: after, sends, telling, elected, restarted, read, answered, seen }
    }

    /// The past after `step` of a node that was `before`.
    pub(super) fn told(&mut self, record: u32, before: u32, step: u32) -> Result<u32, Broken> {
        let Step { node, telling, elected, restarted, read, ref answered, .. } =
            self.steps[step as usize];
        if !telling {
            return Ok(record);
        }
        let (old, new) = (self.facts(before), self.facts(node));
        let mut past = Record::clone(self.records.of(record));
        if restarted {
            past.forget_reads(new.id);
        }
        if elected {
            past.note_leader(new.term, new.id)?;
        }
        if !restarted && new.commit > old.commit {
            // By whom it counted: what is due next may be appended already.
            past.note_commit(old.commit, new, old.voters)?;
        }
        if let Some(read) = read {
            past.note_read(new.id, read);
        }
        for (read, index) in answered {
            past.note_answer(new.id, *read, *index)?;
        }
        Ok(self.records.number(past).0)
    }
}

/// What may happen to `node`, but for messages.
fn options(node: &Node, setting: &Setting) -> Vec<Event> {
    let mut options = Vec::new();
    let writes = node.writes.len() as u32;
    options.extend((1..=writes).map(Event::Persist));
    if node.restoring.is_some() {
        options.push(Event::Restore);
    }
    options.extend(node.asked.keys().map(|to| Event::Snapshot(*to)));
    if node.raft.is_leader() {
        options.extend([Event::Beat, Event::Wait, Event::Deaf, Event::Propose(0)]);
        options.extend((0..setting.changes.len() as u32).map(Event::Change));
        let others = node.raft.membership().voters().iter().filter(|id| **id != node.raft.id());
        options.extend(others.map(|id| Event::Transfer(*id)));
    } else {
        options.push(Event::Timeout);
    }
    if node.applied != node.durable {
        options.push(Event::Checkpoint);
    }
    options.push(Event::Read);
    options.extend((0..=writes).map(Event::Restart));
    options
}

/// What a panic said.
fn what(panic: Box<dyn std::any::Any + Send>) -> Broken {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic".into())
}
