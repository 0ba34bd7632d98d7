//! Parts of incoming snapshots: who may write to which, and for how long they are kept.
//!
//! Owns the places: one per group and sending node. At most one stream writes to a place; a newer
//! one takes it over. A part whose stream broke waits in its place, until it is continued, another
//! snapshot needs its room, or its time is over. Files are removed on threads that may block.

use super::spool::Spool;
use super::{PREFIX, SUFFIX};
use crate::config::Limits;
use raft_core::types::{GroupId, Incarnation, NodeId, SnapshotMeta, Term};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use xxhash_rust::xxh3::Xxh3Default;

/// The group, and the node that sends.
pub(super) type Key = (GroupId, NodeId);

/// What a part belongs to: only the very same is ever appended to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    pub(super) incarnation: Incarnation,
    /// `None` if the sender cannot continue it.
    pub(super) transfer: Option<u64>,
    pub(super) term: Term,
    pub(super) meta: SnapshotMeta,
}

/// A part of a snapshot, in a file that goes away with it.
pub(super) struct Partial {
    pub(super) origin: Origin,
    pub(super) length: u64,
    checksum: Box<Xxh3Default>,
    file: Spool,
    room: OwnedSemaphorePermit,
}

impl Partial {
    /// Blocks.
    pub(super) fn create(
        directory: &Path,
        origin: Origin,
        room: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let file = Spool::create(directory, PREFIX, SUFFIX)?;
        Ok(Self { origin, length: 0, checksum: Box::default(), file, room })
    }

    /// Appends. Blocks. After an error the part is good for nothing.
    pub(super) fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.append(chunk)?;
        self.checksum.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }

    /// Whether it is the whole that the sender meant.
    pub(super) fn is(&self, length: u64, checksum: u128) -> bool {
        self.length == length && self.checksum.digest128() == checksum
    }

    /// The bytes from the beginning on. They take room until they are dropped, which does not
    /// block: `runtime` has a thread for that. This does.
    pub(super) fn into_data(self, runtime: Handle) -> io::Result<Box<dyn Read + Send>> {
        let Self { mut file, room, .. } = self;
        file.rewind()?;
        Ok(Box::new(Data { file: Some((file, room)), runtime }))
    }

    /// The file, which takes time to remove, and the room it took.
    pub(super) fn split(self) -> (Spool, OwnedSemaphorePermit) {
        (self.file, self.room)
    }
}

/// A snapshot as the state machine reads it. Whoever has no use for it drops it where nothing may
/// block, on the loop of a node for one.
struct Data {
    /// Until it is dropped.
    file: Option<(Spool, OwnedSemaphorePermit)>,
    runtime: Handle,
}

impl Read for Data {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |(file, _)| file.read(buffer))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let Some((mut file, room)) = self.file.take() else { return };
        file.unname();
        // Done here and now if the runtime has ended.
        self.runtime.spawn_blocking(move || {
            drop(file);
            drop(room);
        });
    }
}

/// All incoming snapshots of a transport.
pub(crate) struct Incoming {
    table: Mutex<Table>,
    /// One permit for each file there may be.
    room: Arc<Semaphore>,
    kept_for: Duration,
    runtime: Handle,
    /// Something was kept, or all is over.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    places: HashMap<Key, Entry>,
    /// The latest transfers that were handed over, newest last: their senders may ask again.
    finished: VecDeque<(Key, Origin)>,
    closed: bool,
}

/// A place and how many streams hold it or wait for it.
#[derive(Default)]
struct Entry {
    place: Arc<Place>,
    users: usize,
}

#[derive(Default)]
struct Place {
    /// Number of the latest claim.
    claims: watch::Sender<u64>,
    /// Held by the stream that writes.
    kept: Arc<tokio::sync::Mutex<Option<Kept>>>,
}

struct Kept {
    partial: Partial,
    since: Instant,
}

impl Incoming {
    pub(crate) fn new(limits: &Limits, runtime: Handle) -> Self {
        Self {
            table: Mutex::default(),
            room: Arc::new(Semaphore::new(limits.snapshots_in_max)),
            kept_for: limits.snapshot_kept,
            runtime,
            changed: Notify::new(),
        }
    }

    /// Takes over a place: the stream that holds it lets go. `None` if it does not in time, or if
    /// an even newer stream wants the place.
    pub(super) async fn claim(self: &Arc<Self>, key: Key, patience: Duration) -> Option<Claim> {
        let user = User::new(self, key);
        let mut number = 0;
        user.place.claims.send_modify(|latest| {
            *latest += 1;
            number = *latest;
        });
        let mut claims = user.place.claims.subscribe();
        let held = Arc::clone(&user.place.kept).lock_owned();
        let held = tokio::select! {
            held = timeout(patience, held) => held.ok()?,
            _ = claims.wait_for(|latest| *latest != number) => return None,
        };
        Some(Claim { held, number, claims, user })
    }

