//! What a watch was told and nobody has taken yet, and from where it goes on.
//!
//! Bounded: when it is full it takes no more, and remembers what it has not taken, so that the
//! watch can be begun again from there.

use super::WatchBatch;
use crate::api::{Event, EventKind, KeyValue, KvError, PAIR_OVERHEAD_BYTES, Revision, Watch};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most bytes of events that wait to be taken; a batch that is larger is taken alone.
const BYTES_MAX: usize = 1024 * 1024;
/// Most batches that wait.
const BATCHES_MAX: usize = 1024;
/// How long nodes may be of an earlier history: after a restore they learn of the later one by the
/// log. If all of them still are, that is the history there is.
pub(super) const BEHIND_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    watch: Watch,
    batches: VecDeque<WatchBatch>,
    bytes: usize,
    /// The lowest revision it was not told of; `None` before it has begun.
    next: Option<u64>,
    /// How many events of that revision it was told of nevertheless: a part of it.
    part: usize,
    /// How many of those a node tells again.
    again: usize,
    /// Pieces of a revision that are still to be put together.
    pieces: Vec<Event>,
    /// The store's revision when it began.
    begun: Option<Revision>,
    /// The history that its revisions belong to.
    epoch: Option<u64>,
    /// Since when it has found nodes of earlier histories only.
    behind_since: Option<Instant>,
    /// The revision of the last batch taken.
    taken: Revision,
    /// It takes no more until what waits is taken.
    full: bool,
    /// Why it has ended, until that was told.
    ended: Option<Option<KvError>>,
    /// What is to be reached, and whether the node was asked for it.
    reach: Option<(Revision, bool)>,
}

/// What is to become of a watch at a node.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// It is asked for this.
    Watch(Watch),
    /// The node has not come to the watch's history yet: another one may have.
    Behind,
    /// The watch has ended: its history is not there any more.
    Ended,
}

/// What there is to take.
pub(super) enum Taken {
    Batch(WatchBatch),
    /// Nothing, now or later.
    Ended(Option<KvError>),
    /// Nothing yet, and there will be nothing up to this revision.
    Nothing {
        seen: Revision,
    },
}

impl Queue {
    /// With an `epoch`, of that history only.
    pub(super) fn new(watch: Watch, epoch: Option<u64>) -> Self {
        let next = watch.from.map(|from| from.0.max(1));
        let state = State {
            watch,
            batches: VecDeque::new(),
            bytes: 0,
            next,
            part: 0,
            again: 0,
            pieces: Vec::new(),
            begun: None,
            epoch,
            behind_since: None,
            taken: Revision(next.map_or(0, |next| next - 1)),
            full: false,
            ended: None,
            reach: None,
        };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    /// Waits until there is something new. Create it before looking.
    pub(super) fn arrived(&self) -> tokio::sync::futures::Notified<'_> {
        self.arrived.notified()
    }

    /// Has those who wait look again.
    pub(super) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    /// Takes the first batch; with a `limit`, one that begins up to there.
    pub(super) fn take(&self, limit: Option<Revision>) -> Taken {
        let mut state = self.lock();
        let begins =
            |batch: &WatchBatch| batch.events.first().map_or(batch.revision, Event::revision);
        let fits = |batch: &WatchBatch| limit.is_none_or(|limit| begins(batch) <= limit);
        if state.batches.front().is_some_and(fits)
            && let Some(batch) = state.batches.pop_front()
        {
            state.bytes -= size(&batch.events);
            state.taken = state.taken.max(batch.revision);
            return Taken::Batch(batch);
        }
        if let Some(batch) = state.batches.front() {
            return Taken::Nothing { seen: Revision(begins(batch).0.saturating_sub(1)) };
        }
        match &mut state.ended {
            Some(error) => Taken::Ended(error.take()),
            None => Taken::Nothing { seen: state.seen() },
        }
    }

    pub(super) fn begun(&self) -> Option<Revision> {
        let state = self.lock();
        state.begun.or_else(|| state.ended.is_some().then_some(Revision(0)))
    }

    /// Up to where everything was told and taken.
    pub(super) fn position(&self) -> Revision {
        let state = self.lock();
        if state.batches.is_empty() { state.seen().max(state.taken) } else { state.taken }
    }

    /// Asks to be told when everything up to `revision` was told. Whether that is news.
    pub(super) fn ask(&self, revision: Revision) -> bool {
        let mut state = self.lock();
        let news = state.reach.is_none_or(|(known, _)| known != revision);
        if news {
            state.reach = Some((revision, false));
        }
        news
    }

    /// What the node is to be asked for, once.
    pub(super) fn question(&self) -> Option<Revision> {
        let mut state = self.lock();
        let (revision, asked) = state.reach.as_mut()?;
        (!std::mem::replace(asked, true)).then_some(*revision)
    }

