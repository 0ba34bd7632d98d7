//! What happens to messages and links.

use super::{Event, Simulation, Workload};
use crate::state_machine::StateMachine;
use crate::types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Most messages under way that are still doubled.
const DOUBLED_MAX: usize = 200;
/// Most messages under way: beyond it the oldest is lost, as queues are bounded everywhere.
const UNDER_WAY_MAX: usize = 600;
/// Most ticks that a message is delayed by.
const DELAY_TICKS_MAX: u64 = 60;
/// A slow node takes in messages at one tick of so many.
const SLOW_ONCE_IN: u64 = 5;

/// What holds messages up.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// Until which tick, by number of the message.
    delayed: BTreeMap<u64, u64>,
    /// Links that hold back everything.
    clogged: BTreeSet<(NodeId, NodeId)>,
    flapping: Option<Flapping>,
}

#[derive(Clone, Debug)]
struct Flapping {
    links: Vec<(NodeId, NodeId)>,
    period_ticks: u64,
    apart: bool,
}

impl<M: StateMachine, W: Workload<M>> Simulation<M, W> {
    /// Something happens to one message.
    pub(super) fn message(&mut self, event: Event) -> bool {
        let len = self.cluster.pool().len();
        if len == 0 {
            return false;
        }
        let any = self.random.below(len as u64) as usize;
        match event {
            Event::Deliver => {
                let Some(first) = (0..len).find(|at| !self.waits(*at)) else { return false };
                self.cluster.deliver(first);
            }
            Event::Reorder => {
                if any == 0 || self.waits(any) {
                    return false;
                }
                self.cluster.deliver(any);
            }
            Event::Duplicate => {
                if len >= DOUBLED_MAX {
                    return false;
                }
                self.cluster.duplicate(any);
            }
            Event::Delay => {
                let until = self.ticks + 1 + self.random.below(DELAY_TICKS_MAX);
                self.network.delayed.insert(self.cluster.number(any), until);
            }
            _ => self.cluster.drop_message(any),
        }
        true
    }

    /// Whether the message at `position` cannot arrive yet.
    fn waits(&self, position: usize) -> bool {
        let envelope = &self.cluster.pool()[position];
        let to = self.condition(envelope.to);
        let link = (envelope.from, envelope.to);
        let Network { delayed, clogged, .. } = &self.network;
        to.paused
            || to.slow && !self.ticks.is_multiple_of(SLOW_ONCE_IN)
            || !clogged.is_empty() && clogged.contains(&link)
            || !delayed.is_empty()
                && delayed
                    .get(&self.cluster.number(position))
                    .is_some_and(|until| *until > self.ticks)
    }

    /// Queues are bounded.
    pub(super) fn lose_the_oldest(&mut self) {
        while self.cluster.pool().len() > UNDER_WAY_MAX {
            self.cluster.drop_message(0);
        }
    }

    /// It is later: what was delayed until now is not any more, and what flaps flaps.
    pub(super) fn network_tick(&mut self) {
        let Self { network, ticks, .. } = self;
        if !network.delayed.is_empty() {
            network.delayed.retain(|_, until| *until > *ticks);
        }
        let Some(flapping) = &mut network.flapping else { return };
        if !ticks.is_multiple_of(flapping.period_ticks) {
            return;
        }
        flapping.apart = !flapping.apart;
        match flapping.apart {
            false => self.cluster.heal(),
            true => flapping.links.iter().for_each(|(from, to)| self.cluster.cut(*from, *to)),
        }
    }

    /// Nothing holds messages up any more.
    pub(super) fn heal_network(&mut self) {
        self.network = Network::default();
        self.cluster.heal();
    }

    /// Links stop to carry anything, or hold it back.
    pub(super) fn links(&mut self, event: Event, id: NodeId) -> bool {
        let links = self.chosen_links(event, id);
        match event {
            Event::Clog => {
                let before = self.network.clogged.len();
                self.network.clogged.extend(links);
                self.network.clogged.len() > before
            }
            Event::Flapping => {
                if links.is_empty() || self.network.flapping.is_some() {
                    return false;
                }
                let period_ticks = 2 + self.random.below(20);
                self.network.flapping = Some(Flapping { links, period_ticks, apart: false });
                true
            }
            _ => {
                let new = |(from, to): &(NodeId, NodeId)| !self.cluster.is_cut(*from, *to);
                let links: Vec<_> = links.into_iter().filter(new).collect();
                links.iter().for_each(|(from, to)| self.cluster.cut(*from, *to));
                !links.is_empty()
            }
        }
    }

    /// The links that `event` is about.
    fn chosen_links(&mut self, event: Event, id: NodeId) -> Vec<(NodeId, NodeId)> {
        let all: Vec<NodeId> = self.ids().collect();
        let other = *self.random.choose(&all);
        let sides = self.random.next();
        let side = |node: NodeId| sides >> node.0 & 1 == 1;
        let neighbours = |a: NodeId, b: NodeId| {
            let apart = a.0.abs_diff(b.0);
            apart == 1 || apart == all.len() as u64 - 1
        };
        let chosen = |(a, b): &(NodeId, NodeId)| match event {
            Event::Cut | Event::Clog => (*a, *b) == (id, other),
            Event::Isolate => *a == id || *b == id,
            Event::Halves | Event::Flapping => side(*a) != side(*b),
            Event::OneWay => side(*a) && !side(*b),
            Event::Bridge => side(*a) != side(*b) && *a != id && *b != id,
            Event::Ring => !neighbours(*a, *b),
            _ => (*a, *b) == (id, other) || (*b, *a) == (id, other),
        };
        let links = all.iter().flat_map(|a| all.iter().map(|b| (*a, *b)));
        links.filter(|(a, b)| a != b).filter(chosen).collect()
    }
}
