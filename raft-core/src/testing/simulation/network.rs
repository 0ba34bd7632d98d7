//! What happens to messages and links.

use super::{Event, Simulation, Workload};
use crate::raft::Message;
use crate::state_machine::StateMachine;
use crate::types::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most messages under way that are still doubled.
const DOUBLED_MAX: usize = 200;
/// Most messages under way: beyond it the oldest is lost, as queues are bounded everywhere.
const UNDER_WAY_MAX: usize = 600;
/// Most ticks that a message is delayed by.
const DELAY_TICKS_MAX: u64 = 60;
/// Most requests for votes that are kept.
const KEPT_MAX: usize = 16;
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
    /// When links that were cut for a while carry everything again.
    mended_at: Option<u64>,
    /// A node that gets no message from this number on before that.
    deaf: Option<(NodeId, u64)>,
    /// Copies of requests for votes that wait for their receivers to start again, by number; only
    /// where that may happen.
    kept: Option<VecDeque<u64>>,
    /// What has a lower number was looked at, whether it is to be kept.
    looked_at: u64,
}

impl Network {
    /// Nothing holds messages up but what one of these events does.
    pub(super) fn new(weights: &[(Event, u64)]) -> Self {
        let keeps = weights.iter().any(|(event, _)| *event == Event::LateVote);
        Self { kept: keeps.then(VecDeque::new), ..Self::default() }
    }

    /// The same once it is healed.
    fn healed(&self) -> Self {
        let kept = self.kept.is_some().then(VecDeque::new);
        Self { kept, looked_at: self.looked_at, ..Self::default() }
    }
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
        let Network { delayed, clogged, deaf, kept, .. } = &self.network;
        let number = self.cluster.number(position);
        to.paused
            || to.slow && !self.ticks.is_multiple_of(SLOW_ONCE_IN)
            || !clogged.is_empty() && clogged.contains(&link)
            || delayed.get(&number).is_some_and(|until| *until > self.ticks)
            || deaf.is_some_and(|(node, from)| envelope.to == node && number >= from)
            || kept.as_ref().is_some_and(|kept| kept.contains(&number))
    }

    /// Doubles new requests for votes, so that there is a late one for [`Event::LateVote`].
    pub(super) fn keep_requests(&mut self) {
        let Network { kept: Some(kept), looked_at, .. } = &mut self.network else { return };
        let len = self.cluster.pool().len();
        let before = (0..len).rposition(|at| self.cluster.number(at) < *looked_at);
        for at in before.map_or(0, |before| before + 1)..len {
            if matches!(
                self.cluster.pool()[at].message,
                Message::RequestVote { pre_vote: false, .. }
            ) {
                self.cluster.duplicate(at);
                kept.push_back(self.cluster.number(self.cluster.pool().len() - 1));
            }
        }
        if let Some(last) = self.cluster.pool().len().checked_sub(1) {
            *looked_at = self.cluster.number(last) + 1;
        }
        // Without a receiver that starts again the oldest are just late.
        while kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// A node that has voted starts again. Once it votes again, it gets what another candidate of
    /// the same term sent it before, and often hears nobody else meanwhile.
    pub(super) fn late_vote(&mut self) -> bool {
        let Some(kept) = &self.network.kept else { return false };
        let fits = |at: &usize| {
            let envelope = &self.cluster.pool()[*at];
            let server = self.cluster.server(envelope.to);
            let durable = server.disk().hard_state;
            let voted = durable.vote.is_some_and(|vote| vote != envelope.from);
            kept.contains(&self.cluster.number(*at))
                && server.raft().is_some()
                && (durable.term, voted) == (envelope.term, true)
        };
        let Some(at) = (0..self.cluster.pool().len()).rev().find(fits) else { return false };
        let (from, to) = (self.cluster.pool()[at].from, self.cluster.pool()[at].to);
        let number = self.cluster.number(at);
        let raft = &self.config.raft;
        let least = u64::from(raft.election_ticks_min);
        let until = self.ticks + least + self.random.below(u64::from(raft.election_ticks_max));
        self.network.delayed.insert(number, until);
        self.network.kept.iter_mut().for_each(|kept| kept.retain(|it| *it != number));
        self.cluster.crash(to, None);
        if self.random.below(4) > 0 {
            let others = self.ids().filter(|other| *other != from && *other != to);
            others.for_each(|other| self.cluster.cut(other, to));
            self.network.mended_at = Some(until + 1);
        }
        self.start(to);
        true
    }

    /// The leader's messages are lost from now on, and the answers under way to it wait for about
    /// as long as it takes the others to elect another.
    pub(super) fn late_answers(&mut self) -> bool {
        let Some(leader) = self.cluster.leader() else { return false };
        let answers = |at: &usize| {
            let envelope = &self.cluster.pool()[*at];
            envelope.to == leader
                && matches!(envelope.message, Message::AppendEntriesResponse { .. })
        };
        let answers: Vec<usize> = (0..self.cluster.pool().len()).filter(answers).collect();
        let raft = &self.config.raft;
        let (least, most) = (raft.election_ticks_min, raft.election_ticks_max);
        let until = self.ticks + u64::from(least) + self.random.below(u64::from(most - least));
        for at in &answers {
            self.network.delayed.insert(self.cluster.number(*at), until);
        }
        if !answers.is_empty() {
            let others = self.ids().filter(|other| *other != leader);
            others.for_each(|other| self.cluster.cut(leader, other));
            // Nor does it hear of another leader, which would depose it.
            let last = self.cluster.number(self.cluster.pool().len() - 1);
            self.network.deaf = Some((leader, last + 1));
            self.network.mended_at = Some(until + u64::from(least));
        }
        !answers.is_empty()
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
        if network.mended_at.take_if(|at| *at <= *ticks).is_some() {
            network.deaf = None;
            self.cluster.heal();
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
        self.network = self.network.healed();
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
