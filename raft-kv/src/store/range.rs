//! How the keys are read: filter, order, limit, and what of it fits into a reply.
//!
//! Pairs are copied only once it is known that they are returned. A read in another order than that
//! of the keys visits the whole range, but holds on to no more than a reply could hold.

use super::mvcc::Mvcc;
use super::record::Record;
use crate::api::{
    Filter, KeyValue, Keys, Order, OrderBy, PAIR_OVERHEAD_BYTES, RANGE_BYTES_MAX, Range,
    RangeReply, Revision,
};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// More pairs than a reply can hold: each counts at least its overhead, and one may go over.
const PAIRS_MAX: usize = RANGE_BYTES_MAX / PAIR_OVERHEAD_BYTES + 1;

/// What is left of the bytes of pairs in a reply; its ranges share them.
pub(super) struct Room {
    bytes: usize,
    /// Whether there is a pair already. If not, one may go over: a read of a long pair must not
    /// come back empty.
    used: bool,
}

impl Room {
    /// All of a reply.
    pub(super) const fn new() -> Self {
        Self { bytes: RANGE_BYTES_MAX, used: false }
    }

    /// Takes `size` bytes, if there is room for them.
    const fn take(&mut self, size: usize) -> bool {
        let fits = size <= self.bytes || !self.used;
        if fits {
            self.bytes = self.bytes.saturating_sub(size);
            self.used = true;
        }
        fits
    }
}

/// How many keys a read goes through at most, whatever there are.
pub(super) fn visits_max(range: &Range) -> u64 {
    if range.visits_all() {
        return u64::MAX;
    }
    let most = PAIRS_MAX as u64;
    1 + if range.limit == 0 { most } else { range.limit.min(most) }
}

impl Mvcc {
    /// Reads at a revision that was checked. In key order, visits one key more than it returns,
    /// unless all are to be counted. Counts in `seen` what it goes through.
    pub(super) fn range(&self, range: &Range, room: &mut Room, seen: &mut u64) -> RangeReply {
        let mut reading = Reading::new(range);
        let (keys, backward) = (&range.keys, reading.is_backward());
        self.visit_some(keys, range.revision, backward, u64::MAX, seen, |record| {
            reading.take(record, room)
        });
        reading.finish(room, Revision(self.revision()))
    }

    /// Bytes that the existing pairs among `keys` count in a reply.
    pub(super) fn pair_sizes(&self, keys: &Keys) -> usize {
        let mut size = 0;
        self.visit(keys, None, false, |record| {
            size += record.pair_size(false);
            ControlFlow::Continue(())
        });
        size
    }
}

/// What a read has found so far.
pub(super) struct Reading {
    limit: u64,
    keys_only: bool,
    count_only: bool,
    /// Whether all keys are counted.
    counts: bool,
    backward: bool,
    filter: Filter,
    visited: u64,
    sorted: Option<Sorted>,
    kvs: Vec<KeyValue>,
    /// Whether one did not fit: then none that comes later is taken.
    more: bool,
}

impl Reading {
    /// Nothing yet.
    pub(super) fn new(range: &Range) -> Self {
        let Range { limit, keys_only, count_only, filter, order, .. } = *range;
        let by_key = |order: &Order| order.by == OrderBy::Key;
        Self {
            limit,
            keys_only,
            count_only,
            counts: count_only || range.count_all,
            backward: order.is_some_and(|order| by_key(&order) && order.descending),
            filter,
            visited: 0,
            sorted: order.filter(|order| !by_key(order)).map(|order| Sorted::new(order, limit)),
            kvs: Vec::new(),
            more: false,
        }
    }

    /// Whether keys are to be visited from the last to the first.
    pub(super) const fn is_backward(&self) -> bool {
        self.backward
    }

    /// Takes in the next record; breaks off when it needs no more.
    pub(super) fn take(&mut self, record: &Record, room: &mut Room) -> ControlFlow<()> {
        self.visited += 1;
        if !self.count_only && admits(&self.filter, record) {
            match &mut self.sorted {
                Some(sorted) => sorted.push(record),
                None => self.push(record, room),
            }
        }
        if self.more && !self.counts { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What was found, when the store was at `revision`.
    pub(super) fn finish(mut self, room: &mut Room, revision: Revision) -> RangeReply {
        for record in self.sorted.take().into_iter().flat_map(Sorted::finish) {
            self.push(&record, room);
        }
        let count = if self.counts { self.visited } else { self.kvs.len() as u64 };
        RangeReply { revision, kvs: self.kvs, more: self.more, count }
    }

    fn push(&mut self, record: &Record, room: &mut Room) {
        let within = self.limit == 0 || (self.kvs.len() as u64) < self.limit;
        if !self.more && within && room.take(record.pair_size(self.keys_only)) {
            self.kvs.push(record.pair(self.keys_only));
        } else {
            self.more = true;
        }
    }
}

/// The first of many records in some order.
struct Sorted {
    order: Order,
    /// How many are wanted: one more than a reply can hold, so that it is known whether there are
    /// more.
    most: usize,
    /// The first of those seen, and at most as many others.
    records: Vec<Record>,
}

impl Sorted {
    fn new(order: Order, limit: u64) -> Self {
        let limit = if limit == 0 { PAIRS_MAX } else { limit.min(PAIRS_MAX as u64) as usize };
        Self { order, most: limit + 1, records: Vec::new() }
    }

    fn push(&mut self, record: &Record) {
        self.records.push(record.clone());
        if self.records.len() == 2 * self.most {
            let order = self.order;
            self.records.select_nth_unstable_by(self.most, |a, b| compare(order, a, b));
            self.records.truncate(self.most);
        }
    }

    fn finish(mut self) -> impl Iterator<Item = Record> {
        self.records.sort_unstable_by(|a, b| compare(self.order, a, b));
        self.records.into_iter().take(self.most)
    }
}

/// Which comes first; of equals, that with the lower key.
fn compare(order: Order, a: &Record, b: &Record) -> Ordering {
    let ordering = match order.by {
        OrderBy::Key => a.key().cmp(b.key()),
        OrderBy::Version => a.header().version.cmp(&b.header().version),
        OrderBy::CreateRevision => a.header().create_revision.cmp(&b.header().create_revision),
        OrderBy::ModRevision => a.mod_revision().cmp(&b.mod_revision()),
        OrderBy::Value => a.value().cmp(b.value()),
    };
    let ordering = if order.descending { ordering.reverse() } else { ordering };
    ordering.then_with(|| a.key().cmp(b.key()))
}

fn admits(filter: &Filter, record: &Record) -> bool {
    if *filter == Filter::NONE {
        return true;
    }
    let header = record.header();
    let within = |revision: u64, min: Option<Revision>, max: Option<Revision>| {
        min.is_none_or(|min| revision >= min.0) && max.is_none_or(|max| revision <= max.0)
    };
    within(header.mod_revision, filter.min_mod_revision, filter.max_mod_revision)
        && within(header.create_revision, filter.min_create_revision, filter.max_create_revision)
}
