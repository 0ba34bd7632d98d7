//! Turns: what goes through many keys does so a few at a time, whoever asks. It is the one place
//! where requests wait for each other by choice.
//!
//! There are two lines: one for pages, which end after a few parts, and one for what goes through
//! everything that was asked for. A client that counts millions of keys, over and over, keeps
//! others that count waiting, and nobody else.

use super::Clock;
use crate::api::KvError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

/// How many of each line are served at once: while one is between two parts, another one is read.
const AT_ONCE: usize = 2;

/// Most parts of a read that is a page: a reply is full of the smallest pairs after three.
const PAGE_PARTS_MAX: u32 = 3;

/// Who goes through how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self { pages: Semaphore::const_new(AT_ONCE), everything: Semaphore::const_new(AT_ONCE) }
    }

    /// Waits for a turn, which lasts until what is returned is dropped. Whoever waits is to hold
    /// nothing of the data meanwhile: any number may.
    ///
    /// # Errors
    /// That there are too many, once it is too late to answer. Other nodes may have time.
    pub(super) async fn take(
        &self,
        line: Line,
        clock: Clock,
    ) -> Result<SemaphorePermit<'_>, KvError> {
        let places = match line {
            Line::Pages => &self.pages,
            Line::Everything => &self.everything,
        };
        let turn = timeout_at(clock.answer_by, places.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            let waited = clock.waited().as_secs_f64();
            let text = format!("too many large reads: no turn for this one within {waited:.1} s");
            KvError::Unavailable(text)
        })
    }
}
