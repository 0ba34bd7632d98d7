//! The small world: nodes, the messages between them, what is remembered of the past, and how much
//! of everything has happened. What can happen next, and what it leads to.

use super::atlas::Atlas;
use super::event::{Event, KINDS};
use super::facts::{Facts, Sight};
use super::record::Broken;
use super::{Bounds, Model};
use crate::types::NodeId;

/// Most nodes of a world.
pub(super) const NODES_MAX: usize = 8;

/// A world, by the numbers of an atlas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct World {
    /// By id, from 1 on.
    pub(super) nodes: Vec<u32>,
    pub(super) record: u32,
    pub(super) spent: Spent,
    /// Under way, sorted; one that equals another under way is not kept.
    pub(super) messages: Vec<u32>,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// To the node at this position. A message may stay under way, as if it had been doubled.
    Node { at: usize, event: Event, stays: bool },
    /// A message is lost.
    Lose(u32),
}

impl Action {
    /// One number for it.
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Node { at, event, stays } => {
                (stays as u64) << 40 | (at as u64) << 32 | event.code() as u64
            }
            Self::Lose(message) => 1 << 41 | message as u64,
        }
    }

    /// What [`Action::code`] stands for.
    pub(super) const fn of_code(code: u64) -> Self {
        let low = code as u32;
        if code >> 41 == 1 {
            return Self::Lose(low);
        }
        let at = (code >> 32 & 0xff) as usize;
        Self::Node { at, event: Event::of_code(low), stays: code >> 40 & 1 == 1 }
    }

    /// What it is counted as, in [`NAMES`].
    pub(super) const fn kind(self) -> usize {
        match self {
            Self::Node { stays: true, .. } => KINDS.len(),
            Self::Node { event, .. } => event.kind(),
            Self::Lose(_) => KINDS.len() + 1,
        }
    }
}

/// How many kinds of action there are.
pub(super) const ACTIONS: usize = KINDS.len() + 2;

/// The name of a kind of action.
pub(super) fn name(kind: usize) -> &'static str {
    KINDS.get(kind).copied().unwrap_or(if kind == KINDS.len() { "double" } else { "lose" })
}

/// How often what is bounded has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Spent([u8; 10]);

impl Spent {
    /// Which count an action goes to, and its bound.
    const fn count(action: Action, bounds: &Bounds) -> Option<(usize, u8)> {
        let event = match action {
            Action::Lose(_) => return Some((0, bounds.losses)),
            Action::Node { stays: true, .. } => return Some((1, bounds.duplicates)),
            Action::Node { event, .. } => event,
        };
        Some(match event {
            Event::Deliver(_) | Event::Persist(_) | Event::Snapshot(_) | Event::Restore => {
                return None;
            }
            Event::Timeout => (2, bounds.campaigns),
            Event::Beat | Event::Wait => (3, bounds.beats),
            Event::Deaf => (4, bounds.step_downs),
            Event::Restart(_) => (5, bounds.crashes),
            Event::Propose(_) => (6, bounds.commands),
            Event::Read => (7, bounds.reads),
            Event::Change(_) | Event::Transfer(_) => (8, bounds.changes),
            Event::Checkpoint => (9, bounds.checkpoints),
        })
    }

    /// Whether `action` may happen once more.
    const fn allows(&self, action: Action, bounds: &Bounds) -> bool {
        match Self::count(action, bounds) {
            Some((count, most)) => self.0[count] < most,
            None => true,
        }
    }

    const fn add(&mut self, action: Action, bounds: &Bounds) {
        if let Some((count, _)) = Self::count(action, bounds) {
            self.0[count] += 1;
            assert!(self.0[count] < 64, "a count has six bits");
        }
    }

    /// Commands proposed so far.
    const fn commands(&self) -> u32 {
        self.0[6] as u32
    }

    /// One number for all counts.
    pub(super) fn code(&self) -> u64 {
        self.0.iter().fold(0, |code, count| code << 6 | u64::from(*count))
    }

    /// What [`Spent::code`] stands for.
    pub(super) fn of_code(code: u64) -> Self {
        let mut spent = Self::default();
        let places = spent.0.iter_mut().rev().enumerate();
        places.for_each(|(place, count)| *count = (code >> (6 * place) & 0x3f) as u8);
        spent
    }
}

