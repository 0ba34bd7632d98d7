//! Entries of a log in memory: for the libraries that leave them to their users.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

/// Entries that follow each other.
pub(super) struct Entries<E> {
    /// Index of the first, or of the next if there is none.
    first: u64,
    entries: VecDeque<E>,
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new() }
    }
}

impl<E: Clone> Entries<E> {
    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = E>) {
        self.entries.extend(entries);
    }

    pub(super) fn last(&self) -> Option<&E> {
        self.entries.back()
    }

    /// Those of `range` that are there.
    pub(super) fn range(&self, range: &impl RangeBounds<u64>) -> Vec<E> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let end = self.position(end).min(self.entries.len());
        let start = self.position(start).min(end);
        self.entries.range(start..end).cloned().collect()
    }

    /// Drops those from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        self.entries.truncate(self.position(index));
    }

    /// Drops those before `index`.
    pub(super) fn trim(&mut self, index: u64) {
        let dropped = self.position(index).min(self.entries.len());
        self.entries.drain(..dropped);
        self.first = self.first.max(index);
    }

    fn position(&self, index: u64) -> usize {
        index.saturating_sub(self.first) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Entries;

    #[test]
    fn entries_are_found_by_index_after_a_trim() {
        let mut entries = Entries::default();
        entries.append(0..10);
        entries.trim(4);
        assert_eq!(entries.range(&(0..7)), [4, 5, 6]);
        assert_eq!(entries.range(&(8..=20)), [8, 9]);
        entries.truncate(6);
        entries.append([6]);
        assert_eq!(entries.range(&..), [4, 5, 6]);
        entries.trim(20);
        assert_eq!(entries.last(), None);
    }
}