    /// Whether it takes more.
    pub(super) fn is_open(&self) -> bool {
        let state = self.lock();
        !state.full && state.ended.is_none()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Whether it was full and has room again; it takes more from now on.
    pub(super) fn is_to_resume(&self) -> bool {
        let mut state = self.lock();
        let room = state.bytes <= BYTES_MAX / 2 && state.batches.len() <= BATCHES_MAX / 2;
        let resume = state.full && room;
        if resume {
            state.full = false;
        }
        resume
    }

    /// What to ask a node of this history for.
    pub(super) fn begin(&self, epoch: u64) -> Begin {
        let mut state = self.lock();
        let asked = state.epoch;
        match asked {
            Some(asked) if asked > epoch && state.is_patient() => Begin::Behind,
            Some(asked) if asked != epoch => {
                state.ended = Some(Some(KvError::OtherHistory { asked, current: epoch }));
                drop(state);
                self.arrived.notify_waiters();
                Begin::Ended
            }
            _ => {
                state.pieces.clear();
                state.again = state.part;
                if let Some((_, asked)) = &mut state.reach {
                    *asked = false;
                }
                let from = state.next.map(Revision);
                Begin::Watch(Watch { from, ..state.watch.clone() })
            }
        }
    }

    /// A node has begun it.
    pub(super) fn created(&self, revision: Revision, epoch: u64) {
        let mut state = self.lock();
        state.epoch = Some(epoch);
        state.behind_since = None;
        state.begun.get_or_insert(revision);
        if state.next.is_none() {
            state.next = Some(revision.0 + 1);
            state.taken = revision;
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Takes in what a node tells. False if it is full: the watch is to be ended there.
    pub(super) fn deliver(&self, events: Vec<Event>, revision: Revision, fragment: bool) -> bool {
        let mut state = self.lock();
        let taken = state.deliver(events, revision, fragment);
        state.full |= !taken;
        drop(state);
        self.arrived.notify_waiters();
        taken
    }

    /// Everything up to `revision` was told; `told` if that was said of this watch alone.
    pub(super) fn progress(&self, revision: Revision, told: bool) {
        let mut state = self.lock();
        state.advance(revision.0 + 1);
        if told && state.watch.progress && state.batches.len() < BATCHES_MAX {
            state.batches.push_back(WatchBatch { events: Vec::new(), revision, fragment: false });
        }
        drop(state);
        self.arrived.notify_waiters();
    }

    /// It cannot go on.
    pub(super) fn end(&self, error: Option<KvError>) {
        self.lock().ended.get_or_insert(error);
        self.arrived.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement leaves it consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a node of an earlier history may yet come to this one.
    fn is_patient(&mut self) -> bool {
        self.behind_since.get_or_insert_with(Instant::now).elapsed() < BEHIND_MAX
    }

    fn seen(&self) -> Revision {
        Revision(self.next.map_or(0, |next| next - 1))
    }

    fn advance(&mut self, next: u64) {
        if self.next.is_none_or(|known| next > known) {
            self.next = Some(next);
            (self.part, self.again) = (0, 0);
        }
    }

    fn deliver(&mut self, mut events: Vec<Event>, revision: Revision, fragment: bool) -> bool {
        if !self.watch.fragments {
            self.pieces.append(&mut events);
            if fragment {
                return true;
            }
            events = std::mem::take(&mut self.pieces);
        }
        // A part of a revision that was told before the watch went on elsewhere.
        let from = self.next.unwrap_or_default();
        events.retain(|event| event.revision().0 >= from);
        let of_part = events.iter().take_while(|event| event.revision().0 == from).count();
        let again = of_part.min(self.again);
        self.again -= again;
        events.drain(..again);
        if events.is_empty() {
            if !fragment {
                self.advance(revision.0 + 1);
            }
            return true;
        }
        let size = size(&events);
        let waiting = self.batches.len();
        if waiting > 0 && (waiting >= BATCHES_MAX || self.bytes + size > BYTES_MAX) {
            return false;
        }
        if fragment {
            let last = events.last().map_or(revision, Event::revision);
            self.advance(last.0);
            self.part += events.iter().filter(|event| event.revision() == last).count();
        } else {
            self.advance(revision.0 + 1);
        }
        self.bytes += size;
        self.batches.push_back(WatchBatch { events, revision, fragment });
        true
    }
}

fn size(events: &[Event]) -> usize {
    let pair = |pair: &KeyValue| pair.key.len() + pair.value.len() + 2 * PAIR_OVERHEAD_BYTES;
    let event = |event: &Event| {
        let kind = match &event.kind {
            EventKind::Put(put) => pair(put),
            EventKind::Delete { key, .. } => key.len() + PAIR_OVERHEAD_BYTES,
        };
        kind + event.prev_kv.as_ref().map_or(0, pair)
    };
    events.iter().map(event).sum()
}