/// What comes of an action.
pub(super) enum Next {
    /// It goes beyond a bound.
    Beyond,
    /// Nothing changes.
    Same,
    /// Another world. Of a node at a position, if one changed.
    World { changed: Option<usize>, seen: u32 },
}

impl World {
    /// Everything that may happen next, within the bounds.
    pub(super) fn actions(&self, atlas: &Atlas, model: &Model, into: &mut Vec<Action>) {
        into.clear();
        let bounds = &model.bounds;
        for message in &self.messages {
            let at = atlas.receiver(*message).0 as usize - 1;
            let event = Event::Deliver(*message);
            into.push(Action::Node { at, event, stays: false });
            into.push(Action::Node { at, event, stays: true });
            into.push(Action::Lose(*message));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let facts = atlas.facts(*node);
            let options = atlas.options(*node).iter().copied();
            into.extend(options.filter_map(|event| {
                let event = match event {
                    Event::Timeout if facts.term >= model.last_term() => return None,
                    Event::Change(number) if number as usize >= model.changes.len() => {
                        return None;
                    }
                    Event::Transfer(_) if !bounds.transfers => return None,
                    Event::Propose(_) => Event::Propose(self.spent.commands() + 1),
                    other => other,
                };
                Some(Action::Node { at, event, stays: false })
            }));
        }
        into.retain(|action| self.spent.allows(*action, bounds));
    }

    /// Does `action` to this world.
    pub(super) fn act(
        &mut self,
        atlas: &mut Atlas,
        model: &Model,
        action: Action,
    ) -> Result<Next, Broken> {
        self.spent.add(action, &model.bounds);
        let (at, event, stays) = match action {
            Action::Lose(message) => {
                self.messages.retain(|under_way| *under_way != message);
                return Ok(Next::World { changed: None, seen: 1 << Sight::Loss as u32 });
            }
            Action::Node { at, event, stays } => (at, event, stays),
        };
        let before = self.nodes[at];
        let number = atlas.take(before, event)?;
        let step = atlas.step(number);
        let node = step.node;
        let idle = node == before && step.sends.is_empty();
        if idle && (stays || !matches!(event, Event::Deliver(_))) {
            return Ok(Next::Same);
        }
        if let (Event::Deliver(message), false) = (event, stays) {
            self.messages.retain(|under_way| *under_way != message);
        }
        for sent in &step.sends {
            if let Err(place) = self.messages.binary_search(sent) {
                self.messages.insert(place, *sent);
            }
        }
        let mut seen = step.seen;
        self.nodes[at] = node;
        let under_way = self.drop_spent(atlas, model.keeps_spent)?;
        if atlas.facts(node).term > model.last_term() || under_way > model.bounds.messages {
            return Ok(Next::Beyond);
        }
        let record = atlas.told(self.record, before, number)?;
        if record != self.record && atlas.records.of(record).has_old_term_commit() {
            seen |= 1 << Sight::OldTermCommit as u32;
        }
        self.record = record;
        Ok(Next::World { changed: Some(at), seen })
    }

    /// Takes away what can mean nothing any more to the node it is on its way to, unless that is
    /// `kept`; and sees whether that node would indeed do nothing. How many others are under way.
    fn drop_spent(&mut self, atlas: &mut Atlas, kept: bool) -> Result<usize, Broken> {
        let (mut place, mut others) = (0, 0);
        while let Some(message) = self.messages.get(place).copied() {
            let node = self.node(atlas.receiver(message));
            let spent = atlas.is_spent(node, message);
            if spent {
                atlas.check_idle(node, message)?;
            }
            others += usize::from(!spent);
            if spent && !kept {
                self.messages.remove(place);
            } else {
                place += 1;
            }
        }
        Ok(others)
    }

    /// What must hold of it, given that it did before the node at `changed` changed.
    pub(super) fn check(&self, atlas: &Atlas, changed: usize) -> Result<(), Broken> {
        let mut facts: [&Facts; NODES_MAX] = [atlas.facts(self.nodes[0]); NODES_MAX];
        for (place, node) in facts.iter_mut().zip(&self.nodes) {
            *place = atlas.facts(*node);
        }
        let facts = &facts[..self.nodes.len()];
        atlas.records.of(self.record).check(facts, facts[changed])
    }

    /// The node `id`.
    pub(super) fn node(&self, id: NodeId) -> u32 {
        self.nodes[id.0 as usize - 1]
    }
}
