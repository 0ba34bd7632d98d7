//! Breadth first through all worlds within the bounds: the first violation found has a shortest
//! trace.
//!
//! Of a world that was seen only a fingerprint, its predecessor and the action between them are
//! kept; of those to go on from, a few numbers.

use super::atlas::{Atlas, mixed};
use super::event::Event;
use super::facts::Sight;
use super::record::Broken;
use super::symmetry::Symmetry;
use super::world::{ACTIONS, Action, Next, Spent, World};
use super::{Model, Report, Violation};
use crate::raft::{Loaded, Message};
use crate::types::NodeId;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A set of fingerprints, in one table.
struct Seen {
    /// 0 for a free place.
    table: Vec<u128>,
    count: usize,
}

impl Seen {
    fn new() -> Self {
        Self { table: vec![0; 1 << 12], count: 0 }
    }

    /// Whether `fingerprint` is new.
    fn insert(&mut self, fingerprint: u128) -> bool {
        if self.count * 5 > self.table.len() * 3 {
            let larger = vec![0; self.table.len() * 2];
            let old = std::mem::replace(&mut self.table, larger);
            for known in old.into_iter().filter(|known| *known != 0) {
                let place = self.place(known);
                self.table[place] = known;
            }
        }
        let fingerprint = fingerprint.max(1);
        let place = self.place(fingerprint);
        let new = self.table[place] == 0;
        self.table[place] = fingerprint;
        self.count += usize::from(new);
        new
    }

    /// Where `fingerprint` is, or may be put.
    fn place(&self, fingerprint: u128) -> usize {
        let mask = self.table.len() - 1;
        let mut place = fingerprint as usize & mask;
        while self.table[place] != 0 && self.table[place] != fingerprint {
            place = (place + 1) & mask;
        }
        place
    }
}

/// The worlds of one depth, as a row of numbers.
#[derive(Default)]
struct Level {
    words: Vec<u32>,
    ends: Vec<usize>,
}

impl Level {
    fn push(&mut self, world: &World) {
        let spent = world.spent.code();
        self.words.extend_from_slice(&world.nodes);
        self.words.extend([world.record, spent as u32, (spent >> 32) as u32]);
        self.words.extend_from_slice(&world.messages);
        self.ends.push(self.words.len());
    }

    fn read(&self, position: usize, nodes: usize, into: &mut World) {
        let begin = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        let words = &self.words[begin..self.ends[position]];
        let (of_nodes, rest) = words.split_at(nodes);
        into.nodes.clear();
        into.nodes.extend_from_slice(of_nodes);
        into.record = rest[0];
        into.spent = Spent::of_code(u64::from(rest[1]) | u64::from(rest[2]) << 32);
        into.messages.clear();
        into.messages.extend_from_slice(&rest[3..]);
    }
}

/// An exploration under way.
pub(super) struct Search<'a> {
    pub(super) model: &'a Model,
    pub(super) atlas: Atlas,
    symmetry: Symmetry,
    seen: Seen,
    /// The same without what was spent, if that is counted.
    contents: Option<Seen>,
    /// By number, the nodes of these worlds.
    met: Vec<bool>,
    /// By world, in the order they were found: where it came from, and how.
    parents: Vec<u32>,
    actions: Vec<u64>,
    /// What led to the first world.
    pub(super) setup: Vec<Action>,
    report: Report,
}

impl<'a> Search<'a> {
    pub(super) fn new(model: &'a Model) -> (Self, World) {
        let mut atlas = Atlas::new(model.setting());
        let nodes: Vec<u32> = (1..=model.nodes())
            .map(|id| {
                let disk = model.first_disk(id);
                atlas.first_node(NodeId(id), disk)
            })
            .collect();
        let symmetry = Symmetry::new(&nodes, &Symmetry::free(model.voters, &model.changes));
        let record = atlas.records.number(super::record::Record::default()).0;
        let world = World { nodes, record, ..World::default() };
        let report = Report::new(model, symmetry.order());
        let this = Self {
            model,
            atlas,
            symmetry,
            seen: Seen::new(),
            contents: model.by_content.then(Seen::new),
            met: Vec::new(),
            parents: Vec::new(),
            actions: Vec::new(),
            setup: Vec::new(),
            report,
        };
        (this, world)
    }

