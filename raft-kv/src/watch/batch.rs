//! What has changed of some keys, and how it is cut into messages.
//!
//! A batch refers to the records that the store holds; every watch of the same keys is given the
//! same one. Bytes are made only of the one message that is about to be sent.

use super::{Options, scaled};
use crate::api::{RANGE_BYTES_MAX, Revision, WatchId};
use crate::store::Change;
use bytes::{BufMut, BytesMut};
use raft_core::codec;
use std::sync::Arc;

/// A message holds whole revisions up to this; more only if one revision is larger.
pub(super) const MESSAGE_BYTES: usize = scaled(256 * 1024);

/// A revision above this is cut into pieces where that was asked for.
const FRAGMENT_BYTES_MAX: usize = scaled(RANGE_BYTES_MAX);

/// A revision above this is cut into pieces although that was not asked for: a frame holds no more.
const PIECE_BYTES_MAX: usize = scaled(8 * 1024 * 1024);

/// Bytes that a message takes beside its events.
pub(super) const MESSAGE_OVERHEAD: usize = 40;

/// Discriminant of [`WatchReply::Events`](crate::api::WatchReply::Events).
const EVENTS: u32 = 1;

/// Changes of the same keys, in order, of whole revisions.
pub(crate) struct Batch {
    changes: Vec<Change>,
    /// Whoever has these has seen everything up to here.
    through: u64,
    /// What was replaced at or before this revision is not told any more.
    compacted: u64,
    /// Bytes that are kept in memory as long as it is.
    held: usize,
}

/// One message: which changes, and what it says of them.
pub(super) struct Message {
    /// From here on, and before `end`, those that are wanted.
    start: usize,
    pub(super) end: usize,
    pub(super) count: usize,
    /// Bytes of the events, about; never less.
    pub(super) size: usize,
    revision: u64,
    fragment: bool,
}

impl Batch {
    pub(super) fn new(changes: Vec<Change>, through: u64, compacted: u64) -> Self {
        let held = changes.iter().map(Change::held).sum();
        Self { changes, through, compacted, held }
    }

    /// The same without what was before `from`; `None` if nothing is left.
    pub(super) fn since(self: &Arc<Self>, from: u64) -> Option<Arc<Self>> {
        let skipped = self.changes.partition_point(|change| change.revision() < from);
        match skipped {
            0 => Some(Arc::clone(self)),
            all if all == self.changes.len() => None,
            some => {
                let rest = self.changes[some..].to_vec();
                Some(Self::new(rest, self.through, self.compacted).into())
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

    /// Bytes that are kept in memory as long as it is, be they told or not.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// The message that begins with the change at `start`, or with the first one after it that is
    /// wanted; `None` if there is none.
    pub(super) fn message(&self, options: Options, start: usize) -> Option<Message> {
        let piece_max = if options.fragments() { FRAGMENT_BYTES_MAX } else { PIECE_BYTES_MAX };
        let (mut count, mut size) = (0, 0);
        // Up to where it holds whole revisions, with how many changes of how many bytes.
        let mut whole = None;
        for (at, change) in self.changes.iter().enumerate().skip(start) {
            let revision = change.revision();
            if count > 0 && self.changes[at - 1].revision() < revision {
                whole = Some((at, count, size));
            }
            if !options.wants(change) {
                continue;
            }
            let more = size + change.size(options.prev_kv());
            if let Some((end, count, size)) = whole
                && more > MESSAGE_BYTES
            {
                let revision = self.changes[end].revision() - 1;
                return Some(Message { start, end, count, size, revision, fragment: false });
            }
            if count > 0 && more > piece_max {
                return Some(Message { start, end: at, count, size, revision, fragment: true });
            }
            (count, size) = (count + 1, more);
        }
        let (end, revision) = (self.changes.len(), self.through);
        (count > 0).then_some(Message { start, end, count, size, revision, fragment: false })
    }

    /// Appends the bytes of a message of this batch for a watch.
    pub(super) fn encode(
        &self,
        message: &Message,
        id: WatchId,
        options: Options,
        out: &mut BytesMut,
    ) {
        codec::put(&(EVENTS, id, Revision(message.revision), message.count), out);
        let changes = self.changes[message.start..message.end].iter();
        for change in changes.filter(|change| options.wants(change)) {
            let prev_kv = options.prev_kv() && change.revision() > self.compacted;
            change.encode_event(prev_kv, out);
        }
        out.put_u8(u8::from(message.fragment));
    }
}
