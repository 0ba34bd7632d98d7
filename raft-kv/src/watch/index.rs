//! Which of many keys and ranges hold a key: a table of the keys, and a tree of the ranges.
//!
//! The tree is a treap ordered by the ranges' starts; every node knows which range beneath it
//! reaches farthest, so that a search leaves out what ends before the key. A search takes time
//! logarithmic in the number of ranges for each one found, whatever the ranges are.

use super::slab::Slab;
use crate::api::Keys;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Keys and ranges, each with a number.
#[derive(Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, u32>,
    ranges: Ranges,
}

impl Index {
    /// The number of exactly these keys.
    pub(super) fn get(&self, keys: &Keys) -> Option<u32> {
        match keys {
            Keys::One(key) => self.keys.get(key).copied(),
            Keys::Range { start, end } => self.ranges.get(start, end.as_ref()),
        }
    }

    /// Gives these keys a number; they must have none.
    pub(super) fn insert(&mut self, keys: &Keys, number: u32) {
        match keys {
            Keys::One(key) => {
                self.keys.insert(key.clone(), number);
            }
            Keys::Range { start, end } => self.ranges.insert(start.clone(), end.clone(), number),
        }
    }

    pub(super) fn remove(&mut self, keys: &Keys) {
        match keys {
            Keys::One(key) => {
                self.keys.remove(key);
            }
            Keys::Range { start, end } => self.ranges.remove(start, end.as_ref()),
        }
    }

    /// Calls `each` with the number of every one that holds `key`.
    pub(super) fn holding(&self, key: &[u8], mut each: impl FnMut(u32)) {
        if let Some(number) = self.keys.get(key) {
            each(*number);
        }
        self.ranges.holding(self.ranges.root, key, &mut each);
    }
}

const NONE: u32 = u32::MAX;

struct Ranges {
    nodes: Slab<Node>,
    root: u32,
    /// Nobody outside can choose ranges that unbalance the tree.
    priorities: RandomState,
}

struct Node {
    start: Bytes,
    /// `None`: no end.
    end: Option<Bytes>,
    number: u32,
    /// Not less than that of any node beneath.
    priority: u64,
    left: u32,
    right: u32,
    /// The node with the farthest end, of this one and those beneath.
    reach: u32,
}

impl Default for Ranges {
    fn default() -> Self {
        Self { nodes: Slab::default(), root: NONE, priorities: RandomState::new() }
    }
}

