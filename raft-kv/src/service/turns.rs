//! Turns: what goes through many keys does so a few at a time, whoever asks. It is the one place
//! where requests wait for each other by choice.
//!
//! There are two lines: one for pages, which end after a few parts, and one for what goes through
//! everything that was asked for. In each line stands one request of a connection at a time; its
//! others wait behind that one. So a client that counts millions of keys, over and over and many
//! times at once, takes one of the two places: whoever else counts has the other one, and waits for
//! as many turns as there are connections before it, not requests.

use super::Clock;
use super::auth::Whose;
use crate::api::KvError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

/// How many of each line are served at once: while one is between two parts, another one is read.
const AT_ONCE: usize = 2;

/// Most parts of a read that is a page: a reply is full of the smallest pairs after three.
const PAGE_PARTS_MAX: u32 = 3;

/// Who goes through how much.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Line {
    /// No more than a reply holds, from where it begins.
    Pages,
    /// Everything there is.
    Everything,
}

impl Line {
    /// After how many parts a read is to stand in the other line.
    pub(super) const fn parts_max(self) -> u32 {
        match self {
            Self::Pages => PAGE_PARTS_MAX,
            Self::Everything => u32::MAX,
        }
    }
}

/// See the module.
pub(super) struct Turns {
    pages: Semaphore,
    everything: Semaphore,
    /// The connections that have requests in a line or behind it; the others are not kept.
    places: Mutex<BTreeMap<(Line, Whose), Place>>,
}

/// Where one connection's requests wait for each other.
struct Place {
    /// Held by the one that stands in the line, or has its turn.
    own: Arc<Semaphore>,
    /// Requests of the connection that there are.
    requests: usize,
}

/// A request's turn, until it is dropped.
pub(super) struct Turn<'a> {
    // In the order in which they are given back.
    _turn: SemaphorePermit<'a>,
    _own: OwnedSemaphorePermit,
    _waiting: Waiting<'a>,
}

/// One request of a connection, as long as it is there.
struct Waiting<'a> {
    turns: &'a Turns,
    place: (Line, Whose),
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self {
            pages: Semaphore::const_new(AT_ONCE),
            everything: Semaphore::const_new(AT_ONCE),
            places: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits for a turn, which lasts until what is returned is dropped. Whoever waits is to hold
    /// nothing of the data meanwhile: any number may.
    ///
    /// # Errors
    /// That there are too many, once it is too late to answer. Other nodes may have time.
    pub(super) async fn take(
        &self,
        line: Line,
        whose: Whose,
        clock: Clock,
    ) -> Result<Turn<'_>, KvError> {
        let turn = timeout_at(clock.answer_by, self.wait(line, whose)).await;
        turn.ok().flatten().ok_or_else(|| {
            let waited = clock.waited().as_secs_f64();
            let text = format!("too many large reads: no turn for this one within {waited:.1} s");
            KvError::Unavailable(text)
        })
    }

    /// `None` never: the lines are not closed.
    async fn wait(&self, line: Line, whose: Whose) -> Option<Turn<'_>> {
        let (waiting, own) = self.enter((line, whose));
        let own = own.acquire_owned().await.ok()?;
        let places = match line {
            Line::Pages => &self.pages,
            Line::Everything => &self.everything,
        };
        Some(Turn { _turn: places.acquire().await.ok()?, _own: own, _waiting: waiting })
    }

    fn enter(&self, place: (Line, Whose)) -> (Waiting<'_>, Arc<Semaphore>) {
        let mut places = self.places();
        let new = || Place { own: Arc::new(Semaphore::new(1)), requests: 0 };
        let entered = places.entry(place).or_insert_with(new);
        entered.requests += 1;
        (Waiting { turns: self, place }, Arc::clone(&entered.own))
    }

    /// Connections that have requests here.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.places().len()
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(Line, Whose), Place>> {
        // Every statement leaves them consistent.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut places = self.turns.places();
        if let Some(place) = places.get_mut(&self.place) {
            place.requests -= 1;
            if place.requests == 0 {
                places.remove(&self.place);
            }
        }
    }
}
