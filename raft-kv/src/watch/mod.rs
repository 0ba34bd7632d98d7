//! The watches of a node: who is told what of the store's changes, and how far each has come.
//!
//! Watches of the same keys share a *topic*; an index finds the topics that hold a key. One task
//! looks at each change once and puts it into the bounded outbox of every stream with a watch of
//! it. A watch whose outbox is full falls *behind*: it is left out from there on, its stream reads
//! what it has missed from the history ([`catch_up`]), and when it has come as far as that task it
//! is told by it again. So a stream that stalls costs nobody else anything, and no change is kept
//! for it.
//!
//! This module decides order and completeness; it knows neither transport nor time, and must never
//! wait while it holds its lock.
//!
//! A watch that does nothing takes 100 to 200 bytes here, and some 230 more if nobody else watches
//! the same keys; a stream takes 3 KiB. `benches/examples/watch_memory.rs` measures it.

mod batch;
mod catch_up;
mod index;
mod local;
mod outbox;
mod slab;
mod speech;
#[cfg(test)]
mod tests;

use crate::api::{Keys, KvError, Revision, Watch, WatchId, WatchReply, WatchRequest};
use crate::store::{Change, History, Observer, validate_keys};
pub use local::{LocalStream, LocalWatches};
pub(crate) use speech::Speech;

use batch::Batch;
use index::Index;
use outbox::Outbox;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes that are looked at in one go; few in tests, which have few.
const PAGE: usize = if cfg!(test) { 16 } else { 1024 };

/// And bytes of them, at whole revisions: more only if one revision is larger.
const PAGE_BYTES: usize = scaled(1024 * 1024);

/// Bytes, or fewer in tests, which have few.
const fn scaled(bytes: usize) -> usize {
    if cfg!(test) { bytes / 128 } else { bytes }
}

/// How a node serves watches, and what bounds them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchOptions {
    /// Watches of one stream. Default 16,384; further ones are refused.
    pub watches_per_stream_max: usize,
    /// Watches of all streams. Default 1,000,000; further ones are refused.
    pub watches_max: usize,
    /// Bytes of the keys of all watches. Default 256 MiB; further watches are refused.
    pub key_bytes_max: usize,
    /// Bytes of changes that are held for one stream, beside the frame that is being sent. Default
    /// 4 MiB; what is beyond is read again from the history when the stream goes on. A single
    /// revision that is larger is held whole.
    pub outbox_bytes_max: usize,
    /// How often a watch that asked for it is told how far it has come if nothing happens; up to a
    /// tenth longer, so that not all are told at once. Default 10 minutes.
    pub progress_interval: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            watches_per_stream_max: 16_384,
            watches_max: 1_000_000,
            key_bytes_max: 256 * 1024 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// What a watch wants to be told, in bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options(u8);

impl Options {
    const PREV_KV: u8 = 1;
    const NO_PUTS: u8 = 2;
    const NO_DELETES: u8 = 4;
    const FRAGMENTS: u8 = 8;

    fn of(watch: &Watch) -> Self {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        Self(
            bit(watch.prev_kv, Self::PREV_KV)
                | bit(watch.no_puts, Self::NO_PUTS)
                | bit(watch.no_deletes, Self::NO_DELETES)
                | bit(watch.fragments, Self::FRAGMENTS),
        )
    }

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    const fn prev_kv(self) -> bool {
        self.has(Self::PREV_KV)
    }

    const fn fragments(self) -> bool {
        self.has(Self::FRAGMENTS)
    }

    fn wants(self, change: &Change) -> bool {
        !self.has(if change.is_deletion() { Self::NO_DELETES } else { Self::NO_PUTS })
    }
}

/// The watches of a node; see the module.
pub(crate) struct Hub {
    history: Arc<History>,
    options: WatchOptions,
    news: Arc<News>,
    /// Events that were said, to each watch.
    told: AtomicU64,
    inner: Mutex<Inner>,
}