    /// Explores until everything within the bounds was seen, or as many worlds as are wanted.
    pub(super) fn run(mut self, first: World) -> Result<Report, Box<Violation>> {
        let mut level = Level::default();
        let mut world = first;
        if let Err(broken) = self.set_up(&mut world) {
            return Err(self.violation(None, None, broken));
        }
        if let Err(broken) = self.visit(&world, None) {
            return Err(self.violation(None, None, broken));
        }
        level.push(&world);
        let (mut begin, mut options) = (0, Vec::new());
        while !level.ends.is_empty() && !self.is_full() {
            let mut below = Level::default();
            for position in 0..level.ends.len() {
                let parent = begin + position;
                level.read(position, self.model.nodes() as usize, &mut world);
                world.actions(&self.atlas, self.model, &mut options);
                for action in &options {
                    let mut next = world.clone();
                    match self.follow(&mut next, parent, *action) {
                        Ok(true) => below.push(&next),
                        Ok(false) => {}
                        Err(broken) => {
                            return Err(self.violation(Some(parent), Some(*action), broken));
                        }
                    }
                }
                if self.is_full() {
                    break;
                }
            }
            begin += level.ends.len();
            self.report.depth += usize::from(!below.ends.is_empty());
            self.report.complete = below.ends.is_empty();
            level = below;
        }
        self.finish()
    }

    /// Whether as many worlds were told apart as are wanted.
    fn is_full(&self) -> bool {
        let contents = self.contents.as_ref().map(|contents| contents.count);
        contents.unwrap_or(self.parents.len()) >= self.model.states_max
    }

    /// Takes `action` in `world`; whether that leads to a new one.
    fn follow(&mut self, world: &mut World, parent: usize, action: Action) -> Result<bool, Broken> {
        let next = world.act(&mut self.atlas, self.model, action)?;
        let (changed, seen) = match next {
            Next::Same => return Ok(false),
            Next::Beyond => {
                self.report.beyond += 1;
                return Ok(false);
            }
            Next::World { changed, seen } => (changed, seen),
        };
        self.report.steps[action.kind()] += 1;
        self.report.seen |= seen;
        if !self.visit(world, Some((parent, action)))? {
            return Ok(false);
        }
        if let Some(changed) = changed {
            world.check(&self.atlas, changed)?;
        }
        Ok(true)
    }

    /// Notes `world`; whether it is new.
    fn visit(&mut self, world: &World, from: Option<(usize, Action)>) -> Result<bool, Broken> {
        let World { nodes, record, spent, messages } = world;
        let fingerprint = self.symmetry.fingerprint(&mut self.atlas, nodes, *record, messages)?;
        let spent = u128::from(mixed(spent.code()));
        if !self
            .seen
            .insert(fingerprint.wrapping_add(spent << 64 | u128::from(mixed(spent as u64))))
        {
            return Ok(false);
        }
        if let Some(contents) = &mut self.contents {
            contents.insert(fingerprint);
        }
        for node in nodes {
            let place = *node as usize;
            if self.met.len() <= place {
                self.met.resize((place + 1).next_power_of_two(), false);
            }
            self.met[place] = true;
        }
        let (parent, action) = from.map_or((u32::MAX, 0), |(parent, action)| {
            (u32::try_from(parent).expect("fewer than 2^32 worlds"), action.code())
        });
        self.parents.push(parent);
        self.actions.push(action);
        Ok(true)
    }

    /// Brings the first world about.
    fn set_up(&mut self, world: &mut World) -> Result<(), Broken> {
        if self.model.led {
            self.elect_first(world)?;
        }
        for id in &self.model.unheard {
            self.elect_unheard(world, *id)?;
        }
        world.spent = Spent::default();
        Ok(())
    }

    /// `n1` leads, and everyone knows what it has committed.
    fn elect_first(&mut self, world: &mut World) -> Result<(), Broken> {
        self.set_up_by(world, 1, Event::Timeout)?;
        self.settle(world)?;
        self.beat(world)?;
        let learners = self.model.voters + 1..=self.model.voters + self.model.learners;
        for (position, _) in learners.enumerate() {
            let number = self.model.changes.len() + position;
            self.set_up_by(world, 1, Event::Change(number as u32))?;
            self.settle(world)?;
            // It is bound to its life, and everyone learns that this is committed.
            (0..3).try_for_each(|_| self.beat(world))?;
        }
        Ok(())
    }

