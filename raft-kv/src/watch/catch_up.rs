//! Tells the watches of one stream that are behind what they have missed, from the history.
//!
//! It reads page after page, at the pace of the stream, for all of them at once. A page is bounded
//! in bytes, counts as part of the outbox until it was said, and refers to the records that the
//! store holds: however many streams catch up, none of them makes a copy of it. A watch that has
//! come as far as the hub is handed back to it under the hub's lock, so that nothing is missed in
//! between, and nothing told twice.

use super::batch::Batch;
use super::index::Index;
use super::outbox::Item;
use super::{Inner, Options, PAGE, PAGE_BYTES, Stream, Watcher};
use crate::api::{Keys, KvError, Revision, WatchId, WatchReply};
use crate::store::Change;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(super) struct CatchUp {
    /// As of which version of the stream the rest is.
    version: Option<u64>,
    index: Index,
    /// The watches that are behind, those of the same keys together.
    groups: Vec<Vec<Behind>>,
}

#[derive(Clone, Copy)]
struct Behind {
    id: WatchId,
    /// Tells it from another one by the same name.
    serial: u64,
    options: Options,
    /// The lowest revision it was not told of.
    next: u64,
}

impl CatchUp {
    /// Whether some watch of the stream is behind.
    pub(super) fn is_needed(&self, stream: &Stream) -> bool {
        stream.hub.lock().streams.get(stream.number).is_some_and(|stream| stream.behind > 0)
    }

    /// Reads on; what there is to be said, before anything that waits in the outbox.
    pub(super) fn step(&mut self, stream: &Stream) -> VecDeque<Item> {
        let inner = stream.hub.lock();
        // What the hub has told those that have fallen behind since goes first.
        if self.refresh(&inner, stream.number) && !stream.outbox.is_empty() {
            return VecDeque::new();
        }
        drop(inner);
        let Some(from) = self.groups.iter().flatten().map(|behind| behind.next).min() else {
            return VecDeque::new();
        };
        match stream.hub.history.read_from(from, PAGE, PAGE_BYTES) {
            Ok(page) => {
                stream.outbox.hold(page.changes.iter().map(Change::held).sum());
                let items = self.items(page.changes, page.through, page.compacted);
                self.advance(stream, page.through);
                items
            }
            Err(oldest) => self.end_compacted(stream, oldest),
        }
    }

    /// Takes over which watches are behind, if that has changed. Whether it has.
    fn refresh(&mut self, inner: &Inner, number: u32) -> bool {
        let Some(stream) = inner.streams.get(number) else { return false };
        if self.version == Some(stream.version) {
            return false;
        }
        *self = Self { version: Some(stream.version), ..Self::default() };
        for (id, watcher) in &stream.watches {
            let Some(watcher) = inner.watchers.get(*watcher).filter(|watcher| watcher.behind)
            else {
                continue;
            };
            let Some(topic) = inner.topics.get(watcher.topic) else { continue };
            let group = self.group(&topic.keys);
            let Watcher { serial, options, next, .. } = *watcher;
            self.groups[group].push(Behind { id: *id, serial, options, next });
        }
        true
    }

    fn group(&mut self, keys: &Keys) -> usize {
        if let Some(group) = self.index.get(keys) {
            return group as usize;
        }
        let group = self.groups.len();
        self.index.insert(keys, u32::try_from(group).expect("bounded far below 2^32"));
        self.groups.push(Vec::new());
        group
    }

    fn items(&self, changes: Vec<Change>, through: u64, compacted: u64) -> VecDeque<Item> {
        let mut by_group: BTreeMap<u32, Vec<Change>> = BTreeMap::new();
        for change in changes {
            self.index.holding(change.key(), |group| {
                by_group.entry(group).or_default().push(change.clone());
            });
        }
        let mut items = VecDeque::new();
        for (group, changes) in by_group {
            let batch = Arc::new(Batch::new(changes, through, compacted));
            for behind in &self.groups[group as usize] {
                if let Some(batch) = batch.since(behind.next)
                    && batch.concerns(behind.options)
                {
                    items.push_back(Item::Events(behind.id, behind.options, batch));
                }
            }
        }
        items
    }

    /// They have seen everything up to `through`; those that have come as far as the hub are its
    /// again.
    fn advance(&mut self, stream: &Stream, through: u64) {
        let mut inner = stream.hub.lock();
        let Inner { streams, watchers, cursor, .. } = &mut *inner;
        let Some(state) = streams.get_mut(stream.number) else { return };
        let mut returned = false;
        for behind in self.groups.iter_mut().flatten() {
            behind.next = behind.next.max(through + 1);
            // It may have been canceled, and another one begun by the same name.
            let Some(watcher) = state.watches.get(&behind.id) else { continue };
            let Some(watcher) = watchers.get_mut(*watcher) else { continue };
            if watcher.serial != behind.serial {
                continue;
            }
            watcher.next = watcher.next.max(behind.next);
            watcher.told = true;
            if watcher.next > *cursor {
                watcher.behind = false;
                state.behind -= 1;
                state.ahead = state.ahead.max(through);
                returned = true;
            }
        }
        if returned {
            state.version += 1;
        }
        inner.settle(stream.number);
    }

    /// What some of them are to be told of first is compacted: these end.
    fn end_compacted(&self, stream: &Stream, oldest: u64) -> VecDeque<Item> {
        let mut inner = stream.hub.lock();
        let mut items = VecDeque::new();
        for behind in self.groups.iter().flatten().filter(|behind| behind.next < oldest) {
            if inner.remove(stream.number, behind.id) {
                let (requested, compacted) = (Revision(behind.next), Revision(oldest));
                let error = KvError::Compacted { requested, compacted };
                items.push_back(Item::Reply(WatchReply::Canceled(behind.id, Some(error))));
            }
        }
        inner.settle(stream.number);
        items
    }
}
