//! The hashes of the state as of many entries: of each of the last, and of a few before.

use raft_core::types::Index;
use std::collections::VecDeque;

/// How many of the last entries each keep their hash: half a mebibyte.
const DENSE: usize = 64 * 1024;
/// Of entries before those, every so many-th does.
pub(crate) const STRIDE: u64 = 4096;
/// How many of these at most: back to the last 33 million entries, in 64 KiB.
const SPARSE: usize = 8 * 1024;

/// Hashes by index; entries come one after the other.
pub(crate) struct HashRing {
    /// The index of the first of `dense`.
    first: u64,
    /// Of consecutive indexes.
    dense: VecDeque<u64>,
    /// Of multiples of [`STRIDE`] below `first`, and the one the ring began with; ascending.
    sparse: VecDeque<(u64, u64)>,
}

impl HashRing {
    /// The ring of a state as it was loaded or received; empty if that is before the first entry.
    pub(crate) fn starting_at(index: Index, hash: u64) -> Self {
        let mut ring = Self { first: index.0, dense: VecDeque::new(), sparse: VecDeque::new() };
        if index != Index::ZERO {
            ring.dense.push_back(hash);
        }
        ring
    }

    /// The hash after the next entry.
    pub(crate) fn push(&mut self, index: Index, hash: u64) {
        if self.dense.is_empty() {
            self.first = index.0;
        }
        debug_assert!(index.0 == self.first + self.dense.len() as u64, "entries have no gaps");
        if self.dense.len() == DENSE
            && let Some(old) = self.dense.pop_front()
        {
            if self.first.is_multiple_of(STRIDE) || self.sparse.is_empty() {
                if self.sparse.len() == SPARSE {
                    self.sparse.pop_front();
                }
                self.sparse.push_back((self.first, old));
            }
            self.first += 1;
        }
        self.dense.push_back(hash);
    }

    /// The hash after entry `index`, if it is kept.
    pub(crate) fn at(&self, index: Index) -> Option<u64> {
        if let Some(place) = index.0.checked_sub(self.first) {
            return self.dense.get(usize::try_from(place).ok()?).copied();
        }
        let place = self.sparse.binary_search_by_key(&index.0, |(index, _)| *index).ok()?;
        Some(self.sparse[place].1)
    }

    /// The first index that has a hash; 0 if none has.
    pub(crate) fn oldest(&self) -> Index {
        self.sparse.front().map_or_else(|| self.dense_from(), |(index, _)| Index(*index))
    }

    /// From here on each has one; 0 if none has.
    pub(crate) fn dense_from(&self) -> Index {
        if self.dense.is_empty() { Index::ZERO } else { Index(self.first) }
    }

    /// The last index that has a hash; 0 if none has.
    pub(crate) fn newest(&self) -> Index {
        match self.dense.len() as u64 {
            0 => Index::ZERO,
            many => Index(self.first + many - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entries_are_all_there_and_of_those_before_a_few() {
        let mut ring = HashRing::starting_at(Index::ZERO, 0);
        assert_eq!((ring.oldest(), ring.newest()), (Index::ZERO, Index::ZERO));
        let last = 3 * DENSE as u64 + 5;
        for index in 1..=last {
            ring.push(Index(index), index * 3);
        }
        let dense = last - DENSE as u64 + 1;
        assert_eq!((ring.dense_from(), ring.newest()), (Index(dense), Index(last)));
        for index in 1..=last + 2 {
            let kept = index == 1 || index.is_multiple_of(STRIDE) || index >= dense;
            let expected = (kept && index <= last).then_some(index * 3);
            assert_eq!(ring.at(Index(index)), expected, "{index}");
        }
        assert_eq!(ring.oldest(), Index(1));
    }

    #[test]
    fn it_begins_where_the_state_does_and_is_bounded() {
        let mut ring = HashRing::starting_at(Index(100), 7);
        assert_eq!((ring.oldest(), ring.dense_from()), (Index(100), Index(100)));
        assert_eq!((ring.at(Index(99)), ring.at(Index(100))), (None, Some(7)));
        let last = STRIDE * (SPARSE as u64 + 20) + DENSE as u64;
        for index in 101..=last {
            ring.push(Index(index), index);
        }
        assert_eq!((ring.sparse.len(), ring.dense.len()), (SPARSE, DENSE));
        let oldest = ring.oldest();
        assert_eq!(ring.at(oldest), Some(oldest.0));
        assert_eq!(oldest.0 % STRIDE, 0);
    }
}
