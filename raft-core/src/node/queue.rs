//! What waits for the loop: events in the order they came, and how many requests are open.
//!
//! Many threads ask one loop. Every counter and list that all of them write costs each of them a
//! wait for whichever processor wrote it last, so both are behind one lock, held for as long as it
//! takes to add an event, and the loop takes all that waits at once. What it counts alone, the
//! requests it has taken and not answered, the others look at only when there seems to be no room.

use super::event::Event;
use super::{ProposeError, QueryError};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use tokio::sync::Notify;
use tokio::task::coop::cooperative;

/// How much may wait.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Events, beside those that the loop has taken.
    pub(super) events: usize,
    /// Requests that are not answered, whether or not the loop has taken them.
    pub(super) requests: usize,
}

/// Why an event was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    Full,
    /// The loop has ended.
    Stopped,
}

impl From<Refused> for ProposeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overloaded,
            Refused::Stopped => Self::Stopped,
        }
    }
}

impl From<Refused> for QueryError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Overloaded,
            Refused::Stopped => Self::Stopped,
        }
    }
}

/// A queue, empty.
pub(super) fn queue(room: Room) -> (Entrance, Queue) {
    let (state, open) = (Mutex::default(), Arc::default());
    let shared = Arc::new(Shared { room, state, open, made_room: Notify::new() });
    (Entrance(Arc::clone(&shared)), Queue { shared, taken: VecDeque::new() })
}

/// Where events come in.
#[derive(Clone)]
pub(super) struct Entrance(Arc<Shared>);

/// Where the loop takes them.
pub(super) struct Queue {
    shared: Arc<Shared>,
    /// Those it has taken and not looked at.
    taken: VecDeque<Event>,
}

/// Requests that count as open until it is dropped.
pub(super) struct Permit {
    open: Arc<AtomicUsize>,
    count: usize,
}

struct Shared {
    room: Room,
    state: Mutex<State>,
    /// Requests that the loop has taken and not answered.
    open: Arc<AtomicUsize>,
    /// Told when somebody waits for room.
    made_room: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Requests among `events`.
    requests: usize,
    /// [`Shared::open`] when it was last looked at. Only the lock's holder adds to that, so there
    /// may be fewer by now, and never more.
    open: usize,
    /// Whether somebody waits for room.
    waits: bool,
    /// Who is to be told of the next event: the loop, if it sleeps.
    sleeper: Option<Waker>,
    stopped: bool,
}

impl Entrance {
    /// Adds what is no request.
    pub(super) fn tell(&self, event: Event) -> Result<(), Refused> {
        self.add(0, |_| event).map(drop)
    }

    /// The same, and waits for room.
    pub(super) async fn send(&self, event: Event) -> Result<(), Refused> {
        loop {
            let mut made_room = std::pin::pin!(self.0.made_room.notified());
            made_room.as_mut().enable();
            {
                let mut state = self.0.lock();
                if state.stopped {
                    return Err(Refused::Stopped);
                }
                if state.events.len() < self.0.room.events {
                    put(state, 0, event);
                    return Ok(());
                }
                state.waits = true;
            }
            made_room.await;
        }
    }

    /// Adds an event that holds one request.
    pub(super) fn ask(&self, event: Event) -> Result<(), Refused> {
        self.add(1, |_| event).map(drop)
    }

    /// Adds an event that holds as many of `count` requests as there is room for, if that is any;
    /// returns how many. `event` is told it while all others wait.
    pub(super) fn ask_many(
        &self,
        count: usize,
        event: impl FnOnce(usize) -> Event,
    ) -> Result<usize, Refused> {
        self.add(count, event)
    }

    fn add(&self, count: usize, event: impl FnOnce(usize) -> Event) -> Result<usize, Refused> {
        let shared = &*self.0;
        let mut state = shared.lock();
        if state.stopped {
            return Err(Refused::Stopped);
        }
        let admitted = count.min(shared.room_for(&mut state, count));
        if state.events.len() >= shared.room.events || (admitted == 0 && count > 0) {
            return Err(Refused::Full);
        }
        put(state, admitted, event(admitted));
        Ok(admitted)
    }
}

/// Adds `event`, of so many requests, and wakes the loop if it sleeps.
fn put(mut state: MutexGuard<'_, State>, requests: usize, event: Event) {
    state.requests += requests;
    state.events.push_back(event);
    let sleeper = state.sleeper.take();
    drop(state);
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}

impl Queue {
    /// Waits until there is an event. Whoever always finds one lets others of the runtime run now
    /// and then.
    pub(super) async fn ready(&mut self) {
        let ready = poll_fn(|context| {
            let any = !self.taken.is_empty() || self.take(Some(context.waker()));
            if any { Poll::Ready(()) } else { Poll::Pending }
        });
        cooperative(ready).await;
    }

    /// The next event, if there is one.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.taken.pop_front().or_else(|| {
            self.take(None);
            self.taken.pop_front()
        })
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.taken.len() + self.shared.lock().events.len()
    }

    /// Counts `count` requests of an event that was taken as open until it is dropped.
    pub(super) fn permit(&self, count: usize) -> Permit {
        Permit { open: Arc::clone(&self.shared.open), count }
    }

    /// Takes all events, if there are any; else remembers the `sleeper` to wake. All taken before
    /// have been looked at.
    fn take(&mut self, sleeper: Option<&Waker>) -> bool {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.events.is_empty() {
            state.sleeper = sleeper.cloned();
            return false;
        }
        std::mem::swap(&mut state.events, &mut self.taken);
        let requests = std::mem::take(&mut state.requests);
        state.open = shared.open.fetch_add(requests, Ordering::Relaxed) + requests;
        state.sleeper = None;
        if std::mem::take(&mut state.waits) {
            drop(state);
            shared.made_room.notify_waiters();
        }
        true
    }
}

/// The loop has ended: whoever waits for what is still here finds that its answer never comes.
impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        let events = std::mem::take(&mut state.events);
        drop(state);
        drop(events);
        self.shared.made_room.notify_waiters();
    }
}

impl Shared {
    /// Whether, of `count` requests more, there is room for all; else for how many.
    fn room_for(&self, state: &mut State, count: usize) -> usize {
        let left = |state: &State| self.room.requests.saturating_sub(state.requests + state.open);
        if left(state) < count {
            state.open = self.open.load(Ordering::Acquire);
        }
        left(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// For how many requests.
    pub(super) const fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(self.count, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