/// How many watches there are, and what they were told.
#[cfg(feature = "etcd")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchCounts {
    pub(crate) streams: u64,
    pub(crate) watches: u64,
    /// Of the watches, those that have to be told of the past.
    pub(crate) behind: u64,
    /// Events that were said so far.
    pub(crate) events: u64,
}

/// What the applier and the hub's task share.
struct News {
    wake: Notify,
    /// What the hub has looked at.
    seen: AtomicU64,
}

impl Observer for News {
    fn changed(&self) {
        self.wake.notify_one();
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Inner {
    index: Index,
    topics: Slab<Topic>,
    watchers: Slab<Watcher>,
    streams: Slab<StreamState>,
    /// Watches there ever were.
    serial: u64,
    key_bytes: usize,
    /// Every change up to here was looked at: whoever is not behind was told of it.
    cursor: u64,
    /// Streams that wait to be told how far they have come.
    asking: BTreeSet<u32>,
}

/// The watches of the same keys.
struct Topic {
    keys: Keys,
    /// Places in `watchers`, in no order.
    members: Vec<u32>,
}

struct Watcher {
    id: WatchId,
    /// No other watch of the node has it.
    serial: u64,
    stream: u32,
    topic: u32,
    /// Place in the topic's list.
    position: u32,
    options: Options,
    /// Tells now and then how far it has come.
    progress: bool,
    /// Was told something since that was last looked at.
    told: bool,
    /// Is told by its stream instead of the hub's task.
    behind: bool,
    /// The lowest revision it was not told of; of one that is not behind, that it starts from.
    next: u64,
}

struct StreamState {
    outbox: Arc<Outbox>,
    watches: BTreeMap<WatchId, u32>,
    /// How many of them are behind.
    behind: usize,
    /// Changes with the set of watches that are behind.
    version: u64,
    /// Some of them were told more than the hub has looked at: up to here.
    ahead: u64,
    /// Revisions that it wants to be told of having reached.
    wanted: BTreeSet<u64>,
}

/// Most revisions that a stream may want to be told of at once.
const WANTED_MAX: usize = 1024;

impl Hub {
    /// A hub of the changes in `history`; somebody has to [`run`](Self::run) it.
    pub(crate) fn new(history: Arc<History>, options: WatchOptions) -> Arc<Self> {
        let news = Arc::new(News { wake: Notify::new(), seen: AtomicU64::new(0) });
        let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&news) as Arc<_>));
        history.observe(observer);
        // From here on nothing is lost: what it has not seen is kept.
        let (cursor, _) = history.extent();
        news.seen.store(cursor, Ordering::Release);
        let inner = Mutex::new(Inner { cursor, ..Inner::default() });
        Arc::new(Self { history, options, news, told: AtomicU64::new(0), inner })
    }

    /// Looks at the changes as they come, until the hub is gone.
    pub(crate) async fn run(hub: Weak<Self>) {
        let Some(news) = hub.upgrade().map(|hub| Arc::clone(&hub.news)) else { return };
        loop {
            while hub.upgrade().is_some_and(|hub| hub.look()) {
                tokio::task::yield_now().await;
            }
            if hub.strong_count() == 0 {
                return;
            }
            news.wake.notified().await;
        }
    }

    /// Opens a stream.
    pub(crate) fn open(self: &Arc<Self>) -> Stream {
        let outbox = Outbox::new(self.options.outbox_bytes_max);
        let state = StreamState {
            outbox: Arc::clone(&outbox),
            watches: BTreeMap::new(),
            behind: 0,
            version: 0,
            ahead: 0,
            wanted: BTreeSet::new(),
        };
        let number = self.lock().streams.insert(state);
        Stream { hub: Arc::clone(self), number, outbox }
    }

    /// How many watches there are, and what they were told.
    #[cfg(feature = "etcd")]
    pub(crate) fn counts(&self) -> WatchCounts {
        let inner = self.lock();
        WatchCounts {
            streams: inner.streams.len() as u64,
            watches: inner.watchers.len() as u64,
            behind: inner.streams.iter().map(|stream| stream.behind as u64).sum(),
            events: self.told.load(Ordering::Relaxed),
        }
    }

    /// Looks at some changes. Whether there may be more.
    fn look(&self) -> bool {
        let cursor = {
            let mut inner = self.lock();
            if inner.watchers.len() == 0 {
                // Nobody is to be told: no change needs to be looked at.
                inner.cursor = self.history.extent().0.max(inner.cursor);
                self.news.seen.store(inner.cursor, Ordering::Release);
                let asking = std::mem::take(&mut inner.asking);
                asking.into_iter().for_each(|stream| inner.settle(stream));
                return false;
            }
            inner.cursor
        };
        let page = match self.history.read_unseen(cursor + 1, PAGE, PAGE_BYTES) {
            Ok(page) => page,
            Err(oldest) => {
                self.lock().skip_to(oldest);
                return true;
            }
        };
        if page.through <= cursor {
            return false;
        }
        let mut inner = self.lock();
        inner.dispatch(page.changes, page.through, page.compacted);
        inner.cursor = page.through;
        for stream in std::mem::take(&mut inner.asking) {
            inner.settle(stream);
        }
        drop(inner);
        self.news.seen.store(page.through, Ordering::Release);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every statement leaves it consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Its task ends.
        self.news.wake.notify_one();
    }
}

