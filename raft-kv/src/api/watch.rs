//! Watches: the changes of some keys, as they happen or from a revision on.
//!
//! A client opens one stream for all its watches; both sides send these messages over it. For each
//! watch the changes come in order, each once, none left out, all of one revision together.

use super::{KeyValue, Keys, KvError, Revision, Token};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a stream to a node is for: its first frame, encoded as requests are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamRequest {
    /// Watches: every frame to the node holds [`WatchRequest`]s, every frame back
    /// [`WatchReply`]s; see [`encode_sequence`](crate::codec::encode_sequence).
    Watch {
        /// End the stream soon after the node has lost its leader, unless there is another one by
        /// then, and do not begin it without one: what happens is not told there.
        require_leader: bool,
    },
    /// A backup: the frames back are described at [`BackupBegun`](super::BackupBegun).
    Backup {
        /// Of what the node has applied, even without a quorum; else with everything that was
        /// answered before.
        local: bool,
    },
    /// A stream of somebody who has logged in.
    Signed {
        /// The token that was given out.
        token: Token,
        /// What it is for, but nothing that is signed itself.
        #[serde(deserialize_with = "crate::codec::nested")]
        request: Box<Self>,
    },
}

/// Names a watch within its stream; the client chooses.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct WatchId(pub u64);

/// What is watched.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Which keys.
    pub keys: Keys,
    /// The first revision of interest, even if it lies ahead; `None`: the next one.
    pub from: Option<Revision>,
    /// Tell with each change what was there before, if it has not been compacted.
    pub prev_kv: bool,
    /// Leave puts out.
    pub no_puts: bool,
    /// Leave deletions out.
    pub no_deletes: bool,
    /// When nothing happens, tell now and then how far it has come.
    pub progress: bool,
    /// Cut the changes of one revision into pieces when they are over
    /// [`RANGE_BYTES_MAX`](super::RANGE_BYTES_MAX).
    pub fragments: bool,
}

impl Watch {
    /// Watches `keys` from now on: puts and deletions, without what was there before.
    pub const fn of(keys: Keys) -> Self {
        Self {
            keys,
            from: None,
            prev_kv: false,
            no_puts: false,
            no_deletes: false,
            progress: false,
            fragments: false,
        }
    }
}

/// A change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// What was there before, if that was asked for.
    pub prev_kv: Option<KeyValue>,
}

/// What happened to a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EventKind {
    /// It was set.
    Put(KeyValue),
    /// It was deleted, by hand or with its lease.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision that did it.
        mod_revision: Revision,
    },
}

impl Event {
    /// The key.
    pub const fn key(&self) -> &Bytes {
        match &self.kind {
            EventKind::Put(pair) => &pair.key,
            EventKind::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub const fn revision(&self) -> Revision {
        match &self.kind {
            EventKind::Put(pair) => pair.mod_revision,
            EventKind::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

/// What a client says over its watch stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WatchRequest {
    /// Begin a watch.
    Create(WatchId, Watch),
    /// End one; unknown ones are ended already.
    Cancel(WatchId),
    /// Tell how far all watches of the stream have come, once all of them are up to date.
    Progress,
    /// The same, once that is at least this revision, even if it lies ahead.
    Reach(Revision),
}

/// What a node says over a watch stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WatchReply {
    /// The watch has begun; the store was at this revision. Its changes come after this.
    Created(WatchId, Revision),
    /// Changes of one watch, in order; those of one revision are never parted, except in pieces.
    Events {
        /// The watch.
        id: WatchId,
        /// The watch has seen everything up to here once this and the rest of its pieces are taken.
        revision: Revision,
        /// The changes.
        events: Vec<Event>,
        /// More pieces of the last revision follow.
        fragment: bool,
    },
    /// The watch has ended: the client asked for it, or it cannot go on, for example because what
    /// it would have to tell has been compacted.
    Canceled(WatchId, Option<KvError>),
    /// Everything up to this revision has been told: of one watch, or, as an answer, of all.
    Progress(Option<WatchId>, Revision),
    /// The first thing said: the history epoch that all revisions belong to; see
    /// [`Position::epoch`](super::Position::epoch).
    Opened(u64),
    /// The last thing said: the stream ends, and with it every watch. Another node may go on.
    Ended(KvError),
}
