//! The log of the specification: all of it, from the first entry on, as terms and configurations.

use crate::raft::Loaded;
use crate::types::{Index, LogId, Membership, Payload, Run, SnapshotMeta, Term};
use std::sync::LazyLock;

/// Entry `index` has the term at `index - 1`.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    terms: Vec<Term>,
    /// The configuration before the first entry, then those of entries, by index.
    memberships: Vec<(Index, Membership)>,
}

/// What the specification sees of the entries of `run`.
pub(super) fn items(run: &Run) -> impl Iterator<Item = (LogId, Option<&Membership>)> {
    run.entries().iter().map(|entry| match &entry.payload {
        Payload::Membership(membership) => (entry.id, Some(&**membership)),
        _ => (entry.id, None),
    })
}

impl Log {
    /// The log of a disk that was never compacted.
    pub(super) fn of(disk: &Loaded) -> Self {
        let SnapshotMeta { last, membership } = &disk.snapshot;
        assert!(*last == LogId::ZERO, "a disk that is shown first begins after {last}");
        let mut log = Self { terms: Vec::new(), memberships: vec![(Index(0), membership.clone())] };
        disk.entries.iter().flat_map(items).for_each(|(id, membership)| log.push(id, membership));
        log
    }

    pub(super) fn last(&self) -> LogId {
        let term = self.terms.last().copied().unwrap_or_default();
        LogId { term, index: Index(self.terms.len() as u64) }
    }

    pub(super) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == Index(0) {
            return Some(LogId::ZERO);
        }
        let term = self.terms.get(index.0 as usize - 1)?;
        Some(LogId { term: *term, index })
    }

    pub(super) fn holds(&self, id: LogId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// The last entry of a term before `term`.
    pub(super) fn before(&self, term: Term) -> LogId {
        let index = self.terms.partition_point(|known| *known < term);
        self.id_at(Index(index as u64)).expect("within the log")
    }

    /// Whether it is that of a node that belongs to no cluster.
    pub(super) fn is_blank(&self) -> bool {
        self.terms.is_empty() && self.membership().is_empty()
    }

    /// What comes after `index`.
    pub(super) fn after(&self, index: Index) -> impl Iterator<Item = (LogId, Option<&Membership>)> {
        let item = |index| {
            let id = self.id_at(Index(index)).expect("within the log");
            let of_it = self.memberships.iter().find(|(at, _)| *at == id.index);
            (id, of_it.map(|(_, membership)| membership))
        };
        (index.0 + 1..=self.terms.len() as u64).map(item)
    }

    /// Up to where it is the same as `other`. By Log Matching one entry tells of all before it.
    pub(super) fn agreement(&self, other: &Self) -> Index {
        let mut both = self.terms.iter().zip(&other.terms);
        Index(both.rposition(|(own, other)| own == other).map_or(0, |at| at as u64 + 1))
    }

    /// The configuration in force, and where it stands.
    pub(super) fn membership(&self) -> &Membership {
        self.membership_before(Index(u64::MAX))
    }

    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().map_or(Index(0), |(at, _)| *at)
    }

    /// The configuration in force just before entry `index`.
    pub(super) fn membership_before(&self, index: Index) -> &Membership {
        static NONE: LazyLock<Membership> = LazyLock::new(Membership::default);
        let known = self.memberships.iter().rev().find(|(at, _)| *at < index);
        known.map_or(&NONE, |(_, membership)| membership)
    }

    pub(super) fn push(&mut self, id: LogId, membership: Option<&Membership>) {
        let last = self.last();
        assert!(id.index == last.index.next() && id.term >= last.term, "{id} after {last}");
        self.terms.push(id.term);
        self.memberships.extend(membership.map(|membership| (id.index, membership.clone())));
    }

    /// Drops what comes after `index`.
    pub(super) fn truncate(&mut self, index: Index) {
        self.terms.truncate(index.0 as usize);
        self.memberships.retain(|(at, _)| *at <= index);
    }

    pub(super) fn prefix(&self, index: Index) -> Self {
        let mut prefix = self.clone();
        prefix.truncate(index);
        prefix
    }

    /// Whether `log` goes on from this one. By Log Matching the last entry tells.
    pub(super) fn is_prefix_of(&self, log: &Self) -> bool {
        log.holds(self.last())
    }

    /// Takes what `log` has up to `index`; it goes on from this one.
    pub(super) fn grow(&mut self, log: &Self, index: Index) {
        let from = self.last().index;
        self.terms.extend_from_slice(&log.terms[from.0 as usize..index.0 as usize]);
        let new = log.memberships.iter().filter(|(at, _)| *at <= index);
        match self.memberships.is_empty() {
            true => self.memberships.extend(new.cloned()),
            false => self.memberships.extend(new.filter(|(at, _)| *at > from).cloned()),
        }
    }

    /// Whether it has all of `run`.
    pub(super) fn has(&self, run: &Run) -> bool {
        run.entries().iter().all(|entry| self.holds(entry.id))
    }
}
