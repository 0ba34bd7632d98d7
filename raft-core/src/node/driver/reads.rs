//! Reads of every freshness: when they may be handed to the state machine, and until when what it
//! answers is fresh.
//!
//! The core counts ticks; here they get the time at which they began, because a lease is about real
//! time: a process that was paused counts few ticks, while the others went on.

use super::Driver;
use crate::node::ReadMode;
use crate::node::applier::Job;
use crate::node::event::{Horizon, Query};
use crate::types::Index;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many ticks back the time is known. Leases reach back less than an election timeout; what is
/// older is computed from the oldest.
const TICKS_KEPT: usize = 1024;

/// Up to this delay the runtime makes up for a tick that came late.
const CATCH_UP: Duration = Duration::from_millis(5);

/// When the last ticks began.
pub(super) struct TickTimes {
    /// The number of the last one.
    last: u64,
    /// When they began, the last one at the back.
    began: VecDeque<Instant>,
}

impl TickTimes {
    /// Begins with tick 0.
    pub(super) fn new() -> Self {
        Self { last: 0, began: VecDeque::from([Instant::now()]) }
    }

    /// The next tick begins.
    pub(super) fn tick(&mut self) {
        if self.began.len() == TICKS_KEPT {
            self.began.pop_front();
        }
        self.last += 1;
        self.began.push_back(Instant::now());
    }

    /// When `tick` began, or none if that is not known any more.
    fn at(&self, tick: u64) -> Option<Instant> {
        let back = usize::try_from(self.last.checked_sub(tick)?).ok()?;
        let position = self.began.len().checked_sub(back + 1)?;
        self.began.get(position).copied()
    }

    /// About when `tick` began, however long ago that was, for ticks of this `length`.
    fn about(&self, tick: u64, length: Duration) -> Option<Instant> {
        self.at(tick).or_else(|| {
            let oldest = self.last + 1 - self.began.len() as u64;
            let before = u32::try_from(oldest.checked_sub(tick)?).ok()?;
            self.began.front()?.checked_sub(length.saturating_mul(before))
        })
    }
}

impl Driver {
    pub(super) fn on_query(&mut self, query: Query) {
        match query.mode {
            ReadMode::Linearizable => self.confirm(query),
            ReadMode::Lease => match self.lease() {
                Some((index, _)) => self.requests.waits_for(index, query),
                None => self.confirm(query),
            },
            ReadMode::AtLeast(index) => self.requests.waits_for(index, query),
            ReadMode::Local => self.read(query),
        }
    }

    /// Has a quorum confirm that it may be answered.
    pub(super) fn confirm(&mut self, mut query: Query) {
        query.mode = ReadMode::Linearizable;
        let batch = self.raft.read();
        self.asked = true;
        self.requests.queried(batch, query);
    }

    /// Hands over the queries whose index is handed to the state machine.
    pub(super) fn read_ready(&mut self) {
        if !self.requests.any_confirmed() {
            return;
        }
        for query in self.requests.ready(self.handed) {
            self.read(query);
        }
    }

    fn read(&mut self, query: Query) {
        let horizon = match query.mode {
            ReadMode::Linearizable => Horizon::Confirmed,
            ReadMode::Lease => match self.lease() {
                Some((_, until)) => Horizon::Lease { until },
                // It ended while the index was waited for.
                None => return self.confirm(query),
            },
            ReadMode::AtLeast(_) | ReadMode::Local => {
                let contact = self.contact.max(self.raft.contact());
                Horizon::Contact(
                    contact.and_then(|tick| self.tick_times.about(tick, self.config.tick)),
                )
            }
        };
        self.give_applier(Job::Query(query, horizon));
    }

    /// The index at which a read is fresh as long as the lease lasts, and until when it does.
    ///
    /// A tick less than the core says: the first of a follower's ticks may be nearly over when it
    /// hears the leader.
    fn lease(&self) -> Option<(Index, Instant)> {
        let lease = self.raft.lease()?;
        let ticks = u32::try_from(lease.ticks).ok()?.saturating_sub(1);
        let length = self.config.tick.checked_mul(ticks)?.saturating_sub(CATCH_UP);
        let until = self.tick_times.at(lease.since)? + length;
        (Instant::now() < until).then_some((lease.index, until))
    }
}