impl Inner {
    /// Tells everybody of these changes who is not behind.
    fn dispatch(&mut self, changes: Vec<Change>, through: u64, compacted: u64) {
        let mut by_topic: BTreeMap<u32, Vec<Change>> = BTreeMap::new();
        for change in &changes {
            self.index.holding(change.key(), |topic| {
                by_topic.entry(topic).or_default().push(change.clone());
            });
        }
        for (topic, changes) in by_topic {
            let batch = Arc::new(Batch::new(changes, through, compacted));
            let Some(Topic { members, .. }) = self.topics.get(topic) else { continue };
            for member in members {
                let Some(watcher) = self.watchers.get_mut(*member) else { continue };
                if watcher.behind || !batch.concerns(watcher.options) {
                    continue;
                }
                let Some(batch) = batch.since(watcher.next) else { continue };
                let Some(stream) = self.streams.get_mut(watcher.stream) else { continue };
                if stream.outbox.offer(watcher.id, watcher.options, &batch) {
                    watcher.told = true;
                } else {
                    watcher.next = watcher.next.max(batch.first());
                    watcher.fall_behind(stream);
                }
            }
        }
    }

    /// What is before `oldest` is gone, and nobody was told of it.
    fn skip_to(&mut self, oldest: u64) {
        let unseen = self.cursor + 1;
        let Self { topics, watchers, streams, .. } = self;
        for member in topics.iter().flat_map(|topic| &topic.members) {
            let Some(watcher) = watchers.get_mut(*member) else { continue };
            let next = watcher.next.max(unseen);
            if watcher.behind || next >= oldest {
                continue;
            }
            watcher.next = next;
            if let Some(stream) = streams.get_mut(watcher.stream) {
                watcher.fall_behind(stream);
            }
        }
        self.cursor = oldest - 1;
    }

    /// Tells a stream how far it has come, if it asks and all of its watches have.
    fn settle(&mut self, number: u32) {
        let cursor = self.cursor;
        let Some(stream) = self.streams.get_mut(number) else { return };
        let ready = stream.behind == 0 && stream.ahead <= cursor;
        if ready && stream.wanted.first().is_some_and(|wanted| *wanted <= cursor) {
            stream.wanted = stream.wanted.split_off(&(cursor + 1));
            stream.outbox.push(WatchReply::Progress(None, Revision(cursor)));
        }
        if stream.wanted.is_empty() {
            self.asking.remove(&number);
        } else {
            self.asking.insert(number);
        }
    }