    /// Where files are removed.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Room for one more file, if need be that of the part that was kept the longest.
    pub(super) fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            return Some(room);
        }
        let mut table = self.lock();
        let oldest = table.unused().min_by_key(|(since, _)| *since).map(|(_, key)| key)?;
        let (file, room) = table.remove(oldest)?.split();
        drop(table);
        self.runtime.spawn_blocking(move || drop(file));
        Some(room)
    }

    /// Whether this very snapshot was handed over already.
    pub(super) fn has_finished(&self, key: Key, origin: &Origin) -> bool {
        origin.transfer.is_some()
            && self.lock().finished.iter().any(|(at, done)| *at == key && done == origin)
    }

    /// Remembers that a snapshot was handed over.
    pub(super) fn finish(&self, key: Key, origin: Origin) {
        const REMEMBERED: usize = 64;
        let mut table = self.lock();
        if table.finished.len() >= REMEMBERED {
            table.finished.pop_front();
        }
        table.finished.push_back((key, origin));
    }

    /// Removes every part, now and from now on.
    pub(crate) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let all: Vec<_> = table.unused().map(|(_, key)| key).collect();
        let parts: Vec<_> = all.into_iter().filter_map(|key| table.remove(key)).collect();
        drop(table);
        if !parts.is_empty() {
            self.runtime.spawn_blocking(move || drop(parts));
        }
        self.changed.notify_one();
    }

    /// Removes parts whose time is over; `None` once closed. Returns when the next one's will be.
    fn expire(&self, now: Instant) -> Option<Option<Instant>> {
        let mut table = self.lock();
        if table.closed {
            return None;
        }
        let due = |since: Instant| since + self.kept_for;
        let over: Vec<_> = table.unused().filter(|(since, _)| due(*since) <= now).collect();
        let over: Vec<_> = over.into_iter().filter_map(|(_, key)| table.remove(key)).collect();
        let next = table.unused().map(|(since, _)| due(since)).min();
        drop(table);
        if !over.is_empty() {
            tracing::info!(count = over.len(), "parts of snapshots that nobody continued removed");
            self.runtime.spawn_blocking(move || drop(over));
        }
        Some(next)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Parts that no stream has to do with, and since when.
    fn unused(&self) -> impl Iterator<Item = (Instant, Key)> {
        self.places.iter().filter(|(_, entry)| entry.users == 0).filter_map(|(key, entry)| {
            let kept = entry.place.kept.try_lock().ok()?;
            kept.as_ref().map(|kept| (kept.since, *key))
        })
    }

    /// Forgets a place that no stream has to do with.
    fn remove(&mut self, key: Key) -> Option<Partial> {
        let entry = self.places.remove(&key)?;
        let kept = entry.place.kept.try_lock().ok()?.take();
        kept.map(|kept| kept.partial)
    }
}

/// Removes parts when their time is over, until all is.
pub(crate) async fn sweep(incoming: Arc<Incoming>) {
    while let Some(next) = incoming.expire(Instant::now()) {
        match next {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = incoming.changed.notified() => {}
            },
            None => incoming.changed.notified().await,
        }
    }
}

/// A stream that holds a place or waits for it.
struct User {
    incoming: Arc<Incoming>,
    key: Key,
    place: Arc<Place>,
}

impl User {
    fn new(incoming: &Arc<Incoming>, key: Key) -> Self {
        let mut table = incoming.lock();
        let entry = table.places.entry(key).or_default();
        entry.users += 1;
        let place = Arc::clone(&entry.place);
        drop(table);
        Self { incoming: Arc::clone(incoming), key, place }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut table = self.incoming.lock();
        let Some(entry) = table.places.get_mut(&self.key) else { return };
        entry.users -= 1;
        let is_last = entry.users == 0;
        let is_empty = self.place.kept.try_lock().is_ok_and(|kept| kept.is_none());
        if is_last && (is_empty || table.closed) {
            let partial = table.remove(self.key);
            drop(table);
            if let Some(partial) = partial {
                // Done here and now if the runtime has ended.
                self.incoming.runtime.spawn_blocking(move || drop(partial));
            }
        } else {
            drop(table);
            self.incoming.changed.notify_one();
        }
    }
}

/// The right to write to a place, for as long as nobody takes it over.
pub(super) struct Claim {
    // Dropped first: who waits next must find the place free.
    held: OwnedMutexGuard<Option<Kept>>,
    number: u64,
    claims: watch::Receiver<u64>,
    user: User,
}

impl Claim {
    /// Waits until a newer stream wants the place.
    pub(super) async fn taken_over(&mut self) {
        let number = self.number;
        // Fails only without a sender, which lies in the place.
        let _ = self.claims.wait_for(|latest| *latest != number).await;
    }

    /// Takes out the part that waits here.
    pub(super) fn take(&mut self) -> Option<Partial> {
        self.held.take().map(|kept| kept.partial)
    }

    /// Leaves a part for the next stream, and lets go.
    pub(super) fn keep(mut self, partial: Partial) {
        *self.held = Some(Kept { partial, since: Instant::now() });
    }

    pub(super) fn key(&self) -> Key {
        self.user.key
    }
}
