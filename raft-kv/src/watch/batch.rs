//! What has changed of some keys, and its bytes: made once for all watches that want the same.

use super::Options;
use crate::api::{RANGE_BYTES_MAX, Revision, WatchId};
use crate::store::Change;
use bytes::{BufMut, Bytes, BytesMut};
use raft_core::codec;
use std::sync::{Arc, Mutex, PoisonError};

/// A message holds whole revisions up to this; more only if one revision is larger.
const MESSAGE_BYTES: usize = RANGE_BYTES_MAX;

/// A revision above this is cut into pieces although that was not asked for: a frame holds no more.
const PIECE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Discriminant of [`WatchReply::Events`](crate::api::WatchReply::Events).
const EVENTS: u32 = 1;

/// Changes of the same keys, in order, of whole revisions.
pub(crate) struct Batch {
    changes: Vec<Change>,
    /// Whoever has these has seen everything up to here.
    through: u64,
    /// What was replaced at or before this revision is not told any more.
    compacted: u64,
    /// The messages made so far, by what the watch asked for.
    made: Mutex<Vec<(Options, Messages)>>,
}

/// The messages of a batch.
type Messages = Arc<[Message]>;

/// One message, without the watch it is for.
struct Message {
    revision: u64,
    /// The list of events, encoded.
    events: Bytes,
    fragment: bool,
}

impl Batch {
    pub(super) fn new(changes: Vec<Change>, through: u64, compacted: u64) -> Self {
        Self { changes, through, compacted, made: Mutex::default() }
    }

    /// The same without what was before `from`; `None` if nothing is left.
    pub(super) fn since(self: &Arc<Self>, from: u64) -> Option<Arc<Self>> {
        let skipped = self.changes.partition_point(|change| change.revision() < from);
        match skipped {
            0 => Some(Arc::clone(self)),
            all if all == self.changes.len() => None,
            some => {
                let rest = self.changes[some..].to_vec();
                Some(Arc::new(Self::new(rest, self.through, self.compacted)))
            }
        }
    }

    /// The revision of the first change.
    pub(super) fn first(&self) -> u64 {
        self.changes.first().map_or(self.through, Change::revision)
    }

    /// Whether a watch with these options is told any of it.
    pub(super) fn concerns(&self, options: Options) -> bool {
        self.changes.iter().any(|change| options.wants(change))
    }

    /// Bytes of the messages for one watch, about.
    pub(super) fn size(&self, options: Options) -> usize {
        let wanted = self.changes.iter().filter(|change| options.wants(change));
        wanted.map(|change| change.size(options.prev_kv())).sum()
    }

    /// Hands the messages for a watch to `each`, encoded.
    pub(super) fn encode(&self, id: WatchId, options: Options, mut each: impl FnMut(&[Bytes; 3])) {
        for message in &*self.messages(options) {
            let mut head = BytesMut::with_capacity(24);
            codec::put(&(EVENTS, id, Revision(message.revision)), &mut head);
            let tail: &'static [u8] = if message.fragment { &[1] } else { &[0] };
            each(&[head.freeze(), message.events.clone(), Bytes::from_static(tail)]);
        }
    }

    fn messages(&self, options: Options) -> Messages {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, messages)) = made.iter().find(|(known, _)| *known == options) {
            return Arc::clone(messages);
        }
        let messages: Messages = self.make(options).into();
        made.push((options, Arc::clone(&messages)));
        messages
    }

    fn make(&self, options: Options) -> Vec<Message> {
        let piece_max = if options.fragments() { MESSAGE_BYTES } else { PIECE_BYTES_MAX };
        let mut messages = Vec::new();
        let mut open = Events::default();
        let wanted: Vec<&Change> =
            self.changes.iter().filter(|change| options.wants(change)).collect();
        for of_revision in wanted.chunk_by(|one, next| one.revision() == next.revision()) {
            let size: usize = of_revision.iter().map(|one| one.size(options.prev_kv())).sum();
            if open.count > 0 && open.size + size > MESSAGE_BYTES {
                // Whole revisions so far; the next one is told later.
                messages.push(open.close(of_revision[0].revision() - 1, false));
            }
            for change in of_revision {
                let size = change.size(options.prev_kv());
                if open.count > 0 && open.size + size > piece_max {
                    messages.push(open.close(change.revision(), true));
                }
                let prev_kv = options.prev_kv() && change.revision() > self.compacted;
                change.encode_event(prev_kv, &mut open.bytes);
                open.size += size;
                open.count += 1;
            }
        }
        if open.count > 0 {
            messages.push(open.close(self.through, false));
        }
        messages
    }
}

/// A list of events that grows.
#[derive(Default)]
struct Events {
    bytes: BytesMut,
    size: usize,
    count: usize,
}

impl Events {
    fn close(&mut self, revision: u64, fragment: bool) -> Message {
        let Self { bytes, count, .. } = std::mem::take(self);
        let mut events = BytesMut::with_capacity(bytes.len() + 5);
        codec::put(&count, &mut events);
        events.put_slice(&bytes);
        Message { revision, events: events.freeze(), fragment }
    }
}