    /// Ends a watch; whether there was one.
    fn remove(&mut self, stream: u32, id: WatchId) -> bool {
        let Some(state) = self.streams.get_mut(stream) else { return false };
        let Some(watcher) = state.watches.remove(&id) else { return false };
        let Some(watcher) = self.watchers.remove(watcher) else { return false };
        if watcher.behind {
            state.behind -= 1;
            state.version += 1;
        }
        let Some(topic) = self.topics.get_mut(watcher.topic) else { return true };
        topic.members.swap_remove(watcher.position as usize);
        if let Some(moved) = topic.members.get(watcher.position as usize)
            && let Some(moved) = self.watchers.get_mut(*moved)
        {
            moved.position = watcher.position;
        }
        self.key_bytes -= key_bytes(&topic.keys);
        if topic.members.is_empty()
            && let Some(topic) = self.topics.remove(watcher.topic)
        {
            self.index.remove(&topic.keys);
        }
        true
    }

    /// The topic of these keys, made if there is none.
    fn topic(&mut self, keys: &Keys) -> u32 {
        if let Some(topic) = self.index.get(keys) {
            return topic;
        }
        let topic = self.topics.insert(Topic { keys: keys.clone(), members: Vec::new() });
        self.index.insert(keys, topic);
        topic
    }
}

impl Watcher {
    fn fall_behind(&mut self, stream: &mut StreamState) {
        self.behind = true;
        stream.behind += 1;
        stream.version += 1;
        stream.outbox.wake();
    }
}

/// The watches of one stream. They end when it is dropped.
pub(crate) struct Stream {
    hub: Arc<Hub>,
    number: u32,
    outbox: Arc<Outbox>,
}

impl Stream {
    /// Begins a watch. That it has begun, or why it cannot, is put into the outbox.
    ///
    /// # Errors
    /// If the stream has a watch of that name: it cannot be told which one is meant.
    fn create(&self, id: WatchId, watch: &Watch) -> Result<(), KvError> {
        let mut inner = self.hub.lock();
        if inner.streams.get(self.number).is_some_and(|stream| stream.watches.contains_key(&id)) {
            return Err(KvError::Malformed(format!("watch {} has begun already", id.0)));
        }
        if let Err(error) = self.admit(&inner, watch) {
            self.outbox.push(WatchReply::Canceled(id, Some(error)));
            return Ok(());
        }
        // Not less than the hub's own: what it has not looked at yet was there before the watch.
        let (revision, _) = self.hub.history.extent();
        let cursor = inner.cursor;
        let next = watch.from.map_or(revision + 1, |from| from.0.max(1));
        let behind = next <= cursor;
        let topic = inner.topic(&watch.keys);
        let stream = self.number;
        let members = inner.topics.get(topic).map_or(0, |topic| topic.members.len());
        inner.serial += 1;
        let serial = inner.serial;
        let watcher = inner.watchers.insert(Watcher {
            id,
            serial,
            stream,
            topic,
            position: u32::try_from(members).expect("bounded far below 2^32"),
            options: Options::of(watch),
            progress: watch.progress,
            told: false,
            behind,
            next,
        });
        if let Some(topic) = inner.topics.get_mut(topic) {
            topic.members.push(watcher);
        }
        inner.key_bytes += key_bytes(&watch.keys);
        let seen = if watch.from.is_none() { revision } else { cursor };
        self.outbox.push(WatchReply::Created(id, Revision(seen)));
        if let Some(state) = inner.streams.get_mut(stream) {
            state.watches.insert(id, watcher);
            state.behind += usize::from(behind);
            state.version += u64::from(behind);
            state.ahead = state.ahead.max(seen);
        }
        Ok(())
    }

    fn admit(&self, inner: &Inner, watch: &Watch) -> Result<(), KvError> {
        validate_keys(&watch.keys)?;
        let limits = &self.hub.options;
        let own = inner.streams.get(self.number).map_or(0, |stream| stream.watches.len());
        let bytes = inner.key_bytes + key_bytes(&watch.keys);
        let full = own >= limits.watches_per_stream_max
            || inner.watchers.len() >= limits.watches_max
            || bytes > limits.key_bytes_max;
        if full { Err(KvError::Overloaded) } else { Ok(()) }
    }

