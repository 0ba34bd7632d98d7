//! What waits to be sent over one stream, in order and bounded.

use super::Options;
use super::batch::{Batch, MESSAGE_BYTES, MESSAGE_OVERHEAD};
use crate::api::{WatchId, WatchReply};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes after which a frame is sent before more is put into it.
const FRAME_BYTES: usize = MESSAGE_BYTES;

/// What something counts beside its bytes.
const OVERHEAD: usize = 32 + size_of::<Item>();

/// One thing to be said.
pub(super) enum Item {
    /// Changes of a watch.
    Events(WatchId, Options, Arc<Batch>),
    /// Anything else.
    Reply(WatchReply),
}

/// See the module.
pub(super) struct Outbox {
    state: Mutex<State>,
    /// There is something to send, or to catch up with.
    wake: Notify,
    /// There is room again.
    room: Notify,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Of everything in `items`, and of what is being said.
    bytes: usize,
    /// Of what was taken out last: it is still being said.
    taken: usize,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let (state, wake, room) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { state, wake, room, bytes_max })
    }

    /// Queues changes of a watch. False if they do not fit; an empty outbox takes any.
    pub(super) fn offer(&self, id: WatchId, options: Options, batch: &Arc<Batch>) -> bool {
        let item = Item::Events(id, options, Arc::clone(batch));
        let size = item.size();
        let mut state = self.lock();
        if state.bytes > 0 && state.bytes + size > self.bytes_max {
            return false;
        }
        state.bytes += size;
        state.items.push_back(item);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Queues an answer, which is small, even if it is full: who asks waits for
    /// [`Outbox::has_room`] first.
    pub(super) fn push(&self, reply: WatchReply) {
        let item = Item::Reply(reply);
        let mut state = self.lock();
        state.bytes += item.size();
        state.items.push_back(item);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().bytes >= self.bytes_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Waits until it is not full.
    pub(super) async fn has_room(&self) {
        while self.is_full() {
            self.room.notified().await;
        }
    }

    /// Takes what was put in first; until the next call it counts as if it were still there. What
    /// was taken before has been said.
    pub(super) fn take(&self) -> Option<Item> {
        let mut state = self.lock();
        let item = state.items.pop_front();
        state.bytes -= state.taken;
        state.taken = item.as_ref().map_or(0, Item::size);
        drop(state);
        self.room.notify_one();
        item
    }

    /// Something else is being said, until the next [`Outbox::take`]: so many bytes are held.
    pub(super) fn hold(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes += bytes;
        state.taken += bytes;
    }

    /// Has whoever waits for something look again.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until there may be something.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Outbox {
    /// What waits.
    pub(super) fn batches(&self) -> Vec<Arc<Batch>> {
        self.lock().items.iter().filter_map(Item::batch).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }
}

impl Item {
    /// Bytes it counts.
    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Events(_, _, batch) => batch.held(),
                Self::Reply(_) => 0,
            }
    }

    #[cfg(test)]
    pub(super) fn batch(&self) -> Option<Arc<Batch>> {
        match self {
            Self::Events(_, _, batch) => Some(Arc::clone(batch)),
            Self::Reply(_) => None,
        }
    }
}

/// An item that is being said, and how far that has come.
pub(super) struct Saying {
    item: Item,
    /// The first change that was not said.
    at: usize,
}

impl Saying {
    pub(super) const fn new(item: Item) -> Self {
        Self { item, at: 0 }
    }

    #[cfg(test)]
    pub(super) const fn item(&self) -> &Item {
        &self.item
    }

    /// Puts on into `frame`, as far as it should go. True if everything was said.
    pub(super) fn write(&mut self, frame: &mut Frame) -> bool {
        let (id, options, batch) = match &self.item {
            Item::Events(id, options, batch) => (*id, *options, batch),
            Item::Reply(reply) => {
                raft_core::codec::put(reply, frame.room_for(32));
                return true;
            }
        };
        while let Some(message) = batch.message(options, self.at) {
            if !frame.fits(message.size) {
                return false;
            }
            let room = frame.room_for(message.size + MESSAGE_OVERHEAD);
            batch.encode(&message, id, options, room);
            frame.events += message.count as u64;
            self.at = message.end;
        }
        true
    }
}

/// The next frame: the version, then one reply after the other.
#[derive(Default)]
pub(super) struct Frame {
    bytes: BytesMut,
    /// How many events are in it.
    pub(super) events: u64,
}

impl Frame {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether so many bytes more should go into it; into an empty one they have to.
    fn fits(&self, size: usize) -> bool {
        self.is_empty() || self.bytes.len() + size <= FRAME_BYTES
    }

    /// Whether it should be sent before more is put into it.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FRAME_BYTES
    }

    fn room_for(&mut self, size: usize) -> &mut BytesMut {
        if self.bytes.is_empty() {
            self.bytes.reserve(size + 1);
            self.bytes.put_u8(crate::api::VERSION);
        }
        &mut self.bytes
    }

    pub(super) fn freeze(self) -> Bytes {
        self.bytes.freeze()
    }
}