    /// `id` is elected, whatever it sends from then on is lost, and it steps down in the end.
    fn elect_unheard(&mut self, world: &mut World, id: NodeId) -> Result<(), Broken> {
        self.set_up_by(world, id.0, Event::Timeout)?;
        loop {
            self.persist_all(world)?;
            let Some(message) = world.messages.first().copied() else {
                return self.set_up_by(world, id.0, Event::Deaf);
            };
            let envelope = self.atlas.messages.of(message);
            if matches!(envelope.message, Message::AppendEntries(_)) {
                self.set_up_action(world, Action::Lose(message))?;
            } else {
                let to = envelope.to;
                self.set_up_by(world, to.0, Event::Deliver(message))?;
            }
        }
    }

    fn beat(&mut self, world: &mut World) -> Result<(), Broken> {
        self.set_up_by(world, 1, Event::Beat)?;
        self.settle(world)
    }

    fn settle(&mut self, world: &mut World) -> Result<(), Broken> {
        loop {
            self.persist_all(world)?;
            let Some(message) = world.messages.first().copied() else { return Ok(()) };
            let to = self.atlas.receiver(message);
            self.set_up_by(world, to.0, Event::Deliver(message))?;
        }
    }

    /// Every disk is done with what it was asked for.
    fn persist_all(&mut self, world: &mut World) -> Result<(), Broken> {
        for id in 1..=self.model.nodes() {
            loop {
                let writes = self.atlas.facts(world.node(NodeId(id))).writes;
                if writes == 0 {
                    break;
                }
                self.set_up_by(world, id, Event::Persist(writes))?;
            }
        }
        Ok(())
    }

    fn set_up_by(&mut self, world: &mut World, id: u64, event: Event) -> Result<(), Broken> {
        self.set_up_action(world, Action::Node { at: id as usize - 1, event, stays: false })
    }

    fn set_up_action(&mut self, world: &mut World, action: Action) -> Result<(), Broken> {
        self.setup.push(action);
        let free = self.model.unbounded();
        if let Next::World { changed: Some(changed), .. } =
            world.act(&mut self.atlas, &free, action)?
        {
            world.check(&self.atlas, changed)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, Box<Violation>> {
        self.report.states = self.parents.len();
        self.report.contents = self.contents.as_ref().map(|contents| contents.count);
        self.report.node_hashes = self.node_hashes();
        (self.report.nodes, self.report.messages, self.report.node_steps) = self.atlas.sizes();
        let missing: Vec<Sight> =
            self.model.must_see.iter().copied().filter(|it| !self.report.has_seen(*it)).collect();
        if missing.is_empty() {
            return Ok(self.report);
        }
        let broken = format!("never came across {missing:?}");
        Err(self.violation(None, None, broken))
    }

    /// The sum of the hashes of all nodes of the worlds told apart: of a set, whatever its order.
    fn node_hashes(&self) -> u64 {
        let met = self.met.iter().enumerate().filter(|(_, met)| **met);
        let hashes = met.map(|(number, _)| {
            let mut hasher = DefaultHasher::new();
            self.atlas.node(number as u32).hash(&mut hasher);
            hasher.finish()
        });
        hashes.fold(0, u64::wrapping_add)
    }

    /// The violation that `action` after the world `parent` is.
    fn violation(
        mut self,
        parent: Option<usize>,
        action: Option<Action>,
        broken: Broken,
    ) -> Box<Violation> {
        self.report.states = self.parents.len();
        let mut actions: Vec<Action> = action.into_iter().collect();
        let mut at = parent;
        while let Some(world) = at.filter(|world| self.parents[*world] != u32::MAX) {
            actions.push(Action::of_code(self.actions[world]));
            at = Some(self.parents[world] as usize);
        }
        actions.reverse();
        let whole: Vec<Action> = self.setup.iter().chain(&actions).copied().collect();
        let trace = super::trace::lines(&mut self.atlas, whole.iter().copied());
        let script = super::replay::script(&self.atlas, self.model, &whole);
        let depth = actions.len();
        Box::new(Violation { broken, trace, script, depth, report: self.report })
    }
}

impl Atlas {
    fn first_node(&mut self, id: NodeId, disk: Loaded) -> u32 {
        let node = super::node::Node::new(&self.setting, id, disk);
        self.number(node, None)
    }
}

impl Report {
    fn new(model: &Model, symmetry: usize) -> Self {
        Self {
            model: model.clone(),
            states: 0,
            contents: None,
            depth: 0,
            complete: false,
            symmetry,
            beyond: 0,
            nodes: 0,
            messages: 0,
            node_steps: 0,
            steps: [0; ACTIONS],
            seen: 0,
            node_hashes: 0,
        }
    }
}