impl Ranges {
    fn get(&self, start: &Bytes, end: Option<&Bytes>) -> Option<u32> {
        let mut at = self.root;
        loop {
            let node = self.nodes.get(at)?;
            at = match compare(start, end, node) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.number),
            };
        }
    }

    fn insert(&mut self, start: Bytes, end: Option<Bytes>, number: u32) {
        let priority = self.priorities.hash_one((&start, &end));
        let (less, greater) = self.split(self.root, &start, end.as_ref());
        let node = Node { start, end, number, priority, left: NONE, right: NONE, reach: NONE };
        let node = self.nodes.insert(node);
        self.measure(node);
        let less = self.merge(less, node);
        self.root = self.merge(less, greater);
    }

    fn remove(&mut self, start: &Bytes, end: Option<&Bytes>) {
        self.root = self.without(self.root, start, end);
    }

    fn holding(&self, at: u32, key: &[u8], each: &mut impl FnMut(u32)) {
        let Some(node) = self.nodes.get(at) else { return };
        if !self.nodes.get(node.reach).is_some_and(|farthest| ends_after(farthest, key)) {
            return;
        }
        self.holding(node.left, key, each);
        if node.start <= key {
            if ends_after(node, key) {
                each(node.number);
            }
            self.holding(node.right, key, each);
        }
    }

    /// Those before the given range, and those behind it.
    fn split(&mut self, at: u32, start: &Bytes, end: Option<&Bytes>) -> (u32, u32) {
        let Some(node) = self.nodes.get(at) else { return (NONE, NONE) };
        if compare(start, end, node).is_gt() {
            let (less, greater) = self.split(node.right, start, end);
            self.node(at).right = less;
            self.measure(at);
            (at, greater)
        } else {
            let (less, greater) = self.split(node.left, start, end);
            self.node(at).left = greater;
            self.measure(at);
            (less, at)
        }
    }

    /// All of `less` are before all of `greater`.
    fn merge(&mut self, less: u32, greater: u32) -> u32 {
        let (Some(first), Some(second)) = (self.nodes.get(less), self.nodes.get(greater)) else {
            return if less == NONE { greater } else { less };
        };
        let (top, merged) = if first.priority >= second.priority {
            let merged = self.merge(first.right, greater);
            self.node(less).right = merged;
            (less, merged)
        } else {
            let merged = self.merge(less, second.left);
            self.node(greater).left = merged;
            (greater, merged)
        };
        debug_assert!(merged != NONE, "one of two trees is not empty");
        self.measure(top);
        top
    }

    fn without(&mut self, at: u32, start: &Bytes, end: Option<&Bytes>) -> u32 {
        let Some(node) = self.nodes.get(at) else { return NONE };
        let (left, right) = (node.left, node.right);
        match compare(start, end, node) {
            Ordering::Equal => {
                self.nodes.remove(at);
                return self.merge(left, right);
            }
            Ordering::Less => self.node(at).left = self.without(left, start, end),
            Ordering::Greater => self.node(at).right = self.without(right, start, end),
        }
        self.measure(at);
        at
    }

    /// Finds the farthest end anew, those beneath having been measured.
    fn measure(&mut self, at: u32) {
        let Some(node) = self.nodes.get(at) else { return };
        let beneath = [node.left, node.right].into_iter();
        let beneath = beneath.filter_map(|child| Some(self.nodes.get(child)?.reach));
        let farthest = beneath.fold(at, |best, other| {
            let end = |at| self.nodes.get(at).and_then(|node| node.end.as_ref());
            if farther(end(other), end(best)) { other } else { best }
        });
        self.node(at).reach = farthest;
    }

    fn node(&mut self, at: u32) -> &mut Node {
        self.nodes.get_mut(at).expect("a node of the tree is there")
    }
}

/// The order of a range and a node's: by start, then end.
fn compare(start: &Bytes, end: Option<&Bytes>, node: &Node) -> Ordering {
    let ends = || match (end, node.end.as_ref()) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(end), Some(other)) => end.cmp(other),
    };
    start.cmp(&node.start).then_with(ends)
}

/// Whether one end lies behind another one.
fn farther(end: Option<&Bytes>, than: Option<&Bytes>) -> bool {
    than.is_some_and(|than| end.is_none_or(|end| end > than))
}

fn ends_after(node: &Node, key: &[u8]) -> bool {
    node.end.as_ref().is_none_or(|end| key < &end[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges and keys come and go; every search finds what a look at each of them does.
    #[test]
    fn it_finds_what_a_look_at_each_finds() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut index = Index::default();
        let mut known: Vec<(Keys, u32)> = Vec::new();
        for number in 0..4000 {
            let text = |value: u64| Bytes::from(format!("{value:02}"));
            let (start, length) = (random(100), random(40));
            let end = (length > 0).then(|| text((start + length).min(99)));
            let keys = match random(3) {
                0 => Keys::One(text(start)),
                _ => Keys::Range { start: text(start), end },
            };
            match known.iter().position(|(other, _)| *other == keys) {
                Some(at) => {
                    assert_eq!(index.get(&keys), Some(known[at].1));
                    index.remove(&keys);
                    known.swap_remove(at);
                    assert_eq!(index.get(&keys), None);
                }
                None => {
                    assert_eq!(index.get(&keys), None);
                    index.insert(&keys, number);
                    known.push((keys, number));
                }
            }
            let key = text(random(100));
            let mut found = Vec::new();
            index.holding(&key, |number| found.push(number));
            found.sort_unstable();
            let looked = known.iter().filter(|(keys, _)| keys.contains(&key));
            let mut looked: Vec<u32> = looked.map(|(_, number)| *number).collect();
            looked.sort_unstable();
            assert_eq!(found, looked);
        }
        for (keys, _) in known {
            index.remove(&keys);
        }
        assert_eq!((index.ranges.root, index.ranges.nodes.len()), (NONE, 0));
    }
}