    /// Ends a watch; one that is unknown has ended already.
    fn cancel(&self, id: WatchId) {
        let mut inner = self.hub.lock();
        if inner.remove(self.number, id) {
            self.outbox.push(WatchReply::Canceled(id, None));
            inner.settle(self.number);
        }
    }

    /// Has it told, once, when every watch of the stream has seen everything up to `revision`.
    ///
    /// # Errors
    /// If too many such questions are open.
    fn reach(&self, revision: Revision) -> Result<(), KvError> {
        let mut inner = self.hub.lock();
        let Some(stream) = inner.streams.get_mut(self.number) else { return Ok(()) };
        if stream.wanted.len() >= WANTED_MAX {
            return Err(KvError::Overloaded);
        }
        stream.wanted.insert(revision.0);
        inner.settle(self.number);
        Ok(())
    }

    /// Tells the watches that asked for it how far they have come, if nothing else was told since
    /// this was last called.
    pub(crate) fn tell_progress(&self) {
        let mut inner = self.hub.lock();
        let Inner { streams, watchers, cursor, .. } = &mut *inner;
        let Some(stream) = streams.get(self.number) else { return };
        for (id, watcher) in &stream.watches {
            // Whoever does not listen is not told the same again and again.
            if self.outbox.is_full() {
                return;
            }
            let Some(watcher) = watchers.get_mut(*watcher) else { continue };
            let quiet = !std::mem::take(&mut watcher.told) && !watcher.behind;
            if watcher.progress && quiet && watcher.next <= *cursor + 1 {
                self.outbox.push(WatchReply::Progress(Some(*id), Revision(*cursor)));
            }
        }
    }

    /// What is watched now: once for each watch.
    pub(crate) fn keys(&self) -> Vec<Keys> {
        let inner = self.hub.lock();
        let Some(stream) = inner.streams.get(self.number) else { return Vec::new() };
        let topic = |watcher: &u32| inner.topics.get(inner.watchers.get(*watcher)?.topic);
        stream.watches.values().filter_map(topic).map(|topic| topic.keys.clone()).collect()
    }

    /// What a watch of this name is of, if there is one.
    pub(crate) fn keys_of(&self, id: WatchId) -> Option<Keys> {
        let inner = self.hub.lock();
        let watcher = inner.streams.get(self.number)?.watches.get(&id)?;
        let topic = inner.topics.get(inner.watchers.get(*watcher)?.topic)?;
        Some(topic.keys.clone())
    }

    /// Says something that is not about a single watch.
    pub(crate) fn say(&self, reply: WatchReply) {
        self.outbox.push(reply);
    }

    /// Waits until there is room for answers.
    pub(crate) async fn has_room(&self) {
        self.outbox.has_room().await;
    }

    /// Does what is asked, unless that cannot be done.
    ///
    /// # Errors
    /// After which the stream cannot go on: as [`create`](Self::create), [`reach`](Self::reach).
    pub(crate) fn ask(&self, request: &WatchRequest) -> Result<(), KvError> {
        match request {
            WatchRequest::Create(id, watch) => return self.create(*id, watch),
            WatchRequest::Cancel(id) => self.cancel(*id),
            WatchRequest::Progress => return self.reach(Revision(0)),
            WatchRequest::Reach(revision) => return self.reach(*revision),
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        let Some(stream) = inner.streams.get(self.number) else { return };
        let watches: Vec<WatchId> = stream.watches.keys().copied().collect();
        for id in watches {
            inner.remove(self.number, id);
        }
        inner.streams.remove(self.number);
        inner.asking.remove(&self.number);
    }
}

/// Bytes that the keys of a watch take.
fn key_bytes(keys: &Keys) -> usize {
    match keys {
        Keys::One(key) => key.len(),
        Keys::Range { start, end } => start.len() + end.as_ref().map_or(0, |end| end.len()),
    }
}
