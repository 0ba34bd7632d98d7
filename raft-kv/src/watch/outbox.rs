//! What waits to be sent over one stream, in order and bounded.

use super::Options;
use super::batch::Batch;
use crate::api::{WatchId, WatchReply};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes after which a frame is sent before more is put into it.
const FRAME_BYTES: usize = 256 * 1024;

/// What something counts beside its bytes.
const OVERHEAD: usize = 64;

/// One thing to be said.
pub(crate) enum Item {
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
    bytes: usize,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let (state, wake, room) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { state, wake, room, bytes_max })
    }

    /// Queues changes of a watch. False if they do not fit; an empty outbox takes any.
    pub(super) fn offer(&self, id: WatchId, options: Options, batch: &Arc<Batch>) -> bool {
        let size = batch.size(options) + OVERHEAD;
        let mut state = self.lock();
        if state.bytes > 0 && state.bytes + size > self.bytes_max {
            return false;
        }
        state.bytes += size;
        state.items.push_back(Item::Events(id, options, Arc::clone(batch)));
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Queues an answer, which is small, even if it is full: who asks waits for
    /// [`Outbox::has_room`] first.
    pub(super) fn push(&self, reply: WatchReply) {
        let mut state = self.lock();
        state.bytes += OVERHEAD;
        state.items.push_back(Item::Reply(reply));
        drop(state);
        self.wake.notify_one();
    }

    /// Waits until it is not full.
    pub(super) async fn has_room(&self) {
        while self.lock().bytes >= self.bytes_max {
            self.room.notified().await;
        }
    }

    /// Takes everything.
    pub(super) fn take(&self) -> VecDeque<Item> {
        let mut state = self.lock();
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        drop(state);
        self.room.notify_one();
        items
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

/// Turns items into frames: the version, then one reply after the other.
pub(crate) fn frames(items: VecDeque<Item>) -> impl Iterator<Item = Bytes> {
    let mut items = items.into_iter();
    let mut ready: VecDeque<Bytes> = VecDeque::new();
    std::iter::from_fn(move || {
        if let Some(frame) = ready.pop_front() {
            return Some(frame);
        }
        let mut frame = BytesMut::new();
        while frame.len() < FRAME_BYTES
            && let Some(item) = items.next()
        {
            match item {
                Item::Reply(reply) => {
                    begun(&mut frame, 32, |out| raft_core::codec::put(&reply, out))
                }
                Item::Events(id, options, batch) => batch.encode(id, options, |parts| {
                    let size: usize = parts.iter().map(Bytes::len).sum();
                    if !frame.is_empty() && frame.len() + size > FRAME_BYTES {
                        ready.push_back(frame.split().freeze());
                    }
                    begun(&mut frame, size, |out| {
                        parts.iter().for_each(|part| out.put_slice(part))
                    });
                }),
            }
        }
        if !frame.is_empty() {
            ready.push_back(frame.freeze());
        }
        ready.pop_front()
    })
}

fn begun(frame: &mut BytesMut, size: usize, write: impl FnOnce(&mut BytesMut)) {
    if frame.is_empty() {
        frame.reserve(size + 1);
        frame.put_u8(crate::api::VERSION);
    }
    write(frame);
}
