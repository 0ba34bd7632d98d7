//! Worlds that differ only in the names of nodes are one.
//!
//! What a node would be under another name is found by taking the shipped core through the same
//! history under that name, one memoized step at a time: no code here knows what is inside of a
//! core. That is sound as far as names decide nothing. Where they do - priorities, and a leader
//! that is removed and hands over to the best of several - no names are exchanged.

use super::atlas::{Atlas, mixed};
use super::event::Event;
use super::record::Broken;
use crate::types::{Change, NodeId};

/// No number yet.
const NONE: u32 = u32::MAX;

/// The exchanges of names that may not matter, and what everything is called under each.
pub(super) struct Symmetry {
    /// New name by old one; the first is the identity. Position 0 is not used.
    exchanges: Vec<Vec<u64>>,
    /// The nodes of the start, by name.
    first: Vec<u32>,
    nodes: Vec<u32>,
    messages: Vec<u32>,
    records: Vec<u32>,
}

impl Symmetry {
    /// `first` are the nodes of the start, `free` the names that may be exchanged.
    pub(super) fn new(first: &[u32], free: &[u64]) -> Self {
        let mut exchanges = Vec::new();
        let identity: Vec<u64> = (0..=first.len() as u64).collect();
        permute(&mut free.to_vec(), 0, &mut |order| {
            let mut exchange = identity.clone();
            for (old, new) in free.iter().zip(order) {
                exchange[*old as usize] = *new;
            }
            exchanges.push(exchange);
        });
        let first = first.to_vec();
        Self { exchanges, first, nodes: Vec::new(), messages: Vec::new(), records: Vec::new() }
    }

    /// The names that may be exchanged in a world of `voters` with such `changes`: of voters that
    /// no change names, and none where a leader may be removed.
    pub(super) fn free(voters: u64, changes: &[Vec<Change>]) -> Vec<u64> {
        let names_matter = |change: &Change| {
            matches!(
                change,
                Change::Remove { .. } | Change::Demote { .. } | Change::Prioritize { .. }
            )
        };
        if changes.iter().flatten().any(names_matter) {
            return Vec::new();
        }
        let named: Vec<NodeId> = changes.iter().flatten().map(Change::node).collect();
        (1..=voters).filter(|node| !named.contains(&NodeId(*node))).collect()
    }

    /// How many worlds are one, at most.
    pub(super) const fn order(&self) -> usize {
        self.exchanges.len()
    }

    /// What tells the world of these numbers from every other, but for names.
    pub(super) fn fingerprint(
        &mut self,
        atlas: &mut Atlas,
        nodes: &[u32],
        record: u32,
        messages: &[u32],
    ) -> Result<u128, Broken> {
        let mut least = u128::MAX;
        for exchange in 0..self.exchanges.len() {
            let mut sum = item(0, self.record(atlas, record, exchange));
            for node in nodes {
                sum = sum.wrapping_add(item(1, self.node(atlas, *node, exchange)?));
            }
            for message in messages {
                sum = sum.wrapping_add(item(2, self.message(atlas, *message, exchange)?));
            }
            least = least.min(sum);
        }
        Ok(least)
    }

    fn node(&mut self, atlas: &mut Atlas, node: u32, exchange: usize) -> Result<u32, Broken> {
        if exchange == 0 {
            return Ok(node);
        }
        let place = node as usize * self.exchanges.len() + exchange;
        if let Some(known) = self.nodes.get(place).filter(|known| **known != NONE) {
            return Ok(*known);
        }
        let renamed = match atlas.origin(node) {
            None => {
                let old = self.first.iter().position(|first| *first == node);
                let old = old.expect("only the nodes of the start have no origin") + 1;
                self.first[self.exchanges[exchange][old] as usize - 1]
            }
            Some((before, event)) => {
                let step = self.step(atlas, before, event, exchange)?;
                atlas.step(step).node
            }
        };
        store(&mut self.nodes, place, renamed);
        Ok(renamed)
    }

    /// The step that `event` is for `node`, under other names.
    fn step(
        &mut self,
        atlas: &mut Atlas,
        node: u32,
        event: Event,
        exchange: usize,
    ) -> Result<u32, Broken> {
        let node = self.node(atlas, node, exchange)?;
        let named = |of: NodeId| NodeId(self.exchanges[exchange][of.0 as usize]);
        let event = match event {
            Event::Deliver(message) => Event::Deliver(self.message(atlas, message, exchange)?),
            Event::Transfer(to) => Event::Transfer(named(to)),
            Event::Snapshot(to) => Event::Snapshot(named(to)),
            other => other,
        };
        atlas.take(node, event)
    }

    fn message(&mut self, atlas: &mut Atlas, message: u32, exchange: usize) -> Result<u32, Broken> {
        if exchange == 0 {
            return Ok(message);
        }
        let place = message as usize * self.exchanges.len() + exchange;
        if let Some(known) = self.messages.get(place).filter(|known| **known != NONE) {
            return Ok(*known);
        }
        let (node, event, order) = atlas.source(message);
        let step = self.step(atlas, node, event, exchange)?;
        let to = NodeId(self.exchanges[exchange][atlas.receiver(message).0 as usize]);
        let sends = atlas.step(step).sends.iter();
        let renamed = sends.copied().filter(|sent| atlas.receiver(*sent) == to).nth(order);
        let Some(renamed) = renamed else {
            return Err(format!(
                "names matter: {} is not sent to {to}",
                atlas.messages.of(message)
            ));
        };
        store(&mut self.messages, place, renamed);
        Ok(renamed)
    }

    fn record(&mut self, atlas: &mut Atlas, record: u32, exchange: usize) -> u32 {
        if exchange == 0 {
            return record;
        }
        let place = record as usize * self.exchanges.len() + exchange;
        if let Some(known) = self.records.get(place).filter(|known| **known != NONE) {
            return *known;
        }
        let names = &self.exchanges[exchange];
        let name = |old: u64| names.get(old as usize).copied().unwrap_or(old);
        let renamed = atlas.records.of(record).renamed(name);
        let renamed = atlas.records.number(renamed).0;
        store(&mut self.records, place, renamed);
        renamed
    }
}

/// What one thing adds to a fingerprint.
const fn item(kind: u64, number: u32) -> u128 {
    let low = mixed(kind << 32 | number as u64);
    let high = mixed(low ^ 0x5851_f42d_4c95_7f2d);
    (high as u128) << 64 | mixed(low) as u128
}

fn store(table: &mut Vec<u32>, place: usize, number: u32) {
    if table.len() <= place {
        table.resize((place + 1).next_power_of_two(), NONE);
    }
    table[place] = number;
}

/// Calls `each` with every order of `items`, the given one first.
fn permute(items: &mut Vec<u64>, from: usize, each: &mut impl FnMut(&[u64])) {
    if from >= items.len() {
        return each(items);
    }
    for other in from..items.len() {
        items.swap(from, other);
        permute(items, from + 1, each);
        items.swap(from, other);
    }
}
