//! When ticks pass.
//!
//! A tick that the core has nothing to do at wakes nobody: it is counted when the next one is due,
//! or before whatever else comes first. So an idle node sleeps from one heartbeat to the next.
//!
//! Ticks that were missed are not made up for: a process that was paused has not heard anything
//! meanwhile, and an overloaded one should not hold elections. Of those it meant to sleep through
//! it counts no more than have passed.

use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Most ticks that are slept through, so that what the node shows of itself is not older.
const IDLE_TICKS_MAX: u64 = 15;

pub(super) struct Clock {
    tick: Duration,
    /// When the last tick that was counted passed.
    last: Instant,
    /// As many ticks from then on the next one is due.
    planned: u32,
    sleep: Pin<Box<Sleep>>,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn new(tick: Duration) -> Self {
        let last = Instant::now();
        Self { tick, last, planned: 1, sleep: Box::pin(sleep_until(last + tick)) }
    }

    /// Has [`due`](Self::due) sleep through the next `idle` ticks.
    pub(super) fn plan(&mut self, idle: u64) {
        self.planned = 1 + idle.min(IDLE_TICKS_MAX) as u32;
        let at = self.last + self.tick * self.planned;
        if self.sleep.deadline() != at {
            self.sleep.as_mut().reset(at);
        }
    }

    /// Waits for the tick that was planned.
    pub(super) async fn due(&mut self) {
        self.sleep.as_mut().await;
    }

    /// How many of the ticks that were planned have passed at `now`: none is told of twice.
    pub(super) fn passed(&mut self, now: Instant) -> u32 {
        let mut passed = 0;
        while passed < self.planned && now >= self.last + self.tick {
            self.last += self.tick;
            passed += 1;
        }
        if passed > 0 && passed == self.planned {
            self.last = now;
        }
        // The rest is still planned: it is asked again before the next plan is made.
        self.planned -= passed;
        passed
    }

    /// What had come is taken in at `now`. Of the ticks that passed meanwhile all but one were
    /// missed, as if the process had been paused: what was said after them counts as heard before.
    pub(super) fn taken_in(&mut self, now: Instant) {
        self.last = now.checked_sub(self.tick).map_or(self.last, |least| self.last.max(least));
    }
}

#[cfg(test)]
mod tests;
