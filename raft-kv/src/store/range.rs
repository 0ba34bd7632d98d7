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
    let Range { limit, count_only, count_all, .. } = *range;
    let sorted = range.order.is_some_and(|order| order.by != OrderBy::Key);
    if count_only || count_all || sorted || range.filter != Filter::NONE {
        return u64::MAX;
    }
    let most = PAIRS_MAX as u64;
    1 + if limit == 0 { most } else { limit.min(most) }
}

impl Mvcc {
    /// Reads at a revision that was checked. In key order, visits one key more than it returns,
    /// unless all are to be counted.
    pub(super) fn range(&self, range: &Range, room: &mut Room) -> RangeReply {
        let mut page = Page { range, room, kvs: Vec::new(), more: false };
        let by_key = |order: &Order| order.by == OrderBy::Key;
        let backward = range.order.is_some_and(|order| by_key(&order) && order.descending);
        let mut sorted =
            range.order.filter(|order| !by_key(order)).map(|order| Sorted::new(order, range.limit));
        let mut visited = 0;
        self.visit(&range.keys, range.revision, backward, |record| {
            visited += 1;
            if !range.count_only && admits(&range.filter, record) {
                match &mut sorted {
                    Some(sorted) => sorted.push(record),
                    None => page.push(record),
                }
            }
            if page.more && !range.count_all {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        for record in sorted.into_iter().flat_map(Sorted::finish) {
            page.push(record);
        }
        let Page { kvs, more, .. } = page;
        let all = range.count_only || range.count_all;
        let count = if all { visited } else { kvs.len() as u64 };
        RangeReply { revision: Revision(self.revision()), kvs, more, count }
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

/// The pairs of a reply as they are found.
struct Page<'a> {
    range: &'a Range,
    room: &'a mut Room,
    kvs: Vec<KeyValue>,
    /// Whether one did not fit: then none that comes later is taken.
    more: bool,
}

impl Page<'_> {
    fn push(&mut self, record: &Record) {
        let Range { limit, keys_only, .. } = *self.range;
        let within = limit == 0 || (self.kvs.len() as u64) < limit;
        if !self.more && within && self.room.take(record.pair_size(keys_only)) {
            self.kvs.push(record.pair(keys_only));
        } else {
            self.more = true;
        }
    }
}

/// The first of many records in some order.
struct Sorted<'a> {
    order: Order,
    /// How many are wanted: one more than a reply can hold, so that it is known whether there are
    /// more.
    most: usize,
    /// The first of those seen, and at most as many others.
    records: Vec<&'a Record>,
}

impl<'a> Sorted<'a> {
    fn new(order: Order, limit: u64) -> Self {
        let limit = if limit == 0 { PAIRS_MAX } else { limit.min(PAIRS_MAX as u64) as usize };
        Self { order, most: limit + 1, records: Vec::new() }
    }

    fn push(&mut self, record: &'a Record) {
        self.records.push(record);
        if self.records.len() == 2 * self.most {
            let order = self.order;
            self.records.select_nth_unstable_by(self.most, |a, b| compare(order, a, b));
            self.records.truncate(self.most);
        }
    }

    fn finish(mut self) -> impl Iterator<Item = &'a Record> {
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
