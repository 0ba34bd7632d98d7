//! Client sessions: each request of a session runs once, however often it comes (thesis §6.3).
//!
//! Sessions are part of the replicated state: everything here follows from the log alone. A reply
//! is kept until its client says that it has it, so that a repeated request gets the same answer.
//! Memory is bounded three ways, each without running anything twice:
//!
//! - a request further than [`SESSION_WINDOW_MAX`] above the lowest unanswered one is refused and
//!   may be sent again later;
//! - a session keeps [`SESSION_BYTES_MAX`] of replies, enough for a full window of plain puts; of
//!   a request beyond it only the fact is kept that it ran, and its repetition is told just that;
//! - over [`SESSIONS_MAX`] sessions or [`REPLY_BYTES_TOTAL_MAX`] bytes of replies, the sessions
//!   used least recently, by log index, are dropped. Their later requests are refused, not run.
//!
//! So are sessions unused for [`SESSION_IDLE_MS`]. When a session was used is told by the log index
//! of its last request: whatever lies below the index of a stamp that old (see [`super::time`]) is
//! as old at least. Sessions are kept in order of the minute of their last use, so that neither a
//! request nor a stamp looks at those that are in use.
//!
//! Replies to requests that only read are not kept at all: running those again is harmless.

use super::check::{Changed, RollEntry};
use super::time::Time;
use crate::api::{KvError, RequestId, SESSION_WINDOW_MAX, SessionId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 64 * 1024;
/// Most bytes of replies one session keeps, [`REPLY_OVERHEAD`] for each included.
pub const SESSION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of replies all sessions keep.
pub const REPLY_BYTES_TOTAL_MAX: usize = 256 * 1024 * 1024;
/// How long a session lives without a request, in milliseconds; a minute or two longer.
pub const SESSION_IDLE_MS: u64 = 3_600_000;
/// Bytes a kept reply counts besides its own.
pub const REPLY_OVERHEAD: usize = 64;

/// The sessions, by id.
pub(super) struct Sessions {
    slots: BTreeMap<u64, Slot>,
    /// Every session by its `Slot::mark` and its id.
    by_mark: BTreeSet<(u64, u64)>,
    /// Bytes of all kept replies.
    bytes: usize,
    /// Ids of sessions changed or dropped since the last [`Sessions::take_changes`], each once;
    /// `None` if nobody will ask.
    changed: Option<Vec<u64>>,
}

struct Slot {
    /// Shared with a checkpoint that is being written; copied if it changes meanwhile.
    session: Arc<Session>,
    /// Log index of the last mark of time at its last request; see [`Time::mark_at`].
    mark: u64,
    /// Whether the id is in `changed`.
    changed: bool,
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Session {
    /// Log index of its last request.
    last_used: u64,
    /// Every request below has its answer.
    unanswered_from: u64,
    /// The requests from there on that ran, with their replies; `None` for one too large to keep.
    replies: BTreeMap<u64, Option<Bytes>>,
    /// Bytes that `replies` count.
    #[serde(skip)]
    bytes: usize,
    /// The user who has opened it, where users count. It has a form of its own in bytes.
    #[serde(skip)]
    pub(super) owner: Option<Box<str>>,
}

/// What is to be done with a request.
pub(super) enum Admission {
    /// It is new: run it, then [`Sessions::keep`] the reply.
    Run,
    /// It ran before, with this reply.
    Repeated(Bytes),
    /// It is answered with an error and not run.
    Refused(KvError),
}

/// A session as a checkpoint records it: its id, and `None` if it is gone.
pub(super) type SessionChange = (u64, Option<Arc<Session>>);

impl Sessions {
    /// No sessions; `checkpoints`: whether changes are collected for one.
    pub(super) fn new(checkpoints: bool) -> Self {
        let (slots, by_mark) = (BTreeMap::new(), BTreeSet::new());
        Self { slots, by_mark, bytes: 0, changed: checkpoints.then(Vec::new) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Opens the session that entry `index` asks for, under an id that none has had.
    pub(super) fn open(
        &mut self,
        id: u64,
        index: u64,
        time: &Time,
        owner: Option<&str>,
    ) -> SessionId {
        if self.slots.len() >= SESSIONS_MAX {
            self.drop_oldest();
        }
        let owner = owner.map(Into::into);
        let session = Session { last_used: index, unanswered_from: 1, owner, ..Session::default() };
        let mark = time.last_mark();
        let mut slot = Slot { session: Arc::new(session), mark, changed: false };
        slot.mark_changed(id, &mut self.changed);
        self.slots.insert(id, slot);
        self.by_mark.insert((mark, id));
        SessionId(id)
    }

    /// Whether the session is `owner`'s; one that is unknown is nobody's.
    pub(super) fn belongs_to(&self, id: SessionId, owner: Option<&str>) -> bool {
        self.slots.get(&id.0).is_some_and(|slot| slot.session.owner.as_deref() == owner)
    }

    /// Takes the request of entry `index`.
    pub(super) fn admit(&mut self, request: &RequestId, index: u64, time: &Time) -> Admission {
        let RequestId { session: id, seq, unanswered_from } = *request;
        if seq == 0 || unanswered_from > seq {
            let text = format!("request {seq} with {unanswered_from} the lowest unanswered");
            return Admission::Refused(KvError::Malformed(text));
        }
        let Some(slot) = self.slots.get_mut(&id.0) else {
            return Admission::Refused(KvError::SessionUnknown(id));
        };
        let mark = time.last_mark();
        if slot.mark != mark {
            self.by_mark.remove(&(slot.mark, id.0));
            self.by_mark.insert((mark, id.0));
            slot.mark = mark;
        }
        let session = slot.change(id.0, &mut self.changed);
        session.last_used = index;
        self.bytes -= session.forget_below(unanswered_from);
        let Some(ahead) = seq.checked_sub(session.unanswered_from) else {
            return Admission::Refused(KvError::AnsweredBefore(seq));
        };
        match session.replies.get(&seq) {
            Some(Some(reply)) => Admission::Repeated(reply.clone()),
            Some(None) => Admission::Refused(KvError::AnsweredBefore(seq)),
            None if ahead >= SESSION_WINDOW_MAX => Admission::Refused(KvError::Overloaded),
            None => Admission::Run,
        }
    }

    /// Keeps the reply to a request that [`Sessions::admit`] let run.
    pub(super) fn keep(&mut self, request: &RequestId, reply: &[u8]) {
        let id = request.session.0;
        let slot = self.slots.get_mut(&id).expect("the session admitted the request");
        let session = slot.change(id, &mut self.changed);
        let fits = session.bytes + REPLY_OVERHEAD + reply.len() <= SESSION_BYTES_MAX;
        // An own copy: the reply shares a buffer with those of its whole run.
        let kept = fits.then(|| Bytes::copy_from_slice(reply));
        let size = size(kept.as_ref());
        session.bytes += size;
        self.bytes += size;
        session.replies.insert(request.seq, kept);
        if self.bytes > REPLY_BYTES_TOTAL_MAX {
            self.drop_oldest();
        }
    }

    /// Takes what has changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<SessionChange> {
        let changed = self.changed.as_mut().map(mem::take).unwrap_or_default();
        let mut change = |id| {
            let slot = self.slots.get_mut(&id)?;
            slot.changed = false;
            Some(Arc::clone(&slot.session))
        };
        changed.into_iter().map(|id| (id, change(id))).collect()
    }

    /// Every session, by id.
    pub(super) fn all(&self) -> Vec<SessionChange> {
        let shared = |(id, slot): (&u64, &Slot)| (*id, Some(Arc::clone(&slot.session)));
        self.slots.iter().map(shared).collect()
    }

    /// Calls `each` for every session from `start` on, in order, until it breaks off.
    pub(super) fn visit_from(
        &self,
        start: u64,
        mut each: impl FnMut(RollEntry) -> ControlFlow<()>,
    ) {
        for (id, slot) in self.slots.range(start..) {
            if each(slot.session.entry(*id)).is_break() {
                return;
            }
        }
    }

    /// Takes in a session of a checkpoint or snapshot.
    pub(super) fn load(&mut self, id: u64, mut session: Session) {
        session.bytes = session.replies.values().map(|reply| size(reply.as_ref())).sum();
        self.bytes += session.bytes;
        self.slots.insert(id, Slot { session: Arc::new(session), mark: 0, changed: false });
    }

    /// Ends loading: `time` is what it was when the sessions were stored.
    pub(super) fn loaded(&mut self, time: &Time) {
        for slot in self.slots.values_mut() {
            slot.mark = time.mark_at(slot.session.last_used);
        }
        self.by_mark = self.slots.iter().map(|(id, slot)| (slot.mark, *id)).collect();
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        let ids: Vec<u64> = self.slots.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Drops the sessions last used by an entry below `index`, which is that of a mark; returns
    /// them, in order.
    pub(super) fn drop_unused(&mut self, index: u64) -> Vec<SessionId> {
        // The marks of those that are older differ between nodes: who they are must not follow
        // from anything else.
        let unused = self.by_mark.range(..(index, 0));
        let mut unused: Vec<_> = unused.map(|(_, id)| SessionId(*id)).collect();
        unused.sort_unstable();
        for id in &unused {
            self.remove(id.0);
        }
        unused
    }

    /// Drops the sessions used least recently: a sixteenth of what there may be at once, so that
    /// finding them costs little for each.
    fn drop_oldest(&mut self) {
        let mut by_use: Vec<(u64, u64)> =
            self.slots.iter().map(|(id, slot)| (slot.session.last_used, *id)).collect();
        by_use.sort_unstable();
        for (_, id) in by_use {
            let sessions_fit = self.slots.len() <= SESSIONS_MAX / 16 * 15;
            if sessions_fit && self.bytes <= REPLY_BYTES_TOTAL_MAX / 16 * 15 {
                break;
            }
            self.remove(id);
        }
    }

    /// Drops a session, which there is.
    fn remove(&mut self, id: u64) {
        let mut slot = self.slots.remove(&id).expect("it was found in one of the orders");
        slot.mark_changed(id, &mut self.changed);
        self.by_mark.remove(&(slot.mark, id));
        self.bytes -= slot.session.bytes;
    }
}

impl Slot {
    /// The session, to be changed.
    fn change(&mut self, id: u64, changed: &mut Option<Vec<u64>>) -> &mut Session {
        self.mark_changed(id, changed);
        Arc::make_mut(&mut self.session)
    }

    fn mark_changed(&mut self, id: u64, changed: &mut Option<Vec<u64>>) {
        if let Some(changed) = changed
            && !mem::replace(&mut self.changed, true)
        {
            changed.push(id);
        }
    }
}

impl Session {
    /// The same session of a user.
    pub(super) fn owned(self, owner: Option<Box<str>>) -> Self {
        Self { owner, ..self }
    }

    /// Its entry in the roll. It changes with its last request, and with nothing else. Of a reply
    /// that is an error, only which error it is counts: another version may word it differently.
    fn entry(&self, id: u64) -> RollEntry {
        /// Version, `Err`, which one.
        const ERROR: usize = 3;
        let mut hash = Xxh3::new();
        let mut bytes = 0;
        for number in [id, self.last_used, self.unanswered_from, self.replies.len() as u64] {
            hash.update(&number.to_le_bytes());
        }
        for (seq, reply) in &self.replies {
            let reply = reply.as_deref();
            let told = match reply {
                Some([_, 1, ..]) => reply.map(|reply| &reply[..reply.len().min(ERROR)]),
                _ => reply,
            };
            let length = told.map_or(u64::MAX, |told| told.len() as u64);
            hash.update(&seq.to_le_bytes());
            hash.update(&length.to_le_bytes());
            hash.update(told.unwrap_or_default());
            bytes += REPLY_OVERHEAD + told.map_or(0, <[u8]>::len);
        }
        hash.update(self.owner.as_deref().unwrap_or_default().as_bytes());
        RollEntry { id, hash: hash.digest(), bytes, changed: Changed::By(self.last_used) }
    }

    /// Forgets the replies below `unanswered_from`; returns how many bytes they counted. A delayed
    /// request may name a lower one than is known: that takes nothing back.
    fn forget_below(&mut self, unanswered_from: u64) -> usize {
        self.unanswered_from = self.unanswered_from.max(unanswered_from);
        let mut forgotten = 0;
        while let Some(first) = self.replies.first_entry()
            && *first.key() < self.unanswered_from
        {
            forgotten += size(first.remove().as_ref());
        }
        self.bytes -= forgotten;
        forgotten
    }
}

fn size(reply: Option<&Bytes>) -> usize {
    REPLY_OVERHEAD + reply.map_or(0, Bytes::len)
}
